//! Requests over the socket, and a Sora's webhooks.

use std::sync::Arc;

use soramode_core::effect::Action;
use soramode_core::handles::SocketId;
use soramode_core::input::SoraInput;
use soramode_protocol::decision::{
    Connect, Decision, Disconnected, Lifetime, RejectReason, Report, Reported, ReportedConnection,
};
use soramode_protocol::error::Error;
use soramode_protocol::event::EndReason;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::mode::{Mode, ModeChanges};
use soramode_protocol::node::{ClusterNode, ClusterNodes, Membership};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;

use super::{Connection, Model};

impl Model {
    pub(super) fn ask(
        &mut self,
        socket: SocketId,
        actor: &Arc<str>,
        request: &GateRequest,
    ) -> Answer {
        match request {
            GateRequest::GetMode => Ok(Reply::Mode(Box::new(self.shown_mode()))),
            GateRequest::ChangeMode(change) => self.change_mode(change, actor),
            GateRequest::GetStatus => Ok(Reply::Status(Box::new(self.status()))),
            GateRequest::ListClusterNodes(_) => {
                let node = ClusterNode {
                    node_name: self.settings.node_name.clone(),
                    mode: Some(self.mode.mode),
                    connected: self.membership == Membership::Standalone
                        || self.membership == Membership::Joined,
                    epoch: None,
                    member_since: (self.settings.cluster.is_none()).then_some(self.started.wall),
                    cluster_signaling_url: None,
                    cluster_api_url: None,
                    cluster_page_url: None,
                    sora_version: None,
                    temporary_node: Some(false),
                    membership: Some(self.membership),
                    connections: Some(self.connections.len() as u64),
                    sessions: Some(self.sessions.len() as u64),
                    leaving: false,
                    version: Some(soramode_protocol::version::VERSION.to_owned()),
                    orphaned_channels: None,
                };
                Ok(Reply::ClusterNodes(ClusterNodes {
                    nodes: vec![node],
                    counted_at: None,
                    problem: None,
                }))
            }
            GateRequest::ListModeChanges(list) => {
                let newest = self
                    .changes
                    .iter()
                    .rev()
                    .take(list.limit.unwrap_or(100) as usize);
                Ok(Reply::ModeChanges(ModeChanges {
                    changes: newest.cloned().collect(),
                }))
            }
            GateRequest::Connect(connect) => self.connect(socket, connect).map(Reply::Decision),
            GateRequest::Report(report) => Ok(Reply::Reported(self.report(socket, report))),
            GateRequest::Disconnect(gone) => {
                let found = self.find(&gone.connection_id).map(|it| self.session_of(it));
                let (channel_id, session_id) = found
                    .map(|it| (it.channel_id.clone(), it.session_id.clone()))
                    .unzip();
                if channel_id.is_some() {
                    self.end(&gone.connection_id, EndReason::Disconnected);
                }
                let durable = channel_id.is_none() || !self.storage_failed;
                Ok(Reply::Disconnected(Disconnected {
                    found: channel_id.is_some(),
                    channel_id,
                    session_id,
                    durable,
                }))
            }
            GateRequest::Explain(explain) => Ok(Reply::Explanation(Box::new(
                self.explain(&explain.channel_id),
            ))),
            _ => {
                panic!(
                    "lists are compared after each step, waits are asked otherwise, an end changes nothing, and no receiver is notified or fenced"
                )
            }
        }
    }

    /// Rows 3 to 6 of the table: the first that matches, for a new connection under this mode.
    pub(super) fn evaluate(&self, mode: Mode, channel: &ChannelId) -> Option<(u8, RejectReason)> {
        let somebody_is_in = self
            .session_on(channel)
            .is_some_and(|session| self.live_in(session) > 0 || self.is_in_grace(session));
        if mode == Mode::Initial || self.membership == Membership::Fenced {
            Some((3, RejectReason::Initial))
        } else if mode == Mode::BlockNewConnection {
            Some((4, RejectReason::BlockNewConnection))
        } else if mode == Mode::BlockNewSession && !somebody_is_in {
            Some((5, RejectReason::BlockNewSession))
        } else if self.connections.len() as u64 >= self.settings.max_connections {
            Some((6, RejectReason::AtCapacity))
        } else {
            None
        }
    }

    /// Rows 1 and 2, then the others.
    fn decide(
        &mut self,
        channel: &ChannelId,
        id: Option<&ConnectionId>,
    ) -> Result<Option<Decision>, Error> {
        if let Some(there) = id.and_then(|id| self.find(id)) {
            let session = self.session_of(there);
            if session.channel_id != *channel {
                return Err(Error::connection_id_in_use(
                    &there.id,
                    session.channel_id.clone(),
                ));
            }
            let (connection_id, session_id) = (there.id.clone(), session.session_id.clone());
            return Ok(Some(Decision::Offer {
                channel_id: channel.clone(),
                connection_id,
                session_id,
                created: false,
                claim: None,
            }));
        }
        Ok(self.evaluate(self.mode.mode, channel).map(|(_, reason)| {
            *self.rejected.entry(reason).or_default() += 1;
            Decision::Reject {
                reason,
                mode: self.mode.mode,
                retry_after_ms: None,
            }
        }))
    }

    fn connect(&mut self, socket: SocketId, connect: &Connect) -> Result<Decision, Error> {
        let Connect {
            channel_id,
            connection_id,
            client_id,
            lifetime,
            ..
        } = connect;
        let socket = match lifetime {
            Lifetime::Explicit => None,
            Lifetime::Socket => Some(socket),
        };
        if let Some(decision) = self.decide(channel_id, connection_id.as_ref())? {
            if let Decision::Offer { connection_id, .. } = &decision {
                self.see(connection_id);
                self.bind(connection_id, socket);
            }
            return Ok(decision);
        }
        self.claim(channel_id)?;
        self.made += 1;
        let made = ConnectionId::new(&format!("c{:0>25}", self.made)).unwrap();
        let id = connection_id.clone().unwrap_or(made);
        let offer = self.offer(channel_id, &id);
        let session = self.session_on(channel_id).unwrap();
        let (client_id, created_at) = (client_id.clone(), self.now.wall);
        self.add(Connection {
            id,
            session,
            client_id,
            created_at,
            pending_until: None,
            offered_session: None,
            socket,
            by_sora: false,
        });
        Ok(offer)
    }

    /// Row 8: into the session that is there, or a new one.
    fn offer(&mut self, channel_id: &ChannelId, connection_id: &ConnectionId) -> Decision {
        let there = self.session_on(channel_id);
        let number = there.unwrap_or_else(|| self.open(channel_id.clone(), None));
        let session_id = self.session(number).session_id.clone();
        Decision::Offer {
            channel_id: channel_id.clone(),
            connection_id: connection_id.clone(),
            session_id,
            created: there.is_none(),
            claim: None,
        }
    }

    fn bind(&mut self, id: &ConnectionId, socket: Option<SocketId>) {
        self.connections
            .iter_mut()
            .find(|it| it.id == *id)
            .unwrap()
            .socket = socket;
    }

    fn report(&mut self, socket: SocketId, report: &Report) -> Reported {
        let mut named = self.reports.remove(&socket).unwrap_or_default();
        let mut added = 0;
        for reported in &report.connections {
            added += u64::from(self.find(&reported.connection_id).is_none());
            self.report_one(socket, reported);
            // The end of one that moves removes it from every list; now it is back.
            named.push(reported.connection_id.clone());
        }
        if !report.complete {
            self.reports.insert(socket, named);
            return Reported { added, removed: 0 };
        }
        self.known = true;
        self.end_untracked();
        let unnamed = self.ids(|it| !it.by_sora && !named.contains(&it.id));
        for id in &unnamed {
            self.end(id, EndReason::Reconciled);
        }
        self.emit_vanished();
        Reported {
            added,
            removed: unnamed.len() as u64,
        }
    }

    fn report_one(&mut self, socket: SocketId, reported: &ReportedConnection) {
        let ReportedConnection {
            channel_id,
            connection_id,
            client_id,
            session_id,
        } = reported;
        let there = self.find(connection_id).map(|it| {
            (
                self.session_of(it).channel_id == *channel_id,
                it.socket.is_some(),
            )
        });
        if let Some((true, is_bound)) = there {
            self.see(connection_id);
            if is_bound {
                self.bind(connection_id, Some(socket));
            }
            return;
        }
        let session = self.session_on(channel_id);
        let session = session.unwrap_or_else(|| self.open(channel_id.clone(), session_id.clone()));
        if there.is_some() {
            self.end(connection_id, EndReason::Reconciled);
        }
        let (id, client_id, created_at) = (connection_id.clone(), client_id.clone(), self.now.wall);
        self.add(Connection {
            id,
            session,
            client_id,
            created_at,
            pending_until: None,
            offered_session: None,
            socket: None,
            by_sora: false,
        });
    }

    pub(super) fn sora(&mut self, input: &SoraInput) {
        match input {
            SoraInput::Admit {
                reply_to,
                channel_id,
                connection_id,
                client_id,
            } => {
                let decision = match self.decide(channel_id, Some(connection_id)) {
                    Ok(None) => self
                        .claim(channel_id)
                        .map(|()| self.admit(channel_id, connection_id, client_id.as_ref())),
                    Ok(Some(decision)) => Ok(decision),
                    Err(error) => Err(error),
                };
                self.actions
                    .push(Action::Answer(*reply_to, decision.map(Reply::Decision)));
            }
            SoraInput::Denied { connection_id } => {
                if self.is_awaited(connection_id) {
                    self.end(connection_id, EndReason::Denied);
                }
            }
            SoraInput::ConnectionCreated {
                channel_id,
                session_id,
                connection_id,
                client_id,
            } => {
                if session_id.as_ref().is_some_and(|id| self.is_over(id)) {
                    if self.is_awaited(connection_id) {
                        self.end(connection_id, EndReason::SessionDestroyed);
                    }
                    return;
                }
                let boot = self.now.boot;
                let has_left = self
                    .left
                    .iter()
                    .any(|(until, id)| id == connection_id && *until > boot);
                if self.find(connection_id).is_some() || !has_left {
                    self.created(
                        (channel_id, session_id.as_ref()),
                        connection_id,
                        client_id.as_ref(),
                    );
                }
            }
            SoraInput::ConnectionDestroyed { connection_id } => match self.find(connection_id) {
                Some(_) => self.end(connection_id, EndReason::Disconnected),
                None => self
                    .left
                    .push((self.now.boot + super::REMEMBERED, connection_id.clone())),
            },
            SoraInput::SessionCreated {
                channel_id,
                session_id,
                created_time,
            } => {
                if self.is_over(session_id) {
                    return;
                }
                let number = self.align(channel_id, session_id);
                let session = self.session(number);
                if !session.told {
                    session.created_at = *created_time;
                }
            }
            SoraInput::SessionDestroyed {
                channel_id,
                session_id,
            } => {
                self.over
                    .push((self.now.boot + super::REMEMBERED, session_id.clone()));
                let session = self.session_on(channel_id);
                if let Some(number) =
                    session.filter(|&number| self.session(number).session_id == *session_id)
                {
                    if self.connections_of(number) == 0 && self.is_in_grace(number) {
                        // It goes on until its clients have had time to come back.
                        let session = self.session(number);
                        session.of_sora = false;
                        session.last_end = EndReason::SessionDestroyed;
                    } else {
                        self.session_over(number, None);
                    }
                }
            }
            // Another simulation has a Sora that can be asked.
            SoraInput::PassedThrough { .. }
            | SoraInput::Polled { .. }
            | SoraInput::PollFailed { .. } => unreachable!("is not drawn"),
        }
    }

    fn admit(
        &mut self,
        channel_id: &ChannelId,
        id: &ConnectionId,
        client_id: Option<&ClientId>,
    ) -> Decision {
        let offer = self.offer(channel_id, id);
        let session = self.session_on(channel_id).unwrap();
        let offered = self.session(session).session_id.clone();
        let pending_until = Some(self.now.boot + self.settings.pending_timeout);
        let (id, client_id, created_at) = (id.clone(), client_id.cloned(), self.now.wall);
        self.add(Connection {
            id,
            session,
            client_id,
            created_at,
            pending_until,
            offered_session: Some(offered),
            socket: None,
            by_sora: true,
        });
        offer
    }

    fn is_awaited(&self, id: &ConnectionId) -> bool {
        self.find(id).is_some_and(|it| it.pending_until.is_some())
    }

    fn is_over(&self, id: &SessionId) -> bool {
        let boot = self.now.boot;
        self.over
            .iter()
            .any(|(until, other)| other == id && *until > boot)
    }

    fn created(
        &mut self,
        (channel_id, session_id): (&ChannelId, Option<&SessionId>),
        id: &ConnectionId,
        client_id: Option<&ClientId>,
    ) {
        let session = match session_id {
            Some(session_id) => self.align(channel_id, session_id),
            None => self
                .session_on(channel_id)
                .unwrap_or_else(|| self.open(channel_id.clone(), None)),
        };
        match self.find(id).map(|it| it.session) {
            Some(here) if here == session => return self.see(id),
            Some(_) => self.end(id, EndReason::Reconciled),
            None => {}
        }
        let (id, client_id, created_at) = (id.clone(), client_id.cloned(), self.now.wall);
        self.add(Connection {
            id,
            session,
            client_id,
            created_at,
            pending_until: None,
            offered_session: None,
            socket: None,
            by_sora: true,
        });
    }

    /// The channel's session under Sora's id. An announced one of another id has ended; the next is there before it is removed.
    fn align(&mut self, channel_id: &ChannelId, session_id: &SessionId) -> u64 {
        let there = self.session_on(channel_id);
        let another = there.filter(|&number| {
            let session = self.session(number);
            session.told && session.session_id != *session_id
        });
        let number = match (there, another) {
            (_, Some(another)) => {
                let next = self.open(channel_id.clone(), None);
                self.session_over(another, Some(next));
                next
            }
            (Some(there), None) => there,
            (None, None) => self.open(channel_id.clone(), None),
        };
        let session = self.session(number);
        session.session_id = session_id.clone();
        session.of_sora = true;
        number
    }

    /// Ends its live connections, and keeps pending ones for the channel's next session.
    fn session_over(&mut self, number: u64, next: Option<u64>) {
        let session = self.session(number);
        session.of_sora = true;
        session.last_end = EndReason::SessionDestroyed;
        let channel_id = session.channel_id.clone();
        for id in self.ids(|it| it.session == number && it.pending_until.is_none()) {
            self.end(&id, EndReason::SessionDestroyed);
        }
        if self.connections_of(number) > 0 {
            let next = next.unwrap_or_else(|| self.open(channel_id, None));
            for connection in self
                .connections
                .iter_mut()
                .filter(|it| it.session == number)
            {
                connection.session = next;
            }
        }
        self.destroy(number);
    }
}
