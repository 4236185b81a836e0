//! Flags that several commands take.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::path::PathBuf;
use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};

use crate::api_flags::ApiFlags;
use crate::candidates;
use crate::fleet::hosts::HostWord;
use crate::output::{OutputFlags, times};

/// The default of `--timeout`.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_mins(30);

/// Flags that every command takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Connect to soramoded at this control socket
    ///
    /// Default: $SORAMODE_SOCKET, else /run/soramode/soramode.sock, else $XDG_RUNTIME_DIR/soramode/soramode.sock (without
    /// $XDG_RUNTIME_DIR: /tmp/soramode-UID/soramode.sock). For root only the first two.
    #[arg(long, value_name = "PATH", global = true, add = ArgValueCompleter::new(candidates::sockets()))]
    pub(crate) socket: Option<PathBuf>,
    /// Act on another host, over ssh: [USER@]NAME[:PORT]
    ///
    /// Runs soramode dial-stdio there ($SORAMODE_REMOTE, if it is called otherwise) by ssh ($SORAMODE_SSH). With --socket, PATH is on that host.
    /// Default: $SORAMODE_HOST. Not with completions, drill and webhook. An IPv6 address stands in brackets. Several hosts, or @NAME of a
    /// fleet.toml: with get, status, sessions, doctor, set, open, announce and roll. maintain takes one host.
    #[arg(short = 'H', long = "host", value_name = "HOST", global = true, value_delimiter = ',', add = ArgValueCandidates::new(candidates::hosts))]
    pub(crate) hosts: Vec<HostWord>,
    #[command(flatten)]
    pub(crate) api: ApiFlags,
    #[command(flatten)]
    pub(crate) output: OutputFlags,
}

/// Limits of a wait.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitFlags {
    /// Give up (exit 124) after this time [default: 30m]
    ///
    /// A number with a unit: 90s, 45m, 2h, 1h30m (more: soramode help options). 0 waits without a limit.
    #[arg(short, long, value_name = "DURATION", value_parser = times::read_span)]
    timeout: Option<Duration>,
    /// Proceed even if the session list is incomplete
    ///
    /// Without it the command ends with exit code 8 until soramoded knows every session on the SFU. With it, clients may still be connected
    /// to a node that is reported as drained.
    #[arg(long)]
    pub(crate) assume_complete: bool,
    /// Proceed even if the mode is not in force
    ///
    /// Only where soramoded locks the rooms of a Janus. Clients may then join a room that is not locked.
    #[arg(long, hide_short_help = true)]
    pub(crate) assume_in_force: bool,
}

impl WaitFlags {
    /// Returns whether any of them was given.
    pub(crate) const fn is_given(&self) -> bool {
        self.timeout.is_some() || self.assume_complete || self.assume_in_force
    }

    /// Returns the limit that was typed; zero is never.
    pub(crate) const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns the time after which to give up; `None` is never.
    pub(crate) fn limit(&self) -> Option<Duration> {
        Some(self.timeout.unwrap_or(TIMEOUT_DEFAULT)).filter(|limit| !limit.is_zero())
    }
}
