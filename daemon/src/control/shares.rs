//! Counts each user's share of a resource, so that no user can take all of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::lock::lock;

/// Counts shares per user.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    max: usize,
    taken: Arc<Mutex<BTreeMap<u32, usize>>>,
}

/// Share of a user, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    uid: u32,
    shares: Shares,
}

impl Shares {
    /// The limit for each user.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            taken: Arc::default(),
        }
    }

    /// Takes a share for this user, unless the limit is reached.
    pub(super) fn take(&self, uid: u32) -> Option<Share> {
        let mut taken = self.taken();
        let count = taken.entry(uid).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Share {
            uid,
            shares: self.clone(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        lock(&self.taken)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.taken();
        if let Some(count) = taken.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_at_most_its_share_and_leaves_nothing_behind() {
        let shares = Shares::new(2);
        let (first, second) = (shares.take(1), shares.take(1));
        assert!(first.is_some() && second.is_some() && shares.take(1).is_none());
        assert!(shares.take(2).is_some());
        drop(first);
        assert!(shares.take(1).is_some());
        drop(second);
        assert!(shares.taken().is_empty());
    }
}
