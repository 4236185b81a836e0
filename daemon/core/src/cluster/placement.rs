//! Placement of an unowned channel: on the emptiest node that is `normal`, on a tie on the node that was asked. A node that is about to
//! close comes after all others.
//!
//! Only a hint: the node that a client arrives at claims for itself, and only its claim counts. So a wrong hint costs a
//! hop, and no claim is left behind for a client that never comes.

use std::cmp::Ordering;

use soramode_protocol::decision::HOPS_MAX;
use soramode_protocol::id::{ChannelId, NodeName};
use soramode_protocol::mode::Mode;

/// A node as it published itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Its name.
    pub node: NodeName,
    /// Its mode.
    pub mode: Mode,
    /// Number of connections that it holds.
    pub connections: u64,
    /// Maximum of that number.
    pub limit: u64,
    /// `true` if a plan is about to close it.
    pub is_leaving: bool,
}

/// Node that a channel belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// The node that was asked: claim it.
    Local,
    /// This one: redirect.
    Remote(NodeName),
    /// No node takes it.
    None,
}

/// Places a new channel, for a client that has followed `hops` redirects. `here` is the node that was asked, and may be among `all`.
///
/// A client that was redirected here stays, if it may: each node knows its own clients at once and those of others seconds later, so that
/// under load all of them take one another for emptier, and a client would be redirected in circles until another client's claim ends that.
pub fn place(here: &Candidate, all: &[Candidate], channel: &ChannelId, hops: u8) -> Placement {
    if hops >= HOPS_MAX {
        return if takes_new_channels(here) {
            Placement::Local
        } else {
            Placement::None
        };
    }
    let others = all
        .iter()
        .filter(|it| it.node != here.node && takes_new_channels(it));
    let best = others.min_by(|a, b| {
        preference(a, b).then_with(|| rendezvous_hash(channel, a).cmp(&rendezvous_hash(channel, b)))
    });
    match best {
        Some(other)
            if !takes_new_channels(here)
                || (hops == 0 && preference(other, here) == Ordering::Less) =>
        {
            Placement::Remote(other.node.clone())
        }
        Some(_) => Placement::Local,
        None if takes_new_channels(here) => Placement::Local,
        None => Placement::None,
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

/// Spreads channels over nodes that are equally full: their published load may be seconds old, and must not send all channels to one.
/// FNV-1a.
fn rendezvous_hash(channel: &ChannelId, candidate: &Candidate) -> u64 {
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

    fn remote(number: u64) -> Placement {
        Placement::Remote(node(number, Mode::Normal, 0).node)
    }

    #[test]
    fn the_emptiest_node_gets_it_and_on_a_tie_the_one_that_was_asked() {
        let all = [
            node(1, Mode::Normal, 5),
            node(2, Mode::Normal, 5),
            node(3, Mode::Normal, 4),
        ];
        assert_eq!(place(&all[0], &all, &spam(), 0), remote(3));
        assert_eq!(place(&all[0], &all[..2], &spam(), 0), Placement::Local);
        assert_eq!(place(&all[1], &all[..2], &spam(), 0), Placement::Local);
    }

    #[test]
    fn a_larger_node_takes_more() {
        let small = node(1, Mode::Normal, 5);
        let large = Candidate {
            limit: 1_000,
            ..node(2, Mode::Normal, 40)
        };
        assert_eq!(
            place(&small, &[small.clone(), large], &spam(), 0),
            remote(2)
        );
    }

    #[test]
    fn only_normal_nodes_get_new_channels() {
        for mode in [
            Mode::BlockNewSession,
            Mode::BlockNewConnection,
            Mode::Initial,
        ] {
            let all = [node(1, Mode::Normal, 9), node(2, mode, 0)];
            assert_eq!(place(&all[0], &all, &spam(), 0), Placement::Local);
            assert_eq!(place(&all[1], &all, &spam(), 0), remote(1));
            assert_eq!(place(&all[1], &all[1..], &spam(), 0), Placement::None);
        }
    }

    #[test]
    fn a_leaving_node_gets_a_channel_only_if_no_other_takes_it() {
        let all = [leaving(1, 0), node(2, Mode::Normal, 90), leaving(3, 0)];
        assert_eq!(place(&all[0], &all, &spam(), 0), remote(2));
        assert_eq!(place(&all[1], &all, &spam(), 0), Placement::Local);
        assert_eq!(
            place(&all[0], &all, &spam(), 1),
            Placement::Local,
            "it is open"
        );
        let full = [leaving(1, 5), node(2, Mode::Normal, 100), leaving(3, 4)];
        assert_eq!(place(&full[0], &full, &spam(), 0), remote(3));
        assert_eq!(place(&full[0], &full[..2], &spam(), 0), Placement::Local);
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
        assert_eq!(place(&all[0], &all, &spam(), 0), remote(2));
        assert_eq!(place(&all[0], &all[..1], &spam(), 0), Placement::None);
    }

    #[test]
    fn no_client_is_redirected_in_circles() {
        let all = [node(1, Mode::Normal, 9), node(2, Mode::Normal, 0)];
        assert_eq!(place(&all[0], &all, &spam(), 0), remote(2));
        for hops in 1..=HOPS_MAX {
            assert_eq!(
                place(&all[0], &all, &spam(), hops),
                Placement::Local,
                "it was sent here for being emptier"
            );
        }
        let draining = node(3, Mode::BlockNewSession, 0);
        assert_eq!(place(&draining, &all, &spam(), HOPS_MAX - 1), remote(2));
        assert_eq!(place(&draining, &all, &spam(), HOPS_MAX), Placement::None);
    }

    #[test]
    fn a_draining_node_spreads_channels_over_those_that_tie() {
        let draining = node(1, Mode::BlockNewSession, 0);
        let all = [node(2, Mode::Normal, 7), node(3, Mode::Normal, 7)];
        let to_second = (0..1_000).filter(|n| {
            let channel = ChannelId::new(&format!("channel-{n}")).unwrap();
            place(&draining, &all, &channel, 0) == remote(2)
        });
        let to_second = to_second.count();
        assert!(
            (300..700).contains(&to_second),
            "{to_second} of 1,000 to one of two"
        );
    }
}
