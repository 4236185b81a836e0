//! Cluster methods (`Grant`, `Acknowledge`, `PurgeClusterNode`, `InitCluster`), the notification
//! `Fence`, and the cluster part of a status.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::{ChannelId, ClusterId, HistoryId, NodeName};
use crate::node::Membership;
use crate::time::Time;

/// Required `accept_risk` of a purge: the operator confirms that the node is off, or accepts the
/// risk that it is not.
pub const RISK_OF_PURGE: &str = "still-running";

/// The risk of making a cluster go on in an etcd that was refused.
pub const RISK_OF_INIT: &str = "lost-claims";

/// The risk of making a cluster in an etcd that has others.
pub const RISK_OF_SECOND: &str = "second-cluster";

/// A node's right to a channel, as it goes out with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OfferedClaim {
    /// Fencing token: grows with every change of owner. A receiver that keeps the highest one can
    /// refuse messages of a stale node.
    pub token: u64,
    /// The cluster's epoch, which an operator raises when its etcd was restored from a backup: tokens grow within one epoch.
    #[serde(default)]
    pub epoch: u64,
    /// Milliseconds that the ownership lease still lasts, counted from the request; absent if it
    /// does not expire.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_for_ms: Option<u64>,
}

/// Parameters of `Grant`; there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Grant {}

/// `Grant`'s result: how long an SFU may go on serving without another answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Granted {
    /// The node's place in the cluster.
    pub membership: Membership,
    /// Milliseconds from the SFU's request; 0 once the lease has expired, absent if it does not
    /// expire.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_for_ms: Option<u64>,
}

/// Notification `Fence`: the ownership lease has expired. The receiver ends the sessions and then
/// sends [`Acknowledge`]. Repeated until every receiver has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Fence {
    /// Number of the fence, to be acknowledged.
    pub id: u64,
    /// Channel of the session to end; absent for all channels.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
}

/// Parameters of `Acknowledge`: the sessions of this fence have ended on the SFU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// Number of the fence.
    pub id: u64,
}

/// Result of the method `Acknowledge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Acknowledged {
    /// `true` if that fence was awaiting acknowledgement.
    pub found: bool,
}

/// `PurgeClusterNode`'s params: this node is off for good, so its channels need not wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PurgeClusterNode {
    /// Name of the node to purge.
    pub node_name: NodeName,
    /// Must be [`RISK_OF_PURGE`]: if the node still serves, its channels are served twice.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("const" = RISK_OF_PURGE)))]
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

/// Result of the method `PurgeClusterNode`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Purged {
    /// Name of the purged node.
    pub node_name: NodeName,
    /// Incarnations that this call purged.
    pub incarnations: Vec<u64>,
    /// Number of channels that the purge released.
    pub channels: u64,
}

/// Parameters of `InitCluster`: create the cluster in etcd, once, or continue it in an etcd that
/// has lost claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InitCluster {
    /// `lost-claims`, required if this node refuses the etcd: unreachable nodes may still serve
    /// channels with lost claims. `second-cluster`, required if the etcd has clusters of other names:
    /// a node with a mistyped name serves channels that they serve.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(extend("enum" = [RISK_OF_INIT, RISK_OF_SECOND])))]
    pub accept_risk: Option<String>,
}

impl InitCluster {
    /// Checks that an accepted risk is one of those that there are.
    pub fn check(&self) -> Result<(), Error> {
        match self.accept_risk.as_deref() {
            None | Some(RISK_OF_INIT | RISK_OF_SECOND) => Ok(()),
            Some(other) => Err(Error::invalid_params(
                "accept_risk",
                format_args!("got {other:?}, takes {RISK_OF_INIT:?} or {RISK_OF_SECOND:?}"),
            )),
        }
    }
}

/// Result of `InitCluster`: the present contents of `/cfg`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Initialized {
    /// Identifier of the cluster: created with it, and kept in any etcd that it continues in.
    pub cluster_id: ClusterId,
    /// The number of its histories.
    pub epoch: u64,
    /// Identifier of the present history.
    pub history_id: HistoryId,
    /// etcd's own id, in decimal.
    pub etcd_cluster_id: String,
}

/// Cluster part of a node's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClusterStatus {
    /// Name of the cluster.
    pub name: String,
    /// URLs of the etcd endpoints.
    pub endpoints: Vec<String>,
    /// Time since which the node has its membership; absent since the start.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub membership_since: Option<Time>,
    /// URL of this node's API, as published to the other nodes; absent if not configured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub api_url: Option<String>,
    /// URL to which other nodes redirect clients; absent if not configured.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signaling_url: Option<String>,
    /// Incarnation of the node; absent while it has not joined.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub incarnation: Option<u64>,
    /// The cluster's epoch, once it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub epoch: Option<u64>,
    /// Time of the ownership lease's last renewal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub renewed_at: Option<Time>,
    /// Milliseconds that the ownership lease still lasts; absent if it does not expire or there is
    /// none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_for_ms: Option<u64>,
    /// Milliseconds that the ownership lease lasts without renewal; absent if it does not expire.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fence_after_ms: Option<u64>,
    /// Why no other node ever takes the channels over: the right is without end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub no_takeover_reason: Option<String>,
    /// Means of ending sessions when the ownership lease expires: `sora-api`, `exec`, `socket` or
    /// `none`.
    pub on_fence: String,
    /// Means of ending sessions if the daemon is dead: `grant` or `none`.
    pub dead_man: String,
    /// Channels that are this node's.
    pub channels: u64,
    /// Number of claims in flight.
    pub claims_in_flight: u64,
    /// `true` if the other nodes know the present mode.
    pub published: bool,
    /// Description of the problem, if any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
}
