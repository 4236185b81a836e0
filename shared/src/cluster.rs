//! The cluster: `Grant`, `Acknowledge`, `PurgeClusterNode`, `InitCluster`, the notification `Fence`, and what a status says of it.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{ChannelId, ClusterId, HistoryId, NodeName};
use crate::node::Membership;
use crate::time::Time;

/// What whoever purges a node must say: that the node is off, or that the risk that it is not is theirs.
pub const RISK_OF_PURGE: &str = "still-running";

/// The risk of making a cluster go on in an etcd that was refused.
pub const RISK_OF_INIT: &str = "lost-claims";

/// A node's right to a channel, as it goes out with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The fencing token: grows with every change of owner. Whoever keeps the highest can refuse what a stale node still says.
    pub token: u64,
    /// The cluster's epoch, which an operator raises when its etcd was restored from a backup: tokens grow within one epoch.
    #[serde(default)]
    pub epoch: u64,
    /// How long the right still runs, from when it was asked for; absent if without end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_for_ms: Option<u64>,
}

/// `Grant`'s params: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {}

/// `Grant`'s result: how long an SFU may go on serving without another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The node's place in the cluster.
    pub membership: Membership,
    /// From when the SFU asked; 0 when the right is over, absent if it is without end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_for_ms: Option<u64>,
}

/// The notification `Fence`: the right to the channels is over, so whoever ends sessions ends them now, and then says so with
/// [`Acknowledge`]. It comes again until everybody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// What to acknowledge.
    pub id: u64,
    /// The channel whose session ends; all of them if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
}

/// `Acknowledge`'s params: what this fence named has ended on the SFU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// The fence.
    pub id: u64,
}

/// `Acknowledge`'s result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Whether that fence was waited for.
    pub found: bool,
}

/// `PurgeClusterNode`'s params: this node is off for good, so its channels need not wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeClusterNode {
    /// The node.
    pub node_name: NodeName,
    /// Must be [`RISK_OF_PURGE`]: if the node still serves, its channels are served twice.
    #[serde(default)]
    pub accept_risk: String,
}

impl PurgeClusterNode {
    /// Checks that the risk is known.
    pub fn check(&self) -> Result<(), Error> {
        if self.accept_risk == RISK_OF_PURGE {
            return Ok(());
        }
        let problem = format_args!(
            "got {:?}, takes {RISK_OF_PURGE:?}: if {} still serves, its channels are served on two nodes",
            self.accept_risk, self.node_name
        );
        Err(Error::invalid_params("accept_risk", problem))
    }
}

/// `PurgeClusterNode`'s result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// The node.
    pub node_name: NodeName,
    /// Its incarnations that are written off now.
    pub incarnations: Vec<u64>,
    /// The channels that they owed.
    pub channels: u64,
}

/// `InitCluster`'s params: the cluster is made in etcd, once; or it goes on in an etcd that has lost claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitCluster {
    /// [`RISK_OF_INIT`] where this node refuses the etcd: channels whose claims were lost may still be served by nodes that are not reached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub accept_risk: Option<String>,
}

impl InitCluster {
    /// Checks that the risk, if one is accepted, is the one that there is.
    pub fn check(&self) -> Result<(), Error> {
        match self.accept_risk.as_deref() {
            None | Some(RISK_OF_INIT) => Ok(()),
            Some(other) => Err(Error::invalid_params(
                "accept_risk",
                format_args!("got {other:?}, takes {RISK_OF_INIT:?}"),
            )),
        }
    }
}

/// `InitCluster`'s result: what `/cfg` says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initialized {
    /// The cluster: made with it, and kept whichever etcd it goes on in.
    pub cluster_id: ClusterId,
    /// The number of its histories.
    pub epoch: u64,
    /// The present one.
    pub history_id: HistoryId,
    /// etcd's own id, in decimal.
    pub etcd_cluster_id: String,
}

/// What a status says of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Where etcd is.
    pub endpoints: Vec<String>,
    /// Since when the node has its membership; absent since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub membership_since: Option<Time>,
    /// What the others tell of its API; absent where it tells nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub api_url: Option<String>,
    /// What they send clients to; absent where they cannot say.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signaling_url: Option<String>,
    /// Which stay of the node in the cluster this is; absent while it is not in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incarnation: Option<u64>,
    /// The cluster's epoch, once it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<u64>,
    /// When the right was renewed last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub renewed_at: Option<Time>,
    /// How long the right still runs; absent if without end, or if there is none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_for_ms: Option<u64>,
    /// How long without a renewal the right lasts; absent if without end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fence_after_ms: Option<u64>,
    /// Why no other node ever takes the channels over: the right is without end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub no_takeover_reason: Option<String>,
    /// By what sessions are ended when the right is over: `sora-api`, `exec`, `socket` or `none`.
    pub on_fence: String,
    /// What ends them when the daemon is dead: `grant` or `none`.
    pub dead_man: String,
    /// Channels that are this node's.
    pub channels: u64,
    /// Claims under way.
    pub claims_in_flight: u64,
    /// Whether the other nodes know of the present mode.
    pub published: bool,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}
