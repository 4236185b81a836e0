//! The node: `GetStatus`, `GetInfo`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::cluster::ClusterStatus;
use crate::decision::RejectReason;
use crate::error::Error;
use crate::id::{LogId, NodeName};
use crate::mode::{Mode, ModeState};
use crate::session::Session;
use crate::sora::lenient;
use crate::time::Time;
use crate::wire_enum::wire_enum;

wire_enum! {
    /// A node's place in the cluster.
    pub enum Membership {
        /// There is no cluster.
        Standalone = "standalone",
        /// In the cluster.
        Joined = "joined",
        /// No contact with the cluster, but the right to its channels still runs.
        Isolated = "isolated",
        /// Not in the cluster, and without a right to any channel.
        Fenced = "fenced",
    }
}

/// Where the gate learns of connections, and whether it has learned of all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `socket` for the control socket, or `sora` for a real Sora.
    pub name: String,
    /// Whether it has reported every session on the SFU.
    pub complete: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incomplete_reason: Option<String>,
    /// How to complete it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// When Sora last sent a webhook or answered on its API, or when a client of the control socket last sent `Connect`, `Disconnect` or
    /// `Report`. Absent if that was not since the daemon started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_contact: Option<Time>,
    /// Why Sora's API was not heard when it was asked last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// A server that the daemon asks, and how it answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// `auth`, `session` or `event` for the application's webhooks, `sora-api` for Sora's API, `etcd` for a member of the cluster's etcd,
    /// `webhook` for a receiver of events.
    pub name: String,
    /// Where it is, without a password that the URL may have.
    pub url: String,
    /// When it answered last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_success: Option<Time>,
    /// When it failed last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_failure: Option<Time>,
    /// Why it failed when it was asked last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// Webhook deliveries that are owed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryCounts {
    /// Still to be delivered.
    pub pending: u64,
    /// Given up.
    pub failed: u64,
}

/// Where the state is kept and whether it can be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// How it is.
    pub state: StorageState,
    /// The database; absent where the state is in memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
}

/// Whether the state can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageState {
    /// In memory: it ends with the daemon.
    Memory,
    /// On disk, and writes succeed.
    Ok,
    /// It can no longer be written.
    Failed,
}

/// `GetStatus`' params: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

/// `GetInfo`'s params: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetInfo {}

/// `ListClusterNodes`' params.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListClusterNodes {
    /// Whether to count the orphaned channels: all claims of the cluster are read for that.
    #[serde(skip_serializing_if = "is_false", default)]
    pub count_orphaned: bool,
}

/// A node of the cluster, with the field names of Sora's `ListClusterNodes`. Of a node that is gone there is its name alone.
/// What a Sora says in another way is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// The node.
    pub node_name: NodeName,
    /// Its mode.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub mode: Option<Mode>,
    /// Whether it is there.
    #[serde(default)]
    pub connected: bool,
    /// The cluster's epoch in which it joined; absent without a cluster.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub epoch: Option<u64>,
    /// Since when it has been there.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub member_since: Option<Time>,
    /// Where clients are redirected to.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub cluster_signaling_url: Option<String>,
    /// Where its API is.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub cluster_api_url: Option<String>,
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
    /// Beyond Sora's names: its place in the cluster. Of another node that is there: `joined`, which it was when it was seen last.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub membership: Option<Membership>,
    /// Beyond Sora's names: its connections, as it told the others last.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub connections: Option<u64>,
    /// Beyond Sora's names: its sessions, as it told the others last.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub sessions: Option<u64>,
    /// Beyond Sora's names: its soramoded's version.
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "lenient"
    )]
    pub version: Option<String>,
    /// Beyond Sora's names, with `count_orphaned`: channels whose owner is a former incarnation of this node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub orphaned_channels: Option<OrphanedChannels>,
}

/// Channels whose owner is gone, and which no other node may take over yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanedChannels {
    /// All of them.
    pub total: u64,
    /// Those that are not released after a time: they wait for the node, or for an operator's `PurgeClusterNode`.
    pub held_until_purge: u64,
}

/// `ListClusterNodes`' result. Without a cluster: the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNodes {
    /// The nodes.
    pub nodes: Vec<ClusterNode>,
    /// When the channels were counted, where they were to be: a count is the answer for a few seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub counted_at: Option<Time>,
    /// Why what they owe could not be counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}

/// `GetStatus`' result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The mode, with its generation, time, actor and reason.
    #[serde(flatten)]
    pub mode: ModeState,
    /// This node.
    pub node_name: NodeName,
    /// Its place in the cluster.
    pub membership: Membership,
    /// Sessions, those with only pending connections too.
    pub sessions: u64,
    /// Connections, pending ones too.
    pub connections: u64,
    /// Connections that were let in and not yet seen.
    pub pending: u64,
    /// Whether soramoded knows every session on the SFU.
    pub sessions_complete: bool,
    /// Who tells of connections.
    pub sources: Vec<Source>,
    /// The oldest session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub oldest_session: Option<Session>,
    /// Connections rejected since the start, by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// Webhook deliveries.
    pub deliveries: DeliveryCounts,
    /// Clients that accept end requests: they are subscribed with `ends: true` at this moment.
    #[serde(default)]
    pub end_subscribers: u64,
    /// Where the state is kept.
    pub storage: Storage,
    /// The daemon's version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// Whole seconds since it started, by the boot clock.
    pub uptime_seconds: u64,
    /// When it started.
    pub started_at: Time,
    /// Whether a Sora's clients get in whatever is decided (`--shadow`).
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
    /// What an operator should know of.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks in this way")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Status {
    /// Returns whether the node is drained: closed, complete and empty.
    pub const fn is_drained(&self) -> bool {
        self.mode.mode.is_block() && self.sessions == 0 && self.sessions_complete
    }

    /// Whether the sessions are complete, or will be with the next answer of Sora's API.
    pub fn is_complete_soon(&self) -> bool {
        let asks_sora = self
            .upstreams
            .iter()
            .any(|upstream| upstream.name == "sora-api");
        let is_soon = |source: &Source| {
            source.complete || (source.name == "sora" && asks_sora && source.problem.is_none())
        };
        self.sessions_complete || self.sources.iter().all(is_soon)
    }

    /// Whether a Sora is one of the sources.
    pub fn has_sora(&self) -> bool {
        self.sources.iter().any(|source| source.name == "sora")
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

/// `GetInfo`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The daemon's version.
    pub version: String,
    /// The protocol it speaks.
    pub protocol: u32,
    /// This node.
    pub node_name: NodeName,
    /// The event log that `seq` counts in.
    pub log_id: LogId,
    /// What this client may do.
    pub access: Access,
    /// The actor that this client's changes are recorded under.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
    /// What this daemon can be asked.
    pub methods: Vec<String>,
}
