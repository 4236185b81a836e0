//! Subscription of one client: its position in the event log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::announce::AnnounceSession;
use soramode_protocol::cluster::Fence;
use soramode_protocol::end::EndSession;
use soramode_protocol::envelope::NotificationLine;
use soramode_protocol::error::Error;
use soramode_protocol::event::{EventPattern, EventType};
use soramode_protocol::or_pending::or_pending;
use soramode_protocol::subscribe::{Subscribe, SubscribeFrom, Subscribed};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, ReusableBoxFuture, WaitForCancellationFutureOwned};

use super::output::Output;
use crate::event_log::{EventBatch, EventLog};
use crate::sfu::announcer::Announcer;
use crate::sfu::terminator::{SessionTerminator, Termination};

/// Maximum number of events per turn, after which other clients are served.
pub(super) const TURN_EVENTS: usize = 64;

/// Maximum number of events per read from the disk, which runs in a thread of its own. On one core
/// with the runtime, 256 held that up for 5 ms.
const ARCHIVE_EVENTS: usize = 64;

/// Maximum number of notifications `End` and `Announce` taken at once.
const NOTIFICATIONS_AT_ONCE: usize = 64;

/// Time in which events gather for a client that was just served, so that many clients and many
/// events do not cause many small writes.
const COALESCE: Duration = Duration::from_millis(20);

/// Notification for a client that ends sessions or announces.
#[derive(Debug)]
enum PendingNotification {
    End(Arc<EndSession>),
    Fence(Fence),
    Announce(Arc<AnnounceSession>),
}

impl From<Termination> for PendingNotification {
    fn from(termination: Termination) -> Self {
        match termination {
            Termination::Session(session) => Self::End(session),
            Termination::Fence(fence) => Self::Fence(fence),
        }
    }
}

impl From<Arc<AnnounceSession>> for PendingNotification {
    fn from(session: Arc<AnnounceSession>) -> Self {
        Self::Announce(session)
    }
}

/// Senders of notifications to clients that end sessions or announce.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notifiers<'a> {
    pub(super) announcer: &'a Announcer,
    pub(super) terminator: &'a SessionTerminator,
}

/// Subscription of one client.
#[derive(Debug)]
pub(super) struct Subscription {
    log: Arc<EventLog>,
    next: u64,
    types: Vec<EventType>,
    appended: watch::Receiver<u64>,
    /// Terminations to send, for a client that ends sessions.
    terminations: Option<mpsc::Receiver<Termination>>,
    /// Announcements to send, for a client that announces.
    announcements: Option<mpsc::Receiver<Arc<AnnounceSession>>>,
    /// Cancelled when the client has lost a notification.
    overflow: CancellationToken,
    /// Notifications that were not sent yet.
    pending: VecDeque<PendingNotification>,
    /// Time at which new events were last found, for this client or not.
    last_found: Option<Instant>,
    /// Turns to read from the disk.
    readings: Arc<Semaphore>,
    /// Read of events from the disk, while in progress.
    reading: Option<ReusableBoxFuture<'static, Option<EventBatch>>>,
    /// Result of that read, until it is sent.
    was_read: Option<EventBatch>,
}

impl Subscription {
    /// Starts at the position that the client requests.
    pub(super) fn new(
        log: &Arc<EventLog>,
        notifiers: Notifiers<'_>,
        readings: &Arc<Semaphore>,
        subscribe: &Subscribe,
    ) -> Result<(Self, Subscribed), Error> {
        let appended = log.follow();
        let (next_seq, oldest_seq) = log.bounds();
        let next = match subscribe.from {
            SubscribeFrom::Now => next_seq,
            SubscribeFrom::Seq(seq) if seq <= next_seq => seq,
            SubscribeFrom::Seq(seq) => {
                let problem = format_args!(
                    "got {seq}, but the next event of log {} is {next_seq}",
                    log.log_id()
                );
                return Err(Error::invalid_params("from", problem));
            }
        };
        let matches = |event_type: &EventType| match &subscribe.types {
            Some(patterns) => patterns
                .iter()
                .any(|pattern: &EventPattern| pattern.matches(*event_type)),
            None => true,
        };
        let types = EventType::ALL.into_iter().filter(matches).collect();
        let subscribed = Subscribed {
            log_id: log.log_id().clone(),
            next_seq,
            oldest_seq,
        };
        let overflow = CancellationToken::new();
        let ends = || notifiers.terminator.subscribe(overflow.clone());
        let terminations = subscribe.ends.then(ends);
        let announcements = || notifiers.announcer.subscribe(overflow.clone());
        let announcements = subscribe.announcements.then(announcements);
        let subscription = Self {
            log: Arc::clone(log),
            next,
            types,
            appended,
            terminations,
            announcements,
            overflow,
            pending: VecDeque::new(),
            last_found: None,
            readings: Arc::clone(readings),
            reading: None,
            was_read: None,
        };
        Ok((subscription, subscribed))
    }

    /// Waits until the client has lost a notification, because it had too much unread.
    pub(super) fn overflow(&self) -> WaitForCancellationFutureOwned {
        self.overflow.clone().cancelled_owned()
    }

    /// Waits until there is something to send. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let Self {
            appended,
            terminations,
            announcements,
            pending,
            last_found,
            reading,
            was_read,
            ..
        } = self;
        tokio::select! {
            read = or_pending(reading.as_mut()) => (*reading, *was_read) = (None, read),
            () = next_event(appended, *last_found) => {}
            next = or_pending(terminations.as_mut().map(next_notifications)), if pending.is_empty() => pending.extend(next),
            next = or_pending(announcements.as_mut().map(next_notifications)), if pending.is_empty() => pending.extend(next),
        }
    }

    /// Sends some of the pending events, unless the client has too much unread. Returns true if
    /// more can be sent at once.
    pub(super) fn send_events(&mut self, out: &mut Output) -> bool {
        self.appended.mark_unchanged();
        while !out.is_full()
            && let Some(pending) = self.pending.pop_front()
        {
            match pending {
                PendingNotification::End(session) => out.message(&NotificationLine::new(&*session)),
                PendingNotification::Fence(fence) => out.message(&NotificationLine::new(&fence)),
                PendingNotification::Announce(session) => {
                    out.message(&NotificationLine::new(&*session));
                }
            }
        }
        let is_full = out.is_full();
        let goes_on = !is_full && self.send_some(out);
        if is_full || goes_on {
            // There may be more events, for which no further notification comes.
            self.appended.mark_changed();
        }
        goes_on
    }

    /// Writes some of the events; whether there may be more.
    fn send_some(&mut self, out: &mut Output) -> bool {
        let read = self
            .was_read
            .take()
            .or_else(|| self.log.read(self.next, &self.types, TURN_EVENTS));
        let Some(EventBatch {
            gap,
            lines,
            next,
            has_more,
        }) = read
        else {
            self.start_reading();
            return false;
        };
        if let Some(gap) = gap {
            out.message(&NotificationLine::new(&gap));
        }
        if has_more {
            // Events that exist already have gathered long enough.
            self.last_found = None;
        } else if next != self.next {
            self.last_found = Some(Instant::now());
        }
        self.next = next;
        out.push_shared(lines);
        has_more
    }

    /// Has events read that are on the disk alone; that they are there is news.
    fn start_reading(&mut self) {
        if self.reading.is_none() {
            let reading = read_archive(
                Arc::clone(&self.log),
                Arc::clone(&self.readings),
                self.next,
                self.types.clone(),
            );
            self.reading = Some(ReusableBoxFuture::new(reading));
        }
    }
}

/// Reads events from the disk once it is its turn; nothing if that failed, and then it is tried again.
///
/// The turn is taken before a thread is, and kept until the reading ends: however many subscriptions a client begins and drops, threads and
/// readings that wait for one stay bounded.
async fn read_archive(
    log: Arc<EventLog>,
    readings: Arc<Semaphore>,
    from: u64,
    types: Vec<EventType>,
) -> Option<EventBatch> {
    let turn = readings.acquire_owned().await.ok()?;
    let reading = spawn_blocking(move || {
        let read = log.read_archive(from, &types, ARCHIVE_EVENTS);
        drop(turn);
        read
    });
    reading.await.ok()
}

async fn next_event(appended: &mut watch::Receiver<u64>, last_found: Option<Instant>) {
    if let Some(last_found) = last_found {
        tokio::time::sleep_until(last_found + COALESCE).await;
    }
    // The log outlives its readers: this fails only while the daemon goes down.
    if appended.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for notifications, and takes some. Cancel safe.
async fn next_notifications<T: Into<PendingNotification>>(
    notifications: &mut mpsc::Receiver<T>,
) -> Vec<PendingNotification> {
    let mut next = Vec::new();
    if notifications
        .recv_many(&mut next, NOTIFICATIONS_AT_ONCE)
        .await
        == 0
    {
        // The daemon goes down.
        std::future::pending::<()>().await;
    }
    next.into_iter().map(Into::into).collect()
}

#[cfg(test)]
pub(super) mod tests;
