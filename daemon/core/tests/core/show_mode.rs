//! The mode and the reservation of a node as lines of text.

use soramode_core::stored::StoredReservation;
use soramode_protocol::mode::{ModeChange, ModeState};
use soramode_protocol::reply::Reply;
use soramode_protocol::reservation::{Reservation, Reserved};
use soramode_protocol::time::Time;

use crate::show::{Show, quoted, tail};

impl Show {
    pub(crate) fn mode_change(&self, change: &ModeChange) -> String {
        let ModeChange {
            mode,
            previous_mode,
            generation,
            actor,
            on_behalf_of,
            reason,
            expires_at,
            expected_end_at,
            plan_id,
            roll,
        } = change;
        let (for_whom, why, until, expected) = (
            tail(" for ", on_behalf_of.as_ref()),
            quoted(reason.as_ref()),
            self.until(*expires_at),
            self.expected_end(*expected_end_at),
        );
        format!(
            "{previous_mode} -> {mode}, generation {generation}, by {actor}{for_whom}{why}{until}{expected}{}{}",
            if plan_id.is_some() {
                ", as planned"
            } else {
                ""
            },
            tail(", by roll ", roll.as_ref())
        )
    }

    pub(crate) fn until(&self, time: Option<Time>) -> String {
        time.map_or_else(String::new, |time| format!(", until {}", self.time(time)))
    }

    pub(crate) fn expected_end(&self, time: Option<Time>) -> String {
        time.map_or_else(String::new, |time| {
            format!(", expected end {}", self.time(time))
        })
    }

    pub(crate) fn mode(&self, state: &ModeState) -> String {
        let ModeState {
            mode,
            generation,
            since,
            actor,
            on_behalf_of,
            reason,
            expires_at,
            expected_end_at,
            own_mode: _,
            in_force: _,
            plan_id: _,
            roll,
        } = state;
        let (why, until) = (quoted(reason.as_ref()), self.until(*expires_at));
        let expected = self.expected_end(*expected_end_at);
        format!(
            "{mode}, generation {generation}, since {}, by {actor}{}{why}{until}{expected}{}",
            self.time(*since),
            tail(" for ", on_behalf_of.as_ref()),
            tail(", by roll ", roll.as_ref())
        )
    }

    pub(crate) fn stored_reservation(it: &StoredReservation) -> String {
        let time = it.time.as_secs();
        let state = match it.expires {
            Some(_) => format!("for {time} s"),
            None => "over".to_owned(),
        };
        format!(
            "kept: reserved for {} in round {}, {state}{}{}{}",
            it.roll,
            it.round,
            tail(", ", it.step.as_ref()),
            tail(", exit ", it.command_exit.as_ref()),
            if it.rebooted { ", rebooted since" } else { "" }
        )
    }

    pub(crate) fn reservation(&self, it: &Reservation) -> String {
        let left = match it.expires_in_seconds {
            Some(seconds) => format!("for {seconds} s"),
            None => "over".to_owned(),
        };
        format!(
            "reserved for {} of {} by {} since {}, round {}, {left}{}{}{}",
            it.roll,
            it.by,
            it.actor,
            self.time(it.since),
            it.round,
            tail(", ", it.step.as_ref()),
            tail(", exit ", it.command_exit.as_ref()),
            if it.rebooted { ", rebooted since" } else { "" }
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
