//! Last rounds of rolls that the node has no record of: a request that such a roll sent before its end may still be on its way.
//!
//! They are kept in memory only. A request is sent over a connection to this daemon, which does not outlive it.

use std::collections::VecDeque;
use std::time::Duration;

use soramode_protocol::id::RollId;

/// Limit of the number of rolls. The oldest is dropped.
pub(crate) const PAST_ROUNDS_MAX: usize = 64;

/// Time for which a round is kept: longer than any network holds a request back.
pub(crate) const PAST_ROUND_TIME: Duration = Duration::from_mins(10);

/// Last rounds of past rolls, oldest first.
#[derive(Default)]
pub(crate) struct PastRounds(VecDeque<PastRound>);

struct PastRound {
    roll: RollId,
    round: u64,
    /// When it is dropped, by the boot clock.
    until: Duration,
}

impl PastRounds {
    /// Keeps the round of a roll, unless a later one is kept. `now` is by the boot clock.
    pub(crate) fn keep(&mut self, now: Duration, roll: &RollId, round: u64) {
        let known = self.take(now, roll).unwrap_or(0);
        if self.0.len() == PAST_ROUNDS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(PastRound {
            roll: roll.clone(),
            round: round.max(known),
            until: now + PAST_ROUND_TIME,
        });
    }

    /// Returns the last round of a roll.
    pub(crate) fn of(&mut self, now: Duration, roll: &RollId) -> Option<u64> {
        self.0.retain(|it| now < it.until);
        self.0.iter().find(|it| it.roll == *roll).map(|it| it.round)
    }

    /// Returns the last round of a roll that is on record from now on.
    pub(crate) fn take(&mut self, now: Duration, roll: &RollId) -> Option<u64> {
        let round = self.of(now, roll);
        self.0.retain(|it| it.roll != *roll);
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roll(number: usize) -> RollId {
        format!("R{number}").parse().unwrap()
    }

    #[test]
    fn the_latest_round_is_kept_for_its_time() {
        let mut rounds = PastRounds::default();
        let start = Duration::from_secs(100);
        rounds.keep(start, &roll(1), 5);
        rounds.keep(start, &roll(1), 3);
        let last = (start + PAST_ROUND_TIME).saturating_sub(Duration::from_nanos(1));
        assert_eq!(rounds.of(last, &roll(1)), Some(5));
        assert_eq!(rounds.of(last, &roll(2)), None);
        assert_eq!(rounds.of(start + PAST_ROUND_TIME, &roll(1)), None);
    }

    #[test]
    fn the_oldest_of_too_many_is_dropped() {
        let mut rounds = PastRounds::default();
        for number in 0..=PAST_ROUNDS_MAX {
            rounds.keep(Duration::ZERO, &roll(number), 1);
        }
        assert_eq!(rounds.0.len(), PAST_ROUNDS_MAX);
        assert_eq!(rounds.of(Duration::ZERO, &roll(0)), None);
        assert_eq!(rounds.take(Duration::ZERO, &roll(1)), Some(1));
        assert_eq!(rounds.of(Duration::ZERO, &roll(1)), None);
    }
}
