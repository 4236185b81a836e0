//! The node's status, and the nodes of its cluster.

use std::time::Duration;

use soramode_protocol::cluster::Granted;
use soramode_protocol::node::{ClusterNode, ClusterNodes, Membership, NO_OPEN_NODE, Status};
use soramode_protocol::text::list_first;
use soramode_protocol::version::{PROTOCOL, VERSION};

use crate::count::count;
use crate::ctx::Ctx;
use crate::node::Node;
use crate::settings::SfuAdmission;

impl Node {
    pub(super) fn status(&self, ctx: &Ctx) -> Status {
        let now = ctx.now;
        Status {
            mode: self.mode.shown(ctx.timers, now),
            node_name: self.settings.node_name.clone(),
            membership: self.membership(),
            sessions: self.sessions.session_count(),
            connections: self.sessions.connection_count(),
            pending: self.sessions.pending_count(),
            sessions_complete: self.sync.is_synced(),
            sources: self.sync.sources(self.auth_counts()),
            oldest_session: self.sessions.oldest_session(),
            rejected: self.rejected.clone(),
            deliveries: self.outbox.counts(),
            end_subscribers: self.subscribers.ends,
            failing_ends: count(self.plans.failing_ends().count()),
            storage: self.storage.shown(),
            version: VERSION.to_owned(),
            protocol: PROTOCOL,
            uptime_seconds: now.boot.saturating_sub(self.started.boot).as_secs(),
            started_at: self.started.wall,
            shadow: self.settings.sfu.admission == SfuAdmission::Shadow,
            upstreams: Vec::new(),
            unauthenticated_listeners: Vec::new(),
            cluster: self
                .member
                .as_deref()
                .map(|member| Box::new(member.status(self.mode.mode(), now.boot))),
            plan: self.running_plan(now),
            stalled: self.plans.stalled(),
            reservation: self.reservations.shown(now).map(Box::new),
            in_force: self.in_force(),
            rooms: self.room_counts(),
            no_means_to: self.means().missing(),
            warnings: self.warnings(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let closed = self.closed_by_storage_warning();
        let locks_rooms = self.settings.sfu.feed.locks_rooms();
        let unasked = self
            .mode
            .is_block()
            .then(|| self.unasked.warning(locks_rooms));
        let held = self.held_warning();
        closed
            .into_iter()
            .chain(held)
            .chain(self.plan_without_means_warning())
            .chain(self.ended_plan_warning())
            .chain(self.failing_ends_warning())
            .chain(unasked.flatten())
            .chain(self.auth_warning())
            .chain(self.no_open_node_warning())
            .collect()
    }

    /// Returns a warning while this node and all others of its cluster are closed.
    pub(super) fn no_open_node_warning(&self) -> Option<String> {
        let member = self.member.as_deref()?;
        (self.mode.is_block() && member.is_none_open()).then(|| NO_OPEN_NODE.to_owned())
    }

    /// Returns a warning while sessions are still there that the SFU was asked to end: their rooms stay locked.
    fn failing_ends_warning(&self) -> Option<String> {
        let sessions = self.plans.failing_ends();
        let sessions = sessions.filter_map(|slot| self.sessions.session(slot));
        let channels: Vec<&str> = sessions.map(|row| row.channel_id.as_str()).collect();
        let count = channels.len();
        let named = list_first(channels)?;
        let (have, they) = if count == 1 {
            ("session has", "it has")
        } else {
            ("sessions have", "they have")
        };
        let problem = self.plans.end_problem();
        let problem = problem.map_or_else(String::new, |problem| format!(" ({problem})"));
        let locked = match (self.settings.sfu.feed.locks_rooms(), count) {
            (false, _) => "",
            (true, 1) => ", and its room stays locked until then",
            (true, _) => ", and their rooms stay locked until then",
        };
        Some(format!(
            "{count} {have} not ended although the SFU was asked to: {named}{problem}. soramoded asks again until {they} ended{locked}. To stop \
             that, run: soramode plan cancel"
        ))
    }

    /// Returns a warning if the node closed itself, could open again, and waits for an operator.
    fn closed_by_storage_warning(&self) -> Option<String> {
        if !self.mode.is_closed_by_storage() || self.storage.is_failed() {
            return None;
        }
        let warning = "the node closed itself because its state could not be written. The state can be written again, and the node stays closed \
                       until you run: soramode set normal";
        Some(warning.to_owned())
    }

    /// Returns how long an SFU may go on serving, counted from its request.
    pub(super) fn grant(&self, now: Duration) -> Granted {
        self.member.as_deref().map_or(
            Granted {
                membership: Membership::Standalone,
                valid_for_ms: None,
            },
            |member| member.grant(now),
        )
    }

    /// Returns this node, where there is no cluster.
    pub(super) fn standalone_node(&self) -> ClusterNodes {
        let node = ClusterNode {
            node_name: self.settings.node_name.clone(),
            mode: Some(self.mode.mode()),
            connected: true,
            epoch: None,
            member_since: Some(self.started.wall),
            cluster_signaling_url: None,
            cluster_api_url: None,
            cluster_page_url: None,
            sora_version: None,
            temporary_node: Some(false),
            membership: Some(Membership::Standalone),
            connections: Some(self.sessions.connection_count()),
            sessions: Some(self.sessions.session_count()),
            leaving: self.plans.is_leaving(),
            version: Some(VERSION.to_owned()),
            orphaned_channels: None,
        };
        ClusterNodes {
            nodes: vec![node],
            counted_at: None,
            problem: None,
        }
    }
}
