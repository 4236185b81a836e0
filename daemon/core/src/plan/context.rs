//! The plan part's view of the node in a step, and its effects.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::event::EventKind;
use soramode_protocol::id::{PlanId, RollId};
use soramode_protocol::mode::{Mode, ModeState, SettableMode};
use soramode_protocol::node::Membership;
use soramode_protocol::time::Time;

use super::calls::CallId;
use super::means::Means;
use crate::count::count;
use crate::ctx::{Random, bug};
use crate::effect::{Action, Record};
use crate::handles::Timestamp;
use crate::member::ClusterMember;
use crate::reservation::Reservations;
use crate::settings::SfuAdmission;
use crate::tables::sessions::Sessions;

/// State of the node at this point of a step, on which the drain and what clients see of a plan depend.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, named where it is read"
)]
pub(crate) struct NodeState {
    pub(crate) now: Timestamp,
    pub(crate) mode: Mode,
    pub(crate) session_count: u64,
    /// Number of sessions that have ended since the start.
    pub(crate) sessions_ended: u64,
    /// True if the session list is complete.
    pub(crate) is_complete: bool,
    /// False while an SFU that holds the mode by locks of its rooms has not locked all of them.
    pub(crate) is_in_force: bool,
    /// True if calls wait for the lock of a room.
    pub(crate) has_postponed: bool,
    pub(crate) is_storage_failed: bool,
    /// True if sessions can be ended at all.
    pub(crate) can_end: bool,
    pub(crate) stall_after: Duration,
}

/// The rest of the node, as it is at this point of a step.
pub(crate) struct PlanView<'a> {
    pub(crate) state: NodeState,
    pub(crate) mode: &'a ModeState,
    pub(crate) sessions: &'a Sessions,
    /// Calls that are not made yet, because they wait for the lock of a room.
    pub(crate) postponed: BTreeSet<CallId>,
    pub(crate) admission: SfuAdmission,
    pub(crate) means: Means,
    pub(crate) pending_timeout: Duration,
    /// True while an operator's change to `normal` waits for the cluster.
    pub(crate) is_opening: bool,
    /// The cluster, if there is one.
    pub(crate) member: Option<&'a ClusterMember>,
    pub(crate) reservations: &'a Reservations,
}

impl PlanView<'_> {
    /// Returns whether the closed node has no session, and none can begin.
    pub(crate) fn is_drained(&self) -> bool {
        let is_empty = self.sessions.session_count() == 0 && self.state.is_complete;
        self.mode.mode.is_block() && self.state.is_in_force && is_empty
    }

    /// Number of other nodes of the cluster that are known to be open: none while the node is not joined. `None` without a cluster.
    pub(crate) fn open_others(&self) -> Option<u64> {
        self.member.map(|member| count(member.open_others()))
    }

    /// Returns the mode for a step that closes the node: never a more open one. An isolated node in `initial` admits no client.
    pub(crate) fn at_least(&self, mode: SettableMode) -> SettableMode {
        let is_isolated = |it: &ClusterMember| it.membership() == Membership::Isolated;
        match self.mode.mode {
            Mode::BlockNewConnection => SettableMode::BlockNewConnection,
            Mode::Initial if self.member.is_some_and(is_isolated) => {
                SettableMode::BlockNewConnection
            }
            Mode::Normal | Mode::BlockNewSession | Mode::Initial => mode,
        }
    }

    /// Returns whether a plan may have sessions ended as things are.
    pub(crate) fn may_plan_end(&self) -> bool {
        self.mode.mode.is_block()
            && self.admission == SfuAdmission::Enforced
            && self.state.can_end
            && !self.state.is_storage_failed
            && self.state.is_complete
            && !self.is_opening
    }
}

/// Effects of the plan part.
pub(crate) struct PlanEffects<'a> {
    pub(crate) records: &'a mut Vec<Record>,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) commands: &'a mut Vec<PlanCommand>,
    pub(crate) random: &'a mut Random,
    pub(crate) last_call: &'a mut CallId,
}

impl PlanEffects<'_> {
    /// Returns the id of a new call.
    pub(crate) const fn call_id(&mut self) -> CallId {
        *self.last_call += 1;
        *self.last_call
    }

    pub(crate) fn bug(&mut self, what: &'static str) {
        bug(self.actions, what);
    }

    pub(crate) fn random_bytes(&mut self) -> [u8; 16] {
        self.random.bytes()
    }
}

/// Something that the node does for the plan part.
#[derive(Debug)]
pub(crate) enum PlanCommand {
    /// Change the mode, in the name of the plan's owner.
    SetMode(PlanMode),
    /// Write this event to the log.
    Emit(EventKind),
    /// Make the undelivered announcements of this plan obsolete.
    MakeObsolete(PlanId),
}

/// A plan's change of the mode.
#[derive(Debug)]
pub(crate) struct PlanMode {
    pub(crate) mode: SettableMode,
    pub(crate) plan_id: PlanId,
    pub(crate) roll: Option<RollId>,
    pub(crate) actor: String,
    pub(crate) on_behalf_of: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) expected_end_at: Option<Time>,
}
