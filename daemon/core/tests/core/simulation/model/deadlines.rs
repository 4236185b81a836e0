//! Deadlines that have come, the first one first.

use std::time::Duration;

use soramode_protocol::event::EndReason;

use super::{Model, waits};

/// Deadlines, in the order in which they count if they come at the same time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    Expiry,
    Pending(usize),
    SocketGrace(usize),
    Linger(usize),
    Wait(waits::Part, usize),
}

impl Model {
    pub(super) fn first_due(&self) -> Option<Deadline> {
        let mut deadlines: Vec<(Duration, Deadline)> = Vec::new();
        deadlines.extend(self.expiry.map(|at| (at, Deadline::Expiry)));
        let pending = self.connections.iter().enumerate();
        deadlines.extend(
            pending.filter_map(|(index, it)| Some((it.pending_until?, Deadline::Pending(index)))),
        );
        deadlines.extend(
            self.gone
                .iter()
                .enumerate()
                .map(|(index, (at, _))| (*at, Deadline::SocketGrace(index))),
        );
        let lingering = self.sessions.iter().enumerate();
        deadlines.extend(
            lingering.filter_map(|(index, it)| Some((it.lingers_until?, Deadline::Linger(index)))),
        );
        deadlines.extend(
            self.wait_deadlines()
                .into_iter()
                .map(|(at, part, index)| (at, Deadline::Wait(part, index))),
        );
        deadlines
            .into_iter()
            .filter(|(at, _)| *at <= self.now.boot)
            .min()
            .map(|(_, deadline)| deadline)
    }

    pub(super) fn fire(&mut self, deadline: Deadline) {
        match deadline {
            Deadline::Expiry => {
                self.expiry = None;
                self.expire();
            }
            Deadline::Pending(index) => {
                let id = self.connections[index].id.clone();
                self.end(&id, EndReason::Timeout);
            }
            Deadline::SocketGrace(index) => {
                let (_, socket) = self.gone.remove(index);
                for id in self.ids(|it| it.socket == Some(socket)) {
                    self.end(&id, EndReason::SocketClosed);
                }
            }
            Deadline::Linger(index) => {
                let number = self.sessions[index].number;
                self.grace_over(number);
            }
            Deadline::Wait(part, index) => self.fire_wait(part, index),
        }
    }
}
