//! The loop that owns the gate: take what waits, step each, commit once, then act.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::FixedState;
use soramode_core::commit_failure::{OPEN_IT, Refused, retract};
use soramode_core::effect::{Action, Effects, Record};
use soramode_core::gate::Gate;
use soramode_core::input::{Input, ReplyHandle, SocketId, Timestamp};
use soramode_core::member::etcd::{EtcdRequest, EtcdResponse, FenceScope};
use soramode_protocol::end::EndSession;
use soramode_protocol::error::Error;
use soramode_protocol::event::EventKind;
use soramode_protocol::node::Status;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

use crate::clock::{BootTimer, now};
use crate::ender::Ender;
use crate::event_log::EventLog;
use crate::health::Health;
use crate::inbox::{LastLook, Letter, Letters, Mail, Mailbox, Renewal, WeakInbox};
use crate::journal::{Due, Journal, Outcome, WAITING_RECORDS_MAX};
use crate::metrics::Metrics;
use crate::mirror::{Mirror, Owed};
use crate::watchdog::Watchdog;
use crate::webhook::{Errand, Webhooks};
use crate::{log, notify};

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
    /// Whoever is told of events.
    pub(crate) webhooks: Webhooks,
    /// A Sora that is told of each mode.
    pub(crate) mirror: Option<Mirror>,
    /// The cluster's etcd.
    pub(crate) cluster: Option<mpsc::UnboundedSender<EtcdRequest>>,
    /// What was read of it last.
    pub(crate) last_look: LastLook,
    /// For what an errand hears. Not the way itself: whoever holds that keeps the driver alive.
    pub(crate) inbox: WeakInbox,
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) letters: Letters,
    journal: Journal,
    /// Deliveries that wait until what they tell of can be written.
    held: Vec<Action>,
    /// Receivers whose last outcome was taken in by this batch.
    settled: Vec<usize>,
    /// What came of orders that nobody could carry out any more.
    unheard: Vec<EtcdResponse>,
    pub(crate) log: Arc<EventLog>,
    outside: Outside,
    /// By numbers that are given out here: nobody can aim at one place.
    pub(crate) mailboxes: HashMap<SocketId, Mailbox, FixedState>,
    /// What goes on beside the loop, each errand in a bounded time.
    errands: TaskTracker,
    pub(crate) timer: BootTimer,
    /// What the timer is set to.
    pub(crate) deadline: Option<Duration>,
    watchdog: Watchdog,
}

impl Driver {
    pub(crate) fn new(
        letters: Letters,
        journal: Journal,
        log: Arc<EventLog>,
        outside: Outside,
    ) -> io::Result<Self> {
        Ok(Self {
            letters,
            journal,
            held: Vec::new(),
            settled: Vec::new(),
            unheard: Vec::new(),
            log,
            outside,
            mailboxes: HashMap::default(),
            errands: TaskTracker::new(),
            timer: BootTimer::new()?,
            deadline: None,
            watchdog: Watchdog::of_process(),
        })
    }

    /// Drives the gate until every door is closed and what they said is done. `inputs` come first.
    pub(crate) async fn run(mut self, mut gate: Gate, inputs: Vec<Input>) -> io::Result<()> {
        let mut letters = Vec::with_capacity(LETTERS_PER_COMMIT);
        let mut batch = Effects::default();
        for input in inputs {
            gate.step_into(now(), input, &mut batch);
        }
        self.keep(&mut gate, &mut batch).await;
        self.act(&mut batch.actions);
        loop {
            self.set_timer(gate.next_deadline())?;
            tokio::select! {
                taken = self.letters.recv_many(&mut letters, LETTERS_PER_COMMIT) => {
                    if taken == 0 {
                        self.give_up_waiting();
                        return Ok(());
                    }
                }
                fired = self.timer.fired(), if self.deadline.is_some() => {
                    fired?;
                    self.deadline = None;
                    let now = now();
                    self.look(&mut gate, now, &mut batch);
                    gate.step_into(now, Input::Tick, &mut batch);
                }
                () = self.watchdog.due() => notify::alive(),
                due = self.journal.due() => match due {
                    Due::Look => self.commit(&mut gate, &mut batch).await,
                    Due::Retry => self.retry(&mut gate, &mut batch).await,
                },
            }
            let (now, taken) = (now(), Instant::now());
            self.look(&mut gate, now, &mut batch);
            for letter in letters.drain(..) {
                self.take(&mut gate, (letter, now), &mut batch);
            }
            self.keep(&mut gate, &mut batch).await;
            self.outside
                .metrics
                .answered(&batch.actions, taken.elapsed());
            self.act(&mut batch.actions);
            self.hear_refusals(&mut gate, &mut batch).await;
            for place in self.settled.drain(..) {
                self.outside.webhooks.say(place, Errand::Settled);
            }
            // A batch that was large once must not hold its memory for ever.
            batch.records.shrink_to(KEPT_EFFECTS);
            batch.actions.shrink_to(KEPT_EFFECTS);
        }
    }

    /// What could not be ordered is answered like everything else.
    async fn hear_refusals(&mut self, gate: &mut Gate, batch: &mut Effects) {
        while let Some(heard) = self.unheard.pop() {
            gate.step_into(now(), Input::Etcd(heard), batch);
            self.keep(gate, batch).await;
            self.act(&mut batch.actions);
        }
    }

    /// Writes what could not be written before, if that succeeds now.
    async fn retry(&mut self, gate: &mut Gate, batch: &mut Effects) {
        if let Some(mut records) = self.journal.retry().await {
            self.publish(&mut records);
            tracing::info!(
                "the state can be written again; the node is still closed. To open it, run: soramode set normal"
            );
            batch.actions.append(&mut self.held);
            gate.step_into(now(), Input::StorageRestored, batch);
        }
    }

    /// Commits a batch's records and tells of them. If they cannot be written, the node is closed, and the actions are what can still be
    /// promised.
    async fn keep(&mut self, gate: &mut Gate, batch: &mut Effects) {
        if !batch.records.is_empty() {
            self.commit(gate, batch).await;
        }
    }

    /// The same also where there is no record: then it is looked whether the state is still there.
    async fn commit(&mut self, gate: &mut Gate, batch: &mut Effects) {
        let began = Instant::now();
        match self
            .journal
            .commit(std::mem::take(&mut batch.records))
            .await
        {
            Outcome::Safe(records) => {
                batch.records = records;
                self.outside.metrics.committed(began.elapsed());
                self.publish(&mut batch.records);
            }
            Outcome::Waits => self.hold(&mut batch.actions),
            Outcome::Failed { error, remedy } => {
                tracing::error!(%error, "the state cannot be written; node set to block_new_connection. {remedy}. Then run: soramode set normal");
                let refusal =
                    Error::storage_unavailable(&error).with_hint(format!("{remedy}. {OPEN_IT}"));
                let Refused {
                    connections,
                    generations,
                } = retract(&mut batch.actions, self.journal.waiting(), &refusal);
                gate.step_into(
                    now(),
                    Input::StorageFailed {
                        refused: connections,
                        generations,
                    },
                    batch,
                );
                // Behind those that wait already: it cannot fail once more.
                self.journal
                    .commit(std::mem::take(&mut batch.records))
                    .await;
                self.hold(&mut batch.actions);
            }
        }
    }

    /// Nobody is told of what is not written.
    fn hold(&mut self, actions: &mut Vec<Action>) {
        self.held
            .extend(actions.extract_if(.., |action| matches!(action, Action::Deliver(_))));
    }

    /// Where too much waits for the disk already, no more that would wait is taken in.
    fn refuse_more(&self, request: &GateRequest) -> Option<Error> {
        let would_wait = matches!(request, GateRequest::Disconnect(_) | GateRequest::Report(_));
        let problem = format_args!("{WAITING_RECORDS_MAX} changes already wait for the disk");
        (self.journal.is_full() && would_wait).then(|| Error::storage_unavailable(problem))
    }

    fn give_up_waiting(&self) {
        let waiting = self.journal.waiting().len();
        if waiting > 0 {
            tracing::error!(
                "stopping with {waiting} changes that could not be written: they are lost"
            );
        }
    }

    fn set_timer(&mut self, deadline: Option<Duration>) -> io::Result<()> {
        if self.deadline != deadline {
            self.timer.set(deadline)?;
            self.deadline = deadline;
        }
        Ok(())
    }

    fn take(&mut self, gate: &mut Gate, (letter, now): (Letter, Timestamp), batch: &mut Effects) {
        match letter {
            Letter::Open(socket, mailbox) => {
                self.mailboxes.insert(socket, mailbox);
            }
            Letter::Ask {
                socket,
                actor,
                requests,
            } => {
                for (serial, request) in requests {
                    let reply_to = ReplyHandle { socket, serial };
                    match self.refuse_more(&request) {
                        Some(refusal) => batch.actions.push(Action::Answer(reply_to, Err(refusal))),
                        None => gate.step_into(
                            now,
                            Input::Request {
                                reply_to,
                                actor: Arc::clone(&actor),
                                request,
                            },
                            batch,
                        ),
                    }
                }
            }
            Letter::Gone(socket) => {
                self.mailboxes.remove(&socket);
                gate.step_into(now, Input::SocketClosed(socket), batch);
            }
            // It was taken before everything else.
            Letter::Looked => {}
            Letter::Etcd(heard) => gate.step_into(now, Input::Etcd(*heard), batch),
            Letter::Input(input) => gate.step_into(now, *input, batch),
            Letter::Sora(input) => gate.step_into(now, Input::Sora(*input), batch),
            Letter::Renewed(renewal) => {
                let Renewal { webhooks, ways } = *renewal;
                self.outside.webhooks = ways;
                gate.step_into(now, Input::Webhooks(webhooks), batch);
            }
            Letter::Tried { place, id, tried } => {
                gate.step_into(now, Input::DeliveryAttempted { id, result: tried }, batch);
                self.settled.push(place);
            }
        }
    }

    fn publish(&self, records: &mut Vec<Record>) {
        let mut failed = log::FailedDeliveries::default();
        self.log.append(
            records
                .drain(..)
                .filter_map(Record::into_event)
                .inspect(|event| {
                    log::tell_operator(&event.kind);
                    failed.note(&event.kind);
                    self.outside.metrics.event(event);
                    self.mirror_automatic(&event.kind);
                }),
        );
        failed.log();
    }

    fn act(&mut self, actions: &mut Vec<Action>) {
        for action in actions.drain(..) {
            match action {
                Action::Deferred(reply_to) => {
                    self.send(reply_to.socket, Mail::Deferred(reply_to.serial));
                }
                Action::Etcd(order) => self.order(*order),
                Action::Fence { id, of, sessions } => self.fence(id, of, sessions),
                Action::Poll => self.outside.polls.notify_one(),
                Action::Deliver(attempt) => self
                    .outside
                    .webhooks
                    .say(attempt.place, Errand::Send(attempt)),
                Action::End {
                    reply_to,
                    actor,
                    sessions,
                } => self.end(reply_to, &actor, sessions),
                Action::Answer(reply_to, answer) => self.answer(reply_to, answer),
                Action::Progress(reply_to, progress) => {
                    self.send(reply_to.socket, Mail::Progress(reply_to.serial, progress));
                }
            }
        }
    }

    fn answer(&self, reply_to: ReplyHandle, mut answer: Answer) {
        self.complete(&mut answer);
        if let Some(answer) = self.mirror(reply_to, answer) {
            self.send(reply_to.socket, Mail::Answer(reply_to.serial, answer));
        }
    }

    fn send(&self, socket: SocketId, mail: Mail) {
        if let Some(mailbox) = self.mailboxes.get(&socket) {
            mailbox.take(mail);
        }
    }

    /// Has sessions ended, beside everything else.
    fn end(&self, reply_to: ReplyHandle, actor: &str, sessions: Vec<EndSession>) {
        let actor = actor.to_owned();
        let (ender, mailbox) = (
            self.outside.ender.clone(),
            self.mailboxes.get(&reply_to.socket).cloned(),
        );
        self.errands.spawn(async move {
            let answer = ender.end(&actor, sessions).await;
            if let Some(mailbox) = mailbox {
                mailbox.take(Mail::Answer(reply_to.serial, answer));
            }
        });
    }

    /// Whoever would have carried it out is gone with the daemon: what would come back says so.
    fn order(&mut self, order: EtcdRequest) {
        let Some(cluster) = &self.outside.cluster else {
            return;
        };
        if let Err(mpsc::error::SendError(order)) = cluster.send(order) {
            self.unheard.extend(order.refused("soramoded is stopping"));
        }
    }

    /// Has ended what is served without a right to it, beside everything else.
    fn fence(&self, id: u64, of: FenceScope, sessions: Vec<EndSession>) {
        tracing::error!(
            sessions = sessions.len(),
            ?of,
            "fenced: ending sessions, because this node no longer owns their channels"
        );
        let (ender, inbox) = (self.outside.ender.clone(), self.outside.inbox.clone());
        self.errands.spawn(async move {
            let input = ender.fence(id, of, sessions).await;
            if let Some(inbox) = inbox.upgrade() {
                // Where the driver is gone nobody waits for it.
                inbox
                    .send(Letter::Input(Box::new(input)))
                    .await
                    .unwrap_or_default();
            }
        });
    }

    /// What was read of the cluster comes before everything else that waits.
    fn look(&self, gate: &mut Gate, now: Timestamp, batch: &mut Effects) {
        if let Some(looked) = self.outside.last_look.take() {
            gate.step_into(now, Input::Etcd(EtcdResponse::MembersRead(looked)), batch);
        }
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
    fn mirror(&self, reply_to: ReplyHandle, answer: Answer) -> Option<Answer> {
        let (Some(mirror), Some(mailbox)) =
            (&self.outside.mirror, self.mailboxes.get(&reply_to.socket))
        else {
            return Some(answer);
        };
        let owed = Owed {
            mailbox: mailbox.clone(),
            serial: reply_to.serial,
        };
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
                | Reply::Deliveries(_)
                | Reply::Delivery(_)
                | Reply::Granted(_)
                | Reply::Acknowledged(_)
                | Reply::Purged(_)
                | Reply::Initialized(_)
                | Reply::Page(_),
            )
            | Err(_) => {}
        }
    }

    fn complete_status(&self, status: &mut Status) {
        self.outside.health.complete(status);
        status.end_subscribers = self.outside.ender.subscribers();
        status.warnings.extend(self.journal.trouble());
        if let Some(mirror) = &self.outside.mirror {
            mirror.complete(status);
        }
    }
}
