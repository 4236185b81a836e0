//! Rolling maintenance: closes, maintains and opens several nodes one after the other, with enough of the others open.
//!
//! Sans I/O, as the gate is: [`RollRun::step`] takes an [`Input`] and returns [`Action`]s, for the caller to carry out. The command drives
//! it over ssh, the tests drive it against gates. What must stay so:
//!
//! 1. At most one node is closed by the roll at a time.
//! 2. A node is closed in the round of a pass that renewed *that node first*, then the others, and that found enough of the others open.
//!    The node accepts the close only in that round and while its reservation is current; the others were renewed later, so theirs are
//!    current too. However late the request arrives, no other roll can have closed them.
//! 3. No node is renewed twice in one round, so that rule 2 holds for a request that is repeated or late.
//! 4. When the roll ends, the node that it may be about to close is released before the others, and these only if that was confirmed. A command
//!    that resumes a roll releases none before it has reserved all: an earlier command may be about to close any of the rest.

mod check;
pub mod fault;
mod pass;
mod pass_state;
mod roll;
mod work;

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::access::Access;
use soramode_protocol::error::Error;
use soramode_protocol::id::{LogId, PlanId, RollId};
use soramode_protocol::mode::{ChangeMode, ModeChanged};
use soramode_protocol::node::Status;
use soramode_protocol::plan::{PlanStarted, StartPlan};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{Release, Released, Reserve, Reserved, RollStep};

pub use self::check::{COMMAND_GONE, LOOK_FOR_COMMAND, Resumed, Schedule, check, preview};
pub use self::roll::RollRun;

/// Time for which a node is reserved, in seconds.
pub const RESERVED_SECONDS: u64 = 60;

/// Time between two passes that renew all reservations.
pub const RENEW_PAUSE: Duration = Duration::from_secs(20);

/// Time for which a node waits for enough other nodes to be open.
pub const OPEN_TIME_MAX: Duration = Duration::from_mins(1);

/// Time between two looks at the other nodes while too few are open.
pub const OPEN_PAUSE: Duration = Duration::from_secs(1);

/// Time for which a host is looked for after its connection was lost.
pub const SEEK_TIME_MAX: Duration = Duration::from_mins(10);

/// Time between two attempts to reach a host after its connection was lost.
pub const SEEK_PAUSE: Duration = Duration::from_secs(2);

/// Time that the releases of a roll that ends may take. What is not released expires by itself.
pub const RELEASE_TIME_MAX: Duration = Duration::from_secs(5);

/// Index of a host in the list of all hosts.
pub type HostIndex = usize;

/// Identifier of a call. Answers to calls that the roll has forgotten are ignored.
pub type CallId = u64;

/// Settings of a roll.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Identifier of the roll.
    pub roll: RollId,
    /// Person that runs it, as the nodes show it.
    pub by: String,
    /// Number of other hosts that must be open when one is closed.
    pub keep_open: usize,
    /// Hosts that are maintained, in the order of the list.
    pub maintained: BTreeSet<HostIndex>,
    /// Request that closes a node.
    pub close: Close,
    /// Work on a node that is drained.
    pub work: Work,
    /// Time between two nodes.
    pub pause: Duration,
    /// Treatment of nodes that another user has closed.
    pub closed_nodes: ClosedNodes,
    /// Start anew, or resume.
    pub start: Start,
    /// Random number: two commands that resume the same roll do not take the same rounds.
    pub salt: u64,
    /// The mistake that a test has planted.
    pub fault: fault::PlantedFault,
}

/// Request that closes a node. The roll adds itself, the round and its conditions.
#[derive(Clone, Debug)]
pub enum Close {
    /// Close it at once.
    Mode(Box<ChangeMode>),
    /// Close it by a plan.
    Plan(Box<StartPlan>),
}

impl Close {
    /// Returns the operator's reason.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Mode(change) => change.reason.as_deref(),
            Self::Plan(plan) => plan.reason.as_deref(),
        }
    }
}

/// Work on a node that is drained.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Run the operator's command.
    pub command: bool,
    /// Reboot the machine, after the command.
    pub reboot: bool,
}

/// Treatment of nodes that another user has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedNodes {
    /// Stop.
    Refuse,
    /// Go on with the next one.
    Skip,
}

/// Start of a roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Start anew.
    New,
    /// Go on with a roll that has stopped.
    Resume,
    /// Go on, and run a command again that may still run, or has failed.
    ResumeAgain,
}

/// A host as it was found when the roll connected to it.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Event log of its daemon, which names the node.
    pub log_id: LogId,
    /// Access of the user there.
    pub access: Access,
    /// True if the daemon has the method `Reserve`.
    pub can_reserve: bool,
    /// Reason why no command can be run there. Looked for on hosts that are maintained.
    pub cannot_work: Option<Stop>,
    /// Its status.
    pub status: Box<Status>,
}

/// Input.
#[derive(Debug)]
pub enum Input {
    /// All hosts were connected to, or not: the first input.
    Connected(Vec<Result<HostFacts, String>>),
    /// A call was answered ([`Action::Call`]).
    Answered(CallId, Result<Answer, CallError>),
    /// A task has ended ([`Action::Begin`]).
    Ended(HostIndex, TaskEnd),
    /// Time has passed ([`RollRun::next_deadline`]).
    Tick,
    /// The operator interrupts. The second time a command that runs is not waited for; once the nodes are being released, they are not either.
    Interrupted,
}

/// Call of a node's daemon.
#[derive(Clone, Debug)]
pub enum Call {
    /// Reserve the node, or record a step.
    Reserve(Reserve),
    /// End the reservation.
    Release(Release),
    /// Read the status.
    GetStatus,
    /// Close or open the node.
    ChangeMode(Box<ChangeMode>),
    /// Close the node by a plan.
    StartPlan(Box<StartPlan>),
}

impl From<Call> for GateRequest {
    fn from(call: Call) -> Self {
        match call {
            Call::Reserve(reserve) => Self::Reserve(Box::new(reserve)),
            Call::Release(release) => Self::Release(release),
            Call::GetStatus => Self::GetStatus,
            Call::ChangeMode(change) => Self::ChangeMode(change),
            Call::StartPlan(start) => Self::StartPlan(start),
        }
    }
}

/// Answer to a call.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Call::Reserve`].
    Reserved(Reserved),
    /// To [`Call::Release`].
    Released(Released),
    /// To [`Call::GetStatus`].
    Status(Box<Status>),
    /// To [`Call::ChangeMode`].
    ModeChanged(ModeChanged),
    /// To [`Call::StartPlan`].
    PlanStarted(Box<PlanStarted>),
}

/// Failure of a call.
#[derive(Clone, Debug)]
pub enum CallError {
    /// The daemon refused it.
    Refused(Error),
    /// No answer came: the request may have arrived, and may still arrive.
    Lost(String),
}

/// Task on a host, which takes its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Wait until the node is drained, by this plan if it has one.
    Drain(Option<PlanId>),
    /// Run the operator's command.
    Command,
    /// Reboot the machine, and wait until the host answers with another boot id.
    Reboot,
    /// Wait until the node is ready to open.
    Ready,
}

/// End of a task.
#[derive(Clone, Debug)]
pub enum TaskEnd {
    /// It is done.
    Done,
    /// The operator's command has ended, with this exit code.
    CommandEnded(u8),
    /// The connection was lost while the command ran: it goes on.
    Lost(String),
    /// It cannot be done: the roll stops.
    Failed(Stop),
}

/// Something to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Call a node's daemon; its answer comes back as [`Input::Answered`], always and in a bounded time.
    Call(HostIndex, CallId, Call),
    /// Begin a task; its end comes back as [`Input::Ended`].
    Begin(HostIndex, Task),
    /// Give up the task that waits on this host.
    Abandon(HostIndex),
    /// Show that the roll is here on this host.
    Show(HostIndex, Stage),
    /// The roll is over: the last action.
    Finish(Finish),
}

/// Stage of the roll on a host, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits until enough other nodes are open, and closes the node then.
    Preparing,
    /// The node is closed, or its plan runs: the record says so, too.
    At(RollStep),
    /// The connection is lost while the operator's command runs.
    Seeking,
    /// The machine reboots.
    Rebooting,
    /// The node is being opened.
    Opening,
    /// The node was skipped: another user had closed it.
    Skipped,
}

/// End of a roll.
#[derive(Clone, Debug)]
pub struct Finish {
    /// Why it has stopped; `None` if it is done.
    pub stop: Option<Stop>,
    /// Fewest other nodes that were open when one was closed.
    pub least_open: Option<usize>,
    /// Hosts of which no release was confirmed: they may stay reserved until the reservation expires.
    pub unreleased: Vec<HostIndex>,
}

/// Reason for a roll to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Kind, which decides the exit code.
    pub kind: StopKind,
    /// Host that it is about.
    pub host: Option<HostIndex>,
    /// One sentence.
    pub problem: String,
    /// Remedy. Commands in it do not name the host.
    pub hint: Option<String>,
}

impl Stop {
    /// Creates a reason that is about a host.
    pub fn on(host: HostIndex, kind: StopKind, problem: impl Into<String>) -> Self {
        Self {
            kind,
            host: Some(host),
            problem: problem.into(),
            hint: None,
        }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// Kind of a reason to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// The request makes no sense: exit code 2.
    Usage,
    /// A host cannot be reached: 3.
    Unreachable,
    /// The user may not operate a node: 4.
    NotPermitted,
    /// A node refuses, or the state of the nodes does: 5.
    Refused,
    /// Another user changed the mode: 6.
    Superseded,
    /// A daemon is too old: 7.
    TooOld,
    /// The session list is incomplete: 8.
    SessionsIncomplete,
    /// The operator's command or a reboot failed: 70.
    Failed,
    /// A host cannot start the operator's command: the exit code of a shell for that.
    NotStartable(u8),
    /// It took too long: 124.
    TimedOut,
    /// The operator interrupted: 130.
    Interrupted,
}
