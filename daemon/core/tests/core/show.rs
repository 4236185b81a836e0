//! Effects as lines of text. Ids that the gate made get names that are the same in every run: `spam#1` is the first life of
//! the channel spam, `spam/A` the one that Sora calls A.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use soramode_core::effect::{Action, Attempt, Record};
use soramode_core::handles::{DeliveryId, ReceiverIndex, SocketId};
use soramode_core::stored::StoredDelivery;
use soramode_protocol::decision::{Decision, Disconnected, Verdict};
use soramode_protocol::delivery::Delivery;
use soramode_protocol::error::Error;
use soramode_protocol::event::{DeliveryEnded, Event, EventKind};
use soramode_protocol::id::{ChannelId, ConnectionId, SessionId};
use soramode_protocol::reply::Reply;
use soramode_protocol::session::{Connection, Page, Session};
use soramode_protocol::time::Time;
use soramode_protocol::wait::WaitEnded;

use crate::show_etcd;
use crate::show_status::{accept_sessions, lock_call, pending_words};

/// Ids that the gate makes have this many characters; those in tests are shorter.
const GENERATED_CHARS: usize = 26;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    InWords,
    /// The parts that two gates that behave alike have in common.
    ByType,
}

/// The names of ids that were made, by which everything is shown.
pub(crate) struct Show {
    start: Time,
    pub(crate) detail: Detail,
    made: BTreeMap<String, String>,
    lives: BTreeMap<String, u32>,
}

impl Show {
    pub(crate) fn new(start: Time, detail: Detail) -> Self {
        Self {
            start,
            detail,
            made: BTreeMap::new(),
            lives: BTreeMap::new(),
        }
    }

    pub(crate) fn name(&mut self, family: &str, id: &str) -> String {
        if let Some(name) = self.made.get(id) {
            return name.clone();
        }
        let life = self.lives.entry(family.to_owned()).or_default();
        *life += 1;
        let name = format!("{family}#{life}");
        self.made.insert(id.to_owned(), name.clone());
        name
    }

    /// Puts the ids of plans and ends in place of their names.
    pub(crate) fn resolve(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (id, name) in self.made.iter().rev() {
            if name.starts_with("plan#") || name.starts_with("end#") {
                line = line.replace(name, id);
            }
        }
        line
    }

    pub(crate) fn session_id(&mut self, channel: &ChannelId, id: &SessionId) -> String {
        if id.as_str().len() == GENERATED_CHARS {
            self.name(channel.as_str(), id.as_str())
        } else {
            format!("{channel}/{id}")
        }
    }

    pub(crate) fn connection_id(&mut self, id: &ConnectionId) -> String {
        if id.as_str().len() == GENERATED_CHARS {
            self.name("made", id.as_str())
        } else {
            id.to_string()
        }
    }

    /// Seconds since the start by the wall clock.
    pub(crate) fn time(&self, time: Time) -> String {
        let micros = time.as_micros() - self.start.as_micros();
        let (sign, micros) = (if micros < 0 { '-' } else { '+' }, micros.unsigned_abs());
        format!("{sign}{}", seconds(Duration::from_micros(micros)))
    }

    pub(crate) fn record(&mut self, record: &Record) -> String {
        match record {
            Record::Event(event) => format!("event {} {}", event.seq, self.event(event)),
            Record::Pending {
                channel_id,
                connection_id,
                client_id,
                created_at,
                session_id,
            } => {
                let created = self.time(*created_at);
                let session = self.session_id(channel_id, session_id);
                format!(
                    "kept: {connection_id} is pending in {session}{} since {created}",
                    tail(" for ", client_id.as_ref())
                )
            }
            Record::PendingEnded(id) => format!("kept: {id} is pending no more"),
            Record::BoundTo {
                connection_id,
                socket: Some(SocketId(socket)),
            } => {
                format!(
                    "kept: {} hangs on socket {socket}",
                    self.connection_id(connection_id)
                )
            }
            Record::BoundTo {
                connection_id,
                socket: None,
            } => format!(
                "kept: {} hangs on no socket",
                self.connection_id(connection_id)
            ),
            Record::ConnectionOfSfu(id) => format!("kept: {id} is Sora's"),
            Record::Mode(state) => format!("kept: the mode is {}", state.mode),
            Record::ExpiresAtBoot(Some(_)) => {
                "kept: when the mode ends, by the boot clock".to_owned()
            }
            Record::ExpiresAtBoot(None) => {
                "kept: when the mode ends is known by the wall clock alone".to_owned()
            }
            Record::Delivery(delivery) => format!("kept: {}", self.stored_delivery(delivery)),
            Record::DeliveryForgotten(id) => format!("kept: delivery {} is forgotten", id.0),
            Record::Plan(_)
            | Record::PlanProgress(_)
            | Record::PlanCounts(_)
            | Record::Announcement(_)
            | Record::AnnouncementProgress { .. }
            | Record::AnnouncementFinished(_)
            | Record::End(_)
            | Record::EndProgress { .. }
            | Record::EndFinished { .. } => self.record_of_plan(record),
            Record::RoomLocked(room) => format!("kept: {room} may be locked"),
            Record::RoomUnlocked(room) => format!("kept: {room} is not locked"),
            Record::VanishedPending(true) => "kept: session.vanished is pending".to_owned(),
            Record::VanishedPending(false) => {
                "kept: session.vanished is not pending any more".to_owned()
            }
            Record::Member(member) => format!("kept: {}", show_etcd::member(member.as_ref())),
            Record::Etcd(known) => format!("kept: {}", show_etcd::known(known)),
            Record::Claimed { channel_id, token } => {
                format!("kept: {channel_id} is this node's, token {}", token.0)
            }
            Record::Unclaimed(channel_id) => format!("kept: {channel_id} is not this node's"),
            Record::SessionOfGate(channel_id) => {
                format!("kept: the session on {channel_id} goes on without Sora")
            }
            Record::SessionOfSora(channel_id) => {
                format!("kept: the session on {channel_id} is Sora's")
            }
            Record::Reservation(it) => Self::stored_reservation(it),
        }
    }

    pub(crate) fn event(&mut self, event: &Event) -> String {
        let name = event
            .kind
            .event_type()
            .map_or("unknown", soramode_protocol::event::EventType::name);
        let more = match &event.kind {
            EventKind::SessionCreated {
                channel_id,
                session_id,
                created_time,
                token,
            } => {
                let token = tail(", token ", token.as_ref());
                format!(
                    " {} since {}{token}",
                    self.session_id(channel_id, session_id),
                    self.time(*created_time)
                )
            }
            EventKind::SessionDestroyed {
                channel_id,
                session_id,
                created_time,
                destroyed_time,
                max_connections,
                total_connections,
                reason,
                token,
            } => {
                let token = tail(", token ", token.as_ref());
                let session = self.session_id(channel_id, session_id);
                let (from, to) = (self.time(*created_time), self.time(*destroyed_time));
                format!(
                    " {session} since {from} until {to}, most {max_connections}, in all {total_connections} ({reason:?}){token}"
                )
            }
            EventKind::SessionVanished | EventKind::Unknown => String::new(),
            EventKind::ConnectionCreated {
                channel_id,
                session_id,
                connection_id,
                client_id,
            } => {
                let (connection, session) = (
                    self.connection_id(connection_id),
                    self.session_id(channel_id, session_id),
                );
                format!(
                    " {connection} in {session}{}",
                    tail(" for ", client_id.as_ref())
                )
            }
            EventKind::ConnectionDestroyed {
                channel_id,
                session_id,
                connection_id,
                client_id,
                reason,
            } => {
                let (connection, session) = (
                    self.connection_id(connection_id),
                    self.session_id(channel_id, session_id),
                );
                format!(
                    " {connection} in {session}{} ({reason:?})",
                    tail(" for ", client_id.as_ref())
                )
            }
            EventKind::WebhookReceived { source, sora_type } => {
                format!(": {sora_type} by {}", source.name())
            }
            EventKind::ModeChanged(change) => format!(" {}", self.mode_change(change)),
            EventKind::DeliverySucceeded(ended) | EventKind::DeliveryFailed(ended) => {
                let DeliveryEnded {
                    delivery_id,
                    endpoint,
                    attempts,
                    status,
                    problem,
                    ..
                } = ended.as_ref();
                let (status, problem) = (
                    tail(", status ", status.as_ref()),
                    tail(", ", problem.as_ref()),
                );
                format!(": {delivery_id} to {endpoint}, {attempts} attempts{status}{problem}")
            }
            EventKind::PlanCreated(_)
            | EventKind::PlanStep(_)
            | EventKind::PlanStalled { .. }
            | EventKind::PlanOver(_)
            | EventKind::MaintenanceAnnounced(_)
            | EventKind::EndRequested(_) => self.event_of_plan(&event.kind),
            EventKind::NodeJoined { membership, mode }
            | EventKind::NodeIsolated { membership, mode }
            | EventKind::NodeFenced { membership, mode } => {
                format!(": {membership}, {mode}")
            }
        };
        format!("{name}{more}")
    }

    fn stored_delivery(&self, it: &StoredDelivery) -> String {
        let next = it
            .next_attempt_at
            .map(|time| format!(", again {}", self.rough(time)))
            .unwrap_or_default();
        let (status, problem) = (
            tail(", status ", it.status.as_ref()),
            tail(", ", it.problem.as_ref()),
        );
        format!(
            "delivery {} to {} is {}, {} attempts{status}{problem}{next}",
            it.id.0, it.endpoint, it.state, it.attempts
        )
    }

    fn delivery(&self, it: &Delivery) -> String {
        let next = it
            .next_attempt_at
            .map(|time| format!(", again {}", self.rough(time)))
            .unwrap_or_default();
        let (status, problem) = (
            tail(", status ", it.status.as_ref()),
            tail(", ", it.problem.as_ref()),
        );
        let Delivery {
            id,
            state,
            endpoint,
            event_type,
            seq,
            attempts,
            ..
        } = it;
        format!(
            "{id} {state}: event {seq} {} to {endpoint}, {attempts} attempts{status}{problem}{next}",
            event_type.name()
        )
    }

    /// To the second: what has jitter has other digits with each seed.
    fn rough(&self, time: Time) -> String {
        let seconds = self.time(time).trim_end_matches('s').parse::<f64>();
        format!("{:+.0}s", seconds.unwrap_or_default())
    }

    /// One line an action, more for an answer that is a list; `socket` names the asker.
    pub(crate) fn act(
        &mut self,
        action: &Action,
        socket: impl Fn(SocketId) -> String,
    ) -> Vec<String> {
        match action {
            Action::Answer(reply_to, answer) => {
                let mut lines = match answer {
                    Ok(reply) => self.reply(reply),
                    Err(error) => vec![self.error(error)],
                };
                lines[0] = format!("-> {}: {}", socket(reply_to.socket), lines[0]);
                lines
            }
            Action::Deferred(reply_to) => vec![format!("-> {}: later", socket(reply_to.socket))],
            Action::Etcd(request) => vec![format!("-> etcd: {}", show_etcd::request(request))],
            Action::Fence { id, scope, .. } => vec![show_etcd::fence(*id, scope)],
            Action::OutcomeApplied { .. } | Action::Bug(_) => Vec::new(),
            Action::Lock(call) => vec![lock_call(call)],
            Action::AcceptSessions(accept) => vec![accept_sessions(*accept)],
            Action::Sfu(call) => vec![self.call(call)],
            Action::Poll => vec!["-> sora: who is connected?".to_owned()],
            Action::Deliver(attempt) => {
                let name = attempt
                    .event
                    .kind
                    .event_type()
                    .map_or("unknown", soramode_protocol::event::EventType::name);
                let Attempt {
                    id: DeliveryId(id),
                    receiver: ReceiverIndex(receiver),
                    attempt,
                    event,
                    generation,
                } = attempt.as_ref();
                let seq = event.seq;
                vec![format!(
                    "-> hook {receiver}: delivery {id}, attempt {attempt}: event {seq} {name}, generation {generation}"
                )]
            }
            Action::Progress(reply_to, progress) => vec![format!(
                "-> {}: {}",
                socket(reply_to.socket),
                self.progress(progress)
            )],
        }
    }

    /// Shown by type it is its age alone: of two that began at the same time either may be named.
    pub(crate) fn oldest(&mut self, session: Option<&Session>) -> String {
        let Some(session) = session else {
            return String::new();
        };
        match self.detail {
            Detail::InWords => format!(
                ", oldest {}",
                self.session_id(&session.channel_id, &session.session_id)
            ),
            Detail::ByType => format!(", oldest since {}", self.time(session.created_at)),
        }
    }

    fn error(&self, error: &Error) -> String {
        let present = error
            .data
            .current_mode
            .as_ref()
            .map_or_else(String::new, |present| {
                format!(" (now {})", self.mode(present))
            });
        match self.detail {
            Detail::InWords => format!("error {:?}: {error}{present}", error.data.error_type),
            Detail::ByType => format!(
                "error {:?}{present}{}",
                error.data.error_type,
                tail(" in ", error.data.channel_id.as_ref())
            ),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each form of a line")]
    fn reply(&mut self, reply: &Reply) -> Vec<String> {
        let line = match reply {
            Reply::Mode(state) => self.mode(state),
            Reply::ModeChanged(changed) => self.mode_changed(changed),
            Reply::Deliveries(page) => {
                let mut lines: Vec<String> = page
                    .deliveries
                    .iter()
                    .map(|delivery| format!("  {}", self.delivery(delivery)))
                    .collect();
                lines.extend(page.cursor.as_ref().map(|_| "  and more".to_owned()));
                return listed("deliveries", lines);
            }
            Reply::Delivery(delivery) => self.delivery(delivery),
            Reply::Status(status) => self.status(status),
            Reply::ClusterNodes(nodes) => {
                let counted = nodes
                    .counted_at
                    .map(|at| format!("  counted {}", self.time(at)));
                let problem = nodes.problem.iter().map(|problem| format!("  {problem}"));
                return listed(
                    "nodes",
                    nodes
                        .nodes
                        .iter()
                        .map(show_etcd::node)
                        .chain(counted)
                        .chain(problem)
                        .collect(),
                );
            }
            Reply::ModeChanges(changes) => {
                let changes = changes.changes.iter();
                let lines = changes.map(|dated| {
                    format!(
                        "  {} {}",
                        self.time(dated.timestamp),
                        self.mode_change(&dated.change)
                    )
                });
                return listed("changes", lines.collect());
            }
            Reply::Decision(decision) => self.decision(decision),
            Reply::Reported(reported) => {
                format!("added {}, removed {}", reported.added, reported.removed)
            }
            Reply::Disconnected(Disconnected {
                found: true,
                channel_id: Some(channel),
                session_id: Some(session),
                durable,
            }) => {
                format!(
                    "found in {}{}",
                    self.session_id(channel, session),
                    if *durable { "" } else { ", not durable" }
                )
            }
            Reply::Disconnected(Disconnected {
                found: false,
                channel_id: None,
                session_id: None,
                durable: true,
            }) => "not found".to_owned(),
            Reply::Disconnected(odd) => panic!("half an answer: {odd:?}"),
            Reply::Explanation(it) => {
                let modes = &it.modes;
                let verdicts = [
                    ("normal", &modes.normal),
                    ("block_new_session", &modes.block_new_session),
                    ("block_new_connection", &modes.block_new_connection),
                    ("initial", &modes.initial),
                ];
                let now = format!(
                    "  now, in {}: {}",
                    it.mode,
                    self.verdict(&it.channel_id, &it.now)
                );
                let lines = verdicts.map(|(mode, verdict)| {
                    format!("  in {mode}: {}", self.verdict(&it.channel_id, verdict))
                });
                let lines = std::iter::once(now)
                    .chain(lines)
                    .chain(crate::show_plan::notes(it));
                return listed(it.channel_id.as_str(), lines.collect());
            }
            Reply::Page(page) => return self.page(page),
            Reply::WaitEnded(ended) => self.wait_ended(ended),
            Reply::Granted(it) => format!(
                "granted {}{}",
                it.membership,
                tail(", ms ", it.valid_for_ms.as_ref())
            ),
            Reply::Acknowledged(it) => format!("acknowledged {}", it.found),
            Reply::Purged(it) => format!(
                "purged {} {:?}, {} channels",
                it.node_name, it.incarnations, it.channels
            ),
            Reply::Initialized(it) => format!(
                "initialized, epoch {}, in etcd {}",
                it.epoch, it.etcd_cluster_id
            ),
            Reply::Reserved(_) | Reply::Released(_) => self.reply_of_reservation(reply),
            Reply::PlanStarted(_)
            | Reply::PlanFound(_)
            | Reply::PlanCancelled(_)
            | Reply::Announced(_)
            | Reply::Ended(_) => self.reply_of_plan(reply),
        };
        vec![line]
    }

    fn page(&mut self, page: &Page) -> Vec<String> {
        let (head, lines): (String, Vec<String>) = match page {
            Page::Sessions(page) => (
                "sessions".to_owned(),
                page.sessions
                    .iter()
                    .map(|session| self.session(session))
                    .collect(),
            ),
            Page::Session(detail) => (
                self.session(&detail.session),
                detail
                    .connections
                    .iter()
                    .map(|connection| self.connection(connection))
                    .collect(),
            ),
            Page::Connections(page) => (
                "connections".to_owned(),
                page.connections
                    .iter()
                    .map(|connection| self.connection(connection))
                    .collect(),
            ),
        };
        let mut lines = listed(
            &head,
            lines.into_iter().map(|line| format!("  {line}")).collect(),
        );
        lines.extend(page.cursor().map(|_| "  and more".to_owned()));
        lines
    }

    fn decision(&mut self, decision: &Decision) -> String {
        match decision {
            Decision::Offer {
                channel_id,
                connection_id,
                session_id,
                created,
                claim,
            } => {
                let made = if *created { ", made by it" } else { "" };
                let claim = claim.as_ref().map_or_else(String::new, |claim| {
                    format!(
                        ", token {}{}",
                        claim.token,
                        tail(", valid for ms ", claim.valid_for_ms.as_ref())
                    )
                });
                format!(
                    "offer {} in {}{made}{claim}",
                    self.connection_id(connection_id),
                    self.session_id(channel_id, session_id)
                )
            }
            Decision::Reject {
                reason,
                mode,
                retry_after_ms,
            } => {
                format!(
                    "reject {reason} in {mode}{}",
                    tail(", again after ms ", retry_after_ms.as_ref())
                )
            }
            Decision::Redirect { node_name, .. } => format!("redirect to {node_name}"),
        }
    }

    fn verdict(&mut self, channel: &ChannelId, verdict: &Verdict) -> String {
        let Verdict {
            answer,
            reason,
            retry_after_ms,
            node_name,
            session_id,
            rule,
            explanation,
        } = verdict;
        let session = session_id.as_ref().map_or_else(String::new, |id| {
            format!(" into {}", self.session_id(channel, id))
        });
        let why = if self.detail == Detail::InWords {
            format!(": {explanation}")
        } else {
            String::new()
        };
        let (again, to) = (
            tail(", again after ms ", retry_after_ms.as_ref()),
            tail(" to ", node_name.as_ref()),
        );
        format!(
            "{answer:?}{to}{}{again}{session} by row {rule}{why}",
            tail(" ", reason.as_ref())
        )
    }

    pub(crate) fn session(&mut self, session: &Session) -> String {
        let Session {
            channel_id,
            session_id,
            created_at,
            connections,
            pending,
            max_connections,
            total_connections,
        } = session;
        let pending = pending_words(*pending);
        let (name, since) = (
            self.session_id(channel_id, session_id),
            self.time(*created_at),
        );
        format!(
            "{name} since {since}: {connections} connections{pending}, most {max_connections}, in all {total_connections}"
        )
    }

    pub(crate) fn connection(&mut self, it: &Connection) -> String {
        let (id, session) = (
            self.connection_id(&it.connection_id),
            self.session_id(&it.channel_id, &it.session_id),
        );
        format!(
            "{id} in {session}{}, {:?} since {}",
            tail(" for ", it.client_id.as_ref()),
            it.state,
            self.time(it.created_at)
        )
    }

    fn wait_ended(&mut self, ended: &WaitEnded) -> String {
        let status = &ended.status;
        let mut line = format!(
            "{:?}: {}; {}",
            ended.outcome,
            self.mode(&status.mode),
            status.membership
        );
        write!(
            line,
            "; {} sessions, {} connections",
            status.sessions, status.connections
        )
        .unwrap();
        if self.detail == Detail::ByType {
            write!(line, "; {} blockers", ended.oldest_sessions.len()).unwrap();
            return line;
        }
        let blockers: Vec<String> = ended
            .oldest_sessions
            .iter()
            .map(|it| self.session_id(&it.channel_id, &it.session_id))
            .collect();
        if !blockers.is_empty() {
            write!(line, "; blockers {}", blockers.join(" ")).unwrap();
        }
        if let Some(plan) = &ended.plan {
            write!(line, "; {}", self.plan(plan)).unwrap();
        }
        line
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    let text = format!("{:.6}", duration.as_secs_f64());
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

pub(crate) fn tail(before: &str, text: Option<&impl std::fmt::Display>) -> String {
    text.map_or_else(String::new, |text| format!("{before}{text}"))
}

pub(crate) fn quoted(text: Option<&String>) -> String {
    text.map_or_else(String::new, |text| format!(", {text:?}"))
}

fn listed(head: &str, lines: Vec<String>) -> Vec<String> {
    let head = if lines.is_empty() {
        format!("{head}: none")
    } else {
        format!("{head}:")
    };
    std::iter::once(head).chain(lines).collect()
}
