//! The method `StartPlan`: the steps of a plan, and the rules that they must keep to.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::announce::{MINUTES, NoticeData, check_data, check_text};
use crate::error::Error;
use crate::id::RollId;
use crate::mode::{Mode, ON_BEHALF_OF_BYTES_MAX, REASON_BYTES_MAX, SettableMode, check_length};
use crate::reservation::check_roll_and_round;
use crate::time::Time;

/// Maximum number of steps of a plan.
pub const PLAN_STEPS_MAX: usize = 16;

/// Maximum distance of a step from the close, in seconds: 31 days.
pub const STEP_SECONDS_MAX: i64 = 31 * 24 * 60 * 60;

/// Lateness, in seconds, up to which a step still runs if the request names no other.
pub const MAX_DELAY_SECONDS_DEFAULT: u64 = 10 * 60;

/// Longest lateness that a plan may allow, in seconds: 31 days.
pub const MAX_DELAY_SECONDS_MAX: u64 = 31 * 24 * 60 * 60;

/// Number of sessions that a plan asks to end per minute if its step names no other.
pub const END_PER_MINUTE_DEFAULT: u32 = 60;

/// Highest number of sessions per minute that a rate can name. [`EndRate::Max`] has no limit.
pub const END_PER_MINUTE_MAX: u32 = 60_000;

/// Required `accept_risk` of a plan that ends sessions: their clients are disconnected.
pub const RISK_OF_END: &str = "cuts-clients";

/// Number of sessions that are asked to end per minute: a number, or `"max"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRate {
    /// At most this many, evenly spread: 1 to [`END_PER_MINUTE_MAX`].
    PerMinute(u32),
    /// No limit: each answer of the SFU allows the next.
    Max,
}

impl fmt::Display for EndRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerMinute(number) => write!(f, "{number}/min"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl Serialize for EndRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PerMinute(number) => serializer.serialize_u32(*number),
            Self::Max => serializer.serialize_str("max"),
        }
    }
}

struct RateVisitor;

impl Visitor<'_> for RateVisitor {
    type Value = EndRate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 1 to {END_PER_MINUTE_MAX}, or \"max\"")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<EndRate, E> {
        u32::try_from(number)
            .ok()
            .filter(|number| (1..=END_PER_MINUTE_MAX).contains(number))
            .map(EndRate::PerMinute)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<EndRate, E> {
        if text == "max" {
            Ok(EndRate::Max)
        } else {
            Err(E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
}

impl<'de> Deserialize<'de> for EndRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

/// Step of a plan: an action, and its time in seconds from the close (negative: before it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum PlanStep {
    /// Readiness answers as in the mode to come. Nothing is refused yet.
    Unready {
        /// Seconds from the close.
        #[cfg_attr(feature = "schema", schemars(range(min = -STEP_SECONDS_MAX, max = STEP_SECONDS_MAX)))]
        at_seconds: i64,
    },
    /// Sets the mode. The first one is the close, at second 0.
    Mode {
        /// Seconds from the close.
        #[cfg_attr(feature = "schema", schemars(range(min = -STEP_SECONDS_MAX, max = STEP_SECONDS_MAX)))]
        at_seconds: i64,
        /// Mode to set; never a more open one.
        mode: SettableMode,
    },
    /// Announces the maintenance to the clients of each session.
    Announce {
        /// Seconds from the close.
        #[cfg_attr(feature = "schema", schemars(range(min = -STEP_SECONDS_MAX, max = STEP_SECONDS_MAX)))]
        at_seconds: i64,
        /// Text for people; `{minutes}` stands for the time left, in whole minutes, rounded down, at least 1. At most
        /// [`NOTICE_TEXT_BYTES_MAX`](crate::announce::NOTICE_TEXT_BYTES_MAX) bytes.
        #[cfg_attr(feature = "schema", schemars(length(min = 1, max = crate::announce::NOTICE_TEXT_BYTES_MAX)))]
        #[serde(skip_serializing_if = "Option::is_none", default)]
        text: Option<String>,
        /// Data for the application.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        data: Option<NoticeData>,
    },
    /// Ends the sessions that are left.
    End {
        /// Seconds from the close.
        #[cfg_attr(feature = "schema", schemars(range(min = -STEP_SECONDS_MAX, max = STEP_SECONDS_MAX)))]
        at_seconds: i64,
        /// Rate; [`END_PER_MINUTE_DEFAULT`] if absent.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        per_minute: Option<EndRate>,
    },
    /// An action of a newer version, in a stored plan. Requests with one are refused.
    #[cfg_attr(feature = "schema", schemars(skip))]
    #[serde(other)]
    Unknown,
}

impl PlanStep {
    /// Returns the seconds from the close.
    pub const fn at_seconds(&self) -> i64 {
        match self {
            Self::Unready { at_seconds }
            | Self::Mode { at_seconds, .. }
            | Self::Announce { at_seconds, .. }
            | Self::End { at_seconds, .. } => *at_seconds,
            Self::Unknown => 0,
        }
    }

    /// Returns whether a step of this action may have the optional field.
    fn may_have(&self, field: &str) -> bool {
        match self {
            Self::Announce { .. } => matches!(field, "text" | "data"),
            Self::End { .. } => field == "per_minute",
            Self::Unready { .. } | Self::Mode { .. } | Self::Unknown => false,
        }
    }

    /// Returns the name of the action.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Unready { .. } => "unready",
            Self::Mode { .. } => "mode",
            Self::Announce { .. } => "announce",
            Self::End { .. } => "end",
            Self::Unknown => "unknown",
        }
    }
}

/// Parameters of the method `StartPlan`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StartPlan {
    /// Time of the close. If absent, the first step runs at once.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>", extend("format" = "date-time")))]
    pub at: Option<Time>,
    /// Steps in the order of their times, at most [`PLAN_STEPS_MAX`].
    #[serde(deserialize_with = "read_strictly")]
    #[cfg_attr(
        feature = "schema",
        schemars(schema_with = "crate::openrpc::request_steps")
    )]
    pub steps: Vec<PlanStep>,
    /// Reason, recorded with the plan and its changes of the mode. At most [`REASON_BYTES_MAX`]
    /// bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(max = REASON_BYTES_MAX)))]
    pub reason: Option<String>,
    /// [`RISK_OF_END`], required if a step ends sessions.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(extend("const" = RISK_OF_END)))]
    pub accept_risk: Option<String>,
    /// Total lateness, in seconds, up to which steps still run; [`MAX_DELAY_SECONDS_DEFAULT`] if
    /// absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(max = MAX_DELAY_SECONDS_MAX)))]
    pub max_delay_seconds: Option<u64>,
    /// Time at which the maintenance is expected to be over, recorded with the plan's changes of the
    /// mode. It changes nothing by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", extend("format" = "date-time"))
    )]
    pub expected_end_at: Option<Time>,
    /// Number of other nodes that must be open at the close; only in a cluster.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keep_open: Option<u64>,
    /// `true` to replace a plan that runs.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub replace: bool,
    /// Roll that closes the node by the plan: started only if its reservation is current, has this
    /// `round`, and was renewed since the daemon started. The close checks the same again. A repeated
    /// request takes the plan over into a later round. At most
    /// [`ROLL_BYTES_MAX`](crate::reservation::ROLL_BYTES_MAX) bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(extend("maxLength" = crate::reservation::ROLL_BYTES_MAX)))]
    pub roll: Option<RollId>,
    /// Round of the roll's last renewal; with `roll`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(max = crate::reservation::ROUND_MAX)))]
    pub round: Option<u64>,
    /// Person that the caller acts for; recorded, not verified. At most
    /// [`ON_BEHALF_OF_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(max = ON_BEHALF_OF_BYTES_MAX)))]
    pub on_behalf_of: Option<String>,
}

/// Reads the steps of a request: a field that a step does not have is an error, as for any param.
fn read_strictly<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PlanStep>, D::Error> {
    use de::Error as _;

    let values = Vec::<serde_json::Map<String, Value>>::deserialize(deserializer)?;
    let steps = values.into_iter().enumerate().map(|(place, fields)| {
        let names: Vec<String> = fields.keys().cloned().collect();
        let step: PlanStep = serde_json::from_value(Value::Object(fields))
            .map_err(|error| (place, error.to_string()))?;
        let known = serde_json::to_value(&step).map_err(|error| (place, error.to_string()))?;
        let is_unknown = |name: &&String| {
            step != PlanStep::Unknown && known.get(name.as_str()).is_none() && !step.may_have(name)
        };
        match names.iter().find(is_unknown) {
            Some(name) => Err((place, format!("unknown field {name:?}"))),
            None => Ok(step),
        }
    });
    steps
        .collect::<Result<_, (usize, String)>>()
        .map_err(|(place, problem)| D::Error::custom(format_args!("step {}: {problem}", place + 1)))
}

impl StartPlan {
    /// Returns a plan with these steps that starts now.
    pub const fn now(steps: Vec<PlanStep>) -> Self {
        Self {
            at: None,
            steps,
            reason: None,
            accept_risk: None,
            max_delay_seconds: None,
            expected_end_at: None,
            keep_open: None,
            replace: false,
            roll: None,
            round: None,
            on_behalf_of: None,
        }
    }

    /// Checks the limits, and that the steps make sense together.
    pub fn check(&self) -> Result<(), Error> {
        check_length("reason", self.reason.as_deref(), REASON_BYTES_MAX)?;
        check_length(
            "on_behalf_of",
            self.on_behalf_of.as_deref(),
            ON_BEHALF_OF_BYTES_MAX,
        )?;
        check_roll_and_round(self.roll.as_ref(), self.round)?;
        if let Some(seconds) = self.max_delay_seconds
            && seconds > MAX_DELAY_SECONDS_MAX
        {
            let problem = format_args!("got {seconds}, takes 0 to {MAX_DELAY_SECONDS_MAX}");
            return Err(Error::invalid_params("max_delay_seconds", problem));
        }
        check_steps(&self.steps)?;
        self.check_risk()
    }

    fn check_risk(&self) -> Result<(), Error> {
        let ends = matches!(self.steps.last(), Some(PlanStep::End { .. }));
        match self.accept_risk.as_deref() {
            Some(RISK_OF_END) => Ok(()),
            None if !ends => Ok(()),
            None => Err(Error::invalid_params(
                "accept_risk",
                format_args!(
                    "is missing, takes {RISK_OF_END:?}: the plan disconnects the clients that are left"
                ),
            )),
            Some(other) => Err(Error::invalid_params(
                "accept_risk",
                format_args!("got {other:?}, takes {RISK_OF_END:?}"),
            )),
        }
    }
}

fn check_steps(steps: &[PlanStep]) -> Result<(), Error> {
    if steps.is_empty() || steps.len() > PLAN_STEPS_MAX {
        let problem = format_args!("got {} steps, takes 1 to {PLAN_STEPS_MAX}", steps.len());
        return Err(Error::invalid_params("steps", problem));
    }
    for (place, step) in steps.iter().enumerate() {
        check_step(place, step)?;
    }
    check_order(steps)?;
    check_modes(steps)?;
    check_minutes(steps)?;
    check_announcements(steps)
}

fn wrong(place: usize, field: &str, problem: impl fmt::Display) -> Error {
    Error::invalid_params(&format!("steps[{place}].{field}"), problem)
}

fn check_step(place: usize, step: &PlanStep) -> Result<(), Error> {
    let at = step.at_seconds();
    if !(-STEP_SECONDS_MAX..=STEP_SECONDS_MAX).contains(&at) {
        let problem = format_args!("got {at}, takes -{STEP_SECONDS_MAX} to {STEP_SECONDS_MAX}");
        return Err(wrong(place, "at_seconds", problem));
    }
    match step {
        PlanStep::Announce { text, data, .. } => {
            check_text(&format!("steps[{place}].text"), text.as_deref())?;
            check_data(&format!("steps[{place}].data"), data.as_ref())
        }
        PlanStep::Mode {
            mode: SettableMode::Normal,
            ..
        } => Err(wrong(
            place,
            "mode",
            "got normal: a plan never opens the node",
        )),
        PlanStep::Unready { .. } if at >= 0 => Err(wrong(
            place,
            "at_seconds",
            format_args!("got {at}: unready comes before the close, takes a negative number"),
        )),
        PlanStep::End { .. } if at < 0 => Err(wrong(
            place,
            "at_seconds",
            format_args!("got {at}: a plan ends no session on an open node, takes 0 or more"),
        )),
        PlanStep::Unknown => Err(wrong(place, "do", "takes unready, mode, announce or end")),
        PlanStep::Unready { .. } | PlanStep::Mode { .. } | PlanStep::End { .. } => Ok(()),
    }
}

/// Times are sorted, and nothing comes after the end.
fn check_order(steps: &[PlanStep]) -> Result<(), Error> {
    let pairs = steps.iter().zip(steps.iter().skip(1)).enumerate();
    for (place, (step, next)) in pairs {
        if next.at_seconds() < step.at_seconds() {
            let problem = format_args!(
                "got {} after {}: steps stand in the order of their times",
                next.at_seconds(),
                step.at_seconds()
            );
            return Err(wrong(place + 1, "at_seconds", problem));
        }
        if matches!(step, PlanStep::End { .. }) {
            return Err(wrong(
                place + 1,
                "do",
                "comes after end, which is the last step",
            ));
        }
    }
    Ok(())
}

/// The first mode is the close, and no later one is more open than the one before it.
fn check_modes(steps: &[PlanStep]) -> Result<(), Error> {
    let mut before: Option<SettableMode> = None;
    for (place, step) in steps.iter().enumerate() {
        let PlanStep::Mode { at_seconds, mode } = step else {
            continue;
        };
        match before {
            None if *at_seconds != 0 => {
                let problem = format_args!("got {at_seconds}: the close is at 0");
                return Err(wrong(place, "at_seconds", problem));
            }
            Some(before) if *mode < before => {
                let problem = format_args!(
                    "got {}: it is more open than the {} before it",
                    Mode::from(*mode),
                    Mode::from(before)
                );
                return Err(wrong(place, "mode", problem));
            }
            None | Some(_) => before = Some(*mode),
        }
    }
    match before {
        Some(_) => Ok(()),
        None => Err(Error::invalid_params(
            "steps",
            "no step closes the node: add do: mode at 0",
        )),
    }
}

/// Refuses a text with the minutes until an end where there is none.
fn check_minutes(steps: &[PlanStep]) -> Result<(), Error> {
    if matches!(steps.last(), Some(PlanStep::End { .. })) {
        return Ok(());
    }
    let has_minutes = |step: &PlanStep| match step {
        PlanStep::Announce { text, .. } => text.as_ref().is_some_and(|it| it.contains(MINUTES)),
        PlanStep::Unready { .. }
        | PlanStep::Mode { .. }
        | PlanStep::End { .. }
        | PlanStep::Unknown => false,
    };
    match steps.iter().position(has_minutes) {
        Some(place) => Err(wrong(
            place,
            "text",
            format_args!("{MINUTES} needs a step that ends the sessions, and there is none"),
        )),
        None => Ok(()),
    }
}

/// Refuses steps of which the last announcement comes before the close: sessions that begin after it would get none.
fn check_announcements(steps: &[PlanStep]) -> Result<(), Error> {
    let last = steps
        .iter()
        .rev()
        .find(|step| matches!(step, PlanStep::Announce { .. }));
    match last.map(PlanStep::at_seconds) {
        Some(at) if at < 0 => Err(Error::invalid_params(
            "steps",
            "every announcement is before the close: sessions that start after the last one would get none. \
             Announce at the close or after it, too",
        )),
        Some(_) | None => Ok(()),
    }
}
