//! Who waits to hear whose a channel is, and how they are answered.

use std::time::Duration;

use soramode_protocol::decision::{Decision, HOPS_MAX, RejectReason};
use soramode_protocol::error::Error;
use soramode_protocol::id::{ChannelId, ConnectionId, NodeName};
use soramode_protocol::reply::Reply;

use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::{ReplyHandle, SocketId};
use crate::newcomer::Newcomer;
use crate::node::Node;
use crate::tables::rows::Source;

use super::etcd::{ClaimOp, FenceScope};
use super::millis;

/// What is being asked about one channel.
pub(super) struct Asking {
    pub(super) waiters: Vec<Waiter>,
    pub(super) rounds: u8,
    /// What is to be asked when the members have been read.
    pub(super) parked: Option<ClaimOp>,
}

/// Who wants to know.
pub(crate) enum Waiter {
    /// A connection that asks to be admitted.
    Newcomer(Newcomer),
    /// Nobody: the SFU told of a session that nobody claimed.
    Session,
}

impl Asking {
    pub(super) fn of(waiter: Waiter) -> Self {
        Self {
            waiters: vec![waiter],
            rounds: 0,
            parked: None,
        }
    }
}

impl Waiter {
    pub(super) const fn reply_to(&self) -> Option<ReplyHandle> {
        match self {
            Self::Newcomer(newcomer) => Some(newcomer.reply_to),
            Self::Session => None,
        }
    }

    fn connection_id(&self) -> Option<&ConnectionId> {
        match self {
            Self::Newcomer(newcomer) => newcomer.connection_id.as_ref(),
            Self::Session => None,
        }
    }

    pub(super) const fn hops(&self) -> u8 {
        match self {
            Self::Newcomer(newcomer) => newcomer.hops,
            Self::Session => HOPS_MAX,
        }
    }

    /// Whether requests of the same client that come behind it may be answered before it.
    pub(super) fn is_deferrable(&self) -> bool {
        matches!(self, Self::Newcomer(newcomer) if newcomer.source == Source::ControlSocket)
    }
}

/// The cluster's word on a channel, for a new connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// It is this node's: what its own table says is the answer.
    Here,
    Redirect(NodeName),
    OwnerLost(Option<Duration>),
    /// No node takes it: what this node's own mode says is the answer.
    Nowhere,
    Unavailable(String),
    /// The node owns as many channels as it may.
    Full,
}

/// When to ask again, in whole milliseconds: never before the time is over.
pub(crate) fn retry_after(left: Duration) -> u64 {
    millis(left).saturating_add(1)
}

impl Node {
    /// Answers everybody who waits for a channel.
    pub(super) fn settle(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, ruling: &Ruling) {
        let asking = self
            .member()
            .and_then(|member| member.asking.remove(channel_id));
        for waiter in asking.map(|asking| asking.waiters).unwrap_or_default() {
            self.settle_one(ctx, channel_id, (waiter, ruling));
        }
    }

    fn settle_one(
        &mut self,
        ctx: &mut Ctx,
        channel_id: &ChannelId,
        (waiter, ruling): (Waiter, &Ruling),
    ) {
        let Some(reply_to) = waiter.reply_to() else {
            return self.settle_session(ctx, channel_id, ruling);
        };
        let answer = match ruling {
            Ruling::Redirect(node) => Ok(self.redirect(node)),
            Ruling::OwnerLost(left) => {
                self.count_rejected(RejectReason::OwnerLost);
                let (mode, retry_after_ms) = (self.mode.mode(), left.map(retry_after));
                Ok(Decision::Reject {
                    reason: RejectReason::OwnerLost,
                    mode,
                    retry_after_ms,
                })
            }
            Ruling::Unavailable(why) => Err(Error::cluster_unavailable(why)),
            Ruling::Full => Ok(self.reject(RejectReason::AtCapacity)),
            Ruling::Here | Ruling::Nowhere => match waiter {
                Waiter::Newcomer(newcomer) => self.admit(ctx, newcomer),
                Waiter::Session => return,
            },
        };
        ctx.effects
            .actions
            .push(Action::Answer(reply_to, answer.map(Reply::Decision)));
    }

    fn redirect(&self, node: &NodeName) -> Decision {
        let seen = self
            .member
            .as_deref()
            .and_then(|member| member.nodes.get(node));
        Decision::Redirect {
            node_name: node.clone(),
            location: seen.and_then(|seen| seen.signaling_url.clone()),
        }
    }

    /// A session that the SFU has without a claim: where its channel is another's, it ends.
    fn settle_session(&mut self, ctx: &mut Ctx, channel_id: &ChannelId, ruling: &Ruling) {
        match ruling {
            Ruling::Redirect(_) | Ruling::OwnerLost(_) => {
                self.fence(ctx, FenceScope::Channel(channel_id.clone()));
            }
            Ruling::Here | Ruling::Nowhere | Ruling::Unavailable(_) | Ruling::Full => {}
        }
    }

    /// The right is over: whoever waits is answered by what the node is now.
    pub(super) fn stop_asking(&mut self, ctx: &mut Ctx) {
        self.answer_asking(ctx, &Ruling::Nowhere);
    }

    /// Answers all calls that wait for a channel.
    pub(super) fn answer_asking(&mut self, ctx: &mut Ctx, ruling: &Ruling) {
        let channels: Vec<ChannelId> = self
            .member()
            .map(|member| member.asking.keys().cloned().collect())
            .unwrap_or_default();
        for channel_id in channels {
            self.settle(ctx, &channel_id, ruling);
        }
    }

    /// Whoever waited with this connection is gone before it was let in.
    pub(crate) fn cancel_connection(&mut self, ctx: &mut Ctx, connection_id: &ConnectionId) {
        let Some(member) = self.member() else { return };
        let is_it = |waiter: &mut Waiter| waiter.connection_id() == Some(connection_id);
        let gone = member
            .asking
            .values_mut()
            .flat_map(|asking| asking.waiters.extract_if(.., is_it));
        let reply_handles: Vec<ReplyHandle> = gone.filter_map(|waiter| waiter.reply_to()).collect();
        for reply_to in reply_handles {
            ctx.effects.actions.push(Action::Answer(
                reply_to,
                Err(Error::disconnected_during_claim(connection_id)),
            ));
        }
    }

    /// Whoever waited on this socket is gone.
    pub(crate) fn cancel_socket(&mut self, socket: SocketId) {
        let Some(member) = self.member() else { return };
        member.counts.forget(socket);
        member.explaining.forget(socket);
        for asking in member.asking.values_mut() {
            asking.waiters.retain(|waiter| {
                waiter
                    .reply_to()
                    .is_none_or(|reply_to| reply_to.socket != socket)
            });
        }
    }
}
