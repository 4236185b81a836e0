//! Reservations: `Reserve`, `Release`. A reservation says that only one rolling maintenance may close
//! the node. It is as durable as the mode, and its time goes by the daemon's boot clock.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{RollId, chosen};
use crate::mode::{ON_BEHALF_OF_BYTES_MAX, check_length};
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// The longest id of a roll, in bytes of UTF-8.
pub const ROLL_BYTES_MAX: usize = 64;

/// Beginning of the id with which `soramode maintain` on another host reserves its node.
pub const MAINTAIN_PREFIX: &str = "maintain-";

/// Shortest time of a reservation, in seconds.
pub const RESERVE_SECONDS_MIN: u64 = 30;

/// Longest time of a reservation, in seconds.
pub const RESERVE_SECONDS_MAX: u64 = 600;

/// Largest round: the largest number that every JSON parser reads exactly.
pub const ROUND_MAX: u64 = (1 << 53) - 1;

wire_enum! {
    /// Progress of a roll on a node, in the order of its steps.
    pub enum RollStep {
        /// Node is about to be closed; or it is closed, and its sessions are awaited to end.
        Draining = "draining",
        /// The operator's command runs on the node, or the machine reboots.
        Command = "command",
        /// The operator's command has ended, with `command_exit`.
        CommandEnded = "command_ended",
        /// Node is awaited to be ready to open.
        Ready = "ready",
        /// Node is open again.
        Done = "done",
    }
}

/// Reservation of a node: the current one, or the last one once it is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reservation {
    /// Roll that has reserved the node.
    pub roll: RollId,
    /// Person that runs the roll, as the caller said; not verified.
    pub by: String,
    /// Actor of the last renewal.
    pub actor: String,
    /// Time at which the roll first reserved the node.
    pub since: Time,
    /// Round of the last renewal. The roll can close the node only in this round.
    pub round: u64,
    /// Progress of the roll on this node. Absent until the roll is about to close it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<RollStep>,
    /// Exit code of the operator's command, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command_exit: Option<u8>,
    /// True if the host has rebooted since the step was recorded.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub rebooted: bool,
    /// Seconds until it expires, rounded up. Absent if it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_in_seconds: Option<u64>,
}

impl Reservation {
    /// Returns whether the reservation is current: no other roll can close the node.
    pub const fn is_current(&self) -> bool {
        self.expires_in_seconds.is_some()
    }
}

/// Returns words for a roll in a sentence: `roll 7Q2K9XA0`, or `maintain-7Q2K9XA0`.
pub fn roll_words(roll: &RollId) -> String {
    if is_maintain(roll) {
        roll.to_string()
    } else {
        format!("roll {roll}")
    }
}

/// Returns whether a `soramode maintain` on another host has reserved the node, and no roll.
pub fn is_maintain(roll: &RollId) -> bool {
    roll.as_str().starts_with(MAINTAIN_PREFIX)
}

/// Parameters of the method `Reserve`: reserves the node for a roll, or renews its reservation.
///
/// Without `seconds` nothing is renewed, and only `step` and `command_exit` change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// Roll that reserves the node. At most [`ROLL_BYTES_MAX`] bytes.
    #[serde(deserialize_with = "chosen")]
    #[cfg_attr(feature = "schema", schemars(extend("maxLength" = ROLL_BYTES_MAX, "pattern" = crate::openrpc::NO_NUL)))]
    pub roll: RollId,
    /// Person that runs the roll; required with `seconds`. At most [`ON_BEHALF_OF_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(max = ON_BEHALF_OF_BYTES_MAX)))]
    pub by: Option<String>,
    /// Time of the reservation from now, in seconds: [`RESERVE_SECONDS_MIN`] to
    /// [`RESERVE_SECONDS_MAX`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = RESERVE_SECONDS_MIN, max = RESERVE_SECONDS_MAX)))]
    pub seconds: Option<u64>,
    /// Round of the renewal; required with `seconds`. Never smaller than the one before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(max = ROUND_MAX)))]
    pub round: Option<u64>,
    /// Progress of the roll on this node. It goes back only with `seconds` and a later `round`; else
    /// an earlier step is ignored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<RollStep>,
    /// Exit code of the operator's command; only with the step `command_ended`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command_exit: Option<u8>,
}

impl Reserve {
    /// Returns a request that records a step, and renews nothing.
    pub const fn step(roll: RollId, step: RollStep) -> Self {
        Self {
            roll,
            by: None,
            seconds: None,
            round: None,
            step: Some(step),
            command_exit: None,
        }
    }

    /// Checks the limits of the parameters.
    pub fn check(&self) -> Result<(), Error> {
        check_roll("roll", Some(&self.roll))?;
        check_length("by", self.by.as_deref(), ON_BEHALF_OF_BYTES_MAX)?;
        check_round(self.round)?;
        if self.command_exit.is_some() && self.step != Some(RollStep::CommandEnded) {
            let step = RollStep::CommandEnded;
            let problem = format_args!("is only for the step {step}");
            return Err(Error::invalid_params("command_exit", problem));
        }
        match self.seconds {
            Some(RESERVE_SECONDS_MIN..=RESERVE_SECONDS_MAX) => {}
            Some(seconds) => {
                let problem = format_args!(
                    "got {seconds}, takes {RESERVE_SECONDS_MIN} to {RESERVE_SECONDS_MAX}"
                );
                return Err(Error::invalid_params("seconds", problem));
            }
            None if self.step.is_some() => return Ok(()),
            None => {
                let problem = "is missing: without it the request takes a step";
                return Err(Error::invalid_params("seconds", problem));
            }
        }
        let missing = [("by", self.by.is_none()), ("round", self.round.is_none())];
        match missing.into_iter().find(|(_, is_missing)| *is_missing) {
            Some((field, _)) => Err(Error::invalid_params(field, "is missing")),
            None => Ok(()),
        }
    }
}

/// Result of the method `Reserve`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reserved {
    /// Seconds until the reservation expires, rounded up. Absent if it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_in_seconds: Option<u64>,
    /// Reservation of another roll, which is over and was on record until now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub previous: Option<Reservation>,
}

/// Parameters of the method `Release`: ends the reservation of a roll at once. Its record stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Roll that has reserved the node. At most [`ROLL_BYTES_MAX`] bytes.
    #[cfg_attr(feature = "schema", schemars(extend("maxLength" = ROLL_BYTES_MAX)))]
    pub roll: RollId,
    /// Round of the release, later than those of the caller's renewals: a request of an earlier round
    /// that is still on its way is refused from then on, also the first one. A reservation that another command has
    /// renewed in a later round stays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(max = ROUND_MAX)))]
    pub round: Option<u64>,
}

impl Release {
    /// Checks the limits of the parameters.
    pub fn check(&self) -> Result<(), Error> {
        check_roll("roll", Some(&self.roll))?;
        check_round(self.round)
    }
}

/// Result of the method `Release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Released {
    /// `true` if the roll had a current reservation.
    pub found: bool,
}

/// Checks the id of a roll.
pub(crate) fn check_roll(field: &str, roll: Option<&RollId>) -> Result<(), Error> {
    check_length(field, roll.map(RollId::as_str), ROLL_BYTES_MAX)
}

/// Checks the roll and the round of a request that closes the node: one needs the other.
pub(crate) fn check_roll_and_round(roll: Option<&RollId>, round: Option<u64>) -> Result<(), Error> {
    check_roll("roll", roll)?;
    check_round(round)?;
    match (roll, round) {
        (Some(_), None) => Err(Error::invalid_params("round", "is missing: roll needs it")),
        (None, Some(_)) => Err(Error::invalid_params("roll", "is missing: round needs it")),
        (Some(_), Some(_)) | (None, None) => Ok(()),
    }
}

fn check_round(round: Option<u64>) -> Result<(), Error> {
    match round {
        Some(round) if round > ROUND_MAX => Err(Error::invalid_params(
            "round",
            format_args!("got {round}, takes 0 to {ROUND_MAX}"),
        )),
        Some(_) | None => Ok(()),
    }
}
