//! `ListClusterNodes`: our own, and our mode put into one of Sora's.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;
use soramode_protocol::mode::Mode;

/// An object with its members in their order, and their values as they stand.
struct Members<'a>(Vec<(String, &'a RawValue)>);

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Sora's list with this mode for this node, or for the only one there is; `None` if it is no such list, or the node is not in it.
pub(super) fn with_mode(list: &[u8], node_name: &str, mode: Mode) -> Option<Vec<u8>> {
    let mut nodes: Vec<Members<'_>> = serde_json::from_slice(list).ok()?;
    let name = serde_json::value::to_raw_value(node_name).ok()?;
    let mode = serde_json::value::to_raw_value(&mode).ok()?;
    let is_ours = |node: &Members<'_>| {
        node.0
            .iter()
            .any(|(key, value)| key == "node_name" && value.get() == name.get())
    };
    let at = nodes
        .iter()
        .position(is_ours)
        .or((nodes.len() == 1).then_some(0))?;
    let members = &mut nodes.get_mut(at)?.0;
    match members.iter_mut().find(|(key, _)| key == "mode") {
        Some((_, value)) => *value = &mode,
        None => members.push(("mode".to_owned(), &mode)),
    }
    serde_json::to_vec(&nodes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(list: &str, node_name: &str) -> Option<String> {
        with_mode(list.as_bytes(), node_name, Mode::BlockNewSession)
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn only_our_nodes_mode_is_changed() {
        let list = r#"[{"node_name":"a","z":1.50,"mode":"normal","b":[null]},{"node_name":"b","mode":"normal"}]"#;
        let wanted = r#"[{"node_name":"a","z":1.50,"mode":"block_new_session","b":[null]},{"node_name":"b","mode":"normal"}]"#;
        assert_eq!(changed(list, "a").as_deref(), Some(wanted));
        assert_eq!(changed(list, "c"), None);
        assert_eq!(
            changed(r#"[{"node_name":"x"}]"#, "c").as_deref(),
            Some(r#"[{"node_name":"x","mode":"block_new_session"}]"#)
        );
        for other in ["", "{}", "[1]", "[]"] {
            assert_eq!(changed(other, "a"), None, "{other}");
        }
    }
}
