//! The status of a node, and requests about locks of rooms, as lines of text.

use std::fmt::Write as _;

use soramode_core::locks::calls::{LockCall, LockRequest};
use soramode_protocol::node::Status;

use crate::show::{Detail, Show, tail};

impl Show {
    pub(crate) fn status(&mut self, status: &Status) -> String {
        let mut line = format!("{}; {}", self.mode(&status.mode), status.membership);
        let Status {
            sessions,
            connections,
            pending,
            ..
        } = status;
        write!(
            line,
            "; {sessions} sessions, {connections} connections, {pending} pending"
        )
        .unwrap();
        line.push_str(&self.oldest(status.oldest_session.as_ref()));
        line.push_str(if status.sessions_complete {
            "; known"
        } else {
            "; not known"
        });
        if let Some(plan) = &status.plan {
            write!(line, "; {}", self.plan(plan)).unwrap();
        }
        line.push_str(&tail(
            "; stalled: ",
            status.stalled.map(|stalled| stalled.cause).as_ref(),
        ));
        if let Some(reservation) = &status.reservation {
            write!(line, "; {}", self.reservation(reservation)).unwrap();
        }
        if let Some(in_force) = status.in_force {
            write!(line, "; in force: {in_force:?}").unwrap();
        }
        line.push_str(if status.shadow { "; shadow" } else { "" });
        for (reason, number) in &status.rejected {
            write!(line, "; {number} rejected {reason}").unwrap();
        }
        write!(
            line,
            "; storage {:?}; up {} s",
            status.storage.state, status.uptime_seconds
        )
        .unwrap();
        line.push_str(&tail(
            "; cluster: ",
            status.cluster.as_ref().and_then(|it| it.problem.as_ref()),
        ));
        if self.detail == Detail::InWords {
            for warning in &status.warnings {
                write!(line, "; warning: {warning}").unwrap();
            }
        }
        line
    }
}

pub(crate) fn pending_words(pending: u64) -> String {
    tail(", pending ", Some(&pending).filter(|it| **it > 0))
}

pub(crate) fn lock_call(call: &LockCall) -> String {
    let room = &call.channel_id;
    match call.request {
        LockRequest::ShowTokens => format!("-> janus: show the tokens of {room}"),
        LockRequest::Lock => format!("-> janus: lock {room}"),
        LockRequest::Unlock => format!("-> janus: unlock {room}"),
    }
}

pub(crate) fn accept_sessions(accept: bool) -> String {
    let verb = if accept { "accept" } else { "refuse" };
    format!("-> janus: {verb} new sessions")
}
