//! Turns for clients that share the daemon: a few in each pass of the runtime, first come, first
//! served.
//!
//! In each pass the runtime polls all sockets, so a client that needs no turn is served between any
//! two passes, however many clients wait for theirs.

use std::convert::Infallible;

use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;

/// Turns in one pass of the runtime.
pub const TURNS_PER_PASS: usize = 2;

#[derive(Debug)]
pub(super) struct Turns {
    left: Semaphore,
    taken: Notify,
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            left: Semaphore::new(TURNS_PER_PASS),
            taken: Notify::new(),
        }
    }

    /// Waits for a turn. Cancel safe.
    pub(super) async fn take(&self) {
        if let Ok(turn) = self.left.acquire().await {
            turn.forget();
            self.taken.notify_one();
        }
    }

    /// Gives new turns in each pass, for as long as it is polled.
    pub(super) async fn refill(&self) -> Infallible {
        loop {
            self.taken.notified().await;
            yield_now().await;
            self.left
                .add_permits(TURNS_PER_PASS - self.left.available_permits());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_util::task::TaskTracker;

    async fn be_served(turns: Arc<Turns>, served: Arc<AtomicUsize>) {
        turns.take().await;
        served.fetch_add(1, Ordering::Relaxed);
    }

    /// Watches pass by pass how many are served.
    async fn watch(served: &AtomicUsize, clients: usize) {
        let mut before = 0;
        while before < clients {
            yield_now().await;
            let now = served.load(Ordering::Relaxed);
            assert!(now - before <= TURNS_PER_PASS, "{before}, then {now}");
            before = now;
        }
    }

    #[tokio::test]
    async fn a_pass_has_so_many_turns_and_each_client_comes_to_its_own() {
        let (turns, served) = (Arc::new(Turns::new()), Arc::new(AtomicUsize::new(0)));
        let (tasks, clients) = (TaskTracker::new(), 10 * TURNS_PER_PASS);
        for _ in 0..clients {
            tasks.spawn(be_served(Arc::clone(&turns), Arc::clone(&served)));
        }
        tokio::select! {
            () = watch(&served, clients) => {}
            never = turns.refill() => match never {},
        }
    }
}
