//! State that all clients of the control socket share.

use std::sync::Arc;

use soramode_protocol::id::NodeName;

use super::budget::Budgets;
use crate::event_log::EventLog;
use crate::sfu::announcer::Announcer;
use crate::sfu::terminator::SessionTerminator;

/// State that all clients share.
#[derive(Clone, Debug)]
pub(crate) struct ControlState {
    pub(crate) event_log: Arc<EventLog>,
    pub(crate) announcer: Announcer,
    pub(crate) terminator: SessionTerminator,
    pub(crate) node_name: NodeName,
    pub(crate) operator_group: Option<String>,
    pub(crate) budgets: Budgets,
    /// The SFU holds the mode by locks of its rooms, so that a change of the mode is answered late.
    pub(crate) sfu_holds_mode: bool,
}

#[cfg(test)]
impl ControlState {
    /// Creates a state without events.
    pub(super) fn new() -> Self {
        use soramode_protocol::id::LogId;
        let event_log = Arc::new(EventLog::new(LogId::generate([0; 16]), 10_000));
        let node_name = NodeName::new("node-01").unwrap();
        let (terminator, budgets) = (
            SessionTerminator::new(None, Default::default()),
            Budgets::new(),
        );
        Self {
            event_log,
            announcer: Announcer::new(None),
            terminator,
            node_name,
            operator_group: Some("operators".to_owned()),
            budgets,
            sfu_holds_mode: false,
        }
    }
}
