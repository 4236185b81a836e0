//! Mistakes that are planted in the code, one at a time: the search must find what each leads to.

use soramode_core::fault::Fault;

use super::store::Loss;
use super::{Bounds, LOSING, PARALLEL, Slow, Start, USUAL, must_be_found, must_be_found_with};

#[test]
fn the_checker_finds_a_node_that_accepts_every_etcd() {
    for loss in [Loss::Emptied, Loss::RolledBack, Loss::Replaced] {
        must_be_found(
            Fault::AnyEtcdIsAccepted,
            Bounds {
                loss: Some(loss),
                ..LOSING
            },
        );
    }
}

#[test]
fn the_checker_finds_a_fresh_node_that_makes_a_cluster() {
    must_be_found_with(
        None,
        Bounds {
            loss: Some(Loss::Emptied),
            ..LOSING
        },
        Start::Founder,
    );
}

#[test]
fn the_checker_finds_an_etcd_that_is_forgotten_by_a_restart() {
    for loss in [Loss::RolledBack, Loss::Replaced] {
        must_be_found(
            Fault::EtcdIsForgotten,
            Bounds {
                loss: Some(loss),
                ..LOSING
            },
        );
    }
}

#[test]
fn the_checker_finds_a_takeover_without_a_wait() {
    must_be_found(Fault::TakeoverWithoutWait, USUAL);
}

#[test]
fn the_checker_finds_a_takeover_wait_that_is_too_short() {
    must_be_found(Fault::TakeoverWaitTooShort, USUAL);
}

#[test]
fn the_checker_finds_a_lease_from_the_answer() {
    must_be_found(Fault::LeaseFromAnswer, USUAL);
}

#[test]
fn the_checker_finds_a_wait_for_an_owner_that_no_read_has_shown() {
    must_be_found(Fault::WaitForUnseenOwner, USUAL);
}

#[test]
fn the_checker_finds_a_node_that_joins_without_ending_its_sessions() {
    must_be_found(Fault::JoinWithoutEnding, USUAL);
}

#[test]
fn the_checker_finds_a_lease_without_an_end() {
    must_be_found(Fault::LeaseWithoutEnd, USUAL);
}

#[test]
fn the_checker_finds_an_old_read_that_proves_a_departure() {
    must_be_found(
        Fault::OldReadProvesDeparture,
        Bounds {
            revisions: 8,
            slow: Slow::Second,
            ..USUAL
        },
    );
}

#[test]
fn the_checker_finds_a_found_claim_that_is_used() {
    must_be_found(Fault::FoundClaimIsUsed, USUAL);
}

#[test]
fn the_checker_finds_a_lease_that_begins_before_the_migration() {
    must_be_found(Fault::LeaseBeforeMigration, USUAL);
}

#[test]
fn the_checker_finds_an_incarnation_that_is_stored_before_the_migration() {
    must_be_found(Fault::StoredBeforeMigration, USUAL);
}

#[test]
fn the_checker_finds_a_claim_that_was_won_under_a_lost_key() {
    must_be_found_with(Some(Fault::ClaimUnderLostKey), PARALLEL, Start::Unclaimed);
}
