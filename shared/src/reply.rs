//! What the gate answers.

use serde::Serialize;

use crate::cluster::{Acknowledged, Granted, Initialized, Purged};
use crate::decision::{Decision, Disconnected, Explanation, Reported};
use crate::delivery::{Deliveries, Delivery};
use crate::end::Ended;
use crate::error::Error;
use crate::mode::{ModeChanged, ModeChanges, ModeState};
use crate::node::{ClusterNodes, Status};
use crate::session::Page;
use crate::wait::WaitEnded;

/// The result of a request that the gate answered; written as the bare result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// To `GetMode`.
    Mode(Box<ModeState>),
    /// To `ChangeMode`.
    ModeChanged(ModeChanged),
    /// To `GetStatus`.
    Status(Box<Status>),
    /// To `ListClusterNodes`.
    ClusterNodes(ClusterNodes),
    /// To `ListModeChanges`.
    ModeChanges(ModeChanges),
    /// To `Connect`.
    Decision(Decision),
    /// To `Report`.
    Reported(Reported),
    /// To `Disconnect`.
    Disconnected(Disconnected),
    /// To `End`.
    Ended(Ended),
    /// To `Explain`.
    Explanation(Box<Explanation>),
    /// To `ListSessions`, `GetSession` and `ListConnections`.
    Page(Page),
    /// To `ListDeliveries`.
    Deliveries(Deliveries),
    /// To `ResendDelivery`.
    Delivery(Box<Delivery>),
    /// To `Grant`.
    Granted(Granted),
    /// To `Acknowledge`.
    Acknowledged(Acknowledged),
    /// To `PurgeClusterNode`.
    Purged(Purged),
    /// To `InitCluster`.
    Initialized(Initialized),
    /// To `Wait`.
    WaitEnded(Box<WaitEnded>),
}

/// An answer: a result or an error.
pub type Answer = Result<Reply, Error>;
