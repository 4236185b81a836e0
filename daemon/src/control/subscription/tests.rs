//! Tests of a subscription: turns of events, the pauses between them, and full clients.

use super::*;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{EventId, LogId, NodeName};
use soramode_protocol::time::Time;

fn subscribed(log: &Arc<EventLog>, subscribe: &Subscribe) -> Subscription {
    let notifiers = Notifiers {
        announcer: &Announcer::new(None),
        terminator: &SessionTerminator::new(None, Default::default()),
    };
    Subscription::new(log, notifiers, &Arc::new(Semaphore::new(1)), subscribe)
        .unwrap()
        .0
}

/// Events as long as they can be.
pub(in super::super) fn append(log: &EventLog, seqs: impl IntoIterator<Item = u64>) {
    let node_name = Arc::new(NodeName::new(&"n".repeat(255)).unwrap());
    log.append(seqs.into_iter().map(|seq| Event {
        seq,
        id: EventId::generate([0; 16]),
        kind: EventKind::SessionVanished,
        timestamp: Time::default(),
        node_name: Arc::clone(&node_name),
    }));
}

fn has_changed(subscription: &mut Subscription) -> bool {
    pin!(subscription.changed()).poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

/// Sends turn by turn until no more can be sent at once; returns the number of turns that
/// continued.
fn send_all(subscription: &mut Subscription, out: &mut Output) -> usize {
    std::iter::repeat_with(|| subscription.send_events(out))
        .take_while(|goes_on| *goes_on)
        .count()
}

#[tokio::test(start_paused = true)]
async fn events_that_a_full_client_lacks_stay_pending() {
    let log = Arc::new(EventLog::new(LogId::generate([0; 16]), 10_000));
    append(&log, 1..=10_000);
    let mut subscription = subscribed(
        &log,
        &Subscribe {
            from: SubscribeFrom::Seq(1),
            ..Subscribe::default()
        },
    );
    let mut told = 0;
    while subscription.next <= 10_000 {
        let mut out = Output::for_test();
        let turns = send_all(&mut subscription, &mut out);
        assert_eq!(out.is_full(), subscription.next <= 10_000);
        assert!(
            subscription.next > told
                && subscription.next - told <= (turns as u64 + 1) * TURN_EVENTS as u64
        );
        told = subscription.next;
        tokio::time::advance(COALESCE).await;
        assert_eq!(has_changed(&mut subscription), out.is_full());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_client_gets_a_turn_of_events_at_a_time_without_a_pause() {
    let log = Arc::new(EventLog::new(LogId::generate([0; 16]), 10_000));
    append(&log, 1..=2 * TURN_EVENTS as u64 + 1);
    let mut subscription = subscribed(
        &log,
        &Subscribe {
            from: SubscribeFrom::Seq(1),
            ..Subscribe::default()
        },
    );
    for (lines, goes_on) in [(TURN_EVENTS, true), (TURN_EVENTS, true), (1, false)] {
        let mut out = Output::for_test();
        assert_eq!(
            (subscription.send_events(&mut out), out.lines().len()),
            (goes_on, lines)
        );
        assert_eq!(has_changed(&mut subscription), goes_on);
    }
}

#[tokio::test(start_paused = true)]
async fn events_gather_only_for_a_client_that_was_just_served() {
    let log = Arc::new(EventLog::new(LogId::generate([0; 16]), 100));
    let mut subscription = subscribed(&log, &Subscribe::default());
    let mut out = Output::for_test();
    append(&log, [1]);
    assert!(has_changed(&mut subscription), "the first at once");
    subscription.send_events(&mut out);
    append(&log, [2, 3]);
    assert!(!has_changed(&mut subscription));
    tokio::time::advance(COALESCE).await;
    assert!(has_changed(&mut subscription));
    subscription.send_events(&mut out);
    assert_eq!(subscription.next, 4);
}
