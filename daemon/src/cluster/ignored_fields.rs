//! Logs fields of members that are not used, such as a URL that is too long: once in the life of a member, not with each read.

use std::collections::BTreeSet;

use soramode_core::cluster::Incarnation;
use soramode_protocol::id::NodeName;

use crate::rate_limit::log_limited;

/// A field that a member published, and that is not used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IgnoredField {
    pub(super) incarnation: Incarnation,
    pub(super) node: NodeName,
    pub(super) field: &'static str,
}

/// The fields that the last read ignored.
#[derive(Default)]
pub(super) struct IgnoredFields(BTreeSet<IgnoredField>);

impl IgnoredFields {
    /// Takes in the ignored fields of a read, and returns those that the one before did not have.
    fn update(&mut self, ignored: Vec<IgnoredField>) -> Vec<IgnoredField> {
        let before = std::mem::replace(&mut self.0, ignored.into_iter().collect());
        self.0.difference(&before).cloned().collect()
    }

    /// Takes in the ignored fields of a read, and logs if some are new. Keys that are written again and again fill no log.
    pub(super) fn warn(&mut self, ignored: Vec<IgnoredField>) {
        let new = self.update(ignored);
        if let Some(IgnoredField { node, field, .. }) = new.first() {
            log_limited!(
                warn,
                %node,
                field,
                fields = new.len(),
                "ignored what a member of the cluster has published in etcd: it is too long, or no URL. Check that node's settings and version"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(incarnation: u64, field: &'static str) -> IgnoredField {
        IgnoredField {
            incarnation: Incarnation(incarnation),
            node: "n1".parse().unwrap(),
            field,
        }
    }

    #[test]
    fn a_field_is_new_once_in_the_life_of_its_member() {
        let mut fields = IgnoredFields::default();
        let (page, api, again) = (
            ignored(1, "page_url"),
            ignored(1, "api_url"),
            ignored(2, "page_url"),
        );
        for (read, new) in [
            (vec![page.clone()], vec![page.clone()]),
            (vec![page.clone()], vec![]),
            (vec![page.clone(), api.clone()], vec![api.clone()]),
            (vec![again.clone()], vec![again]),
            (vec![], vec![]),
        ] {
            assert_eq!(fields.update(read), new);
        }
    }
}
