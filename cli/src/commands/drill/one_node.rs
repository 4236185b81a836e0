//! The scenario of one node: its modes, mistakes that do no harm, and a drain.

use std::time::Duration;

use soramode_protocol::mode::Mode::{BlockNewConnection, BlockNewSession, Initial, Normal};

use super::scenario::Request::{Connect, Disconnect, Drain, Get, Set, Tail, WaitDrained};
use super::scenario::{Part, Scenario, step};

pub(super) const SCENARIO: Scenario = Scenario {
    about: "A rehearsal with a private soramoded; a running one is not touched.",
    parts: PARTS,
    next: NEXT,
    step_max: Duration::from_secs(3),
};

/// The commands of the first maintenance.
const NEXT: &str = "\
Your first maintenance:
  soramode status                            mode, sessions and health
  soramode drain --timeout 30m -m \"upgrade\"  close it, wait until it is empty
  soramode is drained && ...                 upgrade, restart the SFU
  soramode set normal                        open it again
All in one: soramode maintain -m \"upgrade\" -- systemctl restart sora";

/// Connections have the name of their channel and the number of their client in the documentation's diagrams.
const PARTS: &[Part] = &[
    Part {
        name: "block_new_connection",
        heading: "block_new_connection: no new connection is admitted",
        steps: &[
            step(Get, "normal", "a node without a cluster starts as normal"),
            step(
                Connect("ham-1", "ham"),
                "offer, a new session",
                "normal admits every client",
            ),
            step(
                Set(BlockNewConnection),
                "was normal; 1 connected",
                "connected clients stay",
            ),
            step(
                Connect("ham-2", "ham"),
                "reject BLOCK-NEW-CONNECTION",
                "every new connection fails",
            ),
            step(
                Set(Normal),
                "was block_new_connection; 1 connected",
                "the operator opens the node again",
            ),
            step(
                Connect("ham-2", "ham"),
                "offer, the same session",
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
                "offer, a new session",
                "normal admits every client",
            ),
            step(
                Set(BlockNewSession),
                "was normal; 3 connected",
                "connected clients stay",
            ),
            step(
                Connect("egg-2", "egg"),
                "reject BLOCK-NEW-SESSION",
                "egg has no session, and no new one begins",
            ),
            step(
                Connect("spam-3", "spam"),
                "offer, the same session",
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
                "nothing changed",
                "a set that is repeated succeeds and changes nothing",
            ),
            step(
                Set(Initial),
                "refused: InvalidParams",
                "initial cannot be set: a node of a cluster enters it by itself",
            ),
            step(
                Set(Normal),
                "was block_new_session; 4 connected",
                "open again, and all connections are still there",
            ),
            step(
                WaitDrained,
                "refused: ConditionImpossible",
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
                "2 sessions, 4 connections left",
                "the node closes to new sessions, and the wait shows what is left",
            ),
            step(
                Disconnect(&["ham-1", "ham-2"]),
                "1 session, 2 connections left",
                "ham ends with its last connection; the wait goes on",
            ),
            step(
                Disconnect(&["spam-1", "spam-3"]),
                "drained",
                "no session is left: the wait is over",
            ),
            step(
                Tail,
                "2 session.destroyed, session.vanished",
                "session.vanished is sent when the last session has ended",
            ),
            step(
                Set(Normal),
                "was block_new_session; 0 connected",
                "the maintenance is done",
            ),
            step(
                Connect("egg-2", "egg"),
                "offer, a new session",
                "the rejected client is admitted",
            ),
        ],
    },
];
