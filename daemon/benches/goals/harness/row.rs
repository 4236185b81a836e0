//! Result of a measurement, and its verdict.

use serde_json::{Value, json};

use super::Profile;

/// Distance to the goal, as a fraction of it, within which a ratio is measured in more rounds.
const NEAR: f64 = 0.1;

/// Measurement beside its baseline, as a median with its spread.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Name of the goal.
    pub(crate) goal: &'static str,
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) yardstick: &'static str,
    pub(crate) rounds: Rounds,
    pub(crate) bound: Bound,
}

/// Unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    PerSecond,
    Micros,
    Millis,
    Seconds,
    MiB,
    Bytes,
    AMinute,
}

/// Bound that the ratio must meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// Ours over the yardstick's.
    AtLeast(f64),
    /// Ratio must be at most this.
    AtMost(f64),
    /// Bound of our own figure, without a baseline.
    Within(f64),
    /// Shown for information only.
    Shown,
}

/// Ours and the yardstick's of each round. Without a yardstick theirs are zero.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds(Vec<(f64, f64)>);

impl Rounds {
    /// Both are measured in each round, first the one and then the other by turns.
    pub(crate) fn beside(
        profile: Profile<'_>,
        bound: Bound,
        mut ours: impl FnMut() -> f64,
        mut theirs: impl FnMut() -> f64,
    ) -> Self {
        let mut rounds = Self::default();
        while rounds.0.len() < profile.rounds
            || (rounds.is_near(bound) && rounds.0.len() < profile.more_rounds)
        {
            let pair = if rounds.0.len().is_multiple_of(2) {
                let our = ours();
                (our, theirs())
            } else {
                let their = theirs();
                (ours(), their)
            };
            rounds.0.push(pair);
        }
        rounds
    }

    /// Returns true if a small change would turn the verdict.
    fn is_near(&self, bound: Bound) -> bool {
        match bound {
            Bound::AtLeast(limit) | Bound::AtMost(limit) => {
                (self.ratio() / limit - 1.0).abs() <= NEAR
            }
            Bound::Within(_) | Bound::Shown => false,
        }
    }

    pub(crate) fn alone(values: impl IntoIterator<Item = f64>) -> Self {
        Self(values.into_iter().map(|value| (value, 0.0)).collect())
    }

    pub(crate) fn of(pairs: Vec<(f64, f64)>) -> Self {
        Self(pairs)
    }

    pub(crate) fn ours(&self) -> f64 {
        median(self.0.iter().map(|pair| pair.0))
    }

    pub(crate) fn theirs(&self) -> f64 {
        median(self.0.iter().map(|pair| pair.1))
    }

    /// The median of the rounds' ratios, each of two figures that were measured one after the other.
    pub(crate) fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    /// The smallest and the largest of them.
    pub(crate) fn spread(&self) -> (f64, f64) {
        self.ratios()
            .fold((f64::INFINITY, 0.0), |(low, high), ratio| {
                (low.min(ratio), high.max(ratio))
            })
    }

    fn ratios(&self) -> impl Iterator<Item = f64> {
        self.0.iter().map(|pair| pair.0 / pair.1)
    }
}

pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which so many hundredths of them are.
pub(crate) fn percentile(sorted: &[f64], hundredths: usize) -> f64 {
    sorted
        .get(sorted.len() * hundredths / 100)
        .copied()
        .unwrap_or(f64::NAN)
}

impl Row {
    pub(crate) fn is_held(&self) -> Option<bool> {
        match self.bound {
            Bound::AtLeast(ratio) => Some(self.rounds.ratio() >= ratio),
            Bound::AtMost(ratio) => Some(self.rounds.ratio() <= ratio),
            Bound::Within(value) => Some(self.rounds.ours() <= value),
            Bound::Shown => None,
        }
    }

    fn has_yardstick(&self) -> bool {
        !self.yardstick.is_empty()
    }

    /// The row's cells, as they are printed.
    pub(crate) fn cells(&self) -> [String; 7] {
        let (low, high) = self.rounds.spread();
        let beside = |cell: String| {
            if self.has_yardstick() {
                cell
            } else {
                "-".to_owned()
            }
        };
        let bound = match self.bound {
            Bound::AtLeast(ratio) => format!(">= {ratio}"),
            Bound::AtMost(ratio) => format!("<= {ratio}"),
            Bound::Within(value) => format!("<= {}", self.unit.show(value)),
            Bound::Shown => "-".to_owned(),
        };
        let verdict = match self.is_held() {
            Some(true) => "held",
            Some(false) => "NOT HELD",
            None => "-",
        };
        [
            format!("{} {}", self.goal, self.what),
            self.unit.show(self.rounds.ours()),
            beside(format!(
                "{} {}",
                self.yardstick,
                self.unit.show(self.rounds.theirs())
            )),
            beside(format!("{:.2}", self.rounds.ratio())),
            beside(format!("{low:.2}-{high:.2}")),
            bound,
            verdict.to_owned(),
        ]
    }

    pub(crate) fn json(&self) -> Value {
        let (bound, limit) = match self.bound {
            Bound::AtLeast(ratio) => ("ratio_at_least", Some(ratio)),
            Bound::AtMost(ratio) => ("ratio_at_most", Some(ratio)),
            Bound::Within(value) => ("at_most", Some(value)),
            Bound::Shown => ("shown", None),
        };
        json!({
            "goal": self.goal, "what": self.what, "unit": self.unit.name(), "yardstick": self.yardstick, "rounds": self.rounds.0,
            "ours": self.rounds.ours(), "theirs": self.rounds.theirs(), "ratio": self.has_yardstick().then(|| self.rounds.ratio()),
            "bound": bound, "limit": limit, "held": self.is_held(),
        })
    }
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Micros => "us",
            Self::Millis => "ms",
            Self::Seconds => "s",
            Self::MiB => "MiB",
            Self::Bytes => "B",
            Self::AMinute => "/min",
        }
    }

    /// With three digits, or all that stand before the point.
    fn show(self, value: f64) -> String {
        let digits = match value {
            0.0..10.0 => 2,
            10.0..100.0 => 1,
            _ => 0,
        };
        format!("{value:.digits$} {}", self.name())
    }
}
