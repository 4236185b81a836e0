//! The mode: what a node lets in. `GetMode`, `ChangeMode`, `ListModeChanges`.

use std::str::FromStr;

use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::text::deserialize_via;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// The longest reason for a change of mode, in bytes of UTF-8.
pub const REASON_BYTES_MAX: usize = 1_024;

/// The longest `on_behalf_of`, in bytes of UTF-8.
pub const ON_BEHALF_OF_BYTES_MAX: usize = 255;

/// The longest time after which a mode can be told to end by itself, in seconds: 366 days.
pub const EXPIRES_IN_SECONDS_MAX: u64 = 366 * 24 * 60 * 60;

/// How many changes of the mode are kept for `ListModeChanges`.
pub const MODE_CHANGES_KEPT: usize = 1_000;

wire_enum! {
    /// What a node lets in. The names are Sora's (`Sora_20211215`).
    pub enum Mode {
        /// Everybody.
        Normal = "normal",
        /// Only connections to sessions that somebody is in.
        BlockNewSession = "block_new_session",
        /// No new connection.
        BlockNewConnection = "block_new_connection",
        /// No new connection, because the node has not joined its cluster. Set by the system alone.
        Initial = "initial",
    }
}

impl Mode {
    /// Whether an operator closed the node: the modes in which it drains.
    pub const fn is_block(self) -> bool {
        match self {
            Self::BlockNewSession | Self::BlockNewConnection => true,
            Self::Normal | Self::Initial => false,
        }
    }
}

/// A word that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mode {0:?}")]
pub struct UnknownMode(pub String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(word: &str) -> Result<Self, UnknownMode> {
        Self::from_name(word).ok_or_else(|| UnknownMode(word.to_owned()))
    }
}

/// A mode that an operator can ask for: `initial` cannot be said with this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "Mode")]
pub enum SettableMode {
    /// [`Mode::Normal`]
    Normal,
    /// [`Mode::BlockNewSession`]
    BlockNewSession,
    /// [`Mode::BlockNewConnection`]
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

/// Somebody asked for `initial`.
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

/// `GetMode`'s params: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetMode {}

/// `GetMode`'s result: the mode now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeState {
    /// The mode.
    pub mode: Mode,
    /// Counts the mode's changes, from 1.
    pub generation: u64,
    /// When it was entered, or its reason or expiry last changed.
    pub since: Time,
    /// Who did that: `uid:1000(ops)`, `system:<cause>`.
    pub actor: String,
    /// Why, as the actor said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// When the mode ends by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Time>,
    /// In the answer to `GetMode` of a node that mirrors its mode to a Sora: the node's own mode, where `mode` is that Sora's because it
    /// is the stricter. The other fields are about the own mode.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub own_mode: Option<Mode>,
}

/// `ChangeMode`'s params.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeMode {
    /// The mode to enter.
    pub mode: SettableMode,
    /// Why: kept with the change. At most [`REASON_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// After how many seconds a `block_*` mode ends by itself: 1 to [`EXPIRES_IN_SECONDS_MAX`], or 0 to take a running expiry away.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_in_seconds: Option<u64>,
    /// Change only if the mode is this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_mode: Option<Mode>,
    /// Change only if the generation is this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_generation: Option<u64>,
    /// For whom the caller acts; recorded, not verified. At most [`ON_BEHALF_OF_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_behalf_of: Option<String>,
}

impl ChangeMode {
    /// To this mode, without a reason, an expiry or a condition.
    pub const fn to(mode: SettableMode) -> Self {
        Self {
            mode,
            reason: None,
            expires_in_seconds: None,
            if_mode: None,
            if_generation: None,
            on_behalf_of: None,
        }
    }

    /// Checks the limits.
    pub fn check(&self) -> Result<(), Error> {
        check_length("reason", self.reason.as_deref(), REASON_BYTES_MAX)?;
        check_length(
            "on_behalf_of",
            self.on_behalf_of.as_deref(),
            ON_BEHALF_OF_BYTES_MAX,
        )?;
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

fn check_length(field: &str, text: Option<&str>, max: usize) -> Result<(), Error> {
    match text.map(str::len) {
        Some(bytes) if bytes > max => Err(Error::invalid_params(
            field,
            format_args!("got {bytes} bytes, takes at most {max}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// `ChangeMode`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChanged {
    /// The mode now.
    pub mode: Mode,
    /// The mode before.
    pub previous_mode: Mode,
    /// Whether this call changed anything.
    pub changed: bool,
    /// The generation now.
    pub generation: u64,
    /// Sessions that are there, untouched.
    pub sessions: u64,
    /// Connections that are there, untouched; pending ones count.
    pub connections: u64,
    /// When the mode ends by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Time>,
    /// What did not go with it: a Sora that mirrors the mode was not told, say. The change is done all the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub warning: Option<String>,
    /// In a cluster: whether the other nodes know of it. A node that closed does what it says all the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub published: Option<bool>,
}

/// `ListModeChanges`' params.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListModeChanges {
    /// How many at most: 1 to 1,000, 100 if not said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<u32>,
}

/// One change of the mode, as `ListModeChanges` and the event `mode.changed` tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChange {
    /// The mode from then on.
    pub mode: Mode,
    /// The mode until then.
    pub previous_mode: Mode,
    /// The generation from then on.
    pub generation: u64,
    /// Who changed it.
    pub actor: String,
    /// For whom, as the caller said; not verified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub on_behalf_of: Option<String>,
    /// Why, as the actor said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// When the mode ends by itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expires_at: Option<Time>,
}

/// A change and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatedModeChange {
    /// When.
    pub timestamp: Time,
    /// What.
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
            ..
        } = self.change.clone();
        ModeState {
            mode,
            generation,
            since: self.timestamp,
            actor,
            reason,
            expires_at,
            own_mode: None,
        }
    }
}

/// `ListModeChanges`' result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeChanges {
    /// Newest first.
    pub changes: Vec<DatedModeChange>,
}
