//! The node's own keys: created, published, kept alive, and given back.

use std::collections::BTreeSet;

use etcd_client::{Client, Compare, CompareOp, PutOptions, TxnOp};
use soramode_core::cluster::Incarnation;
use soramode_core::member::etcd::{Joined, Load};
use soramode_protocol::mode::Mode;

use super::etcd::Etcd;
use super::keys::{CLUSTER_PROTOCOL, LoadValue, MemberValue};
use super::revision::{number, revision};
use super::trusted::{Done, Trusted};
use crate::clock;

impl Trusted {
    /// Creates the node's member key; before that it reads which incarnations of the node own channels, if `reads_claims`.
    pub(super) async fn join(
        &self,
        mode: Mode,
        give_up: Option<Incarnation>,
        reads_claims: bool,
    ) -> Result<Joined, String> {
        let owners = if reads_claims {
            self.own_claimants().await?
        } else {
            BTreeSet::new()
        };
        if let Some(Incarnation(old)) = give_up {
            let is_still =
                Compare::create_revision(self.etcd.keys.member(), CompareOp::Equal, revision(old));
            let delete = |key| TxnOp::delete(key, None);
            let deletes = [
                delete(self.etcd.keys.member()),
                delete(self.etcd.keys.mode()),
                delete(self.etcd.keys.load()),
            ];
            self.txn(vec![is_still], deletes.to_vec(), Vec::new())
                .await?;
        }
        self.give_up_restored().await?;
        let ttl = i64::try_from(self.etcd.ttl.as_secs()).unwrap_or(i64::MAX);
        let lease = self
            .etcd
            .pool
            .call(|mut client: Client| async move { client.lease_grant(ttl, None).await })
            .await?
            .id();
        let joined = self.create_member(mode, lease).await;
        match &joined {
            Ok(_) => {
                self.etcd.set_lease(Some(lease));
                if !owners.is_empty() {
                    tracing::warn!(
                        "joined without the state of an earlier run, which still owns channels: the session list is incomplete. Run: soramode \
                         doctor"
                    );
                }
            }
            // It may be that the key was written all the same: then the next look shows it, and its lease.
            Err(why) => tracing::debug!(why, "not joined"),
        }
        joined.map(|incarnation| Joined {
            incarnation,
            owners,
        })
    }

    /// Deletes a member key of this state folder that came back with a backup.
    async fn give_up_restored(&self) -> Result<(), String> {
        let key = self.etcd.keys.member();
        let found = self.read(vec![TxnOp::get(key, None)]).await?;
        let Some(kv) = found.first().and_then(|get| get.kvs().first()) else {
            return Ok(());
        };
        let epoch = self.configuration.epoch;
        let is_restored =
            |value: MemberValue| value.id == self.etcd.identity.id && value.epoch != epoch;
        if serde_json::from_slice(kv.value()).is_ok_and(is_restored) {
            self.leave(Incarnation(number(kv.create_revision())))
                .await?;
        }
        Ok(())
    }

    async fn create_member(&self, mode: Mode, lease: i64) -> Result<Incarnation, String> {
        let value = MemberValue {
            id: self.etcd.identity.id.clone(),
            boot_id: self.etcd.identity.boot_id.clone(),
            epoch: self.configuration.epoch,
            start: self.etcd.identity.start.clone(),
            signaling_url: self.etcd.identity.signaling_url.clone(),
            api_url: self.etcd.identity.api_url.clone(),
            page_url: self.etcd.identity.page_url.clone(),
            version: soramode_protocol::version::VERSION.to_owned(),
            protocol: CLUSTER_PROTOCOL,
            terms: self.etcd.identity.terms,
            started_at: Some(clock::now().wall),
        };
        let json = serde_json::to_vec(&value).map_err(|error| error.to_string())?;
        let with_lease = || Some(PutOptions::new().with_lease(lease));
        let is_free = Compare::create_revision(self.etcd.keys.member(), CompareOp::Equal, 0);
        let puts = vec![
            TxnOp::put(self.etcd.keys.member(), json, with_lease()),
            TxnOp::put(self.etcd.keys.mode(), mode.name(), with_lease()),
        ];
        let Done {
            succeeded,
            revision,
            gets,
        } = self
            .txn(
                vec![is_free],
                puts,
                vec![TxnOp::get(self.etcd.keys.member(), None)],
            )
            .await?;
        if succeeded {
            return Ok(Incarnation(revision));
        }
        // If the answer to the first try was lost, this is its work.
        let there = gets
            .first()
            .and_then(|get| get.kvs().first())
            .filter(|kv| kv.lease() == lease);
        there
            .map(|kv| Incarnation(number(kv.create_revision())))
            .ok_or_else(|| "this node's name is registered by another incarnation".to_owned())
    }

    /// Publishes the mode of this incarnation.
    pub(super) async fn publish(&self, by: Incarnation, mode: Mode) -> Result<(), String> {
        let put = TxnOp::put(self.etcd.keys.mode(), mode.name(), self.leased());
        self.write_as(by, put).await
    }

    /// Publishes the load of this incarnation.
    pub(super) async fn publish_load(&self, by: Incarnation, load: Load) -> Result<(), String> {
        let Load {
            connections,
            sessions,
            limit,
            is_leaving,
        } = load;
        let json = serde_json::to_vec(&LoadValue {
            connections,
            sessions,
            limit,
            leaving: is_leaving,
        })
        .map_err(|error| error.to_string())?;
        let put = TxnOp::put(self.etcd.keys.load(), json, self.leased());
        self.write_as(by, put).await
    }

    async fn write_as(&self, by: Incarnation, put: TxnOp) -> Result<(), String> {
        let is_member =
            Compare::create_revision(self.etcd.keys.member(), CompareOp::Equal, revision(by.0));
        if self
            .txn(vec![is_member], vec![put], Vec::new())
            .await?
            .succeeded
        {
            Ok(())
        } else {
            Err("the node has lost its membership in the cluster".to_owned())
        }
    }

    fn leased(&self) -> Option<PutOptions> {
        self.etcd
            .lease()
            .map(|lease| PutOptions::new().with_lease(lease))
    }

    /// Gives the node's place back.
    pub(super) async fn leave(&self, Incarnation(by): Incarnation) -> Result<(), String> {
        let is_member =
            Compare::create_revision(self.etcd.keys.member(), CompareOp::Equal, revision(by));
        let delete = |key| TxnOp::delete(key, None);
        let deletes = [
            delete(self.etcd.keys.member()),
            delete(self.etcd.keys.mode()),
            delete(self.etcd.keys.load()),
        ];
        self.txn(vec![is_member], deletes.to_vec(), Vec::new())
            .await
            .map(drop)
    }
}

impl Etcd {
    /// Keeps the etcd lease of the node's keys alive. It renews no ownership lease: only a read
    /// does.
    pub(super) async fn keep_alive(&self) {
        let Some(lease) = self.lease() else { return };
        let kept = self
            .pool
            .call(
                |mut client: Client| async move { client.lease_keep_alive(lease).await.map(drop) },
            )
            .await;
        if let Err(why) = kept {
            tracing::debug!(why, "cannot keep the etcd lease alive");
        }
    }
}
