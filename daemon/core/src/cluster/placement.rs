//! Where a channel that nobody owns belongs: to the emptiest node that is `normal`, on a tie to the node asked. A node that is about to
//! close comes after all others.
//!
//! A hint and no more: the node that a client arrives at claims for itself, and only its claim counts. So a wrong hint costs a
//! hop, and no claim is left behind for a client that never comes.

use std::cmp::Ordering;

use soramode_protocol::decision::HOPS_MAX;
use soramode_protocol::id::{ChannelId, NodeName};
use soramode_protocol::mode::Mode;

/// A node as it published itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Which.
    pub node: NodeName,
    /// Its mode.
    pub mode: Mode,
    /// How many connections it holds.
    pub connections: u64,
    /// How many it may hold.
    pub limit: u64,
    /// `true` if a plan is about to close it.
    pub is_leaving: bool,
}

/// Where a channel belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// To the node asked: claim it.
    Here,
    /// To this one: redirect.
    There(NodeName),
    /// No node takes it.
    Nowhere,
}

/// Where a new channel belongs, for a client that has followed `hops` redirects. `here` is the node asked, and may be among `all`.
///
/// Whoever was sent here stays, if it may: each node knows its own clients at once and the others' seconds later, so that under load
/// all of them take one another for emptier, and a client would be sent round until a claim of somebody else's stops it.
pub fn place(here: &Candidate, all: &[Candidate], channel: &ChannelId, hops: u8) -> Place {
    if hops >= HOPS_MAX {
        return if takes_new_channels(here) {
            Place::Here
        } else {
            Place::Nowhere
        };
    }
    let others = all
        .iter()
        .filter(|it| it.node != here.node && takes_new_channels(it));
    let best = others
        .min_by(|a, b| preference(a, b).then_with(|| spread(channel, a).cmp(&spread(channel, b))));
    match best {
        Some(other)
            if !takes_new_channels(here)
                || (hops == 0 && preference(other, here) == Ordering::Less) =>
        {
            Place::There(other.node.clone())
        }
        Some(_) => Place::Here,
        None if takes_new_channels(here) => Place::Here,
        None => Place::Nowhere,
    }
}

fn takes_new_channels(candidate: &Candidate) -> bool {
    candidate.mode == Mode::Normal && candidate.connections < candidate.limit
}

/// Compares nodes by how well they suit a new channel: the better one is less.
fn preference(a: &Candidate, b: &Candidate) -> Ordering {
    a.is_leaving.cmp(&b.is_leaving).then_with(|| fullness(a, b))
}

/// Compares connections/limit, without a division.
fn fullness(a: &Candidate, b: &Candidate) -> Ordering {
    let a_of_b = u128::from(a.connections) * u128::from(b.limit);
    let b_of_a = u128::from(b.connections) * u128::from(a.limit);
    a_of_b.cmp(&b_of_a)
}

/// Others that are as full as each other share the channels: what they published may be seconds old, and must not send all of
/// them to one. FNV-1a.
fn spread(channel: &ChannelId, candidate: &Candidate) -> u64 {
    let bytes = channel.as_bytes().iter().chain(candidate.node.as_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64, mode: Mode, connections: u64) -> Candidate {
        Candidate {
            node: NodeName::new(&format!("node-{number:02}")).unwrap(),
            mode,
            connections,
            limit: 100,
            is_leaving: false,
        }
    }

    fn leaving(number: u64, connections: u64) -> Candidate {
        Candidate {
            is_leaving: true,
            ..node(number, Mode::Normal, connections)
        }
    }

    fn spam() -> ChannelId {
        ChannelId::new("spam").unwrap()
    }

    fn there(number: u64) -> Place {
        Place::There(node(number, Mode::Normal, 0).node)
    }

    #[test]
    fn the_emptiest_gets_it_and_on_a_tie_the_one_asked() {
        let all = [
            node(1, Mode::Normal, 5),
            node(2, Mode::Normal, 5),
            node(3, Mode::Normal, 4),
        ];
        assert_eq!(place(&all[0], &all, &spam(), 0), there(3));
        assert_eq!(place(&all[0], &all[..2], &spam(), 0), Place::Here);
        assert_eq!(place(&all[1], &all[..2], &spam(), 0), Place::Here);
    }

    #[test]
    fn a_larger_node_takes_more() {
        let small = node(1, Mode::Normal, 5);
        let large = Candidate {
            limit: 1_000,
            ..node(2, Mode::Normal, 40)
        };
        assert_eq!(place(&small, &[small.clone(), large], &spam(), 0), there(2));
    }

    #[test]
    fn only_normal_nodes_get_new_channels() {
        for mode in [
            Mode::BlockNewSession,
            Mode::BlockNewConnection,
            Mode::Initial,
        ] {
            let all = [node(1, Mode::Normal, 9), node(2, mode, 0)];
            assert_eq!(place(&all[0], &all, &spam(), 0), Place::Here);
            assert_eq!(place(&all[1], &all, &spam(), 0), there(1));
            assert_eq!(place(&all[1], &all[1..], &spam(), 0), Place::Nowhere);
        }
    }

    #[test]
    fn a_leaving_node_gets_a_channel_only_if_no_other_takes_it() {
        let all = [leaving(1, 0), node(2, Mode::Normal, 90), leaving(3, 0)];
        assert_eq!(place(&all[0], &all, &spam(), 0), there(2));
        assert_eq!(place(&all[1], &all, &spam(), 0), Place::Here);
        assert_eq!(place(&all[0], &all, &spam(), 1), Place::Here, "it is open");
        let full = [leaving(1, 5), node(2, Mode::Normal, 100), leaving(3, 4)];
        assert_eq!(place(&full[0], &full, &spam(), 0), there(3));
        assert_eq!(place(&full[0], &full[..2], &spam(), 0), Place::Here);
    }

    #[test]
    fn a_full_node_gets_none() {
        let all = [
            node(1, Mode::Normal, 100),
            node(2, Mode::Normal, 99),
            Candidate {
                limit: 0,
                ..node(3, Mode::Normal, 0)
            },
        ];
        assert_eq!(place(&all[0], &all, &spam(), 0), there(2));
        assert_eq!(place(&all[0], &all[..1], &spam(), 0), Place::Nowhere);
    }

    #[test]
    fn nobody_is_sent_round_in_circles() {
        let all = [node(1, Mode::Normal, 9), node(2, Mode::Normal, 0)];
        assert_eq!(place(&all[0], &all, &spam(), 0), there(2));
        for hops in 1..=HOPS_MAX {
            assert_eq!(
                place(&all[0], &all, &spam(), hops),
                Place::Here,
                "it was sent here for being emptier"
            );
        }
        let draining = node(3, Mode::BlockNewSession, 0);
        assert_eq!(place(&draining, &all, &spam(), HOPS_MAX - 1), there(2));
        assert_eq!(place(&draining, &all, &spam(), HOPS_MAX), Place::Nowhere);
    }

    #[test]
    fn a_draining_node_spreads_channels_over_those_that_tie() {
        let draining = node(1, Mode::BlockNewSession, 0);
        let all = [node(2, Mode::Normal, 7), node(3, Mode::Normal, 7)];
        let to_second = (0..1_000).filter(|n| {
            let channel = ChannelId::new(&format!("channel-{n}")).unwrap();
            place(&draining, &all, &channel, 0) == there(2)
        });
        let to_second = to_second.count();
        assert!(
            (300..700).contains(&to_second),
            "{to_second} of 1,000 to one of two"
        );
    }
}
