//! The loop that owns the gate: take what waits, step each, commit once, then act.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use soramode_core::effect::{Act, Effects, Record};
use soramode_core::gate::Gate;
use soramode_core::input::{Input, SocketId, Ticket};
use soramode_protocol::end::EndSession;
use soramode_protocol::event::EventKind;
use soramode_protocol::node::Status;
use soramode_protocol::reply::{Answer, Reply};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::clock::{BootTimer, now};
use crate::ender::Ender;
use crate::event_log::EventLog;
use crate::health::Health;
use crate::inbox::{Letter, Letters, Mail, Mailbox};
use crate::metrics::Metrics;
use crate::mirror::{Mirror, Owed};
use crate::store::Store;

/// Letters that share one commit at most.
const LETTERS_PER_COMMIT: usize = 256;

/// Room for effects that is kept from batch to batch.
const KEPT_EFFECTS: usize = 16 * LETTERS_PER_COMMIT;

/// What the driver knows of the world, and wants of it.
#[derive(Debug)]
pub(crate) struct Outside {
    /// How the servers are that the daemon asks.
    pub(crate) health: Arc<Health>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// The gate wants to know what Sora's API says.
    pub(crate) polls: Arc<Notify>,
    /// Whoever can end sessions.
    pub(crate) ender: Ender,
    /// A Sora that is told of each mode.
    pub(crate) mirror: Option<Mirror>,
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) letters: Letters,
    pub(crate) store: Store,
    pub(crate) log: Arc<EventLog>,
    outside: Outside,
    pub(crate) mailboxes: HashMap<SocketId, Mailbox>,
    /// What goes on beside the loop, each errand in a bounded time.
    errands: TaskTracker,
    pub(crate) timer: BootTimer,
    /// What the timer is set to.
    pub(crate) deadline: Option<Duration>,
}

impl Driver {
    pub(crate) fn new(letters: Letters, store: Store, log: Arc<EventLog>, outside: Outside) -> io::Result<Self> {
        Ok(Self {
            letters,
            store,
            log,
            outside,
            mailboxes: HashMap::new(),
            errands: TaskTracker::new(),
            timer: BootTimer::new()?,
            deadline: None,
        })
    }

    /// Drives the gate until every door is closed and what they said is done.
    pub(crate) async fn run(mut self, mut gate: Gate) -> io::Result<()> {
        let mut letters = Vec::with_capacity(LETTERS_PER_COMMIT);
        let mut batch = Effects::default();
        loop {
            self.set_timer(gate.next_deadline())?;
            tokio::select! {
                taken = self.letters.recv_many(&mut letters, LETTERS_PER_COMMIT) => {
                    if taken == 0 {
                        return Ok(());
                    }
                }
                fired = self.timer.fired(), if self.deadline.is_some() => {
                    fired?;
                    self.deadline = None;
                    gate.step_into(now(), Input::Tick, &mut batch);
                }
            }
            let taken = Instant::now();
            for letter in letters.drain(..) {
                self.take(&mut gate, letter, &mut batch);
            }
            self.commit(&batch.records).await;
            self.publish(&mut batch.records);
            self.outside.metrics.answered(&batch.acts, taken.elapsed());
            self.act(&mut batch.acts);
            // A batch that was large once must not hold its memory for ever.
            batch.records.shrink_to(KEPT_EFFECTS);
            batch.acts.shrink_to(KEPT_EFFECTS);
        }
    }

    fn set_timer(&mut self, deadline: Option<Duration>) -> io::Result<()> {
        if self.deadline != deadline {
            self.timer.set(deadline)?;
            self.deadline = deadline;
        }
        Ok(())
    }

    fn take(&mut self, gate: &mut Gate, letter: Letter, batch: &mut Effects) {
        match letter {
            Letter::Open(socket, mailbox) => {
                self.mailboxes.insert(socket, mailbox);
            }
            Letter::Ask { socket, actor, requests } => {
                let now = now();
                for (serial, request) in requests {
                    let ticket = Ticket { socket, serial };
                    gate.step_into(now, Input::Ask { ticket, actor: Arc::clone(&actor), request }, batch);
                }
            }
            Letter::Gone(socket) => {
                self.mailboxes.remove(&socket);
                gate.step_into(now(), Input::Gone(socket), batch);
            }
            Letter::Sora(input) => gate.step_into(now(), Input::Sora(*input), batch),
        }
    }

    async fn commit(&mut self, records: &[Record]) {
        if records.is_empty() {
            return;
        }
        let began = Instant::now();
        self.store.commit(records).await;
        self.outside.metrics.committed(began.elapsed());
    }

    fn publish(&self, records: &mut Vec<Record>) {
        self.log.append(records.drain(..).filter_map(|record| match record {
            Record::Event(event) => {
                tell_operator(&event.kind);
                self.outside.metrics.event(&event);
                self.mirror_automatic(&event.kind);
                Some(event)
            }
            Record::Pending { .. } | Record::PendingOver(_) | Record::BoundTo { .. } => None,
        }));
    }

    fn act(&self, acts: &mut Vec<Act>) {
        for act in acts.drain(..) {
            match act {
                Act::Poll => self.outside.polls.notify_one(),
                Act::End { ticket, actor, sessions } => self.end(ticket, &actor, sessions),
                Act::Answer(ticket, answer) => self.answer(ticket, answer),
                Act::Progress(ticket, progress) => self.send(ticket.socket, Mail::Progress(ticket.serial, progress)),
            }
        }
    }

    fn answer(&self, ticket: Ticket, mut answer: Answer) {
        self.complete(&mut answer);
        if let Some(answer) = self.mirror(ticket, answer) {
            self.send(ticket.socket, Mail::Answer(ticket.serial, answer));
        }
    }

    /// Whoever is gone by now needs no mail.
    fn send(&self, socket: SocketId, mail: Mail) {
        if let Some(mailbox) = self.mailboxes.get(&socket) {
            mailbox.send(mail).unwrap_or_default();
        }
    }

    /// Has sessions ended, beside everything else.
    fn end(&self, ticket: Ticket, actor: &str, sessions: Vec<EndSession>) {
        tracing::warn!(actor, sessions = sessions.len(), "sessions are to end");
        let (ender, mailbox) = (self.outside.ender.clone(), self.mailboxes.get(&ticket.socket).cloned());
        self.errands.spawn(async move {
            let answer = ender.end(sessions).await;
            if let Some(mailbox) = mailbox {
                mailbox.send(Mail::Answer(ticket.serial, answer)).unwrap_or_default();
            }
        });
    }

    /// What nobody asked for has no answer that would tell the mirror of it.
    fn mirror_automatic(&self, kind: &EventKind) {
        if let (Some(mirror), EventKind::ModeChanged(change)) = (&self.outside.mirror, kind)
            && change.actor.starts_with("system:")
        {
            mirror.tell(change.mode);
        }
    }

    /// Gives the answers about the mode to the mirror, and all others back.
    fn mirror(&self, ticket: Ticket, answer: Answer) -> Option<Answer> {
        let (Some(mirror), Some(mailbox)) = (&self.outside.mirror, self.mailboxes.get(&ticket.socket)) else { return Some(answer) };
        let owed = Owed { mailbox: mailbox.clone(), serial: ticket.serial };
        match answer {
            Ok(Reply::ModeChanged(changed)) => mirror.answer_change(owed, changed),
            Ok(Reply::Mode(state)) => {
                self.errands.spawn(mirror.clone().answer_mode(owed, *state));
            }
            other => return Some(other),
        }
        None
    }

    /// Says in an answer what the gate cannot know.
    fn complete(&self, answer: &mut Answer) {
        match answer {
            Ok(Reply::Status(status)) => self.complete_status(status),
            Ok(Reply::WaitEnded(ended)) => self.complete_status(&mut ended.status),
            Ok(
                Reply::Mode(_)
                | Reply::ModeChanged(_)
                | Reply::ClusterNodes(_)
                | Reply::ModeChanges(_)
                | Reply::Decision(_)
                | Reply::Reported(_)
                | Reply::Disconnected(_)
                | Reply::Ended(_)
                | Reply::Explanation(_)
                | Reply::Page(_),
            )
            | Err(_) => {}
        }
    }

    fn complete_status(&self, status: &mut Status) {
        self.outside.health.complete(status);
        if let Some(mirror) = &self.outside.mirror {
            mirror.complete(status);
        }
    }
}

/// Writes what an operator wants to find in the log afterwards. Sessions and connections come and go too often for that.
fn tell_operator(kind: &EventKind) {
    match kind {
        EventKind::ModeChanged(change) => {
            let reason = change.reason.as_deref();
            tracing::info!(generation = change.generation, actor = change.actor, reason, "{} -> {}", change.previous_mode, change.mode);
        }
        EventKind::SessionVanished => tracing::info!("the last session has left"),
        EventKind::NodeJoined { mode, .. } => tracing::info!(%mode, "joined the cluster"),
        EventKind::NodeIsolated { mode, .. } => tracing::warn!(%mode, "isolated from the cluster"),
        EventKind::NodeFenced { mode, .. } => tracing::warn!(%mode, "fenced: the right to the channels is over"),
        EventKind::SessionCreated { .. }
        | EventKind::SessionDestroyed { .. }
        | EventKind::ConnectionCreated { .. }
        | EventKind::ConnectionDestroyed { .. }
        | EventKind::WebhookReceived { .. }
        | EventKind::Unknown => {}
    }
}
