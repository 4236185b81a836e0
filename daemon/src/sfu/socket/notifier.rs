//! Sends notifications to the clients of the control socket that subscribed to them. Never waits.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::lock::lock;
use crate::rate_limit::log_limited;

/// Notifications that a subscriber may have unread. Further ones do not reach it.
pub(crate) const UNREAD_NOTIFICATIONS_MAX: usize = 65_536;

/// Subscribers to one kind of notification.
#[derive(Debug)]
pub(crate) struct Notifier<T>(Arc<Mutex<Vec<mpsc::Sender<T>>>>);

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
    /// Adds a subscriber, until the receiver is dropped.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel(UNREAD_NOTIFICATIONS_MAX);
        let mut subscribers = lock(&self.0);
        subscribers.retain(|subscriber| !subscriber.is_closed());
        subscribers.push(sender);
        receiver
    }

    /// Returns the number of subscribers.
    pub(crate) fn subscribers(&self) -> u64 {
        let subscribers = lock(&self.0);
        let is_there = |subscriber: &&mpsc::Sender<T>| !subscriber.is_closed();
        count(subscribers.iter().filter(is_there).count())
    }

    /// Sends a notification; returns the number of subscribers that it reaches.
    pub(crate) fn send(&self, notification: &T) -> u64 {
        let mut reached = 0;
        lock(&self.0).retain(|subscriber| match subscriber.try_send(notification.clone()) {
            Ok(()) => {
                reached += 1;
                true
            }
            Err(TrySendError::Full(_)) => {
                log_limited!(
                    warn,
                    "a client that subscribed with ends: true or announcements: true does not read its notifications; some were dropped"
                );
                true
            }
            Err(TrySendError::Closed(_)) => false,
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
    async fn a_subscriber_that_does_not_read_is_not_reached_and_others_are() {
        let notifier = Notifier::default();
        let (mut deaf, mut other) = (notifier.subscribe(), notifier.subscribe());
        for number in 0..UNREAD_NOTIFICATIONS_MAX {
            assert_eq!(notifier.send(&number), 2);
            assert_eq!(other.recv().await, Some(number));
        }
        assert_eq!(notifier.send(&0), 1);
        assert_eq!(deaf.recv().await, Some(0), "what it has unread stays");
        assert_eq!(notifier.send(&1), 2);
        drop(deaf);
        assert_eq!((notifier.subscribers(), notifier.send(&2)), (1, 1));
    }
}
