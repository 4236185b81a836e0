//! The form of a scenario: parts of steps, each a request and the answer to expect.

use std::fmt;
use std::time::Duration;

use soramode_protocol::mode::Mode;

/// The names of a cluster's nodes.
pub(super) const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// A scenario.
pub(super) struct Scenario {
    /// The line at the beginning.
    pub(super) about: &'static str,
    pub(super) parts: &'static [Part],
    /// The text at the end: commands to go on with.
    pub(super) next: &'static str,
    /// Limit of the time for a step.
    pub(super) step_max: Duration,
}

/// Steps under one heading.
pub(super) struct Part {
    /// The name in JSON and plain output.
    pub(super) name: &'static str,
    pub(super) heading: &'static str,
    pub(super) steps: &'static [Step],
}

/// A request and the answer to expect.
pub(super) struct Step {
    /// The node in a cluster, as an index of [`NAMES`].
    pub(super) node: Option<usize>,
    pub(super) request: Request,
    pub(super) expected: &'static str,
    /// The documentation's rule.
    pub(super) because: &'static str,
}

/// A step on the only node, or on all nodes of a cluster.
pub(super) const fn step(request: Request, expected: &'static str, because: &'static str) -> Step {
    Step {
        node: None,
        request,
        expected,
        because,
    }
}

/// A step on one node of a cluster.
pub(super) const fn on(
    node: usize,
    request: Request,
    expected: &'static str,
    because: &'static str,
) -> Step {
    Step {
        node: Some(node),
        ..step(request, expected, because)
    }
}

/// A command of an operator, a request of a signalling server, or an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Get,
    Set(Mode),
    WaitDrained,
    /// A connection and its channel.
    Connect(&'static str, &'static str),
    /// A connection and its channel; the client follows redirects.
    Follow(&'static str, &'static str),
    /// Close the node and begin to wait, with a subscriber to the events.
    Drain,
    /// End these connections. The answer is the next progress of the drain, or the end of one that begins now.
    Disconnect(&'static [&'static str]),
    /// The subscriber's events since the drain began, up to `session.vanished`.
    Tail,
    /// Start a plan that closes the node after `lead` seconds, and ends the sessions `end` seconds after that.
    StartPlan {
        lead: i64,
        end: i64,
    },
    /// Cancel the plan that runs.
    CancelPlan,
    /// Start a plan that ends every session, and end them as the plan asks.
    EndByPlan,
    /// Have a client join a room of Janus.
    Join(&'static str, &'static str),
    /// Have clients leave their rooms of Janus. The answer is that of `Disconnect`.
    Leave(&'static [&'static str]),
    /// Create the cluster.
    InitCluster,
    /// Wait until each node has joined.
    WaitJoined,
    ListNodes,
    /// Count the sessions of all nodes.
    CountSessions,
    PauseEtcd,
    ResumeEtcd,
}

impl Scenario {
    pub(super) fn steps_total(&self) -> usize {
        self.parts.iter().map(|part| part.steps.len()).sum()
    }
}

impl Request {
    /// Names the message that a step waits for.
    pub(super) const fn awaited(self) -> &'static str {
        match self {
            Self::Drain => "word of the wait",
            Self::Tail => "session.vanished",
            _ => "answer",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.and_then(|node| NAMES.get(node));
        if let Some(name) = node {
            write!(f, "{name}: ")?;
        }
        match (self.request, node) {
            (Request::Get, _) => f.write_str("soramode get"),
            (Request::Set(mode), None) => write!(f, "soramode set {mode}"),
            (Request::Set(mode), Some(_)) => write!(f, "set {mode}"),
            (Request::WaitDrained, _) => f.write_str("soramode wait drained"),
            (Request::Connect(connection, channel), None) => {
                write!(f, "Connect {connection} to channel {channel}")
            }
            (Request::Connect(connection, channel) | Request::Follow(connection, channel), _) => {
                write!(f, "Connect {connection} to {channel}")
            }
            (Request::Drain, _) => f.write_str("soramode drain"),
            (Request::Disconnect(connections), None) => {
                write!(f, "Disconnect {}", connections.join(", "))
            }
            (Request::Disconnect(connections), Some(_)) => {
                write!(f, "Disconnect all {}", connections.len())
            }
            (Request::Tail, _) => f.write_str("soramode tail --type 'session.*'"),
            (Request::StartPlan { lead: 0, end }, _) => {
                write!(f, "drain --end-after {}m", end / 60)
            }
            (Request::StartPlan { lead, end }, _) => {
                write!(f, "drain --lead {lead}s --end-after {}m", end / 60)
            }
            (Request::CancelPlan, _) => f.write_str("soramode plan cancel"),
            (Request::EndByPlan, _) => f.write_str("soramode drain --end-after 0s"),
            (Request::Join(client, room), _) => write!(f, "{client} joins room {room}"),
            (Request::Leave(clients), _) => write!(f, "{} leave", clients.join(" and ")),
            (Request::InitCluster, _) => f.write_str("soramode nodes init"),
            (Request::WaitJoined, _) => f.write_str("each: soramode wait joined"),
            (Request::ListNodes, _) => f.write_str("soramode nodes"),
            (Request::CountSessions, _) => f.write_str("each: soramode sessions"),
            (Request::PauseEtcd, _) => f.write_str("etcd stops answering"),
            (Request::ResumeEtcd, _) => f.write_str("etcd answers again"),
        }
    }
}
