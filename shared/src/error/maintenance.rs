//! Errors of plans, announcements and reservations.

use std::fmt;

use super::{Error, ErrorType};
use crate::end::EndMethod;
use crate::id::{PlanId, RollId};
use crate::plan::{Plan, PlanRefusal, PlanState};
use crate::reservation::{Reservation, is_maintain, roll_words};

impl Error {
    /// Another plan runs.
    pub fn plan_exists(plan: Plan) -> Self {
        let stands = match plan.state {
            PlanState::Scheduled => "is scheduled",
            PlanState::Lead | PlanState::Closed | PlanState::Ending | PlanState::Over => {
                "already runs"
            }
        };
        let message = format!(
            "plan {} {stands} (closes the node at {}, started by {})",
            plan.id, plan.at, plan.owner
        );
        let mut error = Self::plan_refused(PlanRefusal::Exists, message)
            .with_hint("Replace it with --replace, or cancel it: soramode plan cancel");
        error.data.plan = Some(Box::new(plan));
        error
    }

    /// A plan that ends sessions, in shadow mode.
    pub fn plan_in_shadow() -> Self {
        Self::plan_refused(
            PlanRefusal::Shadow,
            "the daemon is in shadow mode, which closes nothing: a plan would end sessions while new ones start",
        )
        .with_hint("Restart soramoded without --shadow, or leave out --end-after")
    }

    /// Too few other nodes are open.
    pub fn plan_keeps_too_few_open(open: u64, keep_open: u64) -> Self {
        Self::plan_refused(
            PlanRefusal::KeepOpen,
            format!("{open} other nodes are known to be open, and keep_open asks for {keep_open}"),
        )
        .with_hint("Open another node first, or ask for fewer")
    }

    fn plan_refused(why: PlanRefusal, message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorType::PlanRefused, message);
        error.data.why = Some(why);
        error
    }

    /// The plan does not exist, or is no longer remembered.
    pub fn no_plan(plan_id: &PlanId) -> Self {
        Self::new(ErrorType::NotFound, format!("no plan {plan_id}"))
            .with_hint("soramode plan shows the plan of this node")
    }

    /// There is no means of announcing, beside an SFU that ends sessions in this way.
    pub fn cannot_announce(end_method: Option<EndMethod>) -> Self {
        if end_method == Some(EndMethod::JanusAdmin) {
            return Self::cannot_announce_on_janus();
        }
        Self::new(
            ErrorType::CannotAnnounce,
            "cannot announce: --sora-api is not set, no client has subscribed with announcements: true, and no webhook receives \
             maintenance.announced",
        )
        .with_hint("Set --sora-api, or have the signalling server subscribe with announcements: true")
    }

    fn cannot_announce_on_janus() -> Self {
        Self::new(
            ErrorType::CannotAnnounce,
            "cannot announce: --janus-admin has no means to announce to a room, no client has subscribed with announcements: true, and no \
             webhook receives maintenance.announced",
        )
        .with_hint("Have the signalling server subscribe with announcements: true")
    }

    /// The node is reserved for another roll, or for any.
    pub fn reserved(reservation: Reservation) -> Self {
        let seconds = reservation.expires_in_seconds.unwrap_or(0);
        let message = format!(
            "the node is reserved for {} of {} (since {}; expires in {seconds} s unless renewed)",
            roll_words(&reservation.roll),
            reservation.by,
            reservation.since
        );
        let hint = if is_maintain(&reservation.roll) {
            "Wait until that maintenance is over, or until the reservation expires if it has died. In an emergency: soramode drain --replace"
        } else {
            "Wait until that roll is over. In an emergency: soramode drain --replace"
        };
        let error = Self::new(ErrorType::Reserved, message).with_hint(hint);
        error.with_reservation(Some(reservation))
    }

    /// The roll has no reservation with which it may close the node.
    pub fn reservation_missing(
        roll: &RollId,
        problem: impl fmt::Display,
        reservation: Option<Reservation>,
    ) -> Self {
        let message = format!("roll {roll} may not close the node: {problem}");
        Self::new(ErrorType::Reserved, message)
            .with_hint(
                "Nothing was changed. Reserve the node, and then all other nodes, in a new round",
            )
            .with_reservation(reservation)
    }

    /// The round of a request is over: the first of these rounds, while the second is the roll's last one here.
    pub fn round_is_over(
        roll: &RollId,
        (round, last): (u64, u64),
        reservation: Option<Reservation>,
    ) -> Self {
        let message = format!(
            "roll {roll} is in round {last}, and round {round} is over: the roll has ended, or another command has resumed it"
        );
        Self::new(ErrorType::Reserved, message).with_reservation(reservation)
    }

    /// No reservation of this roll is on record.
    pub fn no_reservation(roll: &RollId) -> Self {
        Self::new(
            ErrorType::NotFound,
            format!("roll {roll} has not reserved this node, or another roll has since"),
        )
    }

    fn with_reservation(mut self, reservation: Option<Reservation>) -> Self {
        self.data.reservation = reservation.map(Box::new);
        self
    }
}
