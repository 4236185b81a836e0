//! The seeds to play, and random numbers from each.
//!
//! `SORAMODE_SEED` plays one alone. Else a test plays as many as its variable says, from `SORAMODE_FIRST_SEED` on.

use std::ops::Range;

/// Returns the seeds to play: this many, unless the variable says otherwise.
pub(crate) fn seeds(count: &str, default: u64) -> Range<u64> {
    if let Some(seed) = number("SORAMODE_SEED") {
        return seed..seed + 1;
    }
    let first = number("SORAMODE_FIRST_SEED").unwrap_or(0);
    first..first + number(count).unwrap_or(default)
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to test is the tester's to say"
)]
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} takes a number, got {value:?}")),
    )
}

/// `SplitMix64`: small, and the same everywhere.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below this one.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Returns true one time in N.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}
