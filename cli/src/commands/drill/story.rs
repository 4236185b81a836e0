//! The rehearsal as it is written: who asks what, what the gate must say, and why.

use std::fmt;

use soramode_protocol::decision::RejectReason;
use soramode_protocol::error::ErrorType;
use soramode_protocol::mode::Mode;

use super::script::{Part, step};
use crate::output::counted;

use Ask::{Connect, Drain, Get, Leave, Set, Tail, WaitDrained};
use Mode::{BlockNewConnection, BlockNewSession, Initial, Normal};
use Said::{Changed, Drained, Is, Left, Offer, Refused, Reject, Unchanged, Vanished};

/// What is asked: an operator's command, or a signalling server's call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Get,
    Set(Mode),
    WaitDrained,
    /// A connection, and the channel it asks for.
    Connect(&'static str, &'static str),
    /// Close the node and begin to wait, with somebody who follows the events.
    Drain,
    /// These connections end; the answer is what the drain says then.
    Leave(&'static [&'static str]),
    /// What the follower has seen since the drain began, up to `session.vanished`.
    Tail,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Is(Mode),
    Changed {
        from: Mode,
        connections: u64,
    },
    Unchanged,
    Offer(Session),
    Reject(RejectReason),
    Refused(ErrorType),
    Left {
        sessions: u64,
        connections: u64,
    },
    Drained,
    /// After so many ends of sessions.
    Vanished {
        ended: u64,
    },
    /// What no step expects.
    Other(String),
}

/// Whether an offer made the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    New,
    Same,
}

/// All of it. The connections have the name of their channel and the number of their client in the documentation's diagrams.
pub(super) static STORY: &[Part<Ask, Said>] = &[
    Part {
        name: "block_new_connection",
        heading: "block_new_connection: no new connection is admitted",
        steps: &[
            step(Get, Is(Normal), "a node without a cluster starts as normal"),
            step(
                Connect("ham-1", "ham"),
                Offer(Session::New),
                "normal admits every client",
            ),
            step(
                Set(BlockNewConnection),
                Changed {
                    from: Normal,
                    connections: 1,
                },
                "connected clients stay",
            ),
            step(
                Connect("ham-2", "ham"),
                Reject(RejectReason::BlockNewConnection),
                "every new connection fails",
            ),
            step(
                Set(Normal),
                Changed {
                    from: BlockNewConnection,
                    connections: 1,
                },
                "the operator opens the node again",
            ),
            step(
                Connect("ham-2", "ham"),
                Offer(Session::Same),
                "now the same client is admitted",
            ),
        ],
    },
    Part {
        name: "block_new_session",
        heading: "block_new_session: only clients of existing sessions are admitted",
        steps: &[
            step(
                Connect("spam-1", "spam"),
                Offer(Session::New),
                "normal admits every client",
            ),
            step(
                Set(BlockNewSession),
                Changed {
                    from: Normal,
                    connections: 3,
                },
                "connected clients stay",
            ),
            step(
                Connect("egg-2", "egg"),
                Reject(RejectReason::BlockNewSession),
                "egg has no session, and no new one begins",
            ),
            step(
                Connect("spam-3", "spam"),
                Offer(Session::Same),
                "spam has a session, so others may still join it",
            ),
        ],
    },
    Part {
        name: "slips",
        heading: "Mistakes that do no harm",
        steps: &[
            step(
                Set(BlockNewSession),
                Unchanged,
                "a set that is repeated succeeds and changes nothing",
            ),
            step(
                Set(Initial),
                Refused(ErrorType::InvalidParams),
                "initial cannot be set: a node of a cluster enters it by itself",
            ),
            step(
                Set(Normal),
                Changed {
                    from: BlockNewSession,
                    connections: 4,
                },
                "open again, and all connections are still there",
            ),
            step(
                WaitDrained,
                Refused(ErrorType::ConditionImpossible),
                "an open node never drains, so the wait ends at once",
            ),
        ],
    },
    Part {
        name: "drain",
        heading: "A drain: close, wait until the last session has ended, open again",
        steps: &[
            step(
                Drain,
                Left {
                    sessions: 2,
                    connections: 4,
                },
                "the node closes to new sessions, and the wait shows what is left",
            ),
            step(
                Leave(&["ham-1", "ham-2"]),
                Left {
                    sessions: 1,
                    connections: 2,
                },
                "ham ends with its last connection; the wait goes on",
            ),
            step(
                Leave(&["spam-1", "spam-3"]),
                Drained,
                "no session is left: the wait is over",
            ),
            step(
                Tail,
                Vanished { ended: 2 },
                "session.vanished is sent when the last session has ended",
            ),
            step(
                Set(Normal),
                Changed {
                    from: BlockNewSession,
                    connections: 0,
                },
                "the maintenance is done",
            ),
            step(
                Connect("egg-2", "egg"),
                Offer(Session::New),
                "the rejected client is admitted",
            ),
        ],
    },
];

impl Ask {
    /// What is missing where nothing comes.
    pub(super) const fn answer(self) -> &'static str {
        match self {
            Get | Set(_) | WaitDrained | Connect(..) => "answer",
            Drain | Leave(_) => "word of the wait",
            Tail => "session.vanished",
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Get => f.write_str("soramode get"),
            Set(mode) => write!(f, "soramode set {mode}"),
            WaitDrained => f.write_str("soramode wait drained"),
            Connect(connection, channel) => write!(f, "Connect {connection} to channel {channel}"),
            Drain => f.write_str("soramode drain"),
            Leave(connections) => write!(f, "Disconnect {}", connections.join(", ")),
            Tail => f.write_str("soramode tail --type 'session.*'"),
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Is(mode) => write!(f, "{mode}"),
            Changed {
                from,
                connections: 0,
            } => write!(f, "was {from}; no connections"),
            Changed {
                from,
                connections: 1,
            } => write!(f, "was {from}; 1 stays"),
            Changed { from, connections } => write!(f, "was {from}; {connections} stay"),
            Unchanged => f.write_str("nothing changed"),
            Offer(Session::New) => f.write_str("offer, a new session"),
            Offer(Session::Same) => f.write_str("offer, the same session"),
            Reject(reason) => write!(f, "reject {reason}"),
            Refused(error_type) => write!(f, "refused: {error_type:?}"),
            Left {
                sessions,
                connections,
            } => {
                write!(
                    f,
                    "{}, {} left",
                    counted(*sessions, "session"),
                    counted(*connections, "connection")
                )
            }
            Drained => f.write_str("drained"),
            Vanished { ended } => write!(f, "{ended} session.destroyed, session.vanished"),
            Self::Other(words) => f.write_str(words),
        }
    }
}
