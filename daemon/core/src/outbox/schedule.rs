//! Schedule of retries.
//!
//! The schedule is the daemon's own: a receiver can make a pause longer, and nothing makes the whole of it shorter than a day and a half.

use std::time::Duration;

/// The shortest pause after each failed try; after the last of them the delivery fails. Together: 37 hours.
pub const RETRY_PAUSES: [Duration; 10] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(20),
];

/// The longest `retry-after` of a receiver that is respected.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// The least time between two tries that new events bring forward.
pub const NEW_EVENT_PAUSE: Duration = Duration::from_mins(1);

/// Random part of a pause beyond its length, in thousandths, so that many nodes do not retry at the same moment.
const JITTER_THOUSANDTHS: u64 = 200;

/// Returns the pause after the given number of failed tries; `None`: the delivery has failed.
pub(super) fn pause_after(
    attempts: u32,
    retry_after: Option<Duration>,
    random: u64,
) -> Option<Duration> {
    let pause = RETRY_PAUSES.get(index_of(attempts)?)?;
    Some(longer_by(*pause, random % (JITTER_THOUSANDTHS + 1)).max(capped(retry_after)))
}

/// Returns the longest pause of the schedule after the given number of failed tries. A pause that is known by the wall clock alone is never
/// taken to be longer, for that clock may have been wrong.
pub(super) fn longest_pause_after(attempts: u32) -> Duration {
    let pause = index_of(attempts).and_then(|index| RETRY_PAUSES.get(index));
    pause.map_or(Duration::ZERO, |pause| {
        longer_by(*pause, JITTER_THOUSANDTHS)
    })
}

/// Returns the pause that a receiver requests, as far as it is respected.
pub(super) fn capped(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or_default().min(RETRY_AFTER_MAX)
}

fn index_of(attempts: u32) -> Option<usize> {
    usize::try_from(attempts).ok()?.checked_sub(1)
}

fn longer_by(pause: Duration, thousandths: u64) -> Duration {
    Duration::from_micros(
        u64::try_from(pause.as_micros()).unwrap_or(u64::MAX) / 1_000 * (1_000 + thousandths),
    )
}
