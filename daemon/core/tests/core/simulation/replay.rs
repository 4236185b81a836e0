//! The state by the log alone: as a reader of the events, or a restart, computes it.

use std::collections::BTreeMap;

use soramode_core::effect::Record;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{ConnectionId, SessionId};
use soramode_protocol::mode::{DatedModeChange, ModeState};
use soramode_protocol::session::{Connection, ConnectionState, Session};

pub(super) struct Replay {
    next_seq: u64,
    mode: ModeState,
    sessions: BTreeMap<SessionId, Session>,
    live: BTreeMap<ConnectionId, Connection>,
    pending: BTreeMap<ConnectionId, Record>,
}

impl Replay {
    pub(super) fn new(next_seq: u64, mode: ModeState) -> Self {
        Self {
            next_seq,
            mode,
            sessions: BTreeMap::new(),
            live: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// A start may begin with another mode, which is no event.
    pub(super) fn set_mode(&mut self, mode: ModeState) {
        self.mode = mode;
    }

    pub(super) fn read(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Event(event) => {
                if event.seq != self.next_seq {
                    return Err(format!("seq {} where {} was due", event.seq, self.next_seq));
                }
                self.next_seq += 1;
                self.read_event(event)
            }
            Record::Pending { connection_id, .. } => {
                expect_none(self.pending.insert(connection_id.clone(), record.clone()))
            }
            Record::PendingEnded(id) => expect_some(
                self.pending.remove(id),
                "a connection that was not pending is over",
            )
            .map(drop),
            Record::BoundTo { .. }
            | Record::ConnectionOfSfu(_)
            | Record::SessionOfSora(_)
            | Record::SessionOfGate(_)
            | Record::Mode(_)
            | Record::ExpiresAtBoot(_)
            | Record::Plan(_)
            | Record::PlanProgress(_)
            | Record::PlanCounts(_)
            | Record::Announcement(_)
            | Record::AnnouncementProgress { .. }
            | Record::AnnouncementFinished(_)
            | Record::End(_)
            | Record::EndProgress { .. }
            | Record::EndFinished { .. }
            | Record::Reservation(_)
            | Record::RoomLocked(_)
            | Record::RoomUnlocked(_)
            | Record::VanishedPending(_)
            | Record::Delivery(_)
            | Record::DeliveryForgotten(_)
            | Record::Member(_)
            | Record::Etcd(_)
            | Record::Claimed { .. }
            | Record::Unclaimed(_) => Ok(()),
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each form of a line")]
    fn read_event(&mut self, event: &Event) -> Result<(), String> {
        match &event.kind {
            EventKind::SessionCreated {
                channel_id,
                session_id,
                created_time,
                ..
            } => {
                let (channel_id, created_at) = (channel_id.clone(), *created_time);
                let (connections, max_connections, total_connections) = (0, 0, 0);
                let session_id = session_id.clone();
                let id = session_id.clone();
                let session = Session {
                    channel_id,
                    session_id,
                    created_at,
                    connections,
                    pending: 0,
                    max_connections,
                    total_connections,
                };
                expect_none(self.sessions.insert(id, session))
            }
            EventKind::SessionDestroyed {
                session_id,
                max_connections,
                total_connections,
                created_time,
                ..
            } => {
                let session = expect_some(
                    self.sessions.remove(session_id),
                    "a session that was not there is destroyed",
                )?;
                let told = (*max_connections, *total_connections, *created_time);
                let is_so = (
                    session.max_connections,
                    session.total_connections,
                    session.created_at,
                ) == told
                    && session.connections == 0;
                if is_so {
                    Ok(())
                } else {
                    Err(format!(
                        "destroyed is not what was there: {session:?} {event:?}"
                    ))
                }
            }
            EventKind::ConnectionCreated {
                channel_id,
                session_id,
                connection_id,
                client_id,
            } => {
                // A live connection is not pending any more.
                self.pending.remove(connection_id);
                let session = expect_some(
                    self.sessions.get_mut(session_id),
                    "a connection is created in no session",
                )?;
                session.connections += 1;
                session.total_connections += 1;
                session.max_connections = session.max_connections.max(session.connections);
                let connection = Connection {
                    connection_id: connection_id.clone(),
                    channel_id: channel_id.clone(),
                    session_id: session_id.clone(),
                    client_id: client_id.clone(),
                    state: ConnectionState::Live,
                    created_at: event.timestamp,
                };
                expect_none(self.live.insert(connection_id.clone(), connection))
            }
            EventKind::ConnectionDestroyed {
                session_id,
                connection_id,
                ..
            } => {
                let session = expect_some(
                    self.sessions.get_mut(session_id),
                    "a connection is destroyed in no session",
                )?;
                // Pending connections are not counted.
                session.connections -= u64::from(self.live.remove(connection_id).is_some());
                Ok(())
            }
            EventKind::ModeChanged(change) => {
                let is_next = change.generation == self.mode.generation + 1
                    && change.previous_mode == self.mode.mode;
                self.mode = DatedModeChange {
                    timestamp: event.timestamp,
                    change: change.as_ref().clone(),
                }
                .state();
                if is_next {
                    Ok(())
                } else {
                    Err(format!("a change of the mode is missing before {change:?}"))
                }
            }
            EventKind::SessionVanished
            | EventKind::NodeJoined { .. }
            | EventKind::NodeIsolated { .. }
            | EventKind::NodeFenced { .. }
            | EventKind::WebhookReceived { .. }
            | EventKind::DeliverySucceeded(_)
            | EventKind::DeliveryFailed(_)
            | EventKind::PlanCreated(_)
            | EventKind::PlanStep(_)
            | EventKind::PlanStalled { .. }
            | EventKind::PlanOver(_)
            | EventKind::MaintenanceAnnounced(_)
            | EventKind::EndRequested(_)
            | EventKind::Unknown => Ok(()),
        }
    }

    /// Compares with the gate's own lists.
    pub(super) fn check(
        &self,
        mode: &ModeState,
        sessions: &[Session],
        connections: &[Connection],
    ) -> Result<(), String> {
        let (live, pending): (Vec<&Connection>, Vec<&Connection>) = connections
            .iter()
            .partition(|it| it.state == ConnectionState::Live);
        let pending_as_kept = |it: &&Connection| {
            let (channel_id, connection_id) = (it.channel_id.clone(), it.connection_id.clone());
            let recorded = self.pending.get(&it.connection_id);
            let Some(Record::Pending { session_id, .. }) = recorded else {
                return false;
            };
            let kept = Record::Pending {
                channel_id,
                connection_id,
                client_id: it.client_id.clone(),
                created_at: it.created_at,
                // A Sora may have given the session another since.
                session_id: session_id.clone(),
            };
            recorded == Some(&kept)
        };
        let in_session =
            |id: &SessionId| live.iter().filter(|it| it.session_id == *id).count() as u64;
        let told = sessions
            .iter()
            .filter(|it| self.sessions.contains_key(&it.session_id));
        let sessions_agree = told.clone().all(|it| {
            let replayed = &self.sessions[&it.session_id];
            *replayed
                == Session {
                    connections: in_session(&it.session_id),
                    pending: 0,
                    ..it.clone()
                }
        });
        let untold_are_empty = sessions.iter().all(|it| {
            self.sessions.contains_key(&it.session_id) || in_session(&it.session_id) == 0
        });
        let checks = [
            (self.mode == *mode, "the mode"),
            (
                live.len() == self.live.len()
                    && live
                        .iter()
                        .all(|it| self.live.get(&it.connection_id) == Some(*it)),
                "live connections",
            ),
            (
                pending.len() == self.pending.len() && pending.iter().all(pending_as_kept),
                "pending connections",
            ),
            (
                told.count() == self.sessions.len() && sessions_agree && untold_are_empty,
                "sessions",
            ),
        ];
        let apart: Vec<&str> = checks
            .into_iter()
            .filter(|(agrees, _)| !agrees)
            .map(|(_, what)| what)
            .collect();
        if apart.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "replaying the log gives others: {}",
                apart.join(", ")
            ))
        }
    }
}

fn expect_none<T: std::fmt::Debug>(there: Option<T>) -> Result<(), String> {
    there.map_or(Ok(()), |it| Err(format!("was there already: {it:?}")))
}

fn expect_some<T>(there: Option<T>, problem: &str) -> Result<T, String> {
    there.ok_or_else(|| problem.to_owned())
}
