//! Command line of the daemon: the one definition of the flags, their variables and the file's
//! keys.

pub mod cluster;
mod groups;
pub mod http;
pub mod janus;
mod precedence;
mod settings;
mod values;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::styling::Styles;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use serde::{Deserialize, Serialize};

pub use precedence::Conflict;
pub use settings::Settings;
pub use values::DurationArg;
pub(crate) use values::WHOLE_NUMBER;

/// The permission bits a socket can be given.
const SOCKET_MODE_BITS: u32 = 0o777;

/// The bits without which the daemon's own user could not use the socket.
const SOCKET_MODE_BITS_NEEDED: u32 = 0o600;

/// Example command lines for `--help` and the manual, with their purpose.
pub const EXAMPLES: [(&str, &str); 3] = [
    (
        "soramoded --config /etc/soramode/soramoded.toml",
        "Run with the settings in a file",
    ),
    (
        "soramoded --check-config --config /etc/soramode/soramoded.toml",
        "Check the settings and start nothing",
    ),
    (
        "soramoded --check-state --config /etc/soramode/soramoded.toml",
        "Read the stored state and start nothing",
    ),
];

/// Syntax of settings, for `--help` and the manual.
pub const AFTER_HELP: &str = "\
Every setting can be a flag (--node-name sfu-01), an environment variable (SORAMODED_NODE_NAME=sfu-01) or a line of the file \
(node-name = \"sfu-01\"). A flag overrides the variable, the variable overrides the file, and the file overrides the default.

DURATION is a number with a unit, such as 500ms, 30s or 1h 30m. BOOL is true or false, and true if it is left out. Files with tokens, \
secrets, keys or passwords must belong to soramoded's user or to root, and no other user may have access (file mode 0600 or 0400).";

/// Settings that `-h` shows; `--help` shows all.
const SHORT: [&str; 8] = [
    "config",
    "socket",
    "node-name",
    "state-dir",
    "api-listen",
    "sora-listen",
    "sora-api",
    "cluster",
];

const AFTER_SHORT_HELP: &str = "Show all settings: soramoded --help";

const EXIT_CODES: &str = "Exit codes: 0 after a clean stop, 1 if it cannot start or run, 2 for a wrong flag, environment variable or file.";

/// Maintenance mode for a WebRTC SFU: keeps the node's mode and sessions, and decides every new connection.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "soramoded", version, after_help = AFTER_SHORT_HELP, styles = Styles::plain(), max_term_width = 100)]
pub struct Args {
    /// Read settings from this TOML file; flags and environment variables override it
    #[arg(long, value_name = "FILE", env = "SORAMODED_CONFIG")]
    pub config: Option<PathBuf>,

    /// Check the settings, print `ok` and the file that was read, or the first error, and exit
    ///
    /// Without --config it reads /etc/soramode/soramoded.toml, if that exists. The exit status is 0 or 2.
    #[arg(long)]
    pub check_config: bool,

    /// Check the stored state, print a summary, or the problem and its remedy, and exit
    ///
    /// Changes nothing; soramoded may be running. The exit status is 0, or 1 if soramoded could not use the state.
    #[arg(long)]
    pub check_state: bool,

    /// Settings that the file can have as well.
    #[command(flatten)]
    pub settings: Settings,
}

impl Args {
    /// Parses a command line (with the program's name first) and the environment.
    pub fn read_from(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let matches = command()
            .try_get_matches_from(&words)
            .map_err(|error| of_setting(error, &words))?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.settings.prefer_command_line(&matches);
        if args.settings.assume_complete().is_err() {
            return Err(command().error(ErrorKind::ArgumentConflict, Conflict));
        }
        Ok(args)
    }
}

impl Args {
    /// Names this file where none is named and it is there.
    #[must_use]
    pub fn with_default_file(mut self, path: &Path) -> Self {
        self.config = self
            .config
            .or_else(|| path.exists().then(|| path.to_owned()));
        self
    }
}

/// Rewords clap's error for an invalid value like the file's errors, without the value: that may be
/// a secret. The error of a variable names the variable, not a flag.
fn of_setting(error: clap::Error, words: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let Some(name) = flag
        .strip_prefix("--")
        .and_then(|flag| flag.split([' ', '=', '[']).next())
    else {
        return error;
    };
    let variable = command()
        .get_arguments()
        .find(|flag| flag.get_long() == Some(name))
        .and_then(|flag| flag.get_env().map(OsString::from));
    let Some(variable) = variable else {
        return error;
    };
    let is_flag = words.iter().any(|word| {
        word.to_str()
            .and_then(|word| word.strip_prefix("--")?.strip_prefix(name))
            .is_some()
    });
    let why = match (
        std::error::Error::source(&error),
        error.get(ContextKind::ValidValue),
    ) {
        (Some(why), _) => why
            .to_string()
            .replace("value was not a boolean", "takes true or false"),
        (None, Some(ContextValue::Strings(values))) if !is_flag && !values.is_empty() => {
            format!("takes {}", values.join(", "))
        }
        _ => return error,
    };
    let place = if is_flag {
        format!("--{name}")
    } else {
        variable.to_string_lossy().into_owned()
    };
    command().error(error.kind(), format!("{place}: {why}"))
}

/// The flags as clap has them, for the manual page.
pub fn command() -> clap::Command {
    let examples = EXAMPLES
        .map(|(line, what)| format!("  # {what}\n  {line}"))
        .join("\n");
    let command = groups::grouped(Args::command()).mut_args(|flag| {
        let is_short = flag.get_long().is_some_and(|name| SHORT.contains(&name));
        flag.hide_short_help(!is_short).hide_env_values(true)
    });
    command.after_long_help(format!(
        "{AFTER_HELP}\n\n{EXIT_CODES}\n\nExamples:\n{examples}"
    ))
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
            .filter(|bits| {
                bits & !SOCKET_MODE_BITS == 0
                    && bits & SOCKET_MODE_BITS_NEEDED == SOCKET_MODE_BITS_NEEDED
            })
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "got {text:?}, takes octal permission bits from 0600 to 0777, such as \"0660\""
                )
            })
    }
}

/// Format of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Level of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures
    Error,
    /// Failures and warnings
    Warn,
    /// Changes of the mode, too
    #[default]
    Info,
    /// Clients that connect and leave, too
    Debug,
    /// Everything
    Trace,
}
