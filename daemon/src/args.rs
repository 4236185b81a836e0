//! What the operator can say when the daemon starts: the one definition of the flags, of their variables and of the file's keys.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::builder::styling::Styles;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, ValueEnum};
use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::{Mode, SettableMode};

/// The permission bits a socket can be given.
const SOCKET_MODE_BITS: u32 = 0o777;

/// The bits without which the daemon's own user could not use the socket.
const SOCKET_MODE_BITS_NEEDED: u32 = 0o600;

const AFTER_HELP: &str = "\
A flag on the command line comes before its variable, that before the file, and that before the default. \
The file has the flags' names without the dashes: session-linger = \"30s\".

Exit status: 0 after a clean stop, 1 if it cannot start or run, 2 for a wrong flag or file.";

/// Maintenance mode for a WebRTC SFU: holds the node's mode and its sessions, and decides every new connection.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "soramoded", version, after_help = AFTER_HELP, styles = Styles::plain(), max_term_width = 100)]
pub struct Args {
    /// Read what is not said here or in the environment from this TOML file
    #[arg(long, value_name = "FILE", env = "SORAMODED_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,

    /// Check flags, variables and file, print `ok` or what is wrong, and start nothing
    ///
    /// The exit status is 0 or 2.
    #[arg(long)]
    pub check_config: bool,

    /// Whatever can be said in the file as well.
    #[command(flatten)]
    pub settings: Settings,
}

impl Args {
    /// Reads a command line (its first word is the program's name) and the environment.
    pub fn read_from(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = command().try_get_matches_from(words)?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.settings.let_the_command_line_win(&matches);
        if args.settings.sessions_known().is_err() {
            return Err(command().error(ErrorKind::ArgumentConflict, BothSaid));
        }
        Ok(args)
    }
}

/// The flags as clap has them, for the manual page.
pub fn command() -> clap::Command {
    Args::command()
}

/// The settings that flags, variables and the file share. `None`: not said there.
#[expect(clippy::doc_markdown, reason = "these words are the help, where backticks would be shown")]
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Put the control socket there
    ///
    /// $SORAMODE_SOCKET says the same, for the daemon and for its clients. If nothing does, it is soramode.sock in
    /// $RUNTIME_DIRECTORY, else in /run/soramode for root, else in $XDG_RUNTIME_DIR/soramode, else in /tmp/soramode-UID.
    #[arg(long, value_name = "PATH", env = "SORAMODED_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,

    /// Who may open the control socket, as octal permission bits [default: 0660]
    ///
    /// With 0666 everybody on the machine can look; only root, the daemon's own user and the operator group can change anything.
    #[arg(long, value_name = "OCTAL", env = "SORAMODED_SOCKET_MODE", hide_env_values = true)]
    #[serde(deserialize_with = "from_text")]
    pub socket_mode: Option<SocketMode>,

    /// Give the control socket to this group and let its members change the mode
    #[arg(long, value_name = "GROUP", env = "SORAMODED_OPERATOR_GROUP", hide_env_values = true)]
    pub operator_group: Option<String>,

    /// Keep the state in memory only: it ends with the daemon
    ///
    /// This version has no other way to keep it, and says so in its log where this is not given.
    #[arg(long, env = "SORAMODED_EPHEMERAL", hide_env_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub ephemeral: Option<bool>,

    /// Start in this mode: normal, block_new_session or block_new_connection [default: normal]
    #[arg(long, value_name = "MODE", env = "SORAMODED_MODE", hide_env_values = true, value_parser = settable_mode)]
    pub mode: Option<SettableMode>,

    /// What the node is called, 1 to 255 bytes [default: the host name]
    #[arg(long, value_name = "NAME", env = "SORAMODED_NODE_NAME", hide_env_values = true)]
    pub node_name: Option<NodeName>,

    /// How long a session stays after its last connection has ended [default: 0s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_SESSION_LINGER", hide_env_values = true)]
    #[serde(deserialize_with = "from_text")]
    pub session_linger: Option<humantime::Duration>,

    /// How many connections the node holds; more are rejected [default: 1000000]
    #[arg(long, value_name = "COUNT", env = "SORAMODED_MAX_CONNECTIONS", hide_env_values = true)]
    pub max_connections: Option<u64>,

    /// How many events are kept for subscribers that come late or again [default: 100000]
    #[arg(long, value_name = "COUNT", env = "SORAMODED_KEEP_EVENTS", hide_env_values = true)]
    pub keep_events: Option<u64>,

    /// How long a connection of lifetime "socket" outlives its socket [default: 30s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_SOCKET_GRACE", hide_env_values = true)]
    #[serde(deserialize_with = "from_text")]
    pub socket_grace: Option<humantime::Duration>,

    /// The sessions are known from the start: the daemon runs before the SFU does [default: yes]
    #[arg(long, env = "SORAMODED_SESSIONS_KNOWN", hide_env_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub sessions_known: Option<bool>,

    /// The SFU has been running already: nothing counts as drained before a complete Report
    #[arg(long, env = "SORAMODED_SESSIONS_UNKNOWN", hide_env_values = true)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub sessions_unknown: Option<bool>,

    /// How the log is written on standard error [default: text]
    #[arg(long, value_name = "FORMAT", env = "SORAMODED_LOG_FORMAT", hide_env_values = true)]
    pub log_format: Option<LogFormat>,

    /// How much is logged [default: info]
    #[arg(long, value_name = "LEVEL", env = "SORAMODED_LOG_LEVEL", hide_env_values = true)]
    pub log_level: Option<LogLevel>,
}

/// `--sessions-known` and `--sessions-unknown` at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sessions-known and sessions-unknown exclude each other")]
pub struct BothSaid;

impl Settings {
    /// Takes from `weaker` what is not said here.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        // The two flags are one setting: whoever says either has said it.
        let sessions = if (self.sessions_known, self.sessions_unknown) == (None, None) { &weaker } else { &self };
        let (sessions_known, sessions_unknown) = (sessions.sessions_known, sessions.sessions_unknown);
        Self {
            socket: self.socket.or(weaker.socket),
            socket_mode: self.socket_mode.or(weaker.socket_mode),
            operator_group: self.operator_group.or(weaker.operator_group),
            ephemeral: self.ephemeral.or(weaker.ephemeral),
            mode: self.mode.or(weaker.mode),
            node_name: self.node_name.or(weaker.node_name),
            session_linger: self.session_linger.or(weaker.session_linger),
            max_connections: self.max_connections.or(weaker.max_connections),
            keep_events: self.keep_events.or(weaker.keep_events),
            socket_grace: self.socket_grace.or(weaker.socket_grace),
            sessions_known,
            sessions_unknown,
            log_format: self.log_format.or(weaker.log_format),
            log_level: self.log_level.or(weaker.log_level),
        }
    }

    /// What the two flags say together, if anything.
    pub fn sessions_known(&self) -> Result<Option<bool>, BothSaid> {
        match (self.sessions_known, self.sessions_unknown) {
            (Some(known), Some(unknown)) if known == unknown => Err(BothSaid),
            (Some(known), _) => Ok(Some(known)),
            (None, unknown) => Ok(unknown.map(|unknown| !unknown)),
        }
    }

    /// A variable that contradicts the command line is not heard.
    fn let_the_command_line_win(&mut self, matches: &ArgMatches) {
        let source = |id| matches.value_source(id);
        match (source("sessions_known"), source("sessions_unknown")) {
            (Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)) => self.sessions_unknown = None,
            (Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine)) => self.sessions_known = None,
            _ => {}
        }
    }
}

/// Permission bits of the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl Default for SocketMode {
    fn default() -> Self {
        Self(0o660)
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8)
            .ok()
            .filter(|bits| bits & !SOCKET_MODE_BITS == 0 && bits & SOCKET_MODE_BITS_NEEDED == SOCKET_MODE_BITS_NEEDED)
            .map(Self)
            .ok_or_else(|| format!("got {text:?}, takes octal permission bits from 0600 to 0777, such as \"0660\""))
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What went wrong
    Error,
    /// And what may go wrong
    Warn,
    /// And what changed
    #[default]
    Info,
    /// And who came and went
    Debug,
    /// Everything
    Trace,
}

fn settable_mode(word: &str) -> Result<SettableMode, String> {
    let mode = word.parse::<Mode>().map_err(|unknown| {
        let names = SettableMode::ALL.map(|mode| Mode::from(mode).name());
        format!("{unknown}, takes {}", names.join(", "))
    })?;
    SettableMode::try_from(mode).map_err(|refused| refused.to_string())
}

/// Reads a value from text in the file, as it would be read on the command line.
fn from_text<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}
