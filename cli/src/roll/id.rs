//! Ids of rolls, and numbers that differ in each run.

use std::hash::{BuildHasher, Hasher, RandomState};

use soramode_protocol::id::RollId;
use soramode_protocol::reservation::MAINTAIN_PREFIX;

/// Returns a new id.
pub(crate) fn new_roll() -> RollId {
    RollId::generate_short(random())
}

/// Returns a new id for the maintenance of one node.
pub(crate) fn new_maintenance() -> RollId {
    let id = new_roll();
    // It is never too long, or empty.
    format!("{MAINTAIN_PREFIX}{id}").parse().unwrap_or(id)
}

/// Returns a number that differs in each run.
pub(crate) fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        half.copy_from_slice(&random_number().to_le_bytes());
    }
    bytes
}
