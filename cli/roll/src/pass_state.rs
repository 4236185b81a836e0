//! State of a pass over all hosts, and its result.

use std::collections::BTreeSet;

use soramode_protocol::node::Status;

use crate::HostIndex;

/// A pass that is under way.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) round: u64,
    /// Host that is to be closed, or that a plan is about to close.
    pub(crate) first: Option<HostIndex>,
    pub(crate) stage: PassStage,
    /// Hosts that have not answered.
    pub(crate) pending: BTreeSet<HostIndex>,
    /// Hosts that were renewed in this pass.
    pub(crate) renewed: BTreeSet<HostIndex>,
    /// Others that are open.
    pub(crate) open: BTreeSet<HostIndex>,
    /// Status of the first host.
    pub(crate) status: Option<Box<Status>>,
}

/// Stage of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassStage {
    /// The first host is renewed.
    First,
    /// The others are.
    Others,
    /// All are looked at.
    Look,
}

/// Result of a pass for the host that is to be closed.
#[derive(Debug)]
pub(crate) struct PassResult {
    pub(crate) host: HostIndex,
    /// Round of the pass.
    pub(crate) round: u64,
    /// Its status; `None` if it was not renewed, or did not answer.
    pub(crate) status: Option<Box<Status>>,
    /// Number of others that are open, and reserved in this round.
    pub(crate) open: usize,
}
