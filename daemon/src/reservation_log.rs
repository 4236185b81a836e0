//! Log lines about the node's reservation: one for each change, none for its renewals.

use std::time::Duration;

use soramode_core::stored::StoredReservation;
use soramode_protocol::id::RollId;
use soramode_protocol::reservation::RollStep;

/// The reservation as it was noted last.
#[derive(Debug, Default)]
pub(crate) struct ReservationLog {
    last: Option<Noted>,
}

#[derive(Debug)]
struct Noted {
    roll: RollId,
    step: Option<RollStep>,
    expires: Option<Duration>,
}

impl Noted {
    fn of(it: &StoredReservation) -> Self {
        Self {
            roll: it.roll.clone(),
            step: it.step,
            expires: it.expires,
        }
    }
}

impl ReservationLog {
    /// Begins with the stored reservation, which may have expired while the daemon was not running.
    pub(crate) fn of(stored: Option<&StoredReservation>) -> Self {
        Self {
            last: stored.map(Noted::of),
        }
    }

    /// Logs the reservation, if it differs from before by more than its time. `now` is by the boot clock.
    pub(crate) fn note(&mut self, it: &StoredReservation, now: Duration) {
        let before = self.last.replace(Noted::of(it));
        let before = before.filter(|last| last.roll == it.roll);
        let is_same_step = before.as_ref().is_some_and(|last| last.step == it.step);
        let expired = before.as_ref().and_then(|last| last.expires);
        let (roll, by, actor) = (&it.roll, &it.by, &it.actor);
        let step = it.step.map(tracing::field::display);
        match (expired, it.expires) {
            (Some(expired), None) if expired <= now => {
                tracing::warn!(%roll, by, actor, step, "the reservation has expired: the roll has not renewed it");
            }
            (Some(_), None) => {
                tracing::info!(%roll, by, actor, step, "the reservation has been released");
            }
            (None, None) => {}
            (was, Some(_)) => match it.step {
                Some(step) if !is_same_step => {
                    let exit = it.command_exit;
                    tracing::info!(%roll, by, actor, exit, "the roll is at step {step}");
                }
                _ if was.is_some() => {}
                _ => tracing::info!(%roll, by, actor, "the node is reserved for a roll"),
            },
        }
    }
}
