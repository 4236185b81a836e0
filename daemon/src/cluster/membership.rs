//! The node's own keys: created, published, kept alive, and given back.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, PutOptions, Txn, TxnOp};
use soramode_core::cluster::Incarnation;
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;
use tokio::time::Instant;

use super::claims::read_claim;
use super::keys::{CLUSTER_PROTOCOL, Kind, LoadValue, MemberValue, PurgedValue};
use super::look::gets;
use super::{Etcd, number, revision};
use crate::clock;

/// Claims that are read at once when a node is purged.
const PAGE: i64 = 1_000;

/// How long that may take as a whole.
const PURGE_TIME: Duration = Duration::from_secs(30);

impl Etcd {
    /// Creates the node's member key, and gives its incarnation.
    pub(super) async fn join(&self, mode: Mode, give_up: Option<Incarnation>) -> Result<Incarnation, String> {
        if let Some(Incarnation(old)) = give_up {
            let is_still = Compare::create_revision(self.keys.member(), CompareOp::Equal, revision(old));
            let delete = |key| TxnOp::delete(key, None);
            let deletes = [delete(self.keys.member()), delete(self.keys.mode()), delete(self.keys.load())];
            self.txn(Txn::new().when([is_still]).and_then(deletes)).await?;
        }
        let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let lease = self.pool.call(|mut client: Client| async move { client.lease_grant(ttl, None).await }).await?.id();
        let joined = self.create_member(mode, lease).await;
        match &joined {
            Ok(_) => self.set_lease(Some(lease)),
            // It may be that the key was written all the same: then the next look shows it, and its lease.
            Err(why) => tracing::debug!(why, "not joined"),
        }
        joined
    }

    async fn create_member(&self, mode: Mode, lease: i64) -> Result<Incarnation, String> {
        let value = MemberValue {
            id: self.identity.id.clone(),
            boot_id: self.identity.boot_id.clone(),
            start: self.identity.start.clone(),
            signaling_url: self.identity.signaling_url.clone(),
            api_url: self.identity.api_url.clone(),
            version: soramode_protocol::version::VERSION.to_owned(),
            protocol: CLUSTER_PROTOCOL,
            terms: self.identity.terms,
            started_at: Some(clock::now().wall),
        };
        let json = serde_json::to_vec(&value).map_err(|error| error.to_string())?;
        let with_lease = || Some(PutOptions::new().with_lease(lease));
        let txn = Txn::new()
            .when([Compare::create_revision(self.keys.member(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(self.keys.member(), json, with_lease()), TxnOp::put(self.keys.mode(), mode.name(), with_lease())])
            .or_else([TxnOp::get(self.keys.member(), None)]);
        let answer = self.txn(txn).await?;
        if answer.succeeded() {
            return answer.header().map(|header| Incarnation(number(header.revision()))).ok_or_else(|| "no header".to_owned());
        }
        // If the answer to the first try was lost, this is its work.
        let gets = gets(&answer);
        let there = gets.first().and_then(|get| get.kvs().first()).filter(|kv| kv.lease() == lease);
        there.map(|kv| Incarnation(number(kv.create_revision()))).ok_or_else(|| "another node has this node's name".to_owned())
    }

    /// Tells the others of the mode, as this incarnation alone.
    pub(super) async fn publish(&self, by: Incarnation, mode: Mode) -> Result<(), String> {
        let put = TxnOp::put(self.keys.mode(), mode.name(), self.leased());
        self.write_as(by, put).await
    }

    /// Tells them how full the node is.
    pub(super) async fn tell(&self, by: Incarnation, connections: u64, limit: u64) -> Result<(), String> {
        let json = serde_json::to_vec(&LoadValue { connections, limit }).map_err(|error| error.to_string())?;
        let put = TxnOp::put(self.keys.load(), json, self.leased());
        self.write_as(by, put).await
    }

    async fn write_as(&self, by: Incarnation, put: TxnOp) -> Result<(), String> {
        let is_member = Compare::create_revision(self.keys.member(), CompareOp::Equal, revision(by.0));
        let answer = self.txn(Txn::new().when([is_member]).and_then([put])).await?;
        if answer.succeeded() { Ok(()) } else { Err("the node's place in the cluster is lost".to_owned()) }
    }

    fn leased(&self) -> Option<PutOptions> {
        self.lease().map(|lease| PutOptions::new().with_lease(lease))
    }

    /// Gives the node's place back.
    pub(super) async fn leave(&self, Incarnation(by): Incarnation) -> Result<(), String> {
        let is_member = Compare::create_revision(self.keys.member(), CompareOp::Equal, revision(by));
        let delete = |key| TxnOp::delete(key, None);
        let deletes = [delete(self.keys.member()), delete(self.keys.mode()), delete(self.keys.load())];
        self.txn(Txn::new().when([is_member]).and_then(deletes)).await.map(drop)
    }

    /// Keeps the lease of the node's keys. What etcd says to that prolongs nothing: only a look does.
    pub(super) async fn keep_alive(&self) {
        let Some(lease) = self.lease() else { return };
        let kept = self.pool.call(|mut client: Client| async move { client.lease_keep_alive(lease).await.map(drop) }).await;
        if let Err(why) = kept {
            tracing::debug!(why, "the lease was not kept alive");
        }
    }

    /// Notes that a node is off, for each of its incarnations that channels wait for; gives these, and how many channels.
    pub(super) async fn purge(&self, node: &NodeName, actor: &str) -> Result<(Vec<Incarnation>, u64), String> {
        let until = Instant::now() + PURGE_TIME;
        let (mut incarnations, mut channels) = (BTreeSet::new(), 0);
        let prefix = self.keys.all(Kind::Claim);
        let mut from = prefix.clone();
        let end = successor(&prefix);
        loop {
            if Instant::now() > until {
                return Err(format!("there are more claims than can be read in {} s", PURGE_TIME.as_secs()));
            }
            let page = self.page(&from, &end).await?;
            for claim in page.kvs().iter().filter_map(|kv| read_claim(kv).ok()).filter(|claim| claim.node == *node) {
                channels += 1;
                incarnations.insert(claim.incarnation);
            }
            let Some(last) = page.kvs().last().filter(|_| page.more()) else { break };
            from = [last.key(), b"\0"].concat();
        }
        self.write_off(node, &incarnations, actor).await?;
        Ok((incarnations.into_iter().collect(), channels))
    }

    async fn page(&self, from: &[u8], end: &[u8]) -> Result<GetResponse, String> {
        let read = |mut client: Client| {
            let (from, options) = (from.to_vec(), GetOptions::new().with_range(end).with_limit(PAGE));
            async move { client.get(from, Some(options)).await }
        };
        self.pool.call(read).await
    }

    async fn write_off(&self, node: &NodeName, incarnations: &BTreeSet<Incarnation>, actor: &str) -> Result<(), String> {
        let value = PurgedValue { by: actor.to_owned(), at: clock::now().wall };
        let json = serde_json::to_vec(&value).map_err(|error| error.to_string())?;
        for &incarnation in incarnations {
            let is_gone = Compare::create_revision(self.keys.member_of(node), CompareOp::NotEqual, revision(incarnation.0));
            let put = TxnOp::put(self.keys.purged(incarnation), json.clone(), None);
            if !self.txn(Txn::new().when([is_gone]).and_then([put])).await?.succeeded() {
                return Err("the node is back".to_owned());
            }
        }
        Ok(())
    }
}

/// The first key behind all that begin so. Ours end with a slash.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
