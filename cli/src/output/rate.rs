//! The rate at which sessions ended in the last minutes, and an estimate if there is enough data.

use std::collections::VecDeque;
use std::time::Duration;

/// Window of the rate: long enough to be steady, short enough to notice a slowdown.
const WINDOW: Duration = Duration::from_mins(5);

/// Least number of ended sessions for an estimate.
const ENDED_MIN: u64 = 3;

/// Least time for an estimate: a burst at the start promises too much.
const SEEN_MIN: Duration = Duration::from_secs(10);

/// Samples: the time since the wait began, and the number of ended sessions.
#[derive(Debug, Default)]
pub(super) struct Rate(VecDeque<(Duration, u64)>);

impl Rate {
    pub(super) fn add(&mut self, at: Duration, ended: u64) {
        self.0.push_back((at, ended));
        // The newest sample outside the window stays: the window is measured from there.
        while self
            .0
            .get(1)
            .is_some_and(|(second, _)| at.saturating_sub(*second) >= WINDOW)
        {
            self.0.pop_front();
        }
    }

    /// Returns the sessions that ended in the window, and its length; `None` without enough data.
    fn seen(&self) -> Option<(u64, Duration)> {
        let (from, ended_then) = self.0.front()?;
        let (to, ended_now) = self.0.back()?;
        let ended = ended_now.saturating_sub(*ended_then);
        let span = to.saturating_sub(*from);
        (ended >= ENDED_MIN && span >= SEEN_MIN).then_some((ended, span))
    }

    /// Returns the sessions that end in a minute.
    pub(super) fn per_minute(&self) -> Option<f64> {
        let (ended, span) = self.seen()?;
        let ended = f64::from(u32::try_from(ended).unwrap_or(u32::MAX));
        Some(ended * 60.0 / span.as_secs_f64())
    }

    /// Returns the time until this many more have ended.
    pub(super) fn until(&self, left: u64) -> Option<Duration> {
        let (ended, span) = self.seen()?;
        let seconds = span.as_secs().saturating_mul(left).div_ceil(ended);
        Some(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(seen: &[(u64, u64)]) -> Rate {
        let mut rate = Rate::default();
        for (at, ended) in seen {
            rate.add(Duration::from_secs(*at), *ended);
        }
        rate
    }

    #[test]
    fn no_estimate_without_enough_to_go_by() {
        assert_eq!(rate(&[]).until(5), None);
        assert_eq!(rate(&[(0, 0), (60, 2)]).until(5), None, "too few ended");
        assert_eq!(rate(&[(0, 0), (2, 50)]).until(5), None, "too short a time");
    }

    #[test]
    fn the_estimate_follows_the_rate() {
        let steady = rate(&[(0, 0), (60, 6), (120, 12)]);
        assert!((steady.per_minute().unwrap() - 6.0).abs() < 1e-9);
        assert_eq!(steady.until(3), Some(Duration::from_secs(30)));
        assert_eq!(steady.until(0), Some(Duration::ZERO));
    }

    #[test]
    fn old_samples_are_dropped() {
        let stalled = rate(&[(0, 0), (60, 100), (200, 100), (400, 100), (700, 100)]);
        assert_eq!(stalled.until(5), None, "nothing has ended for ten minutes");
    }
}
