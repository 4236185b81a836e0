//! Waiting without a daemon: the mode and the connections are looked at again and again.

use std::time::{Duration, Instant};

use soramode_protocol::error::Error;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::StorageState;
use tokio::time::sleep;

use super::{Api, Look, Want};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Going, Meter, times};
use crate::report::{OldestSessions, Outcome, Report};
use crate::seen::{Drained, Enough, Seen};
use crate::signals::Signals;
use crate::watch::{interrupted, left_words, restarted_without_state, session_lines, superseded};

/// The pause between two looks, at the least. It is as long as ten looks take: many connections are a long list.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Limit of retries to a silent node in a wait that has no limit of its own.
const LOST_MAX: Duration = Duration::from_hours(1);

/// Sessions that a timeout names.
const OLDEST_SESSIONS_MAX: usize = 10;

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
    /// Believe that the sessions are known.
    pub(crate) assume_complete: bool,
}

/// A wait that was reached.
pub(crate) struct Reached {
    pub(crate) seen: Seen,
    /// The number of sessions that were allowed to remain, if this waited for a drain.
    pub(crate) drained_to: Option<u64>,
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
    /// Since when it has not answered, and why.
    lost: Option<(Instant, Failure)>,
    last: Option<Seen>,
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
    let mut meter = Meter::new(
        &context.output,
        (watch.wait_for(), allowed, watch.settle),
        watch.limit,
    );
    meter.saw(watch.sessions_before);
    let mut watcher = Watcher {
        api,
        watch,
        context,
        meter,
        so_since: None,
        told: None,
        lost: None,
        last: None,
    };
    let end = watcher.look_until_end(signals).await;
    watcher.meter.clear();
    let waited = watcher.meter.elapsed();
    report.waited(waited);
    let silence = watcher.lost.take();
    let last = watcher.last.take();
    if let Some(last) = &last {
        report.status = Some(last.clone());
        report.oldest_sessions = if silence.is_some() {
            OldestSessions::Listed(Vec::new())
        } else {
            blockers(api, last).await
        };
    }
    let sessions_ended = watcher.meter.ended(
        last.as_ref()
            .and_then(Seen::counts)
            .map_or(0, |(left, _)| left),
    );
    match (end?, last) {
        (End::Reached, Some(seen)) => {
            report.outcome = Outcome::Reached;
            let drained_to = match watch.goal {
                Goal::Drained { max_sessions } => Some(max_sessions),
                Goal::Mode(_) => None,
            };
            Ok(Reached {
                seen,
                drained_to,
                waited,
                sessions_ended,
            })
        }
        (End::Superseded, Some(seen)) => {
            report.outcome = Outcome::Superseded;
            Err(superseded(&seen.name(), &seen.known(), watch.wait_for()))
        }
        (End::Signal(exit), _) => {
            report.outcome = Outcome::Interrupted;
            Err(interrupted(exit, waited))
        }
        (End::TimedOut | End::Reached | End::Superseded, seen) => {
            report.outcome = Outcome::Timeout;
            Err(timed_out(
                (api, watch),
                seen.as_ref(),
                silence,
                &report.oldest_sessions,
            ))
        }
    }
}

/// The oldest sessions that are left, as its lists name them.
async fn blockers(api: &Api, seen: &Seen) -> OldestSessions {
    let listed = match seen {
        Seen::Listed(listed) => listed.look.clone().unwrap_or_default(),
        Seen::Daemon(status) if status.sessions == 0 => Look::default(),
        // Connections that cannot be listed are still counted.
        Seen::Daemon(_) => Look::at(api).await.unwrap_or_default(),
    };
    OldestSessions::Listed(listed.list.into_iter().take(OLDEST_SESSIONS_MAX).collect())
}

fn timed_out(
    (api, plan): (&Api, Watch),
    seen: Option<&Seen>,
    silence: Option<(Instant, Failure)>,
    blockers: &OldestSessions,
) -> Failure {
    let timed_out = |how: String| {
        let limit = times::typed(plan.limit.unwrap_or_default());
        Failure::new(Exit::TimedOut, format!("timed out after {limit}: {how}"))
    };
    if let Some((since, failure)) = silence {
        return timed_out(format!(
            "{} has not answered for {}: {failure}",
            api.name(),
            times::span(since.elapsed())
        ));
    }
    match (plan.goal, seen) {
        (_, None) => timed_out(format!("{} did not answer", api.name())),
        (Goal::Drained { max_sessions }, Some(seen)) => {
            let details = match blockers {
                OldestSessions::Listed(list) => session_lines(list.iter()),
                OldestSessions::Sessions(list) => session_lines(list.iter()),
            };
            let (sessions, _) = seen.counts().unwrap_or_default();
            Failure {
                details,
                ..timed_out(left_words(
                    &seen.name(),
                    (sessions, max_sessions),
                    plan.settle,
                ))
            }
        }
        (Goal::Mode(_), Some(seen)) => timed_out(format!("{} is {}", seen.name(), seen.mode())),
    }
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
        let left = self
            .watch
            .limit
            .map(|limit| limit.saturating_sub(self.meter.elapsed()));
        async move {
            match left {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn look(&self) -> Result<Seen, Failure> {
        match self.watch.goal {
            Goal::Drained { .. } => self.api.see(Want::Counts).await,
            Goal::Mode(_) => self.api.see(Want::Mode).await,
        }
    }

    fn take(
        &mut self,
        looked: Result<Seen, Failure>,
        began: Instant,
    ) -> Result<Option<End>, Failure> {
        let seen = match looked {
            Ok(seen) => seen,
            Err(failure) => return self.lost(failure),
        };
        let was_lost = self.lost.take().is_some();
        if was_lost {
            self.meter.note(
                &self.context.output,
                &format!("{} is back", self.api.name()),
            );
        }
        let is_first = was_lost || self.last.is_none();
        self.check_same_daemon(&seen)?;
        let seen = self.last.insert(seen);
        let is_so = match self.watch.goal {
            Goal::Mode(mode) => seen.mode() == mode,
            Goal::Drained { max_sessions } => match seen.drained(Enough {
                max_sessions,
                assume_complete: self.watch.assume_complete,
            }) {
                Drained::Yes => true,
                Drained::Left(_) => false,
                Drained::Open => return self.watch.opened(seen.mode()),
                // A Sora that fails to answer later is asked again meanwhile.
                Drained::Incomplete if !is_first && socket_knows(seen) => false,
                Drained::Incomplete => check_known_soon(seen).map(|()| false)?,
            },
        };
        self.watch.is_closed = true;
        if !is_so {
            self.so_since = None;
            self.tell()?;
            return Ok(None);
        }
        // A client on its way in is in no list of a Sora yet: an empty node without soramoded is looked at twice.
        let needs_second_look =
            seen.status().is_none() && matches!(self.watch.goal, Goal::Drained { .. });
        let so_for = self
            .so_since
            .map(|since| began.saturating_duration_since(since));
        self.so_since.get_or_insert(began);
        let needed = if needs_second_look {
            self.watch.settle.max(PAUSE_MIN)
        } else {
            self.watch.settle
        };
        let is_settled = so_for.unwrap_or_default() >= needed;
        if !is_settled {
            self.tell()?;
        }
        Ok(is_settled.then_some(End::Reached))
    }

    /// A soramoded that was restarted without its state has forgotten the sessions: that it has none says nothing about the node.
    fn check_same_daemon(&self, seen: &Seen) -> Result<(), Failure> {
        let (Some(before), Some(now)) = (self.last.as_ref().and_then(Seen::status), seen.status())
        else {
            return Ok(());
        };
        let is_forgetful =
            before.started_at != now.started_at && now.storage.state == StorageState::Memory;
        let matters = matches!(self.watch.goal, Goal::Drained { .. })
            && now.mode.mode.is_block()
            && !self.watch.assume_complete;
        if is_forgetful && matters {
            Err(restarted_without_state(&seen.name()))
        } else {
            Ok(())
        }
    }

    /// A node that answered once is asked again until the time is over: a break of the network, a restart or an overload passes.
    fn lost(&mut self, failure: Failure) -> Result<Option<End>, Failure> {
        // What it was is not what it is.
        self.so_since = None;
        let was_heard = self.last.is_some() || self.watch.is_closed;
        let may_pass = matches!(
            failure.exit,
            Exit::Unreachable | Exit::Failed | Exit::Refused
        );
        if !was_heard || !may_pass {
            return Err(failure);
        }
        let is_new = self.lost.is_none();
        let since = self
            .lost
            .as_ref()
            .map_or_else(Instant::now, |(since, _)| *since);
        if self.watch.limit.is_none() && since.elapsed() >= LOST_MAX {
            return Err(failure);
        }
        if is_new {
            let left = self
                .watch
                .limit
                .map_or(LOST_MAX, |limit| limit.saturating_sub(self.meter.elapsed()));
            let words = format!(
                "connection to {} lost: {failure}. Trying again for at most {}",
                self.api.name(),
                times::span(left)
            );
            self.meter.note(&self.context.output, &words);
        }
        self.lost = Some((since, failure));
        Ok(None)
    }

    /// Tells how it goes, as often as the daemon would.
    fn tell(&mut self) -> Result<(), Failure> {
        // The first look of a wait is not progress yet.
        let every = self.meter.every();
        let told = *self.told.get_or_insert_with(Instant::now);
        let Some(seen) = &self.last else {
            return Ok(());
        };
        let (sessions, connections) = seen.counts().unwrap_or_default();
        self.meter.saw(sessions);
        if told.elapsed() < every {
            return Ok(());
        }
        self.told = Some(Instant::now());
        let (output, ended) = (&mut self.context.output, 0);
        match seen {
            Seen::Daemon(status) => self.meter.show(
                output,
                &Going {
                    sessions,
                    connections,
                    ended,
                    oldest: status.oldest_session.as_ref(),
                },
            ),
            Seen::Listed(listed) => {
                let oldest = listed.look.as_ref().and_then(|look| look.list.first());
                self.meter.show(
                    output,
                    &Going {
                        sessions,
                        connections,
                        ended,
                        oldest,
                    },
                )
            }
        }
    }
}

fn socket_knows(seen: &Seen) -> bool {
    seen.status().is_none_or(|status| {
        status
            .sources
            .iter()
            .all(|source| source.name != "socket" || source.complete)
    })
}

/// A node that does not know every session, and will not with the next answer of its Sora, does not drain.
fn check_known_soon(seen: &Seen) -> Result<(), Failure> {
    match seen.status() {
        Some(status) if !status.is_complete_soon() => Err(status.sessions_incomplete().into()),
        Some(_) | None => Ok(()),
    }
}

impl Watch {
    /// A node that is open does not drain.
    fn opened(self, mode: Mode) -> Result<Option<End>, Failure> {
        if self.is_closed {
            Ok(Some(End::Superseded))
        } else {
            Err(Error::cannot_drain(mode).into())
        }
    }

    const fn wait_for(self) -> soramode_protocol::wait::WaitFor {
        match self.goal {
            Goal::Drained { .. } => soramode_protocol::wait::WaitFor::Drained,
            Goal::Mode(_) => soramode_protocol::wait::WaitFor::Mode,
        }
    }
}
