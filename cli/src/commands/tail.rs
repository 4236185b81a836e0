//! `soramode tail`

use std::str::FromStr;
use std::time::{Duration, Instant};

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::client::{ClientError, Message};
use soramode_protocol::envelope::Notification;
use soramode_protocol::event::{Event, EventPattern};
use soramode_protocol::id::LogId;
use soramode_protocol::node::GetInfo;
use soramode_protocol::number::whole_number;
use soramode_protocol::request::Method;
use soramode_protocol::subscribe::{Gap, Subscribe, SubscribeFrom, Subscribed, Unsubscribe};
use soramode_protocol::time::Time;
use tokio::time::timeout;

use crate::candidates;
use crate::context::Context;
use crate::daemon::{Daemon, RECONNECT_MAX};
use crate::error::{Exit, Failure};
use crate::output::{Output, StdoutClosed, event, times};

/// Print events as they happen
///
/// Runs until it is interrupted. Reconnects if soramoded restarts, and reports events that were lost in between.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Start with stored events since then
    ///
    /// A sequence number, a time back from now (10m), or all: every stored event.
    #[arg(long, value_name = "SEQ|DURATION|all")]
    since: Option<Since>,
    /// Start with the last N stored events
    ///
    /// Events of all types count, also those that --type does not show.
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "since", value_parser = whole_number::<u64>)]
    lines: Option<u64>,
    /// Print only events of this type (repeatable)
    ///
    /// A name such as mode.changed, or the beginning of one and a star: session.*
    #[arg(long = "type", value_name = "TYPE", add = ArgValueCandidates::new(candidates::event_types))]
    types: Vec<EventPattern>,
}

/// The start of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Seq(u64),
    Ago(Duration),
    All,
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Self::All),
            Ok(0) => Err("events are numbered from 1".to_owned()),
            Ok(seq) => Ok(Self::Seq(seq)),
            Err(_) => times::read_span(text)
                .map(Self::Ago)
                .map_err(|problem| format!("{problem}, the number (seq) of an event, or all")),
        }
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut tail = Tail::new(&args, context.output.stdout_closed());
    let mut daemon = context.node.connect().await?;
    tail.subscribe(&mut daemon).await?;
    loop {
        let lost = match tail.follow(&mut daemon, &mut context.output).await {
            Ok(()) => return Ok(Exit::Done),
            Err(failure) if failure.exit == Exit::Unreachable => failure,
            Err(failure) => return Err(failure),
        };
        let since = *tail.lost_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= RECONNECT_MAX {
            return Err(lost);
        }
        context.output.flush()?;
        context.output.note(&format!(
            "connection to soramoded lost: trying to reconnect for {} s",
            RECONNECT_MAX.as_secs()
        ));
        daemon = context.node.endpoint()?.reconnect(since).await?;
        tail.resume(&mut daemon, &context.output).await?;
    }
}

/// A subscription, over all its connections.
struct Tail {
    from: SubscribeFrom,
    types: Option<Vec<EventPattern>>,
    /// Events from before this are left out.
    not_before: Option<Time>,
    log_id: Option<LogId>,
    /// The number of past events to show, until their first sequence number is known.
    last: Option<u64>,
    /// A gap that counts only if the next event is new enough.
    held_gap: Option<Gap>,
    /// Time of the loss, until the daemon answers again.
    lost_since: Option<Instant>,
    stdout: StdoutClosed,
}

impl Tail {
    fn new(args: &Args, stdout: StdoutClosed) -> Self {
        let (from, not_before) = match args.since {
            None => (SubscribeFrom::Now, None),
            Some(Since::Seq(seq)) => (SubscribeFrom::Seq(seq), None),
            Some(Since::All) => (SubscribeFrom::Seq(1), None),
            Some(Since::Ago(span)) => (SubscribeFrom::Seq(1), Some(earlier(times::now(), span))),
        };
        let types = Some(args.types.clone()).filter(|types| !types.is_empty());
        Self {
            from,
            types,
            not_before,
            log_id: None,
            last: args.lines,
            held_gap: None,
            lost_since: None,
            stdout,
        }
    }

    async fn subscribe(&mut self, daemon: &mut Daemon<'_>) -> Result<(), Failure> {
        if let Some(last) = self.last.take() {
            // Only a subscription returns the current sequence number; the next subscription replaces it.
            let Subscribed {
                next_seq,
                oldest_seq,
                ..
            } = daemon
                .call(&Subscribe {
                    types: self.types.clone(),
                    ..Subscribe::default()
                })
                .await?;
            daemon.call(&Unsubscribe {}).await?;
            self.from = SubscribeFrom::Seq(next_seq.saturating_sub(last).max(oldest_seq).max(1));
        }
        let Subscribed {
            log_id, next_seq, ..
        } = daemon
            .call(&Subscribe {
                from: self.from,
                types: self.types.clone(),
                ends: false,
                announcements: false,
            })
            .await?;
        self.log_id = Some(log_id);
        if self.from == SubscribeFrom::Now {
            self.from = SubscribeFrom::Seq(next_seq);
        }
        Ok(())
    }

    /// Continues after the last event, if the log is the same.
    async fn resume(&mut self, daemon: &mut Daemon<'_>, output: &Output) -> Result<(), Failure> {
        let log_id = daemon.call(&GetInfo {}).await?.log_id;
        if self.log_id.as_ref() == Some(&log_id) {
            output.note("soramoded is back");
        } else {
            output.note("soramoded is back with a new event log: continuing from its beginning");
            self.from = SubscribeFrom::Seq(1);
        }
        self.subscribe(daemon).await
    }

    /// Prints events until the daemon is lost or stdout is closed.
    async fn follow(
        &mut self,
        daemon: &mut Daemon<'_>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        while !output.is_closed() {
            let Some(message) = self.next(daemon, output).await? else {
                break;
            };
            match message {
                Ok(Message::Notification(Notification::Event(event))) => {
                    self.event(&event, output)?;
                }
                Ok(Message::Notification(Notification::Gap(gap))) => self.gap(gap, output)?,
                Ok(
                    Message::Notification(
                        Notification::Progress(_)
                        | Notification::End(_)
                        | Notification::Announce(_)
                        | Notification::Fence(_),
                    )
                    | Message::Answer(..),
                ) => {}
                Err(error) => return Err(daemon.explain(Method::Subscribe, error)),
            }
        }
        Ok(())
    }

    /// Returns the next message, or `None` once stdout is closed. Output is flushed only before
    /// waiting, so that many events cost one write.
    async fn next(
        &self,
        daemon: &mut Daemon<'_>,
        output: &mut Output,
    ) -> Result<Option<Result<Message, ClientError>>, Failure> {
        if let Ok(message) = timeout(Duration::ZERO, daemon.receive()).await {
            return Ok(Some(message));
        }
        output.flush()?;
        tokio::select! {
            message = daemon.receive() => Ok(Some(message)),
            () = self.stdout.closed() => Ok(None),
        }
    }

    fn event(&mut self, event: &Event, output: &mut Output) -> Result<(), Failure> {
        self.lost_since = None;
        self.from = SubscribeFrom::Seq(event.seq.saturating_add(1));
        let gap = self.held_gap.take();
        if self
            .not_before
            .is_some_and(|not_before| event.timestamp < not_before)
        {
            return Ok(());
        }
        self.not_before = None;
        if let Some(gap) = gap {
            event::show_gap(&gap, output)?;
        }
        event::show(event, output)
    }

    fn gap(&mut self, gap: Gap, output: &mut Output) -> Result<(), Failure> {
        self.lost_since = None;
        self.from = SubscribeFrom::Seq(gap.to.saturating_add(1));
        if self.not_before.is_some() {
            self.held_gap = Some(gap);
            return Ok(());
        }
        event::show_gap(&gap, output)
    }
}

fn earlier(time: Time, span: Duration) -> Time {
    Time::from_micros(
        time.as_micros()
            .saturating_sub(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_a_seq_a_span_or_all() {
        assert_eq!("17".parse(), Ok(Since::Seq(17)));
        assert_eq!("10m".parse(), Ok(Since::Ago(Duration::from_mins(10))));
        assert_eq!("all".parse(), Ok(Since::All));
        assert!("0".parse::<Since>().is_err());
        assert!("yesterday".parse::<Since>().is_err());
    }
}
