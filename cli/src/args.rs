//! The command line: its definition, and tips for wrong ones.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser};

use crate::commands::Command;
use crate::flags::Global;
use crate::help;
use crate::output::times;

/// Maintenance mode for WebRTC SFUs
///
/// soramode closes a node to new sessions, waits until the last one has ended, and opens it again. soramoded(8) runs beside each SFU, holds the
/// mode and the sessions, and decides every new connection. soramode talks to it through its control socket.
///
/// A node in the mode normal is open. In block_new_session, clients still join channels that have a session; new channels are rejected. In
/// block_new_connection, every new connection is rejected. A node that has not joined its cluster is initial, and rejects every new connection
/// too. No mode disconnects a client that is connected.
#[derive(Debug, Parser)]
#[command(
    name = "soramode",
    version,
    disable_help_subcommand = true,
    propagate_version = false
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Args {
    /// Reads a command line.
    pub(crate) fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        let matches = Self::whole_command().try_get_matches_from(words);
        matches
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(with_tip)
    }

    /// Returns the definition, with every verb and its full name: soramode-get.
    pub(crate) fn whole_command() -> clap::Command {
        let mut whole = help::with_pages(Self::command());
        whole.build();
        whole
    }
}

/// Verbs of other tools, and the verb of soramode that does the same.
const VERBS_ELSEWHERE: [(&str, &str); 17] = [
    ("undrain", "open"),
    ("uncordon", "open"),
    ("resume", "open"),
    ("reopen", "open"),
    ("enable", "open"),
    ("unblock", "open"),
    ("cordon", "close"),
    ("pause", "close"),
    ("disable", "close"),
    ("block", "close"),
    ("evict", "end"),
    ("maintenance", "maintain"),
    ("events", "tail"),
    ("log", "tail"),
    ("logs", "tail"),
    ("start", "open"),
    ("stop", "close"),
];

/// Replaces clap's suggestion, which goes by spelling alone, where the meaning is known.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let typed = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(word)) => word.clone(),
        Some(_) | None => String::new(),
    };
    let verb = typed(&error, ContextKind::InvalidSubcommand);
    let arg = typed(&error, ContextKind::InvalidArg);
    let elsewhere = VERBS_ELSEWHERE
        .iter()
        .find(|(there, _)| error.kind() == ErrorKind::InvalidSubcommand && *there == verb);
    let tip = match elsewhere {
        Some((_, verb)) => Some(format!("use: soramode {verb}")),
        None if error.kind() != ErrorKind::UnknownArgument => None,
        // A duration without a flag is most likely meant for `--timeout`.
        None if times::read_span(&arg).is_ok() => {
            Some(format!("to give up after that time, use '--timeout {arg}'"))
        }
        None if arg == "--node" => Some(format!(
            "only {} take '--node'; run this one on that node",
            verbs_with_node()
        )),
        None => None,
    };
    let Some(tip) = tip else {
        // An unknown flag is no value: clap would suggest `-- --flag`.
        if error.kind() == ErrorKind::UnknownArgument && arg.starts_with('-') {
            error.remove(ContextKind::Suggested);
        }
        return error;
    };
    for kind in [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::Usage,
    ] {
        error.remove(kind);
    }
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![StyledStr::from(tip)]),
    );
    error
}

/// `close, drain, open, set and wait`
fn verbs_with_node() -> String {
    let whole = Args::whole_command();
    let has_node = |verb: &&clap::Command| {
        verb.get_arguments()
            .any(|arg| arg.get_long() == Some("node"))
    };
    let verbs: Vec<&str> = whole
        .get_subcommands()
        .filter(has_node)
        .map(clap::Command::get_name)
        .collect();
    match verbs.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
