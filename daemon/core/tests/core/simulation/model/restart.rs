//! State that a restart keeps or forgets.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::handles::{SocketId, Timestamp};
use soramode_core::input::HostState;
use soramode_core::settings::Settings;
use soramode_protocol::event::EndReason;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use super::{Model, mode};

impl Model {
    pub(in super::super) fn restart(
        &mut self,
        settings: &Settings,
        started: Timestamp,
        host: HostState,
        closed_by_storage: bool,
    ) {
        (self.settings, self.started, self.now) = (settings.clone(), started, started);
        (self.progress, self.stalled) = (None, None);
        let was_held = std::mem::take(&mut self.vanished_pending);
        let change;
        (self.mode, change) = mode::start(
            settings,
            Some(self.mode.clone()),
            closed_by_storage,
            started.wall,
        );
        self.changes.extend(change);
        if !self.mode.mode.is_block() {
            self.opened = self.mode.generation;
        }
        // Another boot has another clock.
        self.boot_expiry = self.boot_expiry.filter(|_| host == HostState::Running);
        self.restore_expiry(self.boot_expiry);
        (self.lease.renewed_at, self.lease.is_fencing) = (None, false);
        self.lease.untracked = self.lease.untracked_stored;
        self.lease.adopts = !self.lease.untracked_stored && host == HostState::Running;
        self.lease.must_end = self.lease.has_left && host == HostState::Running;
        self.membership = if settings.cluster.is_some() {
            Membership::Fenced
        } else {
            Membership::Standalone
        };
        (self.storage_failed, self.known, self.ended) = (false, settings.assume_complete, 0);
        (self.left, self.over, self.waits) = (Vec::new(), Vec::new(), Vec::new());
        (self.reports, self.rejected) = (BTreeMap::new(), BTreeMap::new());
        self.restart_connections();
        self.restart_sessions();
        let sessions = &self.sessions;
        self.lease
            .claims
            .retain(|channel| sessions.iter().any(|it| it.channel_id == *channel));
        self.vanished_pending = was_held && self.sessions.is_empty() && self.mode.mode.is_block();
    }

    /// Their deadlines begin anew, and the sockets they hang on are gone.
    fn restart_connections(&mut self) {
        let (boot, pending_timeout) = (self.started.boot, self.settings.pending_timeout);
        for connection in &mut self.connections {
            connection.pending_until = connection.pending_until.map(|_| boot + pending_timeout);
            connection.socket = connection.socket.map(|_| SocketId::BEFORE_START);
        }
        let is_bound = self.connections.iter().any(|it| it.socket.is_some());
        self.gone = if is_bound {
            vec![(boot + self.settings.socket_grace, SocketId::BEFORE_START)]
        } else {
            Vec::new()
        };
    }

    /// Restores the sessions; one that no event has named keeps its pending connections alone.
    fn restart_sessions(&mut self) {
        let (connections, boot, linger) = (
            &self.connections,
            self.started.boot,
            self.settings.reconnect_grace,
        );
        let linger = if self.mode.mode == Mode::BlockNewConnection {
            Duration::ZERO
        } else {
            linger
        };
        self.sessions.retain(|session| {
            session.told || connections.iter().any(|it| it.session == session.number)
        });
        for session in &mut self.sessions {
            let inside = connections.iter().filter(|it| it.session == session.number);
            let has_live = inside.clone().any(|it| it.pending_until.is_none());
            session.lingers_until = (session.told && !has_live).then_some(boot + linger);
            session.last_end = EndReason::Disconnected;
            if !session.told {
                session.of_sora = false;
                // Connections are stored by their ids.
                let first = inside.clone().min_by_key(|it| (it.created_at, &it.id));
                let first = first.unwrap();
                session.session_id = first.offered_session.clone().unwrap();
                session.created_at = inside.map(|it| it.created_at).min().unwrap();
            }
        }
    }

    /// The machine was started anew: nobody outlives it.
    pub(super) fn end_all(&mut self) {
        for id in self.ids(|_| true) {
            self.end(&id, EndReason::Reconciled);
        }
        while let Some(session) = self.sessions.first_mut() {
            session.last_end = EndReason::Reconciled;
            let number = session.number;
            self.destroy(number);
        }
    }
}
