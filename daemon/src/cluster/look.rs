//! A read of all members at once, linearizable: the only thing that renews the node's right.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use soramode_core::cluster::Incarnation;
use soramode_core::member::order::{Load, Looked, SeenNode};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;

use super::keys::{CLUSTER_PROTOCOL, ConfigValue, Kind, LoadValue, MemberValue};
use super::{Etcd, number};
use crate::clock;

/// What one read showed.
pub(super) struct Look {
    pub(super) looked: Looked,
    /// The lease of the node's own key, if this state folder wrote it on this boot of the machine.
    pub(super) lease: Option<i64>,
}

impl Etcd {
    /// Reads everything but the claims.
    pub(super) async fn look(&self) -> Result<Look, String> {
        let prefix = |kind| TxnOp::get(self.keys.all(kind), Some(GetOptions::new().with_prefix()));
        let operations =
            vec![TxnOp::get(self.keys.config(), None), prefix(Kind::Member), prefix(Kind::Mode), prefix(Kind::Load), prefix(Kind::Purged)];
        let read = |mut client: Client| {
            let txn = Txn::new().and_then(operations.clone());
            // The right runs from before this try was sent.
            let sent = clock::now().boot;
            async move { client.txn(txn).await.map(|answer| (sent, answer)) }
        };
        let (sent, answer) = self.pool.call(read).await?;
        let received = clock::now().boot;
        let gets = gets(&answer);
        let [config, members, modes, loads, purged] = gets.as_slice() else { return Err("etcd's answer cannot be read".to_owned()) };
        let header = answer.header().ok_or("etcd's answer has no header")?;
        let epoch = self.check_config(config.kvs().first(), header.cluster_id()).await?;
        self.epoch.store(epoch, Ordering::Relaxed);
        let modes: HashMap<&str, Mode> = by_name(self, Kind::Mode, modes, |kv| kv.value_str().ok()?.parse().ok());
        let loads: HashMap<&str, LoadValue> = by_name(self, Kind::Load, loads, |kv| serde_json::from_slice(kv.value()).ok());
        let mut look =
            Look { looked: Looked { sent, received, revision: number(header.revision()), epoch, ..Looked::default() }, lease: None };
        for kv in members.kvs() {
            let Some(name) = self.keys.name(Kind::Member, kv.key()) else { continue };
            if let Some(node) = self.seen(&mut look, name, kv) {
                let mode = modes.get(name).copied();
                let LoadValue { connections, sessions, limit } = loads.get(name).copied().unwrap_or_default();
                look.looked.nodes.push(SeenNode { mode, load: Load { connections, sessions, limit }, ..node });
            }
        }
        let purged = purged.kvs().iter().filter_map(|kv| self.keys.name(Kind::Purged, kv.key())?.parse().ok());
        look.looked.purged = purged.map(Incarnation).collect();
        Ok(look)
    }

    /// A member as its key has it; what is our own is noted apart. A key of another epoch came back with a backup: its node, if it is
    /// there, has lost what happened since, and comes in anew.
    fn seen(&self, look: &mut Look, name: &str, kv: &KeyValue) -> Option<SeenNode> {
        let incarnation = Incarnation(number(kv.create_revision()));
        let value: Option<MemberValue> = serde_json::from_slice(kv.value()).ok();
        if value.as_ref().is_some_and(|value| value.epoch != look.looked.epoch) {
            return None;
        }
        if name == self.identity.node_name.as_str() {
            look.looked.own = Some(incarnation);
            let is_of = |value: &MemberValue| value.id == self.identity.id && value.boot_id == self.identity.boot_id;
            if value.as_ref().is_some_and(is_of) {
                look.lease = Some(kv.lease());
            }
            if value.as_ref().is_some_and(|value| value.start == self.identity.start) {
                look.looked.own_of_this_start = Some(incarnation);
            }
        }
        // A node that cannot be read is there all the same.
        Some(SeenNode {
            node_name: NodeName::new(name).ok()?,
            incarnation,
            mode: None,
            load: Load::default(),
            signaling_url: value.as_ref().and_then(|value| value.signaling_url.clone()),
            api_url: value.as_ref().and_then(|value| value.api_url.clone()),
            since: value.as_ref().and_then(|value| value.started_at),
            version: value.map(|value| value.version),
        })
    }

    /// The epoch of a cluster that this node may be in. The first node writes it down.
    async fn check_config(&self, kv: Option<&KeyValue>, cluster_id: u64) -> Result<u64, String> {
        let cluster_id = cluster_id.to_string();
        let Some(kv) = kv else {
            let first =
                ConfigValue { protocol_min: CLUSTER_PROTOCOL, protocol_max: CLUSTER_PROTOCOL, epoch: 1, etcd_cluster_id: cluster_id };
            self.write_config(0, &first).await?;
            return Ok(first.epoch);
        };
        let config: ConfigValue = serde_json::from_slice(kv.value()).map_err(|error| format!("/cfg in etcd cannot be read: {error}"))?;
        if !(config.protocol_min..=config.protocol_max).contains(&CLUSTER_PROTOCOL) {
            let (min, max) = (config.protocol_min, config.protocol_max);
            return Err(format!(
                "the cluster speaks protocol {min} to {max}, and this soramoded {CLUSTER_PROTOCOL}: install another version"
            ));
        }
        if config.etcd_cluster_id.is_empty() {
            self.write_config(kv.mod_revision(), &ConfigValue { etcd_cluster_id: cluster_id, ..config.clone() }).await?;
            return Ok(config.epoch);
        }
        if config.etcd_cluster_id != cluster_id {
            return Err(format!(
                "this etcd ({cluster_id}) is not the one that the cluster was made with ({}): after a restore from a backup an operator \
                 raises the epoch in /cfg and empties its etcd_cluster_id",
                config.etcd_cluster_id
            ));
        }
        Ok(config.epoch)
    }

    async fn write_config(&self, seen: i64, value: &ConfigValue) -> Result<(), String> {
        let json = serde_json::to_vec(value).map_err(|error| error.to_string())?;
        let txn = Txn::new().when([Compare::mod_revision(self.keys.config(), CompareOp::Equal, seen)]).and_then([TxnOp::put(
            self.keys.config(),
            json,
            None,
        )]);
        let answer = self.txn(txn).await?;
        // Another node was first: what it wrote counts, with the next look.
        if answer.succeeded() { Ok(()) } else { Err("the cluster's /cfg is being written".to_owned()) }
    }
}

fn by_name<'a, T>(etcd: &Etcd, kind: Kind, answer: &'a GetResponse, read: impl Fn(&KeyValue) -> Option<T>) -> HashMap<&'a str, T> {
    answer.kvs().iter().filter_map(|kv| Some((etcd.keys.name(kind, kv.key())?, read(kv)?))).collect()
}

/// The reads of a transaction, in their order.
pub(super) fn gets(answer: &TxnResponse) -> Vec<GetResponse> {
    let gets = answer.op_responses().into_iter().filter_map(|it| if let TxnOpResponse::Get(get) = it { Some(get) } else { None });
    gets.collect()
}
