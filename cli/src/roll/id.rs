//! Ids of rolls, and numbers that differ in each run.

use std::hash::{BuildHasher, Hasher, RandomState};

use soramode_protocol::id::RollId;

/// Returns a new id.
pub(crate) fn new_roll() -> RollId {
    RollId::generate_short(random())
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
