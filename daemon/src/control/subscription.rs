//! One client's place in the event log.

use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::envelope::Notified;
use soramode_protocol::error::Error;
use soramode_protocol::event::{EventPattern, EventType, Subscribe, SubscribeFrom, Subscribed};
use tokio::sync::watch;
use tokio::time::Instant;

use super::output::Output;
use crate::event_log::{EventLog, Logged};

/// Events that are read from the log at once.
const READ_EVENTS: usize = 256;

/// How long events gather for a client that was told of some a moment ago, so that many clients and many events are no storm of small writes.
const COALESCE: Duration = Duration::from_millis(20);

/// A subscription.
#[derive(Debug)]
pub(super) struct Subscription {
    log: Arc<EventLog>,
    next: u64,
    types: Vec<EventType>,
    news: watch::Receiver<u64>,
    told: Option<Instant>,
}

impl Subscription {
    /// Begins where the client says.
    pub(super) fn new(log: &Arc<EventLog>, subscribe: &Subscribe) -> Result<(Self, Subscribed), Error> {
        let news = log.follow();
        let (next_seq, oldest_seq) = log.bounds();
        let next = match subscribe.from {
            SubscribeFrom::Now => next_seq,
            SubscribeFrom::Seq(seq) if seq <= next_seq => seq,
            SubscribeFrom::Seq(seq) => {
                let problem = format_args!("got {seq}, but the next event of log {} is {next_seq}", log.log_id());
                return Err(Error::invalid_params("from", problem));
            }
        };
        let matches = |event_type: &EventType| match &subscribe.types {
            Some(patterns) => patterns.iter().any(|pattern: &EventPattern| pattern.matches(*event_type)),
            None => true,
        };
        let types = EventType::ALL.into_iter().filter(matches).collect();
        let subscribed = Subscribed { log_id: log.log_id().clone(), next_seq, oldest_seq };
        Ok((Self { log: Arc::clone(log), next, types, news, told: None }, subscribed))
    }

    /// Waits until there is something to tell. Cancel safe.
    pub(super) async fn news(&mut self) {
        if let Some(told) = self.told {
            tokio::time::sleep_until(told + COALESCE).await;
        }
        // The log outlives its readers: this fails only while the daemon goes down.
        if self.news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Writes what there is to tell, until the client has enough unread.
    pub(super) fn tell(&mut self, out: &mut Output) {
        self.news.mark_unchanged();
        while !out.is_full() {
            let read = self.log.read(self.next, READ_EVENTS);
            if let Some(gap) = read.gap {
                out.message(&Notified::gap(&gap));
            }
            self.next = read.next;
            if read.events.is_empty() {
                return;
            }
            self.told = Some(Instant::now());
            let wanted = |logged: &&Arc<Logged>| logged.event.kind.event_type().is_some_and(|it| self.types.contains(&it));
            for logged in read.events.iter().filter(wanted) {
                out.line(logged.line());
            }
        }
        // There may be more, which nobody will announce again.
        self.news.mark_changed();
    }
}
