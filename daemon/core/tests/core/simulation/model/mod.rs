//! A second gate, naive and written from the design alone: its lists are searched and counted each time.

mod deadlines;
mod explain;
mod lease;
mod mode;
mod requests;
mod restart;
mod waits;

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::effect::Action;
use soramode_core::handles::{SocketId, Timestamp};
use soramode_core::input::{HostState, Input};
use soramode_core::restore::StartParams;
use soramode_core::settings::Settings;
use soramode_core::stored::Stored;
use soramode_protocol::decision::RejectReason;
use soramode_protocol::event::{EndReason, EventKind};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::mode::{DatedModeChange, Mode, ModeState};
use soramode_protocol::node::Membership;
use soramode_protocol::plan::StallCause;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use super::inputs::Transition;

const REMEMBERED: Duration = Duration::from_mins(1);

#[expect(clippy::struct_field_names, reason = "the name is the field's")]
pub(super) struct Session {
    /// Never used twice; the id may change when Sora gives one.
    number: u64,
    pub(super) channel_id: ChannelId,
    pub(super) session_id: SessionId,
    pub(super) created_at: Time,
    /// `session.created` was emitted.
    told: bool,
    /// A Sora ends it, not its last connection.
    of_sora: bool,
    last_end: EndReason,
    pub(super) most: u64,
    pub(super) in_all: u64,
    lingers_until: Option<Duration>,
}

pub(super) struct Connection {
    pub(super) id: ConnectionId,
    session: u64,
    pub(super) client_id: Option<ClientId>,
    pub(super) created_at: Time,
    /// Until when it may come; `None`: it is live.
    pending_until: Option<Duration>,
    offered_session: Option<SessionId>,
    socket: Option<SocketId>,
    by_sora: bool,
}

pub(super) struct Model {
    settings: Settings,
    started: Timestamp,
    pub(super) now: Timestamp,
    pub(super) mode: ModeState,
    expiry: Option<Duration>,
    /// Bounds of an expiry that goes by the wall clock.
    by_wall: Option<(Duration, Duration)>,
    /// The last expiry that was set, as it is kept over restarts of the daemon alone.
    boot_expiry: Option<Duration>,
    changes: Vec<DatedModeChange>,
    /// The last generation in which no operator had closed the node.
    opened: u64,
    membership: Membership,
    lease: lease::Lease,
    storage_failed: bool,
    pub(super) sessions: Vec<Session>,
    pub(super) connections: Vec<Connection>,
    left: Vec<(Duration, ConnectionId)>,
    over: Vec<(Duration, SessionId)>,
    /// The ids that were named, or came, since a report began, by its socket.
    reports: BTreeMap<SocketId, Vec<ConnectionId>>,
    gone: Vec<(Duration, SocketId)>,
    waits: Vec<waits::Waiting>,
    rejected: BTreeMap<RejectReason, u64>,
    known: bool,
    vanished_pending: bool,
    ended: u64,
    /// The drain's last progress, and the number of sessions that had ended then.
    progress: Option<(Timestamp, u64)>,
    stalled: Option<StallCause>,
    made: u64,
    events: Vec<EventKind>,
    actions: Vec<Action>,
}

impl Model {
    pub(super) fn start(params: StartParams) -> Self {
        let StartParams {
            settings,
            started,
            stored: Stored {
                mode, mode_changes, ..
            },
        } = params;
        let clustered = settings.cluster.is_some();
        let opened_before = mode
            .as_ref()
            .filter(|state| !state.mode.is_block())
            .map_or(0, |state| state.generation);
        let (mode, change) = mode::start(&settings, mode, false, started.wall);
        let opened = if mode.mode.is_block() {
            opened_before
        } else {
            mode.generation
        };
        let mut model = Self {
            now: started,
            started,
            expiry: None,
            by_wall: None,
            boot_expiry: None,
            changes: mode_changes.into_iter().chain(change).collect(),
            opened,
            mode,
            membership: if clustered {
                Membership::Fenced
            } else {
                Membership::Standalone
            },
            lease: lease::Lease::new(clustered),
            storage_failed: false,
            sessions: Vec::new(),
            connections: Vec::new(),
            left: Vec::new(),
            over: Vec::new(),
            reports: BTreeMap::new(),
            gone: Vec::new(),
            waits: Vec::new(),
            rejected: BTreeMap::new(),
            known: settings.assume_complete,
            vanished_pending: false,
            ended: 0,
            progress: None,
            stalled: None,
            made: 0,
            events: Vec::new(),
            actions: Vec::new(),
            settings,
        };
        model.restore_expiry(None);
        model.look_at_drain();
        model
    }

    /// Takes a transition.
    pub(super) fn step(
        &mut self,
        now: Timestamp,
        transition: &Transition,
    ) -> (Vec<EventKind>, Vec<Action>) {
        self.now = now;
        let input = match transition {
            Transition::Input(input) => input,
            Transition::Heartbeat | Transition::SessionsEnded | Transition::Restart { .. } => {
                &Input::Tick
            }
        };
        if matches!(transition, Transition::Heartbeat) {
            self.renew();
        }
        if !matches!(input, Input::Started(_)) {
            self.look_at_lease();
            self.look_at_waits();
        }
        if self.expiry.is_some() && !matches!(input, Input::Started(_)) {
            self.expiry = self.due_by_wall().or(self.expiry);
        }
        while let Some(deadline) = self
            .first_due()
            .filter(|_| !matches!(input, Input::Started(_)))
        {
            self.fire(deadline);
            self.look_at_waits();
        }
        match input {
            Input::Request {
                reply_to,
                request: GateRequest::Wait(wait),
                ..
            } => self.wait(*reply_to, wait),
            Input::Request {
                reply_to,
                actor,
                request,
            } => {
                let answer = self.ask(reply_to.socket, actor, request);
                self.actions.push(Action::Answer(*reply_to, answer));
            }
            Input::SocketClosed(socket) => self.socket_gone(*socket),
            Input::Started(host) => {
                if *host == HostState::Rebooted {
                    self.end_all();
                }
                self.emit_vanished();
            }
            Input::Tick => match transition {
                Transition::Heartbeat => self.heartbeat(),
                Transition::SessionsEnded => self.sessions_ended(),
                _ => {}
            },
            Input::WallClockSet => {}
            Input::SfuAnswered { .. } => unreachable!("no SFU is called"),
            Input::StorageFailed(refused) => {
                self.storage_failed(&refused.connections, &refused.generations);
            }
            Input::StorageRestored => self.storage_restored(),
            Input::Sora(input) => self.sora(input),
            Input::DeliveryAttempted { .. }
            | Input::Etcd(_)
            | Input::FenceNotified { .. }
            | Input::FenceFinished { .. }
            | Input::Shutdown
            | Input::Janus(_)
            | Input::Subscribers(_)
            | Input::Receivers(_) => {
                panic!("no receiver is notified, and no channel is claimed")
            }
        }
        self.look_at_drain();
        self.look_at_waits();
        self.end_step();
        (
            std::mem::take(&mut self.events),
            std::mem::take(&mut self.actions),
        )
    }

    fn socket_gone(&mut self, socket: SocketId) {
        self.waits
            .retain(|waiting| waiting.reply_to.socket != socket);
        self.reports.remove(&socket);
        if !self.ids(|it| it.socket == Some(socket)).is_empty() {
            self.gone
                .push((self.now.boot + self.settings.socket_grace, socket));
        }
    }

    fn ids(&self, which: impl Fn(&Connection) -> bool) -> Vec<ConnectionId> {
        self.connections
            .iter()
            .filter(|it| which(it))
            .map(|it| it.id.clone())
            .collect()
    }

    fn find(&self, id: &ConnectionId) -> Option<&Connection> {
        self.connections.iter().find(|it| it.id == *id)
    }

    fn session_on(&self, channel: &ChannelId) -> Option<u64> {
        self.sessions
            .iter()
            .rev()
            .find(|it| it.channel_id == *channel)
            .map(|it| it.number)
    }

    fn session(&mut self, number: u64) -> &mut Session {
        self.sessions
            .iter_mut()
            .find(|it| it.number == number)
            .unwrap()
    }

    pub(super) fn session_of(&self, connection: &Connection) -> &Session {
        self.sessions
            .iter()
            .find(|it| it.number == connection.session)
            .unwrap()
    }

    pub(super) fn state(connection: &Connection) -> ConnectionState {
        if connection.pending_until.is_some() {
            ConnectionState::Pending
        } else {
            ConnectionState::Live
        }
    }

    pub(super) fn connections_of(&self, session: u64) -> u64 {
        self.connections
            .iter()
            .filter(|it| it.session == session)
            .count() as u64
    }

    pub(super) fn connections_in(&self, session: &Session) -> u64 {
        self.connections_of(session.number)
    }

    pub(super) fn live_in(&self, session: u64) -> u64 {
        self.connections
            .iter()
            .filter(|it| it.session == session && it.pending_until.is_none())
            .count() as u64
    }

    fn open(&mut self, channel_id: ChannelId, session_id: Option<SessionId>) -> u64 {
        self.made += 1;
        // Somebody is here again: that the node was empty is not told any more.
        self.vanished_pending = false;
        self.sessions.push(Session {
            number: self.made,
            channel_id,
            session_id: session_id.unwrap_or_else(|| made_id(self.made)),
            created_at: self.now.wall,
            told: false,
            of_sora: false,
            last_end: EndReason::Disconnected,
            most: 0,
            in_all: 0,
            lingers_until: None,
        });
        self.made
    }

    fn add(&mut self, connection: Connection) {
        let id = connection.id.clone();
        let is_live = connection.pending_until.is_none();
        self.connections.push(connection);
        if is_live {
            self.name_in_reports(&id);
            self.emit_live(&id);
        }
    }

    fn name_in_reports(&mut self, id: &ConnectionId) {
        for named in self.reports.values_mut() {
            named.push(id.clone());
        }
    }

    /// A connection was seen on the SFU.
    fn see(&mut self, id: &ConnectionId) {
        self.name_in_reports(id);
        let wall = self.now.wall;
        let connection = self.connections.iter_mut().find(|it| it.id == *id).unwrap();
        if connection.pending_until.take().is_some() {
            connection.created_at = wall;
            self.emit_live(id);
        }
    }

    fn emit_live(&mut self, id: &ConnectionId) {
        let (number, client_id) = self
            .find(id)
            .map(|it| (it.session, it.client_id.clone()))
            .unwrap();
        let live = self.live_in(number);
        let session = self.session(number);
        session.in_all += 1;
        session.most = session.most.max(live);
        session.lingers_until = None;
        let (channel_id, session_id, created_time) = (
            session.channel_id.clone(),
            session.session_id.clone(),
            session.created_at,
        );
        if !std::mem::replace(&mut session.told, true) {
            let (channel_id, session_id) = (channel_id.clone(), session_id.clone());
            self.events.push(EventKind::SessionCreated {
                channel_id,
                session_id,
                created_time,
                token: None,
            });
        }
        self.events.push(EventKind::ConnectionCreated {
            channel_id,
            session_id,
            connection_id: id.clone(),
            client_id,
        });
    }

    fn end(&mut self, id: &ConnectionId, reason: EndReason) {
        let index = self.connections.iter().position(|it| it.id == *id).unwrap();
        let gone = self.connections.remove(index);
        for named in self.reports.values_mut() {
            named.retain(|other| other != id);
        }
        let is_over = [EndReason::Disconnected, EndReason::SessionDestroyed].contains(&reason);
        if gone.by_sora && is_over {
            self.left
                .push((self.now.boot + REMEMBERED, gone.id.clone()));
        }
        let is_empty = self.connections_of(gone.session) == 0;
        let lost_last = gone.pending_until.is_none() && self.live_in(gone.session) == 0;
        let until = self.grace_from_now();
        let session = self.session(gone.session);
        session.last_end = reason;
        let (channel_id, session_id) = (session.channel_id.clone(), session.session_id.clone());
        if lost_last && session.told && until.is_some() {
            session.lingers_until = until;
        }
        let ends_now = is_empty && !session.of_sora && session.lingers_until.is_none();
        if session.told {
            let (connection_id, client_id) = (gone.id, gone.client_id);
            self.events.push(EventKind::ConnectionDestroyed {
                channel_id,
                session_id,
                connection_id,
                client_id,
                reason,
            });
        }
        if ends_now {
            self.destroy(gone.session);
        }
    }

    /// Until when a client that leaves now may come back.
    fn grace_from_now(&self) -> Option<Duration> {
        let grace = self.settings.reconnect_grace;
        let is_given = !grace.is_zero() && self.mode.mode != Mode::BlockNewConnection;
        is_given.then(|| self.now.boot + grace)
    }

    /// Nobody may come back any more: what is empty ends, unless Sora ends it.
    fn grace_over(&mut self, number: u64) {
        let is_empty = self.connections_of(number) == 0;
        let session = self.session(number);
        session.lingers_until = None;
        if is_empty && !session.of_sora {
            self.destroy(number);
        }
    }

    fn is_in_grace(&self, number: u64) -> bool {
        let session = self.sessions.iter().find(|it| it.number == number);
        session.is_some_and(|it| it.lingers_until.is_some())
    }

    pub(super) fn graces_over(&mut self) {
        let waiting = self.sessions.iter().filter(|it| it.lingers_until.is_some());
        let numbers: Vec<u64> = waiting.map(|it| it.number).collect();
        for number in numbers {
            self.grace_over(number);
        }
    }

    fn destroy(&mut self, number: u64) {
        let index = self
            .sessions
            .iter()
            .position(|it| it.number == number)
            .unwrap();
        let session = self.sessions.remove(index);
        assert_eq!(
            self.connections_of(number),
            0,
            "a session is destroyed when its connections have gone"
        );
        self.ended += 1;
        self.release(&session.channel_id);
        if session.told {
            self.events.push(EventKind::SessionDestroyed {
                channel_id: session.channel_id,
                session_id: session.session_id,
                created_time: session.created_at,
                destroyed_time: self.now.wall,
                max_connections: session.most,
                total_connections: session.in_all,
                reason: session.last_end,
                token: None,
            });
        }
        if self.sessions.is_empty() && self.mode.mode.is_block() {
            self.vanished_pending = true;
            self.emit_vanished();
        }
    }

    fn emit_vanished(&mut self) {
        if self.vanished_pending && self.is_known() {
            self.vanished_pending = false;
            self.events.push(EventKind::SessionVanished);
        }
    }
}

/// An id of the gate's own making.
fn made_id(number: u64) -> SessionId {
    SessionId::new(&format!("{number:0>26}")).unwrap()
}
