//! Sends notifications to the clients of the control socket that subscribed to them. Never waits.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;

use crate::lock::lock;
use crate::rate_limit::log_limited;

/// Notifications that a subscriber may have unread. With one more its connection is closed: it learns that it has lost some, and subscribes
/// again.
pub(crate) const UNREAD_NOTIFICATIONS_MAX: usize = 65_536;

/// Subscribers to one kind of notification.
#[derive(Debug)]
pub(crate) struct Notifier<T>(Arc<Mutex<Vec<Subscriber<T>>>>);

#[derive(Debug)]
struct Subscriber<T> {
    sender: mpsc::Sender<T>,
    /// Cancelled when a notification is lost.
    overflow: CancellationToken,
}

impl<T> Clone for Notifier<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Notifier<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Notifier<T> {
    /// Adds a subscriber, until the receiver is dropped. `overflow` is cancelled when it has too much unread.
    pub(crate) fn subscribe(&self, overflow: CancellationToken) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel(UNREAD_NOTIFICATIONS_MAX);
        let mut subscribers = lock(&self.0);
        subscribers.retain(|subscriber| !subscriber.sender.is_closed());
        subscribers.push(Subscriber { sender, overflow });
        receiver
    }

    /// Returns the number of subscribers.
    pub(crate) fn subscribers(&self) -> u64 {
        let subscribers = lock(&self.0);
        let is_there = |subscriber: &&Subscriber<T>| !subscriber.sender.is_closed();
        count(subscribers.iter().filter(is_there).count())
    }

    /// Sends a notification; returns the number of subscribers that it reaches.
    pub(crate) fn send(&self, notification: &T) -> u64 {
        self.send_made(|| notification.clone())
    }

    /// Sends a notification that is made only if there are subscribers; returns the number of those that it reaches.
    pub(crate) fn send_made(&self, make: impl FnOnce() -> T) -> u64 {
        let mut subscribers = lock(&self.0);
        if subscribers.is_empty() {
            return 0;
        }
        let notification = make();
        let mut reached = 0;
        subscribers.retain(|subscriber| {
            match subscriber.sender.try_send(notification.clone()) {
                Ok(()) => {
                    reached += 1;
                    true
                }
                Err(TrySendError::Full(_)) => {
                    log_limited!(
                        warn,
                        "a client that subscribed with ends: true or announcements: true does not read its notifications; closing its connection"
                    );
                    subscriber.overflow.cancel();
                    false
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
        count(reached)
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_that_does_not_read_is_closed_and_others_are_reached() {
        let notifier = Notifier::default();
        let (overflow, others) = (CancellationToken::new(), CancellationToken::new());
        let mut deaf = notifier.subscribe(overflow.clone());
        let mut other = notifier.subscribe(others.clone());
        for number in 0..UNREAD_NOTIFICATIONS_MAX {
            assert_eq!(notifier.send(&number), 2);
            assert_eq!(other.recv().await, Some(number));
        }
        assert!(!overflow.is_cancelled(), "it has lost nothing yet");
        assert_eq!(notifier.send(&0), 1);
        assert!(overflow.is_cancelled() && !others.is_cancelled());
        assert_eq!((notifier.subscribers(), notifier.send(&1)), (1, 1));
        assert_eq!(deaf.recv().await, Some(0), "what it has unread stays");
        drop(other);
        assert_eq!((notifier.subscribers(), notifier.send(&2)), (0, 0));
    }
}
