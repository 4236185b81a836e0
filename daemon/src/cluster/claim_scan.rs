//! Scans of all claims of the cluster, page by page: counts per owner, and the purge of a node that
//! an operator confirms to be off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, TxnOp};
use soramode_core::cluster::claim::Claim;
use soramode_core::cluster::{FenceAfter, Incarnation};
use soramode_core::member::etcd::{OwnedChannels, PurgedIncarnations};
use soramode_protocol::id::NodeName;
use soramode_protocol::node::OrphanedChannels;
use tokio::time::Instant;

use super::claims::read_claim;
use super::keys::{Kind, PurgedValue};
use super::revision::revision;
use super::trusted::Trusted;
use crate::clock;

/// Number of claims per page.
const PAGE: i64 = 1_000;

/// Owners that are counted, at most. A cluster of a hundred nodes has as many, and some lives of lost ones.
const OWNERS_MAX: usize = 16_384;

/// Timeout of the scan when a node is purged.
const PURGE_TIME: Duration = Duration::from_secs(30);

/// Timeout of the scan when claims are only counted.
const COUNT_TIME: Duration = Duration::from_secs(5);

/// Channels of each owner: at most [`OWNERS_MAX`] owners are kept.
#[derive(Default)]
struct Owners {
    channels: BTreeMap<(NodeName, Incarnation), OrphanedChannels>,
    has_more: bool,
}

impl Owners {
    fn count(&mut self, claim: Claim) {
        let owner = (claim.node, claim.incarnation);
        if self.channels.len() == OWNERS_MAX && !self.channels.contains_key(&owner) {
            self.has_more = true;
            return;
        }
        let count = self.channels.entry(owner).or_default();
        count.total += 1;
        count.held_until_purge += u64::from(claim.fence_after == FenceAfter::Never);
    }

    /// Returns the channels of each owner, if all of them were counted.
    fn channels(self) -> Result<Vec<OwnedChannels>, String> {
        if self.has_more {
            return Err(format!("the claims have more than {OWNERS_MAX} owners"));
        }
        let owned = self.channels.into_iter();
        let owned = owned.map(|((node_name, incarnation), channels)| OwnedChannels {
            node_name,
            incarnation,
            channels,
        });
        Ok(owned.collect())
    }
}

impl Trusted {
    /// Writes that a node is off, for its departed incarnation and each that owns channels, but the one that runs. Returns them.
    pub(super) async fn purge(
        &self,
        (node, running): (&NodeName, Option<Incarnation>),
        departed: Option<Incarnation>,
        actor: &str,
    ) -> Result<PurgedIncarnations, String> {
        let (mut incarnations, mut channels) = (BTreeSet::from_iter(departed), 0);
        let mut count_in = |claim: Claim| {
            if claim.node == *node && running != Some(claim.incarnation) {
                channels += 1;
                incarnations.insert(claim.incarnation);
            }
        };
        self.read_claims(PURGE_TIME, &mut count_in).await?;
        self.write_purged(node, &incarnations, actor).await?;
        if channels > 0 {
            tracing::warn!(%node, actor, channels, "purged: the node's orphaned channels may now open on any node");
        } else {
            tracing::info!(%node, actor, "purged: the node had no orphaned channels");
        }
        Ok(PurgedIncarnations {
            incarnations: incarnations.into_iter().collect(),
            channels,
        })
    }

    /// Counts the channels of each incarnation that owns any.
    pub(super) async fn count(&self) -> Result<Vec<OwnedChannels>, String> {
        let mut owners = Owners::default();
        self.read_claims(COUNT_TIME, &mut |claim| owners.count(claim))
            .await?;
        owners.channels()
    }

    /// Returns the incarnations of this node that own channels.
    pub(super) async fn own_claimants(&self) -> Result<BTreeSet<Incarnation>, String> {
        let mut claimants = BTreeSet::new();
        let mut note = |claim: Claim| {
            if claim.node == self.etcd.identity.node_name {
                claimants.insert(claim.incarnation);
            }
        };
        self.read_claims(PURGE_TIME, &mut note).await?;
        Ok(claimants)
    }

    async fn read_claims(
        &self,
        time: Duration,
        each: &mut (impl FnMut(Claim) + Send),
    ) -> Result<(), String> {
        let until = Instant::now() + time;
        let prefix = self.etcd.keys.all(Kind::Claim);
        let mut from = prefix.clone();
        let end = successor(&prefix);
        loop {
            if Instant::now() > until {
                return Err(format!(
                    "reading the claims took longer than {} s",
                    time.as_secs()
                ));
            }
            let page = self.page(&from, &end).await?;
            page.kvs()
                .iter()
                .filter_map(|kv| read_claim(kv).ok())
                .for_each(&mut *each);
            let Some(last) = page.kvs().last().filter(|_| page.more()) else {
                return Ok(());
            };
            from = [last.key(), b"\0"].concat();
        }
    }

    async fn page(&self, from: &[u8], end: &[u8]) -> Result<GetResponse, String> {
        let read = |mut client: Client| {
            let (from, options) = (
                from.to_vec(),
                GetOptions::new().with_range(end).with_limit(PAGE),
            );
            async move { client.get(from, Some(options)).await }
        };
        self.etcd.pool.call(read).await
    }

    async fn write_purged(
        &self,
        node: &NodeName,
        incarnations: &BTreeSet<Incarnation>,
        actor: &str,
    ) -> Result<(), String> {
        let value = PurgedValue {
            by: actor.to_owned(),
            at: clock::now().wall,
        };
        let json = serde_json::to_vec(&value).map_err(|error| error.to_string())?;
        for &incarnation in incarnations {
            let is_not_member = Compare::create_revision(
                self.etcd.keys.member_of(node),
                CompareOp::NotEqual,
                revision(incarnation.0),
            );
            let put = TxnOp::put(self.etcd.keys.purged(incarnation), json.clone(), None);
            if !self
                .txn(vec![is_not_member], vec![put], Vec::new())
                .await?
                .succeeded
            {
                return Err("the node is back".to_owned());
            }
        }
        Ok(())
    }
}

/// Returns the first key after all keys with this prefix. Ours end with a slash.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use soramode_core::cluster::Token;

    use super::*;

    fn claim(owner: usize, fence_after: FenceAfter) -> Claim {
        Claim {
            node: NodeName::new("sfu-01").unwrap(),
            incarnation: Incarnation(u64::try_from(owner).unwrap()),
            fence_after,
            fence_budget: Duration::ZERO,
            token: Token(1),
        }
    }

    #[test]
    fn more_owners_than_the_limit_are_not_counted() {
        let mut owners = Owners::default();
        for owner in 0..OWNERS_MAX {
            owners.count(claim(owner, FenceAfter::Never));
        }
        // Another channel of an owner that is known.
        owners.count(claim(1, FenceAfter::After(Duration::from_secs(1))));
        assert_eq!(owners.channels.len(), OWNERS_MAX);
        owners.count(claim(OWNERS_MAX, FenceAfter::Never));
        assert_eq!(owners.channels.len(), OWNERS_MAX);
        let refused = owners.channels().unwrap_err();
        assert!(refused.contains("more than 16384 owners"), "{refused}");
    }

    #[test]
    fn channels_are_counted_by_owner() {
        let mut owners = Owners::default();
        owners.count(claim(1, FenceAfter::Never));
        owners.count(claim(1, FenceAfter::After(Duration::from_secs(1))));
        owners.count(claim(2, FenceAfter::Never));
        let counted = owners.channels().unwrap();
        let counts: Vec<_> = counted
            .iter()
            .map(|it| (it.channels.total, it.channels.held_until_purge))
            .collect();
        assert_eq!(counts, [(2, 1), (1, 1)]);
    }
}
