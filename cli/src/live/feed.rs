//! The source of the view: polls the daemon once a second, follows its events, and reconnects.

use std::time::Duration;

use soramode_protocol::client::Message;
use soramode_protocol::envelope::Notification;
use soramode_protocol::node::GetStatus;
use soramode_protocol::request::Method;
use soramode_protocol::session::ListSessions;
use soramode_protocol::subscribe::{Subscribe, SubscribeFrom, Subscribed, Unsubscribe};
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use super::model::{Filter, Update};
use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};

/// Pause between two reads.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// Limit of the oldest sessions to read: as many as a tall terminal shows.
const SESSIONS_MAX: u32 = 50;

/// Number of past events to read; more where the many events of connections are left out.
const BACKLOG: u64 = 10_000;
const BACKLOG_AMONG_ALL: u64 = 1_000;

/// Limit of the events between two reads; nobody could read more.
const EVENTS_MAX: usize = 200;

/// The source of the view's updates.
pub(super) struct Feed<'a> {
    endpoint: &'a Endpoint,
    updates: mpsc::Sender<Update>,
    filter: watch::Receiver<Filter>,
    /// Sequence number of the first event after the start of the view.
    live_from: u64,
    /// Connections of the first read, with a subscription from before it.
    begun: Option<Connections<'a>>,
}

/// A connection for calls, and one for events.
type Connections<'a> = (Daemon<'a>, Daemon<'a>);

impl<'a> Feed<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        updates: mpsc::Sender<Update>,
        filter: watch::Receiver<Filter>,
    ) -> Self {
        Self {
            endpoint,
            updates,
            filter,
            live_from: 0,
            begun: None,
        }
    }

    /// Reads for the first time. A failure here fails the command.
    pub(super) async fn first(&mut self) -> Result<(), Failure> {
        let mut ways = self.begin().await?;
        self.read(&mut ways.0).await?;
        self.begun = Some(ways);
        Ok(())
    }

    /// Connects. Once the view is drawn, ssh asks for nothing.
    async fn connect(&self) -> Result<Daemon<'a>, Failure> {
        if self.live_from == 0 {
            self.endpoint.connect().await
        } else {
            self.endpoint.connect_without_prompts().await
        }
    }

    /// Subscribes before the first read, so that no event is missed; stored events come first.
    async fn begin(&mut self) -> Result<Connections<'a>, Failure> {
        let mut asked = self.connect().await?;
        let mut events = self.connect().await?;
        // Only a subscription returns the current sequence number.
        let Subscribed {
            next_seq,
            oldest_seq,
            ..
        } = asked.call(&Subscribe::default()).await?;
        asked.call(&Unsubscribe {}).await?;
        let filter = *self.filter.borrow_and_update();
        let look_back = if filter == Filter::All {
            BACKLOG_AMONG_ALL
        } else {
            BACKLOG
        };
        let from = SubscribeFrom::Seq(next_seq.saturating_sub(look_back).max(oldest_seq).max(1));
        events
            .call(&Subscribe {
                from,
                types: Some(filter.types()),
                ends: false,
                announcements: false,
            })
            .await?;
        self.live_from = next_seq;
        self.send(Update::Begun).await;
        Ok((asked, events))
    }

    async fn subscribe(&mut self, events: &mut Daemon<'a>) -> Result<(), Failure> {
        let types = self.filter.borrow_and_update().types();
        events
            .call(&Subscribe {
                types: Some(types),
                ..Subscribe::default()
            })
            .await
            .map(drop)
    }

    /// Runs until a failure that reconnecting cannot repair.
    pub(super) async fn run(&mut self) -> Failure {
        loop {
            let failure = match self.follow().await {
                Err(failure) if failure.exit == Exit::Unreachable => failure,
                Err(failure) => return failure,
                Ok(()) => continue,
            };
            let hint = failure
                .hint
                .map(|hint| format!(". {hint}"))
                .unwrap_or_default();
            self.send(Update::Lost(format!("{}{hint}", failure.message)))
                .await;
            sleep(READ_PAUSE).await;
        }
    }

    /// Follows one connection, with one filter.
    async fn follow(&mut self) -> Result<(), Failure> {
        let (mut asked, mut events) = match self.begun.take() {
            Some(ways) => ways,
            None => self.begin().await?,
        };
        let mut looks = interval(READ_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.read(&mut asked).await?;
            if self.listen((&mut asked, &mut events), &mut looks).await? {
                return Ok(());
            }
            self.subscribe(&mut events).await?;
        }
    }

    /// Passes events on, with a read in between, while they are few enough; then waits for the next
    /// read. Returns whether the filter changed.
    async fn listen(
        &mut self,
        ways: (&mut Daemon<'a>, &mut Daemon<'a>),
        looks: &mut Interval,
    ) -> Result<bool, Failure> {
        let (asked, events) = ways;
        let mut taken = 0;
        loop {
            tokio::select! {
                _ = looks.tick() => {
                    taken = 0;
                    self.read(asked).await?;
                }
                changed = self.filter.changed() => return Ok(changed.is_ok()),
                message = events.receive() => {
                    let message = match message {
                        Ok(message) => message,
                        Err(error) => return Err(events.explain(Method::Subscribe, error)),
                    };
                    if let Message::Notification(Notification::Event(event)) = message {
                        taken += usize::from(event.seq >= self.live_from);
                        self.send(Update::Event(Box::new(event))).await;
                    }
                }
            }
            if taken >= EVENTS_MAX {
                // Events in flight are dropped with the answer.
                events.call(&Unsubscribe {}).await?;
                self.send(Update::TooManyEvents).await;
                looks.tick().await;
                return Ok(false);
            }
        }
    }

    async fn read(&self, daemon: &mut Daemon<'_>) -> Result<(), Failure> {
        let list = ListSessions {
            limit: Some(SESSIONS_MAX),
            ..ListSessions::default()
        };
        let (status, sessions) = daemon.call_both(&GetStatus {}, &list).await?;
        self.send(Update::Seen {
            status: Box::new(status),
            oldest: sessions.sessions,
        })
        .await;
        Ok(())
    }

    /// Sends an update to the view, which may have ended.
    async fn send(&self, update: Update) {
        let _ = self.updates.send(update).await;
    }
}
