//! All that etcd ever said of the cluster's keys, and what must hold in it.

use std::collections::BTreeMap;

use etcd_client::{EventType, WatchOptions};

use crate::etcd::Etcd;
use crate::node::PREFIX;

/// A key that was written, or deleted.
pub(crate) struct Change {
    key: String,
    value: Option<String>,
}

/// Everything from the first revision on.
pub(crate) async fn history(etcd: &Etcd) -> Vec<Change> {
    let mut client = etcd.client(0).await;
    let last = client
        .put("end", "", None)
        .await
        .unwrap()
        .header()
        .unwrap()
        .revision();
    let options = WatchOptions::new().with_all_keys().with_start_revision(1);
    let mut watch = client.watch("", Some(options)).await.unwrap();
    let mut changes = Vec::new();
    while let Some(heard) = watch.message().await.unwrap() {
        assert_eq!(heard.compact_revision(), 0);
        for event in heard.events() {
            let kv = event.kv().unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let value = (event.event_type() == EventType::Put).then(|| text(kv.value()));
            if kv.mod_revision() == last {
                return changes;
            }
            changes.push(Change {
                key: text(kv.key()),
                value,
            });
        }
    }
    panic!("the watch ended early")
}

/// A channel is claimed by nodes alone that are published as normal at that moment, and never while it is another's. Gives how many
/// claims there were, by node.
pub(crate) fn check(history: &[Change]) -> BTreeMap<String, u64> {
    let mut modes: BTreeMap<&str, &str> = BTreeMap::new();
    let mut owners: BTreeMap<&str, String> = BTreeMap::new();
    let mut claims: BTreeMap<String, u64> = BTreeMap::new();
    for Change { key, value } in history {
        let Some((kind, name)) = key
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        match (kind, value) {
            ("m", Some(mode)) => drop(modes.insert(name, mode)),
            ("m", None) => drop(modes.remove(name)),
            ("c", Some(claim)) => {
                let claim: serde_json::Value = serde_json::from_str(claim).unwrap();
                let node = claim["node"].as_str().unwrap();
                assert_eq!(
                    modes.get(node),
                    Some(&"normal"),
                    "{name} is claimed by {node}"
                );
                assert!(
                    owners
                        .insert(name, node.to_owned())
                        .is_none_or(|owner| owner == node),
                    "{name} is taken from its owner"
                );
                *claims.entry(node.to_owned()).or_default() += 1;
            }
            ("c", None) => drop(owners.remove(name)),
            _ => {}
        }
    }
    claims
}
