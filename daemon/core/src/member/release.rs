//! Claims whose sessions have ended are deleted, each until that is certain.

use std::collections::BTreeSet;

use soramode_protocol::id::ChannelId;

use crate::cluster::Token;
use crate::ctx::Ctx;
use crate::node::Node;

use super::etcd::EtcdRequest;

/// Deletes under way at most.
const RELEASES_IN_FLIGHT_MAX: usize = 64;

/// Claims that are to go.
#[derive(Default)]
pub(super) struct Releases {
    waiting: BTreeSet<(ChannelId, Token)>,
    sent: BTreeSet<(ChannelId, Token)>,
    /// Came back without an answer: they wait until etcd is heard again.
    unanswered: BTreeSet<(ChannelId, Token)>,
}

impl Node {
    /// The channel is not this node's any more: its session has ended.
    pub(crate) fn release(&mut self, ctx: &mut Ctx, channel: &ChannelId) {
        let Some(member) = self.member() else { return };
        member.unclaimed.remove(channel);
        member.ownership.end_session(channel);
        self.take_steps(ctx);
    }

    pub(super) fn release_token(&mut self, ctx: &mut Ctx, channel: ChannelId, token: Token) {
        let Some(member) = self.member() else { return };
        member.releases.waiting.insert((channel, token));
        self.send_releases(ctx);
    }

    fn send_releases(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let releases = &mut member.releases;
        while releases.sent.len() < RELEASES_IN_FLIGHT_MAX {
            let Some((channel, token)) = releases.waiting.pop_first() else {
                return;
            };
            releases.sent.insert((channel.clone(), token));
            Self::order(ctx, EtcdRequest::Release(channel, token));
        }
    }

    pub(super) fn released(
        &mut self,
        ctx: &mut Ctx,
        claim: (ChannelId, Token),
        outcome: &Result<(), String>,
    ) {
        let Some(member) = self.member() else { return };
        if !member.releases.sent.remove(&claim) {
            // Of an earlier history.
            return;
        }
        if outcome.is_err() {
            member.releases.unanswered.insert(claim);
        }
        self.send_releases(ctx);
    }

    pub(super) fn retry_releases(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let mut unanswered = std::mem::take(&mut member.releases.unanswered);
        member.releases.waiting.append(&mut unanswered);
        self.send_releases(ctx);
    }
}
