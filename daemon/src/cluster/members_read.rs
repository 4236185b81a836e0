//! Linearizable read of all members. It alone renews the node's ownership lease.

use std::collections::HashMap;

use etcd_client::{
    Client, GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use soramode_core::cluster::Incarnation;
use soramode_core::cluster::history::ObservedEtcd;
use soramode_core::member::etcd::{Load, MembersRead, NodeRecord};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;

use super::etcd::Etcd;
use super::ignored_fields::IgnoredField;
use super::keys::{ConfigValue, Kind, LoadValue, MemberValue};
use super::revision::number;
use crate::args::cluster::NodeUrl;
use crate::clock;

/// Largest response of a read, in bytes. Nodes and purged incarnations take a few KiB; anything
/// larger was written by another program.
const READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Largest number of members in a read. A cluster has a hundred; more were written by another program.
const MEMBERS_MAX: usize = 1_024;

/// Maximum length of a member's version, in bytes.
const VERSION_BYTES_MAX: usize = 64;

/// Result of one read.
pub(super) struct MembersReadResult {
    pub(super) members: MembersRead,
    /// The lease of the node's own key, if this state folder wrote it on this boot of the machine.
    pub(super) lease: Option<i64>,
    /// Fields of members that are not used.
    pub(super) ignored: Vec<IgnoredField>,
}

impl Etcd {
    /// Reads everything but the claims.
    pub(super) async fn read_members(&self) -> Result<MembersReadResult, String> {
        let prefix = |kind| TxnOp::get(self.keys.all(kind), Some(GetOptions::new().with_prefix()));
        let operations = vec![
            TxnOp::get(self.keys.config(), None),
            prefix(Kind::Member),
            prefix(Kind::Mode),
            prefix(Kind::Load),
            prefix(Kind::Purged),
        ];
        let read = |client: Client| {
            let txn = Txn::new().and_then(operations.clone());
            let mut client = client.kv_client().max_decoding_message_size(READ_BYTES_MAX);
            // The lease runs from before this try was sent.
            let sent = clock::now().boot;
            async move { client.txn(txn).await.map(|answer| (sent, answer)) }
        };
        let revision_before = self.highest_revision();
        let read = self.pool.call(read).await;
        let (sent, answer) = read.inspect_err(|_| self.forget_rollback())?;
        let received = clock::now().boot;
        let gets = gets(&answer);
        let [config, members, modes, loads, purged] = gets.as_slice() else {
            return Err("etcd sent an unreadable answer".to_owned());
        };
        if members.kvs().len() > MEMBERS_MAX {
            return Err(format!(
                "etcd has {} members of this cluster, more than {MEMBERS_MAX}: something else wrote keys among them; remove these",
                members.kvs().len()
            ));
        }
        let header = answer.header().ok_or("etcd's answer has no header")?;
        let configuration_text = config
            .kvs()
            .first()
            .map(|kv| kv.value().to_vec())
            .unwrap_or_default();
        let configuration = config
            .kvs()
            .first()
            .map(|kv| ConfigValue::read(kv.value()))
            .transpose()?;
        let epoch = configuration.as_ref().map(|it| it.epoch);
        let (etcd_cluster_id, revision) = (header.cluster_id(), number(header.revision()));
        self.observe(&configuration_text, (etcd_cluster_id, revision));
        let rollback = self.rollback(configuration.as_ref());
        let etcd = ObservedEtcd {
            configuration,
            etcd_cluster_id,
            revision,
            revision_before,
            rollback,
        };
        let modes: HashMap<&str, Mode> = by_name(self, Kind::Mode, modes, |kv| {
            kv.value_str().ok()?.parse().ok()
        });
        let loads: HashMap<&str, LoadValue> = by_name(self, Kind::Load, loads, |kv| {
            serde_json::from_slice(kv.value()).ok()
        });
        let mut read = MembersReadResult {
            members: MembersRead {
                sent,
                received,
                etcd,
                configuration_text,
                ..MembersRead::default()
            },
            lease: None,
            ignored: Vec::new(),
        };
        for kv in members.kvs() {
            let Some(name) = self.keys.name(Kind::Member, kv.key()) else {
                continue;
            };
            if let Some(node) = self.record_of(&mut read, epoch, (name, kv)) {
                let mode = modes.get(name).copied();
                let LoadValue {
                    connections,
                    sessions,
                    limit,
                    leaving,
                } = loads.get(name).copied().unwrap_or(LoadValue::UNPUBLISHED);
                read.members.nodes.push(NodeRecord {
                    mode,
                    load: Load {
                        connections,
                        sessions,
                        limit,
                        is_leaving: leaving,
                    },
                    ..node
                });
            }
        }
        let purged = purged
            .kvs()
            .iter()
            .filter_map(|kv| self.keys.name(Kind::Purged, kv.key())?.parse().ok());
        read.members.purged = purged.map(Incarnation).collect();
        Ok(read)
    }

    /// Parses a member key, and notes this node's own separately. A key of another epoch came back
    /// with a backup: its node, if connected, has lost what happened since, and joins again.
    fn record_of(
        &self,
        read: &mut MembersReadResult,
        epoch: Option<u64>,
        (name, kv): (&str, &KeyValue),
    ) -> Option<NodeRecord> {
        let incarnation = Incarnation(number(kv.create_revision()));
        let value: Option<MemberValue> = serde_json::from_slice(kv.value()).ok();
        if value
            .as_ref()
            .is_some_and(|value| Some(value.epoch) != epoch)
        {
            return None;
        }
        if name == self.identity.node_name.as_str() {
            read.members.own = Some(incarnation);
            let is_of = |value: &MemberValue| {
                value.id == self.identity.id && value.boot_id == self.identity.boot_id
            };
            read.members.own_of_another_boot = value.as_ref().is_some_and(|value| {
                !value.boot_id.is_empty() && value.boot_id != self.identity.boot_id
            });
            if value.as_ref().is_some_and(is_of) {
                read.lease = Some(kv.lease());
                read.members.own_of_this_boot = Some(incarnation);
            }
            if value
                .as_ref()
                .is_some_and(|value| value.start == self.identity.start)
            {
                read.members.own_of_this_start = Some(incarnation);
            }
        }
        let node_name = NodeName::new(name).ok()?;
        let mut keep = |field, text: Option<String>, is_usable: fn(&str) -> bool| {
            if text.as_deref().is_some_and(|text| !is_usable(text)) {
                read.ignored.push(IgnoredField {
                    incarnation,
                    node: node_name.clone(),
                    field,
                });
                return None;
            }
            text
        };
        // A node that cannot be read is there all the same.
        let mut record = NodeRecord {
            node_name: node_name.clone(),
            incarnation,
            mode: None,
            load: Load::default(),
            signaling_url: None,
            api_url: None,
            page_url: None,
            since: None,
            version: None,
        };
        if let Some(value) = value {
            record.signaling_url = keep("signaling_url", value.signaling_url, is_node_url);
            record.api_url = keep("api_url", value.api_url, is_node_url);
            record.page_url = keep("page_url", value.page_url, is_node_url);
            record.version = keep("version", Some(value.version), is_version);
            record.since = value.started_at;
        }
        Some(record)
    }
}

/// Returns whether a node's settings would take this URL.
fn is_node_url(text: &str) -> bool {
    text.parse::<NodeUrl>().is_ok()
}

const fn is_version(text: &str) -> bool {
    text.len() <= VERSION_BYTES_MAX
}

fn by_name<'a, T>(
    etcd: &Etcd,
    kind: Kind,
    answer: &'a GetResponse,
    read: impl Fn(&KeyValue) -> Option<T>,
) -> HashMap<&'a str, T> {
    answer
        .kvs()
        .iter()
        .filter_map(|kv| Some((etcd.keys.name(kind, kv.key())?, read(kv)?)))
        .collect()
}

/// The reads of a transaction, in their order.
pub(super) fn gets(answer: &TxnResponse) -> Vec<GetResponse> {
    let gets = answer.op_responses().into_iter().filter_map(|it| {
        if let TxnOpResponse::Get(get) = it {
            Some(get)
        } else {
            None
        }
    });
    gets.collect()
}
