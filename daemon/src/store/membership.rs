//! The node's last life in its cluster, as the fact `member` has it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use soramode_core::cluster::history::EtcdIdentity;
use soramode_core::cluster::{FenceAfter, Incarnation};
use soramode_core::stored::StoredMember;
use soramode_protocol::id::{ClusterId, HistoryId};

#[derive(Serialize, Deserialize)]
pub(super) struct StoredMemberJson {
    incarnation: u64,
    /// Absent if it never expires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    fence_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    has_untracked: bool,
}

/// Empty where there is none: the node left in order.
pub(super) fn to_json(member: Option<StoredMember>) -> String {
    let json = member.map(
        |StoredMember {
             incarnation: Incarnation(incarnation),
             fence_after,
             has_untracked,
         }| StoredMemberJson {
            incarnation,
            fence_after_ms: match fence_after {
                FenceAfter::After(time) => {
                    Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
                }
                FenceAfter::Never => None,
            },
            has_untracked,
        },
    );
    // A struct of numbers cannot fail to be written.
    json.and_then(|json| serde_json::to_string(&json).ok())
        .unwrap_or_default()
}

impl From<StoredMemberJson> for StoredMember {
    fn from(
        StoredMemberJson {
            incarnation,
            fence_after_ms,
            has_untracked,
        }: StoredMemberJson,
    ) -> Self {
        let fence_after = fence_after_ms.map_or(FenceAfter::Never, |millis| {
            FenceAfter::After(Duration::from_millis(millis))
        });
        Self {
            incarnation: Incarnation(incarnation),
            fence_after,
            has_untracked,
        }
    }
}

/// The etcd that it was in, as the fact `etcd` has it.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredEtcdJson {
    cluster_id: ClusterId,
    history_id: HistoryId,
    epoch: u64,
    etcd_cluster_id: u64,
    revision: u64,
}

pub(super) fn known_to_json(known: &EtcdIdentity) -> String {
    let EtcdIdentity {
        cluster_id,
        history_id,
        epoch,
        etcd_cluster_id,
        revision,
    } = known.clone();
    // Numbers and texts cannot fail to be written.
    serde_json::to_string(&StoredEtcdJson {
        cluster_id,
        history_id,
        epoch,
        etcd_cluster_id,
        revision,
    })
    .unwrap_or_default()
}

impl From<StoredEtcdJson> for EtcdIdentity {
    fn from(
        StoredEtcdJson {
            cluster_id,
            history_id,
            epoch,
            etcd_cluster_id,
            revision,
        }: StoredEtcdJson,
    ) -> Self {
        Self {
            cluster_id,
            history_id,
            epoch,
            etcd_cluster_id,
            revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_read_as_it_was_written() {
        for (fence_after, has_untracked) in [
            (FenceAfter::Never, false),
            (FenceAfter::After(Duration::from_secs(30)), true),
        ] {
            let member = StoredMember {
                incarnation: Incarnation(17),
                fence_after,
                has_untracked,
            };
            assert_eq!(
                serde_json::from_str::<StoredMemberJson>(&to_json(Some(member)))
                    .map(StoredMember::from)
                    .unwrap(),
                member
            );
        }
        assert_eq!(to_json(None), "");
    }

    #[test]
    fn an_etcd_is_read_as_it_was_written() {
        let known = EtcdIdentity {
            cluster_id: "c".parse().unwrap(),
            history_id: "h".parse().unwrap(),
            epoch: 2,
            etcd_cluster_id: u64::MAX,
            revision: 4_711,
        };
        assert_eq!(
            serde_json::from_str::<StoredEtcdJson>(&known_to_json(&known))
                .map(EtcdIdentity::from)
                .unwrap(),
            known
        );
    }
}
