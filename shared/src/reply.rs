//! Replies of the gate.

use serde::Serialize;

use crate::announce::Announced;
use crate::cluster::{Acknowledged, Granted, Initialized, Purged};
use crate::decision::{Decision, Disconnected, Explanation, Reported};
use crate::delivery::{Deliveries, Delivery};
use crate::end::Ended;
use crate::error::Error;
use crate::mode::{ModeChanged, ModeChanges, ModeState};
use crate::node::{ClusterNodes, Status};
use crate::plan::{PlanCancelled, PlanFound, PlanStarted};
use crate::reservation::{Released, Reserved};
use crate::session::Page;
use crate::wait::WaitEnded;

/// The result of a request that the gate answered; written as the bare result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// Answer to the method `GetMode`.
    Mode(Box<ModeState>),
    /// Answer to the method `ChangeMode`.
    ModeChanged(Box<ModeChanged>),
    /// Answer to the method `GetStatus`.
    Status(Box<Status>),
    /// Answer to the method `ListClusterNodes`.
    ClusterNodes(ClusterNodes),
    /// Answer to the method `ListModeChanges`.
    ModeChanges(ModeChanges),
    /// Answer to the method `Connect`.
    Decision(Decision),
    /// Answer to the method `Report`.
    Reported(Reported),
    /// Answer to the method `Disconnect`.
    Disconnected(Disconnected),
    /// Answer to the method `End`.
    Ended(Ended),
    /// Answer to the method `Explain`.
    Explanation(Box<Explanation>),
    /// Answer to `ListSessions`, `GetSession` and `ListConnections`.
    Page(Page),
    /// Answer to the method `ListDeliveries`.
    Deliveries(Deliveries),
    /// Answer to the method `ResendDelivery`.
    Delivery(Box<Delivery>),
    /// Answer to the method `Grant`.
    Granted(Granted),
    /// Answer to the method `Acknowledge`.
    Acknowledged(Acknowledged),
    /// Answer to the method `PurgeClusterNode`.
    Purged(Purged),
    /// Answer to the method `InitCluster`.
    Initialized(Initialized),
    /// Answer to the method `Wait`.
    WaitEnded(Box<WaitEnded>),
    /// Answer to the method `StartPlan`.
    PlanStarted(Box<PlanStarted>),
    /// Answer to the method `GetPlan`.
    PlanFound(Box<PlanFound>),
    /// Answer to the method `CancelPlan`.
    PlanCancelled(Box<PlanCancelled>),
    /// Answer to the method `Announce`.
    Announced(Announced),
    /// Answer to the method `Reserve`.
    Reserved(Box<Reserved>),
    /// Answer to the method `Release`.
    Released(Released),
}

/// An answer: a result or an error.
pub type Answer = Result<Reply, Error>;
