//! Reservations as lines of text.

use soramode_core::reservation::StoredReservation;
use soramode_protocol::reply::Reply;
use soramode_protocol::reservation::{Reservation, Reserved};

use crate::show::{Show, tail};

impl Show {
    pub(crate) fn stored_reservation(it: &StoredReservation) -> String {
        let time = it.time.as_secs();
        let state = match it.expires {
            Some(_) => format!("for {time} s"),
            None => "over".to_owned(),
        };
        format!(
            "kept: reserved for {} in round {}, {state}{}{}",
            it.roll,
            it.round,
            tail(", ", it.step.as_ref()),
            tail(", exit ", it.command_exit.as_ref())
        )
    }

    pub(crate) fn reservation(&self, it: &Reservation) -> String {
        let left = match it.expires_in_seconds {
            Some(seconds) => format!("for {seconds} s"),
            None => "over".to_owned(),
        };
        format!(
            "reserved for {} of {} by {} since {}, round {}, {left}{}{}",
            it.roll,
            it.by,
            it.actor,
            self.time(it.since),
            it.round,
            tail(", ", it.step.as_ref()),
            tail(", exit ", it.command_exit.as_ref())
        )
    }

    pub(crate) fn reply_of_reservation(&self, reply: &Reply) -> String {
        match reply {
            Reply::Reserved(it) => self.reserved(it),
            Reply::Released(it) if it.found => "released".to_owned(),
            Reply::Released(_) => "nothing to release".to_owned(),
            other => panic!("no answer about reservations: {other:?}"),
        }
    }

    fn reserved(&self, it: &Reserved) -> String {
        let state = match it.expires_in_seconds {
            Some(seconds) => format!("reserved for {seconds} s"),
            None => "recorded, not reserved".to_owned(),
        };
        let previous = it.previous.as_ref().map(|it| self.reservation(it));
        format!("{state}{}", tail("; before: ", previous.as_ref()))
    }
}
