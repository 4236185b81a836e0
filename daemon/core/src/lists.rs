//! What is asked of the gate without changing it.

use soramode_protocol::end::{End, EndSession};
use soramode_protocol::error::Error;
use soramode_protocol::mode::{ListModeChanges, ModeChanges};
use soramode_protocol::node::{
    ClusterNode, ClusterNodes, Membership, Status, Storage, StorageState,
};
use soramode_protocol::session::{
    Connections, GetSession, LIST_LIMIT_DEFAULT, ListConnections, ListRequest, ListSessions, Page,
    Session, SessionDetail, Sessions,
};
use soramode_protocol::time::Time;
use soramode_protocol::version::{PROTOCOL, VERSION};

use crate::gate::{Gate, Refusable};
use crate::input::Timestamp;
use crate::mode::BY_STORAGE;
use crate::snapshot::SoraAdmission;
use crate::tables::slab::Slot;

impl Gate {
    pub(crate) fn status(&self, now: Timestamp) -> Status {
        Status {
            mode: self.told_mode(now),
            node_name: self.settings.node_name.clone(),
            membership: self.membership,
            sessions: self.sessions.session_count(),
            connections: self.sessions.connection_count(),
            pending: self.sessions.pending_count(),
            sessions_complete: self.known.is_confirmed(),
            sources: self.sources(),
            oldest_session: self.oldest_session(),
            rejected: self.rejected.clone(),
            deliveries: self.deliveries.counts(),
            end_subscribers: 0,
            storage: Storage {
                state: self.storage,
                path: self.settings.storage.path.clone(),
            },
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            uptime_seconds: now.boot.saturating_sub(self.started.boot).as_secs(),
            started_at: self.started.wall,
            shadow: self.settings.sora.admission == SoraAdmission::Shadow,
            upstreams: Vec::new(),
            unauthenticated_listeners: Vec::new(),
            cluster: self.cluster_status(now.boot),
            warnings: self.closed_for_storage().into_iter().collect(),
        }
    }

    /// Warning that a node which closed itself waits for an operator, also when it could open again.
    fn closed_for_storage(&self) -> Option<String> {
        let is_closed = self.mode.actor == BY_STORAGE
            && self.mode.mode.is_block()
            && self.storage != StorageState::Failed;
        is_closed.then(|| {
            "the node closed itself because its state could not be written. The state can be written again, and the node stays closed until \
             you run: soramode set normal"
                .to_owned()
        })
    }

    pub(crate) fn oldest_session(&self) -> Option<Session> {
        self.sessions
            .by_age(None)
            .next()
            .and_then(|slot| self.sessions.view_session(slot))
    }

    /// This node: all of them where there is no cluster, and all that it can vouch for where there is one.
    pub(crate) fn list_cluster_nodes(&self) -> ClusterNodes {
        if let Some(nodes) = self.cluster_nodes() {
            return ClusterNodes {
                nodes,
                counted_at: None,
                problem: None,
            };
        }
        let node = ClusterNode {
            node_name: self.settings.node_name.clone(),
            mode: Some(self.mode.mode),
            connected: matches!(self.membership, Membership::Standalone | Membership::Joined),
            epoch: None,
            member_since: Some(self.started.wall),
            cluster_signaling_url: None,
            cluster_api_url: None,
            sora_version: None,
            temporary_node: Some(false),
            membership: Some(self.membership),
            connections: Some(self.sessions.connection_count()),
            sessions: Some(self.sessions.session_count()),
            version: Some(VERSION.to_owned()),
            orphaned_channels: None,
        };
        ClusterNodes {
            nodes: vec![node],
            counted_at: None,
            problem: None,
        }
    }

    pub(crate) fn list_mode_changes(&self, list: &ListModeChanges) -> ModeChanges {
        ModeChanges {
            changes: self
                .mode_changes
                .iter()
                .rev()
                .take(rows(list.limit))
                .cloned()
                .collect(),
        }
    }

    /// The sessions that an `End` names, the oldest first.
    pub(crate) fn sessions_to_end(&self, end: &End) -> Refusable<Vec<EndSession>> {
        let view = |slot| {
            let session = self.sessions.view_session(slot)?;
            Some(EndSession {
                channel_id: session.channel_id,
                session_id: session.session_id,
            })
        };
        match &end.channel_id {
            Some(channel_id) => {
                let session = self.sessions.find_session(channel_id).and_then(view);
                session
                    .map(|session| vec![session])
                    .ok_or_else(|| Error::no_session(channel_id))
            }
            None => Ok(self.sessions.by_age(None).filter_map(view).collect()),
        }
    }

    pub(crate) fn list(&self, list: &ListRequest) -> Refusable<Page> {
        match list {
            ListRequest::Sessions(list) => self.list_sessions(list).map(Page::Sessions),
            ListRequest::Session(get) => self
                .get_session(get)
                .map(|session| Page::Session(Box::new(session))),
            ListRequest::Connections(list) => self.list_connections(list).map(Page::Connections),
        }
    }

    fn list_sessions(&self, list: &ListSessions) -> Refusable<Sessions> {
        let after = list.cursor.as_deref().map(read_cursor).transpose()?;
        if let Some(channel_id) = &list.channel_id {
            let session = self
                .sessions
                .find_session(channel_id)
                .filter(|_| after.is_none());
            return Ok(Sessions {
                sessions: session
                    .and_then(|slot| self.sessions.view_session(slot))
                    .into_iter()
                    .collect(),
                cursor: None,
            });
        }
        let mut slots = self.sessions.by_age(after).peekable();
        let page: Vec<Slot> = slots.by_ref().take(rows(list.limit)).collect();
        let given_last = page.last().copied().filter(|_| slots.peek().is_some());
        let cursor = given_last
            .and_then(|slot| Some(write_cursor(self.sessions.session(slot)?.created_at, slot)));
        Ok(Sessions {
            sessions: page
                .into_iter()
                .filter_map(|slot| self.sessions.view_session(slot))
                .collect(),
            cursor,
        })
    }

    fn get_session(&self, get: &GetSession) -> Refusable<SessionDetail> {
        let slot = self.sessions.find_session(&get.channel_id);
        let session = slot.and_then(|slot| self.sessions.view_session(slot));
        let (Some(slot), Some(session)) = (slot, session) else {
            return Err(Error::no_session(&get.channel_id));
        };
        let after = get.cursor.as_deref().map(read_cursor).transpose()?;
        let page = self.page_of_session(slot, after, get.limit);
        Ok(SessionDetail {
            session,
            connections: page.connections,
            cursor: page.cursor,
        })
    }

    fn list_connections(&self, list: &ListConnections) -> Refusable<Connections> {
        let after = list.cursor.as_deref().map(read_cursor).transpose()?;
        if let Some(channel_id) = &list.channel_id {
            let session = self.sessions.find_session(channel_id);
            return Ok(session
                .map(|slot| self.page_of_session(slot, after, list.limit))
                .unwrap_or_default());
        }
        let first = after.map_or(0, |(_, slot)| slot.saturating_add(1));
        let mut slots = self
            .sessions
            .connections_from(first)
            .map(|(slot, _)| slot)
            .peekable();
        let page: Vec<Slot> = slots.by_ref().take(rows(list.limit)).collect();
        let given_last = page.last().copied().filter(|_| slots.peek().is_some());
        Ok(self.page(&page, given_last))
    }

    fn page_of_session(
        &self,
        session: Slot,
        after: Option<(Time, Slot)>,
        limit: Option<u32>,
    ) -> Connections {
        let mut slots = self.sessions.of_session(session, after).peekable();
        let page: Vec<Slot> = slots.by_ref().take(rows(limit)).collect();
        let given_last = page.last().copied().filter(|_| slots.peek().is_some());
        self.page(&page, given_last)
    }

    /// A page of these rows; `given_last` is its last row if another page follows.
    fn page(&self, slots: &[Slot], given_last: Option<Slot>) -> Connections {
        Connections {
            connections: slots
                .iter()
                .filter_map(|&slot| self.sessions.view_connection(slot))
                .collect(),
            cursor: given_last
                .and_then(|slot| Some(write_cursor(self.sessions.row(slot)?.created_at, slot))),
        }
    }
}

pub(crate) fn rows(limit: Option<u32>) -> usize {
    limit.unwrap_or(LIST_LIMIT_DEFAULT) as usize
}

/// A cursor names the row that was given last: its time and its place.
fn write_cursor(created_at: Time, slot: Slot) -> String {
    format!("{}-{slot}", created_at.as_micros())
}

fn read_cursor(cursor: &str) -> Refusable<(Time, Slot)> {
    let parts = cursor
        .rsplit_once('-')
        .and_then(|(micros, slot)| Some((micros.parse().ok()?, slot.parse().ok()?)));
    parts
        .map(|(micros, slot)| (Time::from_micros(micros), slot))
        .ok_or_else(|| {
            Error::invalid_params(
                "cursor",
                format_args!("got {cursor:?}, takes the cursor of the previous page"),
            )
        })
}
