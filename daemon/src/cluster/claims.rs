//! Claims in etcd. Each write is one transaction that compares its preconditions.

use etcd_client::{Compare, CompareOp, GetResponse, KeyValue, TxnOp};
use soramode_core::cluster::claim::{Claim, ClaimReply, Conflict};
use soramode_core::cluster::{Incarnation, Token};
use soramode_core::input::Input;
use soramode_core::member::etcd::{ClaimOp, EtcdResponse};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;

use super::keys::{ClaimValue, read_json};
use super::revision::{number, revision};
use super::trusted::{Done, Trusted};
use crate::engine::Engine;

/// Claims that one transaction rewrites: etcd takes 128 comparisons in each, and each claim has
/// three.
const READOPTED_AT_ONCE: usize = 40;

impl Trusted {
    /// Reads the owner of a channel, or claims the channel for this node.
    pub(super) async fn execute_claim(
        &self,
        channel: &ChannelId,
        by: Incarnation,
        op: &ClaimOp,
    ) -> Result<ClaimReply, String> {
        let key = self.etcd.keys.claim(channel);
        let reads = self.reads(channel);
        let is_still = |claim: &Claim| {
            Compare::mod_revision(key.clone(), CompareOp::Equal, revision(claim.token.0))
        };
        let when: Vec<Compare> = match op {
            ClaimOp::Get => {
                return self
                    .read(reads)
                    .await
                    .and_then(|gets| found(&gets))
                    .map(ClaimReply::Refused);
            }
            ClaimOp::Release(claim) => {
                let deletes = std::iter::once(TxnOp::delete(key.clone(), None))
                    .chain(reads.clone())
                    .collect();
                let done = self
                    .txn(
                        self.is_own(&key).chain([is_still(claim)]).collect(),
                        deletes,
                        reads,
                    )
                    .await?;
                return found(&done.gets).map(ClaimReply::Refused);
            }
            ClaimOp::Acquire => vec![Compare::create_revision(key.clone(), CompareOp::Equal, 0)],
            ClaimOp::Rewrite(claim) => self.is_own(&key).chain([is_still(claim)]).collect(),
            ClaimOp::TakeOver(claim) => {
                let owner = self.etcd.keys.member_of(&claim.node);
                vec![
                    is_still(claim),
                    Compare::create_revision(
                        owner,
                        CompareOp::NotEqual,
                        revision(claim.incarnation.0),
                    ),
                ]
            }
        };
        let mine = [
            Compare::create_revision(self.etcd.keys.member(), CompareOp::Equal, revision(by.0)),
            Compare::value(self.etcd.keys.mode(), CompareOp::Equal, Mode::Normal.name()),
        ];
        self.write(when.into_iter().chain(mine).collect(), (channel, by))
            .await
    }

    /// Writes a channel's claim if all this is so.
    async fn write(
        &self,
        when: Vec<Compare>,
        (channel, by): (&ChannelId, Incarnation),
    ) -> Result<ClaimReply, String> {
        let put = TxnOp::put(self.etcd.keys.claim(channel), self.claim_value(by)?, None);
        let Done {
            succeeded,
            revision,
            gets,
        } = self.txn(when, vec![put], self.reads(channel)).await?;
        if succeeded {
            Ok(ClaimReply::Won(Token(revision)))
        } else {
            found(&gets).map(ClaimReply::Refused)
        }
    }

    /// Compares that this state folder wrote the claim: a revision alone may be that of another
    /// history.
    fn is_own(&self, key: &[u8]) -> impl Iterator<Item = Compare> + use<> {
        let (from, to) = self.etcd.own_claims.clone();
        [
            Compare::value(key, CompareOp::Greater, from),
            Compare::value(key, CompareOp::Less, to),
        ]
        .into_iter()
    }

    /// Reads the channel's claim and this node's membership, to tell why a comparison failed.
    fn reads(&self, channel: &ChannelId) -> Vec<TxnOp> {
        [
            self.etcd.keys.claim(channel),
            self.etcd.keys.member(),
            self.etcd.keys.mode(),
        ]
        .into_iter()
        .map(|key| TxnOp::get(key, None))
        .collect()
    }

    fn claim_value(&self, Incarnation(incarnation): Incarnation) -> Result<Vec<u8>, String> {
        let (node, id, terms) = (
            self.etcd.identity.node_name.clone(),
            self.etcd.identity.id.clone(),
            self.etcd.identity.terms,
        );
        serde_json::to_vec(&ClaimValue {
            node,
            id,
            incarnation,
            terms,
        })
        .map_err(|error| error.to_string())
    }

    /// Deletes a claim that is still this one.
    pub(super) async fn release(&self, channel: &ChannelId, token: Token) -> Result<(), String> {
        let key = self.etcd.keys.claim(channel);
        let is_still = Compare::mod_revision(key.clone(), CompareOp::Equal, revision(token.0));
        self.txn(
            self.is_own(&key).chain([is_still]).collect(),
            vec![TxnOp::delete(key, None)],
            Vec::new(),
        )
        .await
        .map(drop)
    }

    /// Rewrites claims, as many per transaction as etcd takes. If one of them fails, rewrites each
    /// on its own.
    pub(super) async fn migrate_claims(
        &self,
        by: Incarnation,
        claims: &[(ChannelId, Token)],
        engine: &Engine,
    ) {
        for some in claims.chunks(READOPTED_AT_ONCE) {
            let replies = match self.migrate_some(by, some).await {
                Some(replies) => replies,
                None => self.migrate_each(by, some).await,
            };
            let response = EtcdResponse::ClaimsMigrated {
                by,
                replies,
                more: true,
            };
            if engine.apply(Input::Etcd(response)).is_err() {
                return;
            }
        }
        let response = EtcdResponse::ClaimsMigrated {
            by,
            replies: Vec::new(),
            more: false,
        };
        engine.apply(Input::Etcd(response)).unwrap_or_default();
    }

    async fn migrate_some(
        &self,
        by: Incarnation,
        claims: &[(ChannelId, Token)],
    ) -> Option<Vec<(ChannelId, ClaimReply)>> {
        let value = self.claim_value(by).ok()?;
        let when = claims
            .iter()
            .flat_map(|(channel, token)| self.is_claimed(channel, *token))
            .chain([self.is_member(by)])
            .collect();
        let puts = claims
            .iter()
            .map(|(channel, _)| TxnOp::put(self.etcd.keys.claim(channel), value.clone(), None))
            .collect();
        let done = self
            .txn(when, puts, Vec::new())
            .await
            .ok()
            .filter(|done| done.succeeded)?;
        Some(
            claims
                .iter()
                .map(|(channel, _)| (channel.clone(), ClaimReply::Won(Token(done.revision))))
                .collect(),
        )
    }

    fn is_member(&self, by: Incarnation) -> Compare {
        Compare::create_revision(self.etcd.keys.member(), CompareOp::Equal, revision(by.0))
    }

    fn is_claimed(
        &self,
        channel: &ChannelId,
        token: Token,
    ) -> impl Iterator<Item = Compare> + use<> {
        let key = self.etcd.keys.claim(channel);
        let is_still = Compare::mod_revision(key.clone(), CompareOp::Equal, revision(token.0));
        self.is_own(&key).chain([is_still])
    }

    /// Rewrites each claim on its own. Claims with a failed request are left out of the report.
    async fn migrate_each(
        &self,
        by: Incarnation,
        claims: &[(ChannelId, Token)],
    ) -> Vec<(ChannelId, ClaimReply)> {
        let mut replies = Vec::new();
        for (channel, token) in claims {
            let when = self
                .is_claimed(channel, *token)
                .chain([self.is_member(by)])
                .collect();
            // One that does not answer would not do so forty times either.
            let Ok(reply) = self.write(when, (channel, by)).await else {
                break;
            };
            let Ok(reply) = self.claim_again(by, channel, reply).await else {
                break;
            };
            replies.push((channel.clone(), reply));
        }
        replies
    }

    /// Creates a claim that was lost in a restore from a backup. A claim that is held until its
    /// node returns cannot expire, so if the channel has no owner, it belongs to the node that
    /// serves it.
    async fn claim_again(
        &self,
        by: Incarnation,
        channel: &ChannelId,
        reply: ClaimReply,
    ) -> Result<ClaimReply, String> {
        let is_lost = matches!(&reply, ClaimReply::Refused(Conflict { claim: None, member: Some(member), .. }) if *member == by);
        if !is_lost || self.etcd.identity.terms.fence_after_ms.is_some() {
            return Ok(reply);
        }
        let is_free = Compare::create_revision(self.etcd.keys.claim(channel), CompareOp::Equal, 0);
        self.write(vec![self.is_member(by), is_free], (channel, by))
            .await
    }
}

fn found(gets: &[GetResponse]) -> Result<Conflict, String> {
    let [claim, member, mode] = gets else {
        return Err("etcd sent an unreadable answer".to_owned());
    };
    Ok(Conflict {
        claim: claim.kvs().first().map(read_claim).transpose()?,
        member: member
            .kvs()
            .first()
            .map(|kv| Incarnation(number(kv.create_revision()))),
        mode: mode
            .kvs()
            .first()
            .and_then(|kv| kv.value_str().ok()?.parse().ok()),
    })
}

pub(super) fn read_claim(kv: &KeyValue) -> Result<Claim, String> {
    let value: ClaimValue = read_json(kv.value())
        .map_err(|error| format!("a claim in etcd cannot be read: {error}"))?;
    Ok(value.at(Token(number(kv.mod_revision()))))
}
