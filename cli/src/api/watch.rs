//! Waiting without a daemon: the mode and the connections are looked at again and again.

use std::time::{Duration, Instant};

use serde::Serialize;
use soramode_protocol::error::Error;
use soramode_protocol::mode::Mode;
use tokio::time::sleep;

use super::{Api, Look};
use crate::Context;
use crate::daemon::RECONNECT_MAX;
use crate::error::{Exit, Failure};
use crate::output::{Going, Meter, times};
use crate::report::{Blockers, Outcome, Report, Seen};
use crate::signals::Signals;
use crate::watch::{are, blocker_lines, interrupted};

/// The pause between two looks, at the least. It is as long as ten looks take: many connections are a long list.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Sessions that a timeout names.
const BLOCKERS_MAX: usize = 10;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// No more sessions than these.
    Drained { max_sessions: u64 },
    /// A mode.
    Mode(Mode),
}

/// What to wait for, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    pub(crate) goal: Goal,
    /// It must have been so for this long.
    pub(crate) settle: Duration,
    /// When to give up; `None` is never.
    pub(crate) limit: Option<Duration>,
    /// The node was closed before this began: one that is open now was opened by somebody.
    pub(crate) is_closed: bool,
    /// Sessions that were there when it began, if that is known.
    pub(crate) sessions_before: u64,
}

/// A node as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NodeSeen {
    pub(crate) node_name: String,
    pub(crate) mode: Mode,
    #[serde(flatten)]
    pub(crate) look: Option<Look>,
}

/// A wait that was reached.
pub(crate) struct Reached {
    pub(crate) seen: NodeSeen,
    pub(crate) waited: Duration,
    /// Sessions that ended meanwhile.
    pub(crate) sessions_ended: u64,
}

enum End {
    Reached,
    TimedOut,
    Superseded,
    Signal(Exit),
}

struct Watcher<'a, 'b> {
    api: &'a Api,
    watch: Watch,
    context: &'a mut Context<'b>,
    meter: Meter,
    /// Since when it has been so.
    so_since: Option<Instant>,
    told: Option<Instant>,
    lost_since: Option<Instant>,
    last: Option<NodeSeen>,
}

/// Waits until it is so. Everything else is a failure. What is known of the wait goes into the report.
pub(crate) async fn watch(
    context: &mut Context<'_>,
    signals: &mut Signals,
    (api, watch): (&Api, Watch),
    report: &mut Report,
) -> Result<Reached, Failure> {
    let allowed = match watch.goal {
        Goal::Drained { max_sessions } => max_sessions,
        Goal::Mode(_) => 0,
    };
    let mut meter = Meter::new(&context.output, watch.wait_for(), allowed);
    meter.saw(watch.sessions_before);
    let mut watcher = Watcher { api, watch, context, meter, so_since: None, told: None, lost_since: None, last: None };
    let end = watcher.look_until_end(signals).await;
    watcher.meter.clear();
    let waited = watcher.meter.elapsed();
    report.waited(waited);
    let seen = watcher.last.take();
    if let Some(seen) = &seen {
        report.status = Some(Seen::Api(Box::new(seen.clone())));
        report.blockers = Blockers::Listed(seen.look.iter().flat_map(|look| look.list.iter().take(BLOCKERS_MAX).cloned()).collect());
    }
    let sessions_ended = watcher.meter.ended(seen.as_ref().and_then(|seen| seen.look.as_ref()).map_or(0, |look| look.sessions));
    match (end?, seen) {
        (End::Reached, Some(seen)) => {
            report.outcome = Outcome::Reached;
            Ok(Reached { seen, waited, sessions_ended })
        }
        (End::Superseded, Some(seen)) => {
            report.outcome = Outcome::Superseded;
            Err(Failure::new(Exit::Superseded, format!("superseded: {} is {}", seen.node_name, seen.mode)))
        }
        (End::Signal(exit), _) => {
            report.outcome = Outcome::Interrupted;
            Err(interrupted(exit, waited))
        }
        (End::TimedOut | End::Reached | End::Superseded, seen) => {
            report.outcome = Outcome::Timeout;
            Err(timed_out(api, watch, seen.as_ref()))
        }
    }
}

fn timed_out(api: &Api, watch: Watch, seen: Option<&NodeSeen>) -> Failure {
    let limit = times::typed(watch.limit.unwrap_or_default());
    let list = seen.and_then(|seen| seen.look.as_ref()).map(|look| look.list.as_slice()).unwrap_or_default();
    let (how, details) = match (watch.goal, seen) {
        (_, None) => (format!("{} was not heard", api.name()), Vec::new()),
        (Goal::Drained { .. }, Some(seen)) => {
            (format!("{} left on {}", are(list.len() as u64), seen.node_name), blocker_lines(list.iter().take(BLOCKERS_MAX)))
        }
        (Goal::Mode(_), Some(seen)) => (format!("{} is {}", seen.node_name, seen.mode), Vec::new()),
    };
    Failure { details, ..Failure::new(Exit::TimedOut, format!("timed out after {limit}: {how}")) }
}

impl Watcher<'_, '_> {
    async fn look_until_end(&mut self, signals: &mut Signals) -> Result<End, Failure> {
        loop {
            let began = Instant::now();
            let looked = tokio::select! {
                looked = self.look() => looked,
                exit = signals.next() => return Ok(End::Signal(exit)),
                () = self.over() => return Ok(End::TimedOut),
            };
            if let Some(end) = self.take(looked, began)? {
                return Ok(end);
            }
            let pause = PAUSE_MIN.max(began.elapsed() * 10);
            tokio::select! {
                () = sleep(pause) => {}
                exit = signals.next() => return Ok(End::Signal(exit)),
                () = self.over() => return Ok(End::TimedOut),
            }
        }
    }

    /// Comes back when the time is over.
    fn over(&self) -> impl Future<Output = ()> + use<> {
        let left = self.watch.limit.map(|limit| limit.saturating_sub(self.meter.elapsed()));
        async move {
            match left {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The mode is asked for after the connections: a node that somebody opened meanwhile is not taken for one that drained.
    async fn look(&self) -> Result<NodeSeen, Failure> {
        let look = match self.watch.goal {
            Goal::Drained { .. } => Some(Look::at(self.api).await?),
            Goal::Mode(_) => None,
        };
        let mode = self.api.mode().await?;
        Ok(NodeSeen { node_name: self.api.name().to_owned(), mode, look })
    }

    fn take(&mut self, looked: Result<NodeSeen, Failure>, began: Instant) -> Result<Option<End>, Failure> {
        let seen = match looked {
            Ok(seen) => seen,
            Err(failure) if failure.exit == Exit::Unreachable => return self.lost(failure),
            Err(failure) => return Err(failure),
        };
        if self.lost_since.take().is_some() {
            self.meter.note(&self.context.output, &format!("{} is back", self.api.name()));
        }
        let seen = self.last.insert(seen);
        let is_so = match (self.watch.goal, &seen.look) {
            (Goal::Drained { .. }, _) if !seen.mode.is_block() => return self.watch.opened(seen.mode),
            (Goal::Drained { max_sessions }, Some(look)) => look.sessions <= max_sessions,
            (Goal::Mode(mode), _) => seen.mode == mode,
            (Goal::Drained { .. }, None) => false,
        };
        self.watch.is_closed = true;
        if !is_so {
            self.so_since = None;
            self.tell()?;
            return Ok(None);
        }
        // Whoever was on the way in when the node was closed is not listed yet: an empty node is looked at twice.
        let is_drain = matches!(self.watch.goal, Goal::Drained { .. });
        let so_for = self.so_since.map(|since| began.saturating_duration_since(since));
        self.so_since.get_or_insert(began);
        let needed = if is_drain { self.watch.settle.max(PAUSE_MIN) } else { self.watch.settle };
        let is_settled = so_for.unwrap_or_default() >= needed;
        if !is_settled {
            self.tell()?;
        }
        Ok(is_settled.then_some(End::Reached))
    }

    fn lost(&mut self, failure: Failure) -> Result<Option<End>, Failure> {
        // What it was is not what it is.
        self.so_since = None;
        // A node that was never heard is not lost: its URL is wrong, or it is not running.
        if self.last.is_none() && !self.watch.is_closed {
            return Err(failure);
        }
        let is_new = self.lost_since.is_none();
        let since = *self.lost_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= RECONNECT_MAX {
            return Err(failure);
        }
        if is_new {
            let name = self.api.name();
            self.meter.note(&self.context.output, &format!("lost {name}, looking for it for {} s", RECONNECT_MAX.as_secs()));
        }
        Ok(None)
    }

    /// Tells how it goes, as often as the daemon would.
    fn tell(&mut self) -> Result<(), Failure> {
        // The first look of a wait is not progress yet.
        let every = self.meter.every();
        let told = *self.told.get_or_insert_with(Instant::now);
        let Some(NodeSeen { look, .. }) = &self.last else { return Ok(()) };
        let (sessions, connections) = look.as_ref().map_or((0, 0), |look| (look.sessions, look.connections));
        self.meter.saw(sessions);
        if told.elapsed() < every {
            return Ok(());
        }
        self.told = Some(Instant::now());
        let oldest = look.as_ref().and_then(|look| look.list.first());
        self.meter.show(&mut self.context.output, &Going { sessions, connections, ended: 0, oldest })
    }
}

impl Watch {
    /// A node that is open does not drain.
    fn opened(self, mode: Mode) -> Result<Option<End>, Failure> {
        if self.is_closed { Ok(Some(End::Superseded)) } else { Err(Error::cannot_drain(mode).into()) }
    }

    const fn wait_for(self) -> soramode_protocol::wait::WaitFor {
        match self.goal {
            Goal::Drained { .. } => soramode_protocol::wait::WaitFor::Drained,
            Goal::Mode(_) => soramode_protocol::wait::WaitFor::Mode,
        }
    }
}
