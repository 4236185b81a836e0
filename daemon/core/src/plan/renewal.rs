//! The end that a plan's announcement names once the one that it had named is past.

use soramode_protocol::id::PlanId;
use soramode_protocol::time::Time;

/// End that an announcement of a plan names, in place of one that is past.
pub(crate) struct Renewal {
    pub(crate) plan_id: PlanId,
    pub(crate) sessions_end_at: Time,
    pub(crate) text: Option<String>,
}
