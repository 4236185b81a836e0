//! Claims: each write is one transaction that compares what it rests on.

use etcd_client::{Client, Compare, CompareOp, KeyValue, Txn, TxnOp, TxnResponse};
use soramode_core::cluster::claim::{Claim, Found, Reply};
use soramode_core::cluster::{Incarnation, Token};
use soramode_core::member::order::{Certainty, Heard, Rest, Wish};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;

use super::keys::ClaimValue;
use super::look::gets;
use super::{Etcd, number, revision};
use crate::inbox::{Inbox, Letter};

/// Claims that one transaction writes anew: etcd takes 128 operations in each.
const READOPTED_AT_ONCE: usize = 60;

impl Etcd {
    /// Finds out whose a channel is, or makes it this node's.
    pub(super) async fn ask(&self, channel: &ChannelId, by: Incarnation, wish: &Wish) -> Result<Reply, String> {
        let txn = self.asking(channel, by, wish)?;
        let answer = self.txn(txn).await?;
        match wish {
            Wish::Claim | Wish::TakeOver(_) | Wish::Renew(_) if answer.succeeded() => written_at(&answer).map(Reply::Won),
            Wish::Find | Wish::Drop(_) | Wish::Claim | Wish::TakeOver(_) | Wish::Renew(_) => found(&answer).map(Reply::Refused),
        }
    }

    fn asking(&self, channel: &ChannelId, by: Incarnation, wish: &Wish) -> Result<Txn, String> {
        let key = self.keys.claim(channel);
        let reads = self.reads(channel);
        let mine = || {
            [
                Compare::create_revision(self.keys.member(), CompareOp::Equal, revision(by.0)),
                Compare::value(self.keys.mode(), CompareOp::Equal, Mode::Normal.name()),
            ]
        };
        let is_still = |claim: &Claim| Compare::mod_revision(key.clone(), CompareOp::Equal, revision(claim.token.0));
        let compares: Vec<Compare> = match wish {
            Wish::Find => return Ok(Txn::new().and_then(reads)),
            Wish::Drop(claim) => {
                let deletes = std::iter::once(TxnOp::delete(key.clone(), None)).chain(reads.clone());
                return Ok(Txn::new().when([is_still(claim)]).and_then(deletes.collect::<Vec<_>>()).or_else(reads));
            }
            Wish::Claim => std::iter::once(Compare::create_revision(key.clone(), CompareOp::Equal, 0)).chain(mine()).collect(),
            Wish::Renew(claim) => std::iter::once(is_still(claim)).chain(mine()).collect(),
            Wish::TakeOver(claim) => {
                let owner = self.keys.member_of(&claim.node);
                let is_gone = Compare::create_revision(owner, CompareOp::NotEqual, revision(claim.incarnation.0));
                [is_still(claim), is_gone].into_iter().chain(mine()).collect()
            }
        };
        Ok(Txn::new().when(compares).and_then([TxnOp::put(key.clone(), self.claim_value(by)?, None)]).or_else(reads))
    }

    /// The channel's claim, and what this node is in etcd: what a comparison may have failed by.
    fn reads(&self, channel: &ChannelId) -> Vec<TxnOp> {
        [self.keys.claim(channel), self.keys.member(), self.keys.mode()].into_iter().map(|key| TxnOp::get(key, None)).collect()
    }

    fn claim_value(&self, Incarnation(incarnation): Incarnation) -> Result<Vec<u8>, String> {
        let (node, id, terms) = (self.identity.node_name.clone(), self.identity.id.clone(), self.identity.terms);
        serde_json::to_vec(&ClaimValue { node, id, incarnation, terms }).map_err(|error| error.to_string())
    }

    /// Deletes a claim that is still this one.
    pub(super) async fn release(&self, channel: &ChannelId, token: Token) -> Certainty {
        let key = self.keys.claim(channel);
        let is_still = Compare::mod_revision(key.clone(), CompareOp::Equal, revision(token.0));
        match self.txn(Txn::new().when([is_still]).and_then([TxnOp::delete(key, None)])).await {
            Ok(_) => Certainty::Certain,
            Err(_) => Certainty::Unknown,
        }
    }

    /// Writes claims anew, as many at once as etcd takes; where one of them cannot be, each by itself.
    pub(super) async fn readopt(&self, by: Incarnation, claims: &[(ChannelId, Token)], inbox: &Inbox) {
        for some in claims.chunks(READOPTED_AT_ONCE) {
            let replies = match self.readopt_some(by, some).await {
                Some(replies) => replies,
                None => self.readopt_each(by, some).await,
            };
            let heard = Heard::Readopted { by, replies, rest: Rest::ToCome };
            if inbox.send(Letter::Etcd(Box::new(heard))).await.is_err() {
                return;
            }
        }
        let heard = Heard::Readopted { by, replies: Vec::new(), rest: Rest::Nothing };
        inbox.send(Letter::Etcd(Box::new(heard))).await.unwrap_or_default();
    }

    async fn readopt_some(&self, by: Incarnation, claims: &[(ChannelId, Token)]) -> Option<Vec<(ChannelId, Reply)>> {
        let value = self.claim_value(by).ok()?;
        let mut compares = vec![Compare::create_revision(self.keys.member(), CompareOp::Equal, revision(by.0))];
        compares.extend(
            claims.iter().map(|(channel, token)| Compare::mod_revision(self.keys.claim(channel), CompareOp::Equal, revision(token.0))),
        );
        let puts: Vec<TxnOp> = claims.iter().map(|(channel, _)| TxnOp::put(self.keys.claim(channel), value.clone(), None)).collect();
        let answer = self.txn(Txn::new().when(compares).and_then(puts)).await.ok()?;
        let token = written_at(&answer).ok().filter(|_| answer.succeeded())?;
        Some(claims.iter().map(|(channel, _)| (channel.clone(), Reply::Won(token))).collect())
    }

    /// Of a claim that could not be asked for nothing is said.
    async fn readopt_each(&self, by: Incarnation, claims: &[(ChannelId, Token)]) -> Vec<(ChannelId, Reply)> {
        let mut replies = Vec::new();
        for (channel, token) in claims {
            let Ok(value) = self.claim_value(by) else { continue };
            let key = self.keys.claim(channel);
            let compares = [
                Compare::create_revision(self.keys.member(), CompareOp::Equal, revision(by.0)),
                Compare::mod_revision(key.clone(), CompareOp::Equal, revision(token.0)),
            ];
            let txn = Txn::new().when(compares).and_then([TxnOp::put(key, value, None)]).or_else(self.reads(channel));
            // One that does not answer would not do so sixty times either.
            let Ok(answer) = self.txn(txn).await else { break };
            let reply = if answer.succeeded() { written_at(&answer).map(Reply::Won) } else { found(&answer).map(Reply::Refused) };
            let Ok(reply) = reply else { continue };
            let Ok(reply) = self.claim_again(by, channel, reply).await else { break };
            replies.push((channel.clone(), reply));
        }
        replies
    }

    /// A claim that waits for its node for ever, and is not there, was lost with what a restore from a backup lost: where the channel
    /// is still nobody's, it is the node's that serves it.
    async fn claim_again(&self, by: Incarnation, channel: &ChannelId, reply: Reply) -> Result<Reply, String> {
        let is_lost = matches!(&reply, Reply::Refused(Found { claim: None, member: Some(member), .. }) if *member == by);
        if !is_lost || self.identity.terms.fence_after_ms.is_some() {
            return Ok(reply);
        }
        let key = self.keys.claim(channel);
        let compares = [
            Compare::create_revision(self.keys.member(), CompareOp::Equal, revision(by.0)),
            Compare::create_revision(key.clone(), CompareOp::Equal, 0),
        ];
        let put = TxnOp::put(key, self.claim_value(by)?, None);
        let answer = self.txn(Txn::new().when(compares).and_then([put]).or_else(self.reads(channel))).await?;
        if answer.succeeded() { written_at(&answer).map(Reply::Won) } else { found(&answer).map(Reply::Refused) }
    }

    pub(super) async fn txn(&self, txn: Txn) -> Result<TxnResponse, String> {
        let write = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        self.pool.call(write).await
    }
}

fn written_at(answer: &TxnResponse) -> Result<Token, String> {
    answer.header().map(|header| Token(number(header.revision()))).ok_or_else(|| "etcd's answer has no header".to_owned())
}

fn found(answer: &TxnResponse) -> Result<Found, String> {
    let gets = gets(answer);
    let [claim, member, mode] = gets.as_slice() else { return Err("etcd's answer cannot be read".to_owned()) };
    Ok(Found {
        claim: claim.kvs().first().map(read_claim).transpose()?,
        member: member.kvs().first().map(|kv| Incarnation(number(kv.create_revision()))),
        mode: mode.kvs().first().and_then(|kv| kv.value_str().ok()?.parse().ok()),
    })
}

pub(super) fn read_claim(kv: &KeyValue) -> Result<Claim, String> {
    let value: ClaimValue = serde_json::from_slice(kv.value()).map_err(|error| format!("a claim in etcd cannot be read: {error}"))?;
    Ok(value.at(Token(number(kv.mod_revision()))))
}
