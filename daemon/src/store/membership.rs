//! The node's last life in its cluster, as the fact `member` has it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use soramode_core::cluster::{FenceAfter, Incarnation};
use soramode_core::snapshot::StoredMember;

#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    incarnation: u64,
    /// Absent: never.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    fence_after_ms: Option<u64>,
}

/// Empty where there is none: the node left in order.
pub(super) fn to_json(member: Option<StoredMember>) -> String {
    let kept = member.map(|StoredMember { incarnation: Incarnation(incarnation), fence_after }| Kept {
        incarnation,
        fence_after_ms: match fence_after {
            FenceAfter::After(time) => Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            FenceAfter::Never => None,
        },
    });
    // A struct of numbers cannot fail to be written.
    kept.and_then(|kept| serde_json::to_string(&kept).ok()).unwrap_or_default()
}

impl From<Kept> for StoredMember {
    fn from(Kept { incarnation, fence_after_ms }: Kept) -> Self {
        let fence_after = fence_after_ms.map_or(FenceAfter::Never, |millis| FenceAfter::After(Duration::from_millis(millis)));
        Self { incarnation: Incarnation(incarnation), fence_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_read_as_it_was_written() {
        for fence_after in [FenceAfter::Never, FenceAfter::After(Duration::from_secs(30))] {
            let member = StoredMember { incarnation: Incarnation(17), fence_after };
            assert_eq!(serde_json::from_str::<Kept>(&to_json(Some(member))).map(StoredMember::from).unwrap(), member);
        }
        assert_eq!(to_json(None), "");
    }
}
