//! Planted mistakes: the seeds must find what each leads to.

use soramode_core::fault::{Fault, PlantedFault};

use super::play;

/// Seeds that find each of them.
const FAULT_SEEDS: u64 = 2_000;

/// Mistakes in the member, each of which serves a channel twice.
const FAULTS: [Fault; 11] = [
    Fault::TakeoverWithoutWait,
    Fault::TakeoverWaitTooShort,
    Fault::WaitForUnseenOwner,
    Fault::OldReadProvesDeparture,
    Fault::LeaseFromAnswer,
    Fault::LeaseWithoutEnd,
    Fault::JoinWithoutEnding,
    Fault::FoundClaimIsUsed,
    Fault::ClaimUnderLostKey,
    Fault::LeaseBeforeMigration,
    Fault::StoredBeforeMigration,
];

#[test]
fn planted_faults_are_found() {
    let hook = std::panic::take_hook();
    // Each find is a panic.
    std::panic::set_hook(Box::new(|_| ()));
    let mut missed = Vec::new();
    for fault in FAULTS {
        let planted = PlantedFault::of(fault);
        let found = (0..FAULT_SEEDS).find(|seed| play(*seed, planted).2.is_err());
        eprintln!("{fault:?}: {found:?}");
        missed.extend(found.is_none().then_some(fault));
    }
    std::panic::set_hook(hook);
    assert_eq!(missed, [], "not found in {FAULT_SEEDS} seeds");
}
