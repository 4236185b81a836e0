//! Releases of claims after their sessions: each is deleted until that is certain.

use std::collections::BTreeSet;

use soramode_protocol::id::ChannelId;

use crate::cluster::Token;
use crate::ctx::Ctx;

use super::etcd::EtcdRequest;

/// Deletes in flight at most.
const RELEASES_IN_FLIGHT_MAX: usize = 64;

/// Claims that are to be deleted.
#[derive(Default)]
pub(super) struct Releases {
    waiting: BTreeSet<(ChannelId, Token)>,
    sent: BTreeSet<(ChannelId, Token)>,
    /// Deletes that failed: they wait until etcd answers again.
    unanswered: BTreeSet<(ChannelId, Token)>,
}

impl Releases {
    pub(super) fn add(&mut self, ctx: &mut Ctx, channel: ChannelId, token: Token) {
        self.waiting.insert((channel, token));
        self.send(ctx);
    }

    fn send(&mut self, ctx: &mut Ctx) {
        while self.sent.len() < RELEASES_IN_FLIGHT_MAX {
            let Some((channel, token)) = self.waiting.pop_first() else {
                return;
            };
            self.sent.insert((channel.clone(), token));
            ctx.request_etcd(EtcdRequest::Release(channel, token));
        }
    }

    pub(super) fn on_answered(
        &mut self,
        ctx: &mut Ctx,
        claim: (ChannelId, Token),
        outcome: &Result<(), String>,
    ) {
        if !self.sent.remove(&claim) {
            // The claim was made in an earlier history.
            return;
        }
        if outcome.is_err() {
            self.unanswered.insert(claim);
        }
        self.send(ctx);
    }

    pub(super) fn retry(&mut self, ctx: &mut Ctx) {
        let mut unanswered = std::mem::take(&mut self.unanswered);
        self.waiting.append(&mut unanswered);
        self.send(ctx);
    }
}
