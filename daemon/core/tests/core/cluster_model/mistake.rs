//! Mistakes that are planted in the model, one at a time: the search must find what each leads to.

use super::store::Loss;
use super::{Bounds, LOSING, Second, Slow, USUAL, must_be_found, must_be_found_with};

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    None,
    /// A takeover does not wait.
    TakeoverAtOnce,
    /// It waits less than the right lasts.
    ShortWait,
    /// A right is counted from the answer.
    RightFromTheAnswer,
    /// A wait begins although the owner was not seen gone: it is only not known.
    WaitUnseen,
    /// Who joins does not end what there was of it before.
    JoinProlongs,
    /// Nothing ends the sessions when the right is over.
    NoEnd,
    /// A read from before an incarnation is taken for a proof that it is gone.
    AnyReadProves,
    /// An own claim that is found is used as it is, also while a release of it is under way.
    FoundIsMine,
    /// The next incarnation's right begins before its claims are written.
    ReadoptionProlongs,
    /// The next incarnation is stored before its claims are written.
    NextStoredEarly,
    /// An etcd is taken whatever it has lost.
    AnyEtcdIsTaken,
    /// A fresh node makes a cluster where it finds none.
    FreshNodeInits,
    /// What is known of the etcd does not outlive the daemon.
    EtcdIsForgotten,
}

#[test]
fn it_finds_an_etcd_that_is_taken_whatever_it_has_lost() {
    for loss in [Loss::Emptied, Loss::SetBack, Loss::Replaced] {
        must_be_found(
            Mistake::AnyEtcdIsTaken,
            Bounds {
                loss: Some(loss),
                ..LOSING
            },
        );
    }
}

#[test]
fn it_finds_a_fresh_node_that_makes_a_cluster() {
    must_be_found_with(
        Mistake::FreshNodeInits,
        Bounds {
            loss: Some(Loss::Emptied),
            ..LOSING
        },
        Second::Fresh,
    );
}

#[test]
fn it_finds_an_etcd_that_is_forgotten_by_a_restart() {
    for loss in [Loss::SetBack, Loss::Replaced] {
        must_be_found(
            Mistake::EtcdIsForgotten,
            Bounds {
                loss: Some(loss),
                ..LOSING
            },
        );
    }
}

#[test]
fn it_finds_takeover_at_once() {
    must_be_found(Mistake::TakeoverAtOnce, USUAL);
}

#[test]
fn it_finds_short_wait() {
    must_be_found(Mistake::ShortWait, USUAL);
}

#[test]
fn it_finds_right_from_the_answer() {
    must_be_found(Mistake::RightFromTheAnswer, USUAL);
}

#[test]
fn it_finds_wait_unseen() {
    must_be_found(Mistake::WaitUnseen, USUAL);
}

#[test]
fn it_finds_join_prolongs() {
    must_be_found(Mistake::JoinProlongs, USUAL);
}

#[test]
fn it_finds_no_end() {
    must_be_found(Mistake::NoEnd, USUAL);
}

#[test]
fn it_finds_any_read_proves() {
    must_be_found(
        Mistake::AnyReadProves,
        Bounds {
            revisions: 8,
            slow: Slow::Second,
            ..USUAL
        },
    );
}

#[test]
fn it_finds_found_is_mine() {
    must_be_found(Mistake::FoundIsMine, USUAL);
}

#[test]
fn it_finds_readoption_prolongs() {
    must_be_found(Mistake::ReadoptionProlongs, USUAL);
}

#[test]
fn it_finds_next_stored_early() {
    must_be_found(Mistake::NextStoredEarly, USUAL);
}
