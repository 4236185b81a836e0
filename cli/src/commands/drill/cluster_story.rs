//! The cluster's rehearsal as it is written: who asks whom, what must be said, and why.

use std::fmt;

use soramode_protocol::mode::SettableMode;

use super::private_cluster::NAMES;
use super::script::{Part, step, steps_total};
use super::view::Playbill;

use Ask::{Connect, Etcd, Follow, Init, Join, Leave, Nodes, Sessions, Set, SetInitial};
use SettableMode::{BlockNewSession, Normal};

/// Which node, by its place among the names.
pub(super) type At = usize;

/// What is asked, or done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The cluster is made.
    Init(At),
    /// All of them are waited for.
    Join,
    Nodes(At),
    SetInitial(At),
    /// A connection, and the channel it asks for.
    Connect(At, &'static str, &'static str),
    /// The same, and it goes where it is sent.
    Follow(At, &'static str, &'static str),
    Set(At, SettableMode),
    /// These connections end.
    Leave(At, &'static [&'static str]),
    /// How many sessions there are on all nodes.
    Sessions,
    /// etcd stops answering, or goes on.
    Etcd(Power),
}

/// Whether etcd answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Off,
    On,
}

/// All three, as `Join` and `Etcd` say it.
const ALL_NORMAL: &str = "n1, n2, n3: joined, normal";

/// All of it. The connections have the name of their channel.
pub(super) static STORY: &[Part<Ask, &'static str>] = &[
    Part {
        name: "join",
        heading: "Three nodes join",
        steps: &[
            step(
                Init(0),
                "made, epoch 1",
                "an operator makes a cluster, once: no node takes an empty etcd",
            ),
            step(
                Join,
                ALL_NORMAL,
                "a node starts as initial, and is normal once it has joined",
            ),
            step(Nodes(0), "n1, n2, n3", "each node sees the others"),
            step(
                SetInitial(0),
                "refused: InvalidParams",
                "nobody can set initial: a node enters it by itself",
            ),
        ],
    },
    Part {
        name: "redirect",
        heading: "The same channel is never processed on two nodes",
        steps: &[
            step(
                Connect(0, "spam-1", "spam"),
                "offer, a new session",
                "the channel is nobody's, so the node that is asked claims it",
            ),
            step(
                Connect(1, "spam-2", "spam"),
                "redirect to n1",
                "it is n1's now, on every node",
            ),
            step(
                Follow(1, "spam-2", "spam"),
                "redirect; offer, the same session",
                "its client goes where it is sent",
            ),
        ],
    },
    Part {
        name: "drain",
        heading: "A drain that refuses nobody",
        steps: &[
            step(
                Set(0, BlockNewSession),
                "was normal, others know",
                "n1 closes to new sessions",
            ),
            step(
                Connect(0, "spam-3", "spam"),
                "offer, the same session",
                "into the channels that it has it lets people in",
            ),
            step(
                Follow(0, "egg-1", "egg"),
                "redirect; offer, a new session",
                "new channels go to the others: nobody is refused",
            ),
            step(
                Leave(0, &["spam-1", "spam-2", "spam-3"]),
                "drained",
                "its last session has ended: n1 could be upgraded now",
            ),
            step(
                Set(0, Normal),
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
                Etcd(Power::Off),
                "n1, n2, n3: isolated, initial",
                "a node without etcd for --isolated-after lets nobody in",
            ),
            step(
                Connect(0, "ham-1", "ham"),
                "reject INITIAL",
                "so no channel is taken twice",
            ),
            step(Sessions, "1 session", "what is there lives on"),
            step(
                Etcd(Power::On),
                ALL_NORMAL,
                "they are normal again by themselves",
            ),
            step(
                Follow(0, "egg-2", "egg"),
                "redirect; offer, the same session",
                "and each channel keeps its node",
            ),
        ],
    },
];

/// What there is to show beside the steps.
pub(super) fn playbill() -> Playbill {
    Playbill {
        what: "A rehearsal with an etcd and three nodes of its own; what runs is not touched.",
        steps: steps_total(STORY),
        next: "\
Your first cluster: man/cluster.md. Its daily commands:
  soramode nodes                             list nodes and orphaned channels
  soramode drain --node n1 --keep-open 1     close n1, wherever this is typed
  soramode wait joined                       wait for it after an upgrade",
    }
}

fn name(at: At) -> &'static str {
    NAMES.get(at).copied().unwrap_or("?")
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Init(at) => write!(f, "{}: soramode nodes init", name(*at)),
            Join => f.write_str("each: soramode wait joined"),
            Nodes(at) => write!(f, "{}: soramode nodes", name(*at)),
            SetInitial(at) => write!(f, "{}: set initial", name(*at)),
            Connect(at, connection, channel) | Follow(at, connection, channel) => {
                write!(f, "{}: Connect {connection} to {channel}", name(*at))
            }
            Set(at, mode) => write!(
                f,
                "{}: set {}",
                name(*at),
                soramode_protocol::mode::Mode::from(*mode)
            ),
            Leave(at, connections) => {
                write!(f, "{}: Disconnect all {}", name(*at), connections.len())
            }
            Sessions => f.write_str("each: soramode sessions"),
            Etcd(Power::Off) => f.write_str("etcd stops answering"),
            Etcd(Power::On) => f.write_str("etcd answers again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_fits_a_terminal_and_an_operators_patience() {
        assert!(playbill().steps <= 20);
        assert!(playbill().next.lines().all(|line| line.len() <= 80));
        for step in STORY.iter().flat_map(|part| part.steps) {
            assert!(step.ask.to_string().len() <= 33, "{}", step.ask);
            assert!(step.expected.len() <= 37, "{}", step.expected);
            assert!(step.because.len() <= 72, "{}", step.because);
        }
    }
}
