//! The node's own incarnations: those since its start, and which of them have no session any more.

use std::collections::BTreeSet;

use crate::cluster::Incarnation;

/// Incarnations that are remembered at most; the oldest is forgotten first. A claim that a forgotten one left is treated as that of
/// another node.
pub(super) const INCARNATIONS_MAX: usize = 1_024;

/// The node's own incarnations since its start, the previous one among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct OwnIncarnations {
    all: BTreeSet<Incarnation>,
    /// Those of them without a session that could still be served.
    ended: BTreeSet<Incarnation>,
}

impl OwnIncarnations {
    /// Begins with the previous incarnation, if there was one.
    pub(super) fn of(previous: Option<Incarnation>) -> Self {
        Self {
            all: previous.into_iter().collect(),
            ended: BTreeSet::new(),
        }
    }

    /// Adds an incarnation. Returns whether it is newer than all others.
    pub(super) fn add(&mut self, incarnation: Incarnation) -> bool {
        let is_newest = self.all.last() < Some(&incarnation);
        self.all.insert(incarnation);
        if self.all.len() > INCARNATIONS_MAX
            && let Some(oldest) = self.all.pop_first()
        {
            self.ended.remove(&oldest);
        }
        is_newest
    }

    pub(super) fn contains(&self, incarnation: Incarnation) -> bool {
        self.all.contains(&incarnation)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Incarnation> {
        self.all.iter()
    }

    pub(super) const fn ended(&self) -> &BTreeSet<Incarnation> {
        &self.ended
    }

    /// Notes that no session of any of them is left.
    pub(super) fn end_all(&mut self) {
        self.ended.clone_from(&self.all);
    }

    /// Forgets them: they say nothing of the next history of etcd.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut own = OwnIncarnations::default();
        for number in 1..=INCARNATIONS_MAX as u64 {
            assert!(own.add(Incarnation(number)));
            assert!(!own.add(Incarnation(number)));
        }
        own.end_all();
        let next = Incarnation(INCARNATIONS_MAX as u64 + 1);
        assert!(own.add(next));
        assert!(!own.contains(Incarnation(1)) && !own.ended().contains(&Incarnation(1)));
        assert!(own.contains(Incarnation(2)) && own.ended().contains(&Incarnation(2)));
        assert!(own.contains(next) && !own.ended().contains(&next));
        assert_eq!(own.all().count(), INCARNATIONS_MAX);
    }
}
