//! Interface between the member and the rest of the node: a view of the node goes in, events come out.

use soramode_protocol::end::EndSession;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::cluster::Incarnation;
use crate::handles::ReplyHandle;
use crate::sync::{SyncState, UntrackedIncarnations};
use crate::tables::sessions::Sessions;

use super::etcd::FenceScope;
use super::publication::Opening;
use super::waiters::{ClusterAnswer, Waiter};

/// The rest of the node, as its member sees it.
#[derive(Clone, Copy)]
pub(crate) struct NodeView<'a> {
    pub(crate) mode: Mode,
    pub(crate) sessions: &'a Sessions,
    pub(crate) sync: &'a SyncState,
    /// A plan is about to close the node.
    pub(crate) is_leaving: bool,
}

impl NodeView<'_> {
    /// Returns whether earlier incarnations without a record may still have sessions.
    pub(super) fn has_untracked(&self) -> bool {
        self.sync.untracked().is_some()
    }

    /// Returns the sessions that a fence names, oldest first.
    pub(crate) fn sessions_of(&self, scope: &FenceScope) -> Vec<EndSession> {
        let sessions = self.sessions;
        let slots: Vec<_> = match scope {
            FenceScope::All => sessions.by_age(None).collect(),
            FenceScope::Channel(channel) => sessions.find_session(channel).into_iter().collect(),
        };
        let rows = slots.into_iter().filter_map(|slot| sessions.session(slot));
        rows.map(|row| EndSession {
            channel_id: row.channel_id.clone(),
            session_id: row.session_id.clone(),
            plan_id: None,
            reason: None,
        })
        .collect()
    }
}

/// An event of the member that the rest of the node follows. It is to be taken before the member gets its next input.
///
/// The membership is the new one when an event of that step is followed; the mode changes only with [`Self::MembershipChanged`].
pub(crate) enum ClusterEvent {
    MembershipChanged(Membership),
    /// The owner of a channel is known, or why it cannot be known: answer the clients that wait for it.
    Resolved {
        channel_id: ChannelId,
        waiters: Vec<Waiter>,
        cluster_answer: ClusterAnswer,
    },
    /// The answer to `Explain` is known, under each mode.
    Explained {
        channel_id: ChannelId,
        reply_handles: Vec<ReplyHandle>,
        cluster_answers: [(Mode, ClusterAnswer); Mode::ALL.len()],
    },
    /// The SFU serves these sessions no more: remove them, and report back with `on_fence_ended`.
    FenceEnded(FenceScope),
    /// The other nodes know of this mode: make these changes, and report back with `answer_published`.
    Published {
        mode: Mode,
        openings: Vec<Opening>,
    },
    /// A read of the members was taken in: report back with `after_members_read`.
    MembersRead,
    /// The member key was written: report back with `on_joined`.
    Joined(Incarnation),
    /// Incarnations without a record that still own channels; `None`: there are none any more.
    UntrackedRead(Option<UntrackedIncarnations>),
}
