//! Claims are written anew under the node's next member key: its earlier one was lost while its right still ran.

use soramode_protocol::id::ChannelId;

use crate::cluster::Incarnation;
use crate::cluster::claim::Reply;
use crate::cluster::join::{Past, PastSessions};
use crate::cluster::readopt::Readopted;
use crate::effect::Record;
use crate::gate::{Ctx, Gate};
use crate::snapshot::StoredMember;

use super::Place;
use super::etcd::{EtcdRequest, FenceScope};

impl Gate {
    /// Orders what is left, or goes on if nothing is.
    pub(super) fn readopt_rest(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let Place::Readopting(readoption) = &member.place else {
            return;
        };
        if readoption.is_done() {
            return self.readoption_done(ctx);
        }
        let claims: Vec<_> = readoption
            .left()
            .map(|(channel, token)| (channel.clone(), token))
            .collect();
        let by = readoption.next();
        if claims.is_empty() || std::mem::replace(&mut member.is_readopting, true) {
            return;
        }
        Self::order(ctx, EtcdRequest::MigrateClaims { by, claims });
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
        member.is_readopting = false;
        if let Place::Readopting(readoption) = &member.place
            && readoption.is_done()
        {
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
        let readopted = match &mut member.place {
            Place::Readopting(readoption) if readoption.next() == by => {
                readoption.answered(&channel, &reply)
            }
            Place::Readopting(_) | Place::Out | Place::Joining | Place::Begun(_) | Place::In => {
                Readopted::Unasked
            }
        };
        match (readopted, reply) {
            (Readopted::Kept(token), _) => {
                member.owned.insert(channel.clone(), token);
                ctx.effects.records.push(Record::Claimed {
                    channel_id: channel,
                    token,
                });
            }
            (Readopted::End, _) => {
                member.owned.remove(&channel);
                ctx.effects.records.push(Record::Unclaimed(channel.clone()));
                self.fence(ctx, FenceScope::Channel(channel));
            }
            (Readopted::NotMember, _) => member.step_back(),
            // It has ended meanwhile, and its claim is to go as well.
            (Readopted::Unasked, Reply::Won(token)) if !member.owned.contains_key(&channel) => {
                self.release_token(ctx, channel, token);
            }
            (Readopted::Unasked, _) => {}
        }
    }

    /// The channel's session has ended.
    pub(super) fn readoption_without(&mut self, ctx: &mut Ctx, channel: &ChannelId) {
        let Some(member) = self.member() else { return };
        if let Place::Readopting(readoption) = &mut member.place {
            readoption.ended(channel);
            if readoption.is_done() {
                self.readoption_done(ctx);
            }
        }
    }

    /// Every claim names the next incarnation: its right begins with the next read that shows it.
    fn readoption_done(&mut self, ctx: &mut Ctx) {
        let Some(member) = self.member() else { return };
        let Place::Readopting(readoption) = &member.place else {
            return;
        };
        let (incarnation, fence_after) = (readoption.next(), member.settings.terms.fence_after);
        if member.right.is_none() {
            member.past = Some(Past {
                incarnation,
                fence_after,
                sessions: PastSessions::Running,
            });
        }
        member.place = Place::Begun(incarnation);
        let has_untracked = self.known.untracked().is_some();
        ctx.effects.records.push(Record::Member(Some(StoredMember {
            incarnation,
            fence_after,
            has_untracked,
        })));
        Self::order(ctx, EtcdRequest::ReadMembers);
    }
}
