//! Room for clients: who has asked for nothing longest makes room for who comes, and who asks is never cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// A listener's places.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    /// The daemon stops, and everybody is to leave.
    stop: CancellationToken,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    last_order: u64,
    /// Clients that are asking for nothing, longest first.
    idle: BTreeMap<u64, Arc<CancellationToken>>,
}

/// A client's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    /// Its order among the idle, if it is.
    order: Mutex<Option<u64>>,
    /// Cancelled when somebody else needs the place, and when the daemon stops.
    /// Shared as it is: a clone of a token takes its lock.
    pub(super) to_leave: Arc<CancellationToken>,
}

impl Places {
    pub(super) fn new(max: usize, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { max, stop, taken: Mutex::default() })
    }

    /// A place for who comes; none if everybody here is asking something.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.count >= self.max {
            let (_, idlest) = taken.idle.pop_first()?;
            idlest.cancel();
        }
        taken.count += 1;
        drop(taken);
        let place = Place { places: Arc::clone(self), order: Mutex::default(), to_leave: Arc::new(self.stop.child_token()) };
        place.rest();
        Some(place)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The client asks for nothing from now on.
    pub(super) fn rest(&self) {
        let mut taken = self.places.taken();
        taken.last_order += 1;
        let order = taken.last_order;
        taken.idle.insert(order, Arc::clone(&self.to_leave));
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
    }

    /// The client asks for something.
    pub(super) fn work(&self) {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(order) = order {
            self.places.taken().idle.remove(&order);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.work();
        self.places.taken().count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rests_longest_makes_room_and_who_works_does_not() {
        let places = Places::new(3, CancellationToken::new());
        let [first, second, third] = std::array::from_fn(|_| places.take().unwrap());
        first.work();
        first.rest();
        third.work();
        let fourth = places.take().unwrap();
        assert!(second.to_leave.is_cancelled() && !first.to_leave.is_cancelled());
        drop(second);
        fourth.work();
        first.work();
        assert!(places.take().is_none(), "everybody works");
        drop(third);
        assert!(places.take().is_some());
    }
}
