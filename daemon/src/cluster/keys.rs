//! Keys and values of the cluster in etcd. Unknown fields are ignored: later versions may add some.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use soramode_core::cluster::claim::Claim;
use soramode_core::cluster::history::Configuration;
use soramode_core::cluster::{FenceAfter, Incarnation, Token};
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::id::{ChannelId, ClusterId, HistoryId, NodeName};
use soramode_protocol::text::shorten;
use soramode_protocol::time::Time;

use crate::args::cluster::ClusterName;

/// The protocol that nodes of one cluster speak with each other through etcd.
pub(super) const CLUSTER_PROTOCOL: u32 = 1;

/// The beginning of the keys of all clusters.
const CLUSTERS: &str = "/soramode/v1/";

/// Largest `/cfg`, in bytes. It is kept and compared byte for byte. Nodes write less than 1 KiB, and a later version may add fields.
pub(super) const CONFIGURATION_BYTES_MAX: usize = 16 * 1024;

/// Maximum length of a report in `/cfg` that is shown, in bytes.
const REPORT_BYTES_MAX: usize = 512;

/// Names of the cluster's keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
    node_name: NodeName,
}

impl Keys {
    pub(super) fn new(cluster: &ClusterName, node_name: NodeName) -> Self {
        Self {
            prefix: format!("{CLUSTERS}{cluster}"),
            node_name,
        }
    }

    /// The range of the keys of all clusters.
    pub(super) fn clusters() -> (Vec<u8>, Vec<u8>) {
        (
            CLUSTERS.into(),
            format!("{}0", CLUSTERS.trim_end_matches('/')).into(),
        )
    }

    /// Returns the name of the cluster that a key is of, if it is not this one, and the first key that may be of the next.
    pub(super) fn other_cluster(&self, key: &[u8]) -> Option<(Option<String>, Vec<u8>)> {
        let name = key.strip_prefix(CLUSTERS.as_bytes())?;
        let name = name.split(|byte| *byte == b'/').next()?;
        let next = [CLUSTERS.as_bytes(), name, b"0"].concat();
        let is_own = self.prefix.as_bytes() == [CLUSTERS.as_bytes(), name].concat();
        let name = shorten(&String::from_utf8_lossy(name), PEER_TEXT_BYTES_MAX);
        Some((Some(name).filter(|_| !is_own), next))
    }

    fn key(&self, kind: &str, name: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), kind.as_bytes(), name].concat()
    }

    /// The versions, the epoch and etcd's own id.
    pub(super) fn config(&self) -> Vec<u8> {
        self.key("/cfg", b"")
    }

    /// Returns this node's member key. Its creation revision is the incarnation.
    pub(super) fn member(&self) -> Vec<u8> {
        self.member_of(&self.node_name)
    }

    pub(super) fn member_of(&self, node: &NodeName) -> Vec<u8> {
        self.key("/n/", node.as_bytes())
    }

    /// Returns the key of this node's published mode, a bare name.
    pub(super) fn mode(&self) -> Vec<u8> {
        self.key("/m/", self.node_name.as_bytes())
    }

    /// Returns the key of this node's load.
    pub(super) fn load(&self) -> Vec<u8> {
        self.key("/s/", self.node_name.as_bytes())
    }

    /// Returns the key of a channel's claim.
    pub(super) fn claim(&self, channel: &ChannelId) -> Vec<u8> {
        self.key("/c/", channel.as_bytes())
    }

    /// Returns the key that marks an incarnation as purged by an operator.
    pub(super) fn purged(&self, Incarnation(incarnation): Incarnation) -> Vec<u8> {
        self.key("/d/", incarnation.to_string().as_bytes())
    }

    /// The beginning of every key of the cluster.
    pub(super) fn every(&self) -> Vec<u8> {
        self.key("/", b"")
    }

    /// The beginnings of the keys of members, modes, loads, purged incarnations and claims.
    pub(super) fn all(&self, kind: Kind) -> Vec<u8> {
        self.key(kind.path(), b"")
    }

    /// Returns the watched range: from the purged incarnations over the modes to the members,
    /// without the claims.
    pub(super) fn watched(&self) -> (Vec<u8>, Vec<u8>) {
        (self.key("/d/", b""), self.key("/n0", b""))
    }

    /// Returns the name in a key of this kind.
    pub(super) fn name<'a>(&self, kind: Kind, key: &'a [u8]) -> Option<&'a str> {
        key.strip_prefix(self.all(kind).as_slice())
            .and_then(|name| std::str::from_utf8(name).ok())
    }
}

/// Keys of which there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Member,
    Mode,
    Load,
    Purged,
    Claim,
}

impl Kind {
    const fn path(self) -> &'static str {
        match self {
            Self::Member => "/n/",
            Self::Mode => "/m/",
            Self::Load => "/s/",
            Self::Purged => "/d/",
            Self::Claim => "/c/",
        }
    }
}

/// Value of the key `/cfg`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ConfigValue {
    pub(super) protocol_min: u32,
    pub(super) protocol_max: u32,
    pub(super) cluster_id: ClusterId,
    pub(super) epoch: u64,
    pub(super) history_id: HistoryId,
    /// etcd's own id, in decimal.
    pub(super) etcd_cluster_id: String,
    /// Written by a node that has seen that this etcd was rolled back, so that no node uses it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) set_back: Option<String>,
}

impl ConfigValue {
    /// Reads it, if this soramoded speaks the cluster's protocol.
    pub(super) fn read(json: &[u8]) -> Result<Configuration, String> {
        if json.len() > CONFIGURATION_BYTES_MAX {
            return Err(format!(
                "/cfg in etcd cannot be read: it has {} bytes, at most {CONFIGURATION_BYTES_MAX}",
                json.len()
            ));
        }
        let value: Self =
            read_json(json).map_err(|error| format!("/cfg in etcd cannot be read: {error}"))?;
        let (min, max) = (value.protocol_min, value.protocol_max);
        if !(min..=max).contains(&CLUSTER_PROTOCOL) {
            return Err(format!(
                "the cluster uses protocol {min} to {max}, and this soramoded {CLUSTER_PROTOCOL}; install a matching version"
            ));
        }
        let etcd_cluster_id = value
            .etcd_cluster_id
            .parse()
            .map_err(|_| "/cfg in etcd cannot be read: etcd_cluster_id is no number")?;
        let Self {
            cluster_id,
            history_id,
            epoch,
            set_back,
            ..
        } = value;
        Ok(Configuration {
            cluster_id,
            history_id,
            epoch,
            etcd_cluster_id,
            set_back: set_back.map(|report| shorten(&report, REPORT_BYTES_MAX)),
        })
    }
}

/// Parses a value. An error repeats at most the beginning of a text in it.
pub(super) fn read_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    serde_json::from_slice(json).map_err(|error| shorten(&error.to_string(), PEER_TEXT_BYTES_MAX))
}

impl From<Configuration> for ConfigValue {
    fn from(it: Configuration) -> Self {
        let Configuration {
            cluster_id,
            history_id,
            epoch,
            etcd_cluster_id,
            set_back,
        } = it;
        let (protocol_min, protocol_max) = (CLUSTER_PROTOCOL, CLUSTER_PROTOCOL);
        Self {
            protocol_min,
            protocol_max,
            cluster_id,
            epoch,
            history_id,
            etcd_cluster_id: etcd_cluster_id.to_string(),
            set_back,
        }
    }
}

/// Value of the key `/n/<node>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberValue {
    /// The node's state folder.
    pub(super) id: String,
    /// The boot of its machine.
    #[serde(default)]
    pub(super) boot_id: String,
    /// Epoch in which it was written. A key that a restored backup brought back belongs to no node.
    #[serde(default)]
    pub(super) epoch: u64,
    /// The start of its daemon that wrote this.
    #[serde(default)]
    pub(super) start: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) signaling_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) api_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) page_url: Option<String>,
    #[serde(default)]
    pub(super) version: String,
    #[serde(default)]
    pub(super) protocol: u32,
    #[serde(flatten)]
    pub(super) terms: TermsValue,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) started_at: Option<Time>,
}

/// Fencing terms that a node promises, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TermsValue {
    /// Absent if the node never fences.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) fence_after_ms: Option<u64>,
    pub(super) fence_budget_ms: u64,
}

/// `/c/<channel>`. Its JSON begins with `node` and `id`: transactions compare that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClaimValue {
    pub(super) node: NodeName,
    #[serde(default)]
    pub(super) id: String,
    pub(super) incarnation: u64,
    #[serde(flatten)]
    pub(super) terms: TermsValue,
}

/// Returns the range of the values of one state folder's claims: their common JSON prefix, and the
/// first text after them.
pub(super) fn own_claims(node: &NodeName, id: &str) -> (Vec<u8>, Vec<u8>) {
    let word = |text: &str| serde_json::Value::from(text).to_string();
    let fields = format!("{{\"node\":{},\"id\":{}", word(node.as_str()), word(id));
    // A comma follows the prefix, and a minus sorts directly after a comma.
    (
        format!("{fields},").into_bytes(),
        format!("{fields}-").into_bytes(),
    )
}

impl ClaimValue {
    /// The claim, as it stands in a key that was last written at that revision.
    pub(super) fn at(self, token: Token) -> Claim {
        let TermsValue {
            fence_after_ms,
            fence_budget_ms,
        } = self.terms;
        Claim {
            node: self.node,
            incarnation: Incarnation(self.incarnation),
            fence_after: fence_after_ms.map_or(FenceAfter::Never, |millis| {
                FenceAfter::After(Duration::from_millis(millis))
            }),
            fence_budget: Duration::from_millis(fence_budget_ms),
            token,
        }
    }
}

/// Value of the key `/s/<node>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoadValue {
    #[serde(default)]
    pub(super) connections: u64,
    #[serde(default)]
    pub(super) sessions: u64,
    #[serde(default)]
    pub(super) limit: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) leaving: bool,
}

impl LoadValue {
    /// The load of a node that has not published it yet: it has just joined, so it counts as empty and not as full.
    pub(super) const UNPUBLISHED: Self = Self {
        connections: 0,
        sessions: 0,
        limit: u64::MAX,
        leaving: false,
    };
}

/// Value of the key `/d/<incarnation>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PurgedValue {
    pub(super) by: String,
    pub(super) at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(&"tokyo".parse().unwrap(), NodeName::new("a/b").unwrap())
    }

    #[test]
    fn the_keys_of_other_clusters_name_them() {
        let other = |key: &str| keys().other_cluster(key.as_bytes());
        let next = |name: &str| format!("/soramode/v1/{name}0").into_bytes();
        let osaka = Some((Some("osaka".to_owned()), next("osaka")));
        assert_eq!(other("/soramode/v1/osaka/cfg"), osaka);
        assert_eq!(other("/soramode/v1/osaka/n/a/b"), osaka);
        assert_eq!(other("/soramode/v1/tokyo/cfg"), Some((None, next("tokyo"))));
        let longer = Some((Some("tokyo2".to_owned()), next("tokyo2")));
        assert_eq!(other("/soramode/v1/tokyo2/cfg"), longer);
        assert_eq!(other("/elsewhere"), None);
        let (from, to) = Keys::clusters();
        for key in [keys().config(), next("osaka")] {
            assert!(from <= key && key < to);
        }
    }

    #[test]
    fn names_are_found_again_in_their_keys_and_in_no_others() {
        let keys = keys();
        assert_eq!(keys.member(), b"/soramode/v1/tokyo/n/a/b");
        assert_eq!(keys.name(Kind::Member, &keys.member()), Some("a/b"));
        assert_eq!(keys.name(Kind::Mode, &keys.member()), None);
        let (from, to) = keys.watched();
        for key in [keys.member(), keys.mode(), keys.purged(Incarnation(7))] {
            assert!(from <= key && key < to, "{}", String::from_utf8_lossy(&key));
        }
        for key in [
            keys.claim(&"spam".parse().unwrap()),
            keys.load(),
            keys.config(),
        ] {
            assert!(
                !(from <= key && key < to),
                "{}",
                String::from_utf8_lossy(&key)
            );
        }
    }

    #[test]
    fn the_claims_of_one_state_folder_differ_from_all_others_by_their_prefix() {
        let terms = TermsValue {
            fence_after_ms: Some(1),
            fence_budget_ms: 2,
        };
        let json = |node: &str, id: &str| {
            let claim = ClaimValue {
                node: node.parse().unwrap(),
                id: id.to_owned(),
                incarnation: 7,
                terms,
            };
            serde_json::to_vec(&claim).unwrap()
        };
        let (from, to) = own_claims(&"n\"1".parse().unwrap(), "log");
        assert!((&from..&to).contains(&&json("n\"1", "log")));
        for other in [
            json("n\"1", "log2"),
            json("n\"1", "lo"),
            json("n2", "log"),
            json("n", "log"),
        ] {
            assert!(
                !(&from..&to).contains(&&other),
                "{}",
                String::from_utf8_lossy(&other)
            );
        }
    }

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        let written = Configuration {
            cluster_id: "c".parse().unwrap(),
            history_id: "h".parse().unwrap(),
            epoch: 3,
            etcd_cluster_id: u64::MAX,
            set_back: None,
        };
        let json = serde_json::to_string(&ConfigValue::from(written.clone())).unwrap();
        assert_eq!(ConfigValue::read(json.as_bytes()), Ok(written));
        let newer = json.replace(
            "\"protocol_min\":1,\"protocol_max\":1",
            "\"protocol_min\":2,\"protocol_max\":3",
        );
        assert!(
            ConfigValue::read(newer.as_bytes())
                .unwrap_err()
                .contains("protocol 2 to 3")
        );
    }

    #[test]
    fn a_long_text_in_the_configuration_is_neither_kept_nor_repeated() {
        let json = |set_back: &str, epoch: &str| {
            format!(
                r#"{{"protocol_min":1,"protocol_max":1,"cluster_id":"c","epoch":{epoch},"history_id":"h","etcd_cluster_id":"1","set_back":"{set_back}"}}"#
            )
        };
        let read = |json: String| ConfigValue::read(json.as_bytes());
        let report = "x".repeat(CONFIGURATION_BYTES_MAX / 2);
        let kept = read(json(&report, "1")).unwrap().set_back.unwrap();
        assert_eq!(kept, shorten(&report, REPORT_BYTES_MAX));
        for (json, problem) in [
            (json("", &format!("\"{report}\"")), "invalid type: string"),
            (json(&report.repeat(2), "1"), "bytes, at most 16384"),
        ] {
            let refused = read(json).unwrap_err();
            assert!(
                refused.contains(problem) && refused.len() < 512,
                "{refused}"
            );
        }
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let claim: ClaimValue = serde_json::from_str(
            r#"{"node":"n","incarnation":7,"fence_budget_ms":5000,"moon":"full"}"#,
        )
        .unwrap();
        let claim = claim.at(Token(9));
        assert_eq!(
            (claim.incarnation, claim.fence_after, claim.token),
            (Incarnation(7), FenceAfter::Never, Token(9))
        );
        assert!(
            serde_json::from_str::<ClaimValue>(r#"{"node":"n"}"#).is_err(),
            "a claim that cannot be read is nobody's to take"
        );
    }
}
