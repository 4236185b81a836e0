//! Claims are written anew under the node's next member key: its earlier one was lost while its right still ran.

use soramode_protocol::id::ChannelId;

use crate::cluster::Incarnation;
use crate::cluster::claim::Reply;
use crate::cluster::readopt::Readopted;
use crate::ctx::Ctx;
use crate::effect::Record;
use crate::node::Node;
use crate::snapshot::StoredMember;

use super::etcd::{EtcdRequest, FenceScope};
use super::ownership_steps::Migration;

impl Node {
    /// Orders what is left, or goes on if nothing is.
    pub(super) fn readopt_rest(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        match member.ownership.next_migration() {
            Migration::Wait => {}
            Migration::Write { by, claims } => {
                Self::order(ctx, EtcdRequest::MigrateClaims { by, claims });
            }
            Migration::Done => self.readoption_done(ctx),
        }
    }

    pub(super) fn readopted(
        &mut self,
        ctx: &mut Ctx,
        by: Incarnation,
        (replies, more): (Vec<(ChannelId, Reply)>, bool),
    ) {
        // Of an etcd that is refused nothing counts: they are asked for again.
        let counts = self.member().is_some_and(|member| !member.trust.refuses());
        for (channel, reply) in replies.into_iter().filter(|_| counts) {
            self.readopted_one(ctx, by, (channel, reply));
        }
        let Some(member) = self.member() else { return };
        if more {
            return;
        }
        member.ownership.end_migration_request();
        if member.ownership.is_migration_done() {
            self.readoption_done(ctx);
        }
    }

    fn readopted_one(
        &mut self,
        ctx: &mut Ctx,
        by: Incarnation,
        (channel, reply): (ChannelId, Reply),
    ) {
        let Some(member) = self.member() else { return };
        let readopted = member.ownership.on_migrated(by, &channel, &reply);
        match (readopted, reply) {
            (Readopted::Kept(token), _) => {
                ctx.effects.records.push(Record::Claimed {
                    channel_id: channel,
                    token,
                });
            }
            (Readopted::End, _) => {
                ctx.effects.records.push(Record::Unclaimed(channel.clone()));
                self.fence(ctx, FenceScope::Channel(channel));
            }
            // It has ended meanwhile, and its claim is to go as well.
            (Readopted::Unasked, Reply::Won(token))
                if member.ownership.token(&channel).is_none() =>
            {
                self.release_token(ctx, channel, token);
            }
            (Readopted::Unasked | Readopted::NotMember, _) => {}
        }
    }

    /// The channel's session has ended.
    pub(super) fn readoption_without(&mut self, ctx: &mut Ctx, channel: &ChannelId) {
        let Some(member) = self.member() else { return };
        member.ownership.end_session(channel);
        if member.ownership.is_migration_done() {
            self.readoption_done(ctx);
        }
    }

    /// Every claim names the next incarnation: its right begins with the next read that shows it.
    fn readoption_done(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let fence_after = member.settings.terms.fence_after;
        let Some(incarnation) = member.ownership.finish_migration() else {
            return;
        };
        let has_untracked = self.sync.untracked().is_some();
        ctx.effects.records.push(Record::Member(Some(StoredMember {
            incarnation,
            fence_after,
            has_untracked,
        })));
        Self::order(ctx, EtcdRequest::ReadMembers);
    }
}
