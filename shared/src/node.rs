//! The node: `GetStatus`, `GetInfo`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::cluster::ClusterStatus;
use crate::decision::RejectReason;
use crate::error::Error;
use crate::id::{LogId, NodeName};
use crate::mode::{InForce, Mode, ModeState};
use crate::number::is_zero;
use crate::plan::{Plan, Stalled};
use crate::reservation::Reservation;
use crate::session::Session;
use crate::sora::lenient;
use crate::time::Time;
use crate::wire_enum::wire_enum;

/// Warning of each closed node of a cluster in which no node is open.
pub const NO_OPEN_NODE: &str = "no node of the cluster is open: a client that would begin a session is rejected on every node. Open one of them. \
                                --keep-open 1 refuses to close the last open node. To list the nodes, run: soramode nodes";

wire_enum! {
    /// A node's place in the cluster.
    pub enum Membership {
        /// Node has no cluster.
        Standalone = "standalone",
        /// Node is a member of the cluster.
        Joined = "joined",
        /// No contact with the cluster, but the ownership lease still runs.
        Isolated = "isolated",
        /// Not a member of the cluster, and without an ownership lease.
        Fenced = "fenced",
    }
}

wire_enum! {
    /// Action for which soramoded needs means of the SFU or of a subscriber.
    pub enum MeansFor {
        /// Announce to the clients of a session.
        Announce = "announce",
        /// End a session.
        End = "end",
    }
}

/// Source of connections, and the state of its synchronization.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Source {
    /// `socket` for the control socket, or `sora` for a real Sora.
    pub name: String,
    /// `true` if it has reported every session on the SFU.
    pub complete: bool,
    /// Reason for being incomplete.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incomplete_reason: Option<String>,
    /// Remedy that completes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// Time of the last webhook or API answer of Sora, or of the last `Connect`, `Disconnect` or
    /// `Report` of a control socket client. Absent if there was none since the daemon started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_contact: Option<Time>,
    /// Time of Sora's last auth webhook. Absent if there was none since the daemon started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_auth: Option<Time>,
    /// Connections that came to Sora without an auth webhook: 0 again once Sora sends them. Absent where Sora need not send any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub without_auth: Option<u64>,
    /// Reason for the failure of the last poll of Sora's API.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// A server that the daemon asks, and how it answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Upstream {
    /// `auth`, `session` or `event` for the application's webhooks, `sora-api` for Sora's API, `etcd` for a member of the cluster's etcd,
    /// `webhook` for a receiver of events.
    pub name: String,
    /// URL of the server, without a password in it.
    pub url: String,
    /// Time of the last answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_success: Option<Time>,
    /// Time of the last failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failure: Option<Time>,
    /// Why it failed when it was asked last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// Time within which an API that has failed is expected to answer again. On an open node Sora's is asked once a minute.
const ANSWERED_LATELY: Duration = Duration::from_mins(3);

impl Upstream {
    /// Returns true if it answered less than [`ANSWERED_LATELY`] before its last failure.
    fn has_answered_lately(&self) -> bool {
        self.last_success.is_some_and(|success| {
            self.last_failure
                .is_none_or(|failure| failure.since(success) < ANSWERED_LATELY)
        })
    }
}

/// Numbers of webhook deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeliveryCounts {
    /// Deliveries that are still pending.
    pub pending: u64,
    /// Deliveries that have failed for good.
    pub failed: u64,
}

/// Storage of the state, and its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Storage {
    /// Health of the storage.
    pub state: StorageState,
    /// The database; absent where the state is in memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
}

/// Health of the storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StorageState {
    /// Kept in memory only: lost when the daemon ends.
    Memory,
    /// Kept on disk, and writes succeed.
    Ok,
    /// Writes to the disk fail.
    Failed,
}

/// Parameters of `GetStatus`; there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

/// Parameters of `GetInfo`; there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GetInfo {}

/// Parameters of the method `ListClusterNodes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ListClusterNodes {
    /// `true` to count the orphaned channels, which reads all claims of the cluster.
    #[serde(skip_serializing_if = "is_false", default)]
    pub count_orphaned: bool,
}

/// Node of the cluster, with the field names of Sora's `ListClusterNodes`. A lost node has only its
/// name. Fields that a Sora writes differently are omitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClusterNode {
    /// Name of the node.
    pub node_name: NodeName,
    /// Mode that the node published.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub mode: Option<Mode>,
    /// `true` if the node is connected.
    #[serde(default)]
    pub connected: bool,
    /// The cluster's epoch in which it joined; absent without a cluster.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub epoch: Option<u64>,
    /// Time since which the node is connected.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub member_since: Option<Time>,
    /// Signaling URL for redirected clients.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub cluster_signaling_url: Option<String>,
    /// URL of the node's API.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub cluster_api_url: Option<String>,
    /// URL of the node's status page.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub cluster_page_url: Option<String>,
    /// The version of its Sora.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub sora_version: Option<String>,
    /// Always false: soramode has no temporary nodes.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub temporary_node: Option<bool>,
    /// Membership in the cluster, as last seen; not a field of Sora's.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub membership: Option<Membership>,
    /// Connections as last published by the node; not a field of Sora's.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub connections: Option<u64>,
    /// Sessions as last published by the node; not a field of Sora's.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub sessions: Option<u64>,
    /// `true` if a plan is about to close the node: it takes new channels after all others; not a field of Sora's.
    #[serde(skip_serializing_if = "is_false", default)]
    pub leaving: bool,
    /// Version of its soramoded; not a field of Sora's.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub version: Option<String>,
    /// Channels that a former incarnation of this node owns, with `count_orphaned`; not a
    /// field of Sora's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub orphaned_channels: Option<OrphanedChannels>,
}

/// Channels of a lost owner, which no other node may take over yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OrphanedChannels {
    /// Number of orphaned channels.
    pub total: u64,
    /// Number of those that are not released after a time: they wait for the node, or for an
    /// operator's `PurgeClusterNode`.
    pub held_until_purge: u64,
}

/// `ListClusterNodes`' result. Without a cluster: the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClusterNodes {
    /// Nodes of the cluster.
    pub nodes: Vec<ClusterNode>,
    /// Time of the count of orphaned channels, if requested. A count is reused for a few seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counted_at: Option<Time>,
    /// Reason why the orphaned channels could not be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// Result of the method `GetStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// The mode, with its generation, time, actor and reason.
    #[serde(flatten)]
    pub mode: ModeState,
    /// Name of this node.
    pub node_name: NodeName,
    /// Membership of the node in its cluster.
    pub membership: Membership,
    /// Sessions, those with only pending connections too.
    pub sessions: u64,
    /// Connections, pending ones too.
    pub connections: u64,
    /// Connections that were admitted and not yet seen connected.
    pub pending: u64,
    /// `true` if soramoded knows every session on the SFU.
    pub sessions_complete: bool,
    /// Sources of connections.
    pub sources: Vec<Source>,
    /// Oldest session of the node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oldest_session: Option<Session>,
    /// Connections rejected since the start, by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// Numbers of webhook deliveries.
    pub deliveries: DeliveryCounts,
    /// Clients that accept end requests: they are subscribed with `ends: true` at this moment.
    #[serde(default)]
    pub end_subscribers: u64,
    /// Sessions that have not ended although the SFU was asked to end them.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub failing_ends: u64,
    /// Actions for which there are no means at this moment: such requests and plans are refused.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub no_means_to: Vec<MeansFor>,
    /// Storage of the state, and its health.
    pub storage: Storage,
    /// Version of the daemon.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// Whole seconds since it started, by the boot clock.
    pub uptime_seconds: u64,
    /// Time of the daemon's start.
    pub started_at: Time,
    /// `true` in shadow mode: rejections are only logged (`--shadow`).
    #[serde(skip_serializing_if = "is_false", default)]
    pub shadow: bool,
    /// The servers that the daemon asks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub upstreams: Vec<Upstream>,
    /// Settings of listeners that ask for no token: every user of the machine may change things through them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unauthenticated_listeners: Vec<String>,
    /// The cluster, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<Box<ClusterStatus>>,
    /// Plan that runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Box<Plan>>,
    /// Set if the drain does not progress.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stalled: Option<Stalled>,
    /// Reservation of the node by a roll; the last one, without `expires_in_seconds`, if it is over.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reservation: Option<Box<Reservation>>,
    /// State of the mode on an SFU that holds it by locks of its rooms; absent on all others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_force: Option<InForce>,
    /// Rooms by the state of their locks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rooms: Option<RoomCounts>,
    /// Warnings for the operator.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

/// Number of rooms by the state of their locks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RoomCounts {
    /// Rooms that are locked or open, as the mode requires.
    pub settled: u64,
    /// Rooms that are being locked or unlocked.
    pub outstanding: u64,
    /// Rooms that cannot be locked or unlocked.
    pub impossible: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Status {
    /// Returns whether the node is drained: closed, complete and empty.
    pub const fn is_drained(&self) -> bool {
        let is_in_force = matches!(self.in_force, None | Some(InForce::Yes));
        self.mode.mode.is_block() && self.sessions == 0 && self.sessions_complete && is_in_force
    }

    /// Returns true if the node has a cluster and has not joined it since its start: it is `fenced` without having been a member.
    pub fn has_not_joined(&self) -> bool {
        let is_unchanged = |cluster: &ClusterStatus| cluster.membership_since.is_none();
        self.membership == Membership::Fenced && self.cluster.as_deref().is_some_and(is_unchanged)
    }

    /// Describes the membership in one or two words: a node that has not joined yet is not called fenced.
    pub fn membership_words(&self) -> &'static str {
        if self.has_not_joined() {
            "not joined"
        } else {
            self.membership.name()
        }
    }

    /// Returns true if the sessions are complete, or will be with the next answer of the SFU's API: it answers, or did a moment ago.
    pub fn is_complete_soon(&self) -> bool {
        let api = |name: &str| self.upstreams.iter().find(|upstream| upstream.name == name);
        let is_soon = |source: &Source| {
            let (is_polled, api) = match source.name.as_str() {
                "sora" => (api("sora-api").is_some(), api("sora-api")),
                name => (name == "janus", api("janus-admin")),
            };
            let is_back_soon = api.is_some_and(Upstream::has_answered_lately);
            source.complete || (is_polled && (source.problem.is_none() || is_back_soon))
        };
        self.sessions_complete || self.sources.iter().all(is_soon)
    }

    /// Returns true if a Sora or a Janus is one of the sources.
    pub fn has_sfu(&self) -> bool {
        let is_sfu = |source: &Source| matches!(source.name.as_str(), "sora" | "janus");
        self.sources.iter().any(is_sfu)
    }

    /// The error of a command that needs the complete session list.
    pub fn sessions_incomplete(&self) -> Error {
        let reasons: Vec<&str> = self
            .sources
            .iter()
            .filter_map(|source| source.incomplete_reason.as_deref())
            .collect();
        let reason = if reasons.is_empty() {
            "no source has reported all of them".to_owned()
        } else {
            reasons.join("; ")
        };
        Error::sessions_incomplete(
            &reason,
            self.sources
                .iter()
                .find_map(|source| source.hint.as_deref()),
        )
    }
}

/// Result of the method `GetInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Info {
    /// Version of the daemon.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// Name of this node.
    pub node_name: NodeName,
    /// The event log that `seq` counts in.
    pub log_id: LogId,
    /// Access level of this client.
    pub access: Access,
    /// The actor that this client's changes are recorded under.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// Methods that this daemon supports.
    pub methods: Vec<String>,
}
