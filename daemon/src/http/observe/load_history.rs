//! Sessions and connections of the last hour, in memory, and the lines of their chart.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::lock::lock;

/// Time between two samples.
const SAMPLE_PAUSE: Duration = Duration::from_secs(10);

/// Number of samples kept: an hour of them.
pub(super) const SAMPLES_KEPT: usize = 360;

/// Sample: sessions and connections at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) sessions: u64,
    pub(super) connections: u64,
}

/// Width and height of the chart, in units of its own.
pub(super) const CHART_WIDTH: usize = SAMPLES_KEPT;
pub(super) const CHART_HEIGHT: u64 = 100;

/// Samples of which the chart shows one point: the highest.
const SAMPLES_PER_POINT: usize = 3;

/// Lines of the chart, as the points of an SVG polyline: the latest sample first.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chart {
    pub(super) sessions: String,
    pub(super) connections: String,
    /// The highest values.
    pub(super) highest: Load,
    /// Value at the top of the chart, which is even: the middle of its axis is a whole number.
    pub(super) top: u64,
}

impl Chart {
    /// Draws the samples: the latest is on the right, and an hour is the whole width.
    pub(super) fn of(samples: &[Load]) -> Self {
        let points: Vec<Load> = samples
            .rchunks(SAMPLES_PER_POINT)
            .map(|chunk| Load {
                sessions: chunk.iter().map(|load| load.sessions).max().unwrap_or(0),
                connections: chunk.iter().map(|load| load.connections).max().unwrap_or(0),
            })
            .collect();
        let highest_of =
            |value: fn(&Load) -> u64| points.iter().map(value).max().unwrap_or_default();
        let highest = Load {
            sessions: highest_of(|load| load.sessions),
            connections: highest_of(|load| load.connections),
        };
        let top = axis_top(highest.sessions.max(highest.connections));
        let line = |value: fn(&Load) -> u64| {
            let mut line = String::new();
            for (index, load) in points.iter().enumerate() {
                let x = CHART_WIDTH.saturating_sub(index * SAMPLES_PER_POINT);
                let height = u128::from(value(load)) * u128::from(CHART_HEIGHT) / u128::from(top);
                let y = u128::from(CHART_HEIGHT) - height;
                let blank = if index == 0 { "" } else { " " };
                // A string takes every write.
                let _ = write!(line, "{blank}{x},{y}");
            }
            line
        };
        Self {
            sessions: line(|load| load.sessions),
            connections: line(|load| load.connections),
            highest,
            top,
        }
    }
}

/// Returns a round, even value for the top of an axis that shows this one: 2, 4, 6, 8, 10, 20, 40 and so on.
fn axis_top(highest: u64) -> u64 {
    let power = 10_u64.pow(highest.max(1).ilog10());
    let top = [2, 4, 6, 8, 10]
        .into_iter()
        .filter_map(|digit| power.checked_mul(digit))
        .find(|top| *top >= highest);
    top.unwrap_or(u64::MAX)
}

/// The last samples, oldest first, and their chart, which a page shows as it is.
#[derive(Debug, Default)]
pub(crate) struct LoadHistory(Mutex<(VecDeque<Load>, Arc<Chart>)>);

impl LoadHistory {
    /// Takes a sample now and then until the daemon stops.
    pub(crate) async fn record(&self, engine: Engine, stop: CancellationToken) {
        let mut ticks = interval(SAMPLE_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let answered = tokio::select! {
                answered = engine.ask_one("http".into(), GateRequest::GetStatus) => answered,
                () = stop.cancelled() => return,
            };
            if let Ok(Reply::Status(status)) = answered {
                self.add(Load {
                    sessions: status.sessions,
                    connections: status.connections,
                });
            }
        }
    }

    fn add(&self, load: Load) {
        let mut history = lock(&self.0);
        let (samples, chart) = &mut *history;
        if samples.len() == SAMPLES_KEPT {
            samples.pop_front();
        }
        samples.push_back(load);
        *chart = Arc::new(Chart::of(samples.make_contiguous()));
    }

    /// Returns the chart of the samples.
    pub(super) fn chart(&self) -> Arc<Chart> {
        Arc::clone(&lock(&self.0).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept() {
        let history = LoadHistory::default();
        let load = |sessions| Load {
            sessions,
            connections: 0,
        };
        for sessions in 0..=SAMPLES_KEPT as u64 {
            history.add(load(sessions));
        }
        let samples: Vec<Load> = lock(&history.0).0.iter().copied().collect();
        assert_eq!((samples.len(), samples[0]), (SAMPLES_KEPT, load(1)));
        assert_eq!(*history.chart(), Chart::of(&samples));
        let empty = Chart::of(&[Load::default()]);
        assert_eq!((empty.highest, empty.top), (Load::default(), 2));
        assert_eq!(empty.sessions, "360,100");
    }

    #[test]
    fn the_axis_ends_at_a_round_value() {
        for (highest, top) in [
            (0, 2),
            (2, 2),
            (3, 4),
            (7, 8),
            (9, 10),
            (10, 20),
            (200, 200),
            (359, 400),
            (1_077, 2_000),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(axis_top(highest), top, "{highest}");
        }
    }
}
