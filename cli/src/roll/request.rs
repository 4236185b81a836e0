//! The roll that a command line requests.

use std::ffi::OsString;
use std::time::Duration;

use soramode_protocol::wait::Wait;
use soramode_roll::Settings;

use super::resume::ResumeCommand;

/// A roll to carry out.
pub(crate) struct RollRequest {
    pub(crate) settings: Settings,
    /// The hosts as they were typed.
    pub(crate) hosts: Vec<String>,
    pub(crate) work: HostWork,
    /// The command that goes on after a stop.
    pub(crate) resume: ResumeCommand,
    pub(crate) is_dry_run: bool,
    /// The roll is resumed, and began with another command, `--reboot` or `--ready`, as far as its id shows.
    pub(crate) has_other_work: bool,
}

/// The work on each host.
pub(crate) struct HostWork {
    /// The command and its arguments.
    pub(crate) command: Vec<OsString>,
    /// Command line that must succeed before the node is opened.
    pub(crate) ready: Option<String>,
    pub(crate) ready_timeout: Duration,
    pub(crate) drain: DrainPlan,
}

/// The wait for a drain.
pub(crate) struct DrainPlan {
    /// The request, without generation and plan.
    pub(crate) wait: Wait,
    pub(crate) limit: Option<Duration>,
    /// The condition once a plan has closed the node, if it is another than the end of the plan.
    pub(crate) after_close: Option<Wait>,
    /// The node is opened again on a timeout.
    pub(crate) undoes: bool,
}
