//! The scenario of a Janus: rooms are locked as the mode requires, and a drain.

use std::time::Duration;

use soramode_protocol::mode::Mode::{BlockNewConnection, BlockNewSession, Normal};

use super::scenario::Request::{Drain, Get, Join, Leave, Set};
use super::scenario::{Part, Scenario, step};

pub(super) const SCENARIO: Scenario = Scenario {
    about: "A rehearsal with a private Janus and soramoded; running ones are not touched.",
    parts: PARTS,
    next: NEXT,
    step_max: Duration::from_secs(10),
};

/// The commands of the first Janus.
const NEXT: &str = "\
Guide to a Janus of your own: man/janus.md. Its daily commands:
  soramode status                            mode, and whether it is in force
  soramode drain --timeout 30m -m \"upgrade\"  close it, wait until it is empty
  soramode set normal                        unlock its rooms again";

/// Clients have the name of their room and the number of their client in the documentation's diagrams.
const PARTS: &[Part] = &[
    Part {
        name: "block_new_connection",
        heading: "block_new_connection: every room is locked",
        steps: &[
            step(Get, "normal", "a node without a cluster starts as normal"),
            step(Join("ham-1", "ham"), "joined", "rooms are open"),
            step(
                Set(BlockNewConnection),
                "in force; 1 connected",
                "each room is locked, and connected clients stay",
            ),
            step(
                Join("ham-2", "ham"),
                "refused: 433",
                "Janus refuses the client, which soramoded is not asked about",
            ),
            step(
                Set(Normal),
                "in force; 1 connected",
                "the operator opens the node again, and the rooms are unlocked",
            ),
            step(Join("ham-2", "ham"), "joined", "now the same client joins"),
        ],
    },
    Part {
        name: "block_new_session",
        heading: "block_new_session: only rooms without participants are locked",
        steps: &[
            step(Join("spam-1", "spam"), "joined", "rooms are open"),
            step(
                Set(BlockNewSession),
                "in force; 3 connected",
                "empty rooms are locked",
            ),
            step(
                Join("egg-2", "egg"),
                "refused: 433",
                "egg has no participant, so it is locked",
            ),
            step(
                Join("spam-3", "spam"),
                "joined",
                "spam has one, so others may still join it",
            ),
        ],
    },
    Part {
        name: "drain",
        heading: "A drain: a room is locked when its last participant has left",
        steps: &[
            step(
                Drain,
                "2 sessions, 4 connections left",
                "the node is closed already, and the wait shows what is left",
            ),
            step(
                Leave(&["ham-1", "ham-2"]),
                "1 session, 2 connections left",
                "ham is empty, and is locked; the wait goes on",
            ),
            step(
                Leave(&["spam-1", "spam-3"]),
                "drained",
                "every room is locked, and Janus has then shown that nobody is there",
            ),
            step(
                Join("spam-1", "spam"),
                "refused: 433",
                "Janus could be restarted now",
            ),
            step(
                Set(Normal),
                "in force; 0 connected",
                "the maintenance is done",
            ),
            step(Join("egg-2", "egg"), "joined", "the refused client joins"),
        ],
    },
];
