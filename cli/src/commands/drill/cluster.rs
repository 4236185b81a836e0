//! The scenario of a cluster: three nodes join, redirect, drain, and are isolated.

use std::time::Duration;

use soramode_protocol::mode::Mode::{BlockNewSession, Initial, Normal};

use super::scenario::Request::{
    Connect, CountSessions, Disconnect, Follow, InitCluster, ListNodes, PauseEtcd, ResumeEtcd, Set,
    WaitJoined,
};
use super::scenario::{Part, Scenario, on, step};

pub(super) const SCENARIO: Scenario = Scenario {
    about: "A rehearsal with a private etcd and three nodes; running ones are not touched.",
    parts: PARTS,
    next: NEXT,
    // etcd may have to be read from a slow disk first.
    step_max: Duration::from_secs(30),
};

/// The commands of the first cluster.
const NEXT: &str = "\
Your first cluster: man/cluster.md. Its daily commands:
  soramode nodes                             list nodes and orphaned channels
  soramode drain --node n1 --keep-open 1     close n1, wherever this is typed
  soramode wait joined                       wait for it after an upgrade";

/// The answer of all three nodes.
const ALL_NORMAL: &str = "n1, n2, n3: joined, normal";

/// Connections have the name of their channel.
const PARTS: &[Part] = &[
    Part {
        name: "join",
        heading: "Three nodes join",
        steps: &[
            on(
                0,
                InitCluster,
                "made, epoch 1",
                "an operator makes a cluster, once: no node takes an empty etcd",
            ),
            step(
                WaitJoined,
                ALL_NORMAL,
                "a node starts as initial, and is normal once it has joined",
            ),
            on(0, ListNodes, "n1, n2, n3", "each node sees the others"),
            on(
                0,
                Set(Initial),
                "refused: InvalidParams",
                "nobody can set initial: a node enters it by itself",
            ),
        ],
    },
    Part {
        name: "redirect",
        heading: "The same channel is never processed on two nodes",
        steps: &[
            on(
                0,
                Connect("spam-1", "spam"),
                "offer, a new session",
                "the channel is nobody's, so the node that is asked claims it",
            ),
            on(
                1,
                Connect("spam-2", "spam"),
                "redirect to n1",
                "it is n1's now, on every node",
            ),
            on(
                1,
                Follow("spam-2", "spam"),
                "redirect; offer, the same session",
                "its client goes where it is sent",
            ),
        ],
    },
    Part {
        name: "drain",
        heading: "A drain that refuses nobody",
        steps: &[
            on(
                0,
                Set(BlockNewSession),
                "was normal, others know",
                "n1 closes to new sessions",
            ),
            on(
                0,
                Connect("spam-3", "spam"),
                "offer, the same session",
                "into the channels that it has it lets people in",
            ),
            on(
                0,
                Follow("egg-1", "egg"),
                "redirect; offer, a new session",
                "new channels go to the others: nobody is refused",
            ),
            on(
                0,
                Disconnect(&["spam-1", "spam-2", "spam-3"]),
                "drained",
                "its last session has ended: n1 could be upgraded now",
            ),
            on(
                0,
                Set(Normal),
                "was block_new_session, others know",
                "the maintenance is done",
            ),
        ],
    },
    Part {
        name: "isolation",
        heading: "etcd is away, and comes back",
        steps: &[
            step(
                PauseEtcd,
                "n1, n2, n3: isolated, initial",
                "a node without etcd for --isolated-after lets nobody in",
            ),
            on(
                0,
                Connect("ham-1", "ham"),
                "reject INITIAL",
                "so no channel is taken twice",
            ),
            step(CountSessions, "1 session", "what is there lives on"),
            step(
                ResumeEtcd,
                ALL_NORMAL,
                "they are normal again by themselves",
            ),
            on(
                0,
                Follow("egg-2", "egg"),
                "redirect; offer, the same session",
                "and each channel keeps its node",
            ),
        ],
    },
];
