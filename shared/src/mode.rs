//! The mode, which decides what a node admits. `GetMode`, `ChangeMode`, `ListModeChanges`.

use std::str::FromStr;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{PlanId, RollId};
use crate::reservation::{check_roll, check_roll_and_round};
use crate::text::deserialize_via;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// The longest reason for a change of mode, in bytes of UTF-8.
pub const REASON_BYTES_MAX: usize = 1_024;

/// The longest `on_behalf_of`, in bytes of UTF-8.
pub const ON_BEHALF_OF_BYTES_MAX: usize = 255;

/// Longest expiry of a mode, in seconds: 366 days.
pub const EXPIRES_IN_SECONDS_MAX: u64 = 366 * 24 * 60 * 60;

/// Number of mode changes retained for `ListModeChanges`.
pub const MODE_CHANGES_KEPT: usize = 1_000;

wire_enum! {
    /// Mode of a node, which decides what it admits. The names are Sora's (`Sora_20211215`).
    pub enum Mode {
        /// Admits all connections.
        Normal = "normal",
        /// Admits connections to sessions that have a connection.
        BlockNewSession = "block_new_session",
        /// Admits no new connection.
        BlockNewConnection = "block_new_connection",
        /// Admits no new connection, because the node has not joined its cluster. Only the system
        /// sets it.
        Initial = "initial",
    }
}

impl Mode {
    /// Returns true if an operator closed the node: the modes in which it drains.
    pub const fn is_block(self) -> bool {
        match self {
            Self::BlockNewSession | Self::BlockNewConnection => true,
            Self::Normal | Self::Initial => false,
        }
    }
}

/// Text that names no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}")]
pub struct UnknownMode(pub String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        Self::from_name(word).ok_or_else(|| UnknownMode(word.to_owned()))
    }
}

/// Mode that an operator can request. This type cannot express `initial`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "Mode")]
pub enum SettableMode {
    /// Stands for the mode [`Mode::Normal`].
    Normal,
    /// Stands for the mode [`Mode::BlockNewSession`].
    BlockNewSession,
    /// Stands for the mode [`Mode::BlockNewConnection`].
    BlockNewConnection,
}

impl SettableMode {
    /// All three, from open to closed.
    pub const ALL: [Self; 3] = [
        Self::Normal,
        Self::BlockNewSession,
        Self::BlockNewConnection,
    ];
}

impl From<SettableMode> for Mode {
    fn from(mode: SettableMode) -> Self {
        match mode {
            SettableMode::Normal => Self::Normal,
            SettableMode::BlockNewSession => Self::BlockNewSession,
            SettableMode::BlockNewConnection => Self::BlockNewConnection,
        }
    }
}

/// Error: the mode `initial` cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "initial cannot be set: a cluster node enters it at its start or when isolated, and leaves it by joining"
)]
pub struct InitialIsNotSettable;

impl TryFrom<Mode> for SettableMode {
    type Error = InitialIsNotSettable;

    fn try_from(mode: Mode) -> Result<Self, InitialIsNotSettable> {
        match mode {
            Mode::Normal => Ok(Self::Normal),
            Mode::BlockNewSession => Ok(Self::BlockNewSession),
            Mode::BlockNewConnection => Ok(Self::BlockNewConnection),
            Mode::Initial => Err(InitialIsNotSettable),
        }
    }
}

impl<'de> Deserialize<'de> for SettableMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_via(deserializer, format_args!("a string"), |word| {
            match word.parse::<Mode>().map(Self::try_from) {
                Ok(settable) => settable.map_err(|initial| initial.to_string()),
                Err(unknown) => Err(format!(
                    "{unknown}, takes {}",
                    Self::ALL.map(|mode| Mode::from(mode).name()).join(", ")
                )),
            }
        })
    }
}

/// Parameters of `GetMode`; there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GetMode {}

/// `GetMode`'s result: the mode now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModeState {
    /// Mode of the node.
    pub mode: Mode,
    /// Counts the mode's changes, from 1.
    pub generation: u64,
    /// Time at which the mode was entered, or its reason or expiry last changed.
    pub since: Time,
    /// Actor of the change: `uid:1000(ops)`, `system:<cause>`.
    pub actor: String,
    /// Person that the actor acted for, as the caller said; not verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_behalf_of: Option<String>,
    /// Reason that the actor gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Time at which the mode expires and returns to `normal`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Time>,
    /// Time at which the operator expects the maintenance to be over. It changes nothing by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_end_at: Option<Time>,
    /// The node's own mode, in the answer to `GetMode` of a node that mirrors its mode to a Sora
    /// with a stricter mode, which is shown in `mode`. The other fields describe the own mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub own_mode: Option<Mode>,
    /// State of the mode on an SFU that holds it by locks of its rooms, in the answer to `GetMode`; absent on all others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_force: Option<InForce>,
    /// Plan that made the change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_id: Option<PlanId>,
    /// Roll that made the change, by itself or by its plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub roll: Option<RollId>,
}

/// State of the mode on an SFU that holds it by locks of its rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InForce {
    /// Each room is locked or open, as the mode requires.
    Yes,
    /// Rooms are being locked or unlocked.
    Pending,
    /// Some rooms cannot be locked or unlocked.
    Partial,
    /// The SFU does not answer.
    No,
}

/// Parameters of the method `ChangeMode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeMode {
    /// The mode to enter.
    pub mode: SettableMode,
    /// Why: kept with the change. At most [`REASON_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(max = REASON_BYTES_MAX)))]
    pub reason: Option<String>,
    /// Seconds until a `block_*` mode expires: 1 to [`EXPIRES_IN_SECONDS_MAX`], or 0 to cancel a
    /// pending expiry.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(max = EXPIRES_IN_SECONDS_MAX)))]
    pub expires_in_seconds: Option<u64>,
    /// Time at which the maintenance is expected to be over; only with a `block_*` mode. It changes
    /// nothing by itself. Another mode without one has none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(
        feature = "schema",
        schemars(with = "Option<String>", extend("format" = "date-time"))
    )]
    pub expected_end_at: Option<Time>,
    /// Change only if the mode is this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_mode: Option<Mode>,
    /// Change only if the generation is this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_generation: Option<u64>,
    /// Change only if the mode was set by this plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_plan: Option<PlanId>,
    /// Change only if the mode was set by this roll, or by its plan. At most
    /// [`ROLL_BYTES_MAX`](crate::reservation::ROLL_BYTES_MAX) bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(extend("maxLength" = crate::reservation::ROLL_BYTES_MAX)))]
    pub if_roll: Option<RollId>,
    /// Roll that closes the node: change only if its reservation is current, has this `round`, and
    /// was renewed since the daemon started. Not with `normal`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(extend("maxLength" = crate::reservation::ROLL_BYTES_MAX)))]
    pub roll: Option<RollId>,
    /// Round of the roll's last renewal; with `roll`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(max = crate::reservation::ROUND_MAX)))]
    pub round: Option<u64>,
    /// `true` to change only if no roll has reserved the node.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unless_reserved: bool,
    /// Person that the caller acts for; recorded, not verified. At most [`ON_BEHALF_OF_BYTES_MAX`]
    /// bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(max = ON_BEHALF_OF_BYTES_MAX)))]
    pub on_behalf_of: Option<String>,
}

impl ChangeMode {
    /// Changes to this mode, without a reason, an expiry or a condition.
    pub const fn to(mode: SettableMode) -> Self {
        Self {
            mode,
            reason: None,
            expires_in_seconds: None,
            expected_end_at: None,
            if_mode: None,
            if_generation: None,
            if_plan: None,
            if_roll: None,
            roll: None,
            round: None,
            unless_reserved: false,
            on_behalf_of: None,
        }
    }

    /// Checks the limits of the parameters.
    pub fn check(&self) -> Result<(), Error> {
        check_length("reason", self.reason.as_deref(), REASON_BYTES_MAX)?;
        check_length(
            "on_behalf_of",
            self.on_behalf_of.as_deref(),
            ON_BEHALF_OF_BYTES_MAX,
        )?;
        check_roll("if_roll", self.if_roll.as_ref())?;
        check_roll_and_round(self.roll.as_ref(), self.round)?;
        if self.roll.is_some() && self.mode == SettableMode::Normal {
            let problem = "normal needs no reservation: this is only for block_new_session and block_new_connection";
            return Err(Error::invalid_params("roll", problem));
        }
        if self.expected_end_at.is_some() && self.mode == SettableMode::Normal {
            let problem = "normal has no expected end: this is only for block_new_session and block_new_connection";
            return Err(Error::invalid_params("expected_end_at", problem));
        }
        match self.expires_in_seconds {
            Some(seconds) if seconds > EXPIRES_IN_SECONDS_MAX => Err(Error::invalid_params(
                "expires_in_seconds",
                format_args!("got {seconds}, takes 0 to {EXPIRES_IN_SECONDS_MAX}"),
            )),
            Some(1..) if self.mode == SettableMode::Normal => Err(Error::invalid_params(
                "expires_in_seconds",
                "normal has no expiry: this is only for block_new_session and block_new_connection",
            )),
            Some(_) | None => Ok(()),
        }
    }
}

/// Returns a reason for a later change of the mode, after the operator's own: `CHG-1: drain timed out`.
pub fn with_message(message: Option<&str>, reason: &str) -> String {
    let both = message.map(|message| format!("{message}: {reason}"));
    both.filter(|both| both.len() <= REASON_BYTES_MAX)
        .unwrap_or_else(|| reason.to_owned())
}

/// Checks the length of a text that is recorded.
pub(crate) fn check_length(field: &str, text: Option<&str>, max: usize) -> Result<(), Error> {
    match text.map(str::len) {
        Some(bytes) if bytes > max => Err(Error::invalid_params(
            field,
            format_args!("got {bytes} bytes, takes at most {max}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Result of the method `ChangeMode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModeChanged {
    /// Mode after the change.
    pub mode: Mode,
    /// Mode before the change.
    pub previous_mode: Mode,
    /// `true` if this call changed anything.
    pub changed: bool,
    /// Generation after the change.
    pub generation: u64,
    /// Sessions that are there, untouched.
    pub sessions: u64,
    /// Connections that are there, untouched; pending ones count.
    pub connections: u64,
    /// Time at which the mode expires and returns to `normal`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Time>,
    /// Time at which the maintenance is expected to be over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_end_at: Option<Time>,
    /// Warning about a partial failure, such as a mirrored Sora that could not be set. The change
    /// holds nevertheless.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warning: Option<String>,
    /// `true` if the other nodes know the change; only in a cluster. A node that closed stays
    /// closed in either case.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub published: Option<bool>,
    /// State of the mode on an SFU that holds it by locks of its rooms; absent on all others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_force: Option<InForce>,
    /// Plan that is running, after this change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_id: Option<PlanId>,
    /// Plan that this change cancelled.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_cancelled: Option<PlanId>,
    /// Sessions that were being ended, if opening the node stopped that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ends_stopped: Option<EndsStopped>,
}

/// Sessions that were being ended when that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndsStopped {
    /// Sessions that waited to be ended, and are not asked any more.
    pub sessions: u64,
    /// Sessions that the SFU is being asked to end at this moment: these may still end.
    pub in_flight: u64,
}

/// Parameters of the method `ListModeChanges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListModeChanges {
    /// Maximum number of changes: 1 to 1,000; default 100.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = crate::session::LIST_LIMIT_MAX)))]
    pub limit: Option<u32>,
}

/// Change of the mode, as `ListModeChanges` and the event `mode.changed` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModeChange {
    /// The mode from then on.
    pub mode: Mode,
    /// The mode until then.
    pub previous_mode: Mode,
    /// The generation from then on.
    pub generation: u64,
    /// Actor of the change.
    pub actor: String,
    /// Person that the actor acted for, as the caller said; not verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_behalf_of: Option<String>,
    /// Reason that the actor gave.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Time at which the mode expires and returns to `normal`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Time>,
    /// Time at which the maintenance is expected to be over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_end_at: Option<Time>,
    /// Plan that made the change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan_id: Option<PlanId>,
    /// Roll that made the change, by itself or by its plan.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub roll: Option<RollId>,
}

/// A change and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DatedModeChange {
    /// Time of the change.
    pub timestamp: Time,
    /// Details of the change.
    #[serde(flatten)]
    pub change: ModeChange,
}

impl DatedModeChange {
    /// The mode that it led to.
    pub fn state(&self) -> ModeState {
        let ModeChange {
            mode,
            generation,
            actor,
            reason,
            expires_at,
            expected_end_at,
            plan_id,
            roll,
            on_behalf_of,
            previous_mode: _,
        } = self.change.clone();
        ModeState {
            mode,
            generation,
            since: self.timestamp,
            actor,
            on_behalf_of,
            reason,
            expires_at,
            expected_end_at,
            own_mode: None,
            in_force: None,
            plan_id,
            roll,
        }
    }
}

/// Result of the method `ListModeChanges`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ModeChanges {
    /// Mode changes, newest first.
    pub changes: Vec<DatedModeChange>,
}
