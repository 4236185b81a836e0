//! Log lines about the node's reservation: one for each change, none for its renewals.

use soramode_core::reservation::StoredReservation;
use soramode_protocol::id::RollId;
use soramode_protocol::reservation::RollStep;

/// The reservation as it was logged last.
#[derive(Debug, Default)]
pub(crate) struct ReservationLog {
    last: Option<Logged>,
}

#[derive(Debug, PartialEq, Eq)]
struct Logged {
    roll: RollId,
    step: Option<RollStep>,
    is_released: bool,
}

impl ReservationLog {
    /// Logs the reservation, if it differs from before by more than its time.
    pub(crate) fn note(&mut self, it: &StoredReservation) {
        let now = Logged {
            roll: it.roll.clone(),
            step: it.step,
            is_released: it.expires.is_none(),
        };
        if self.last.as_ref() == Some(&now) {
            return;
        }
        let before = self.last.replace(now).filter(|last| last.roll == it.roll);
        let (roll, by, actor) = (&it.roll, &it.by, &it.actor);
        let is_same_step = before.as_ref().is_some_and(|last| last.step == it.step);
        match (it.expires, it.step) {
            (None, None) => tracing::info!(%roll, by, actor, "the reservation has been released"),
            (None, Some(step)) => {
                tracing::info!(%roll, by, actor, %step, "the reservation has been released");
            }
            (Some(_), Some(step)) if !is_same_step => {
                let exit = it.command_exit;
                tracing::info!(%roll, by, actor, exit, "the roll is at step {step}");
            }
            (Some(_), _) => tracing::info!(%roll, by, actor, "the node is reserved for a roll"),
        }
    }
}
