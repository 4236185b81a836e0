//! Waiting: the daemon watches, this shows how it goes, and looks for the daemon where it is lost.

use std::time::{Duration, Instant};

use soramode_protocol::client::{Message, read_answer};
use soramode_protocol::envelope::Notification;
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::LogId;
use soramode_protocol::node::{GetInfo, GetStatus};
use soramode_protocol::request::Method;
use soramode_protocol::wait::{self, Progress, Wait, WaitEnded, WaitFor};
use tokio::time::timeout;

use crate::change_words::meanwhile_words;
use crate::context::Context;
use crate::daemon::{Daemon, RECONNECT_MAX};
use crate::error::{Exit, Failure};
use crate::gate::last_look;
use crate::output::escape::{escape, quoted};
use crate::output::{Going, Lasting, Meter, counted, times};
use crate::report::{OldestSessions, Outcome, Report};
use crate::seen::Seen;
use crate::signals::Signals;
use crate::way_back::{Known, Route};

/// How much later than it promised the daemon may tell how it goes before it counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What to wait for, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// What is asked of the daemon, without its times.
    pub(crate) wait: Wait,
    /// When to give up; `None` is never.
    pub(crate) limit: Option<Duration>,
}

impl Plan {
    /// The words for the limit at the start of a wait.
    pub(crate) fn limit_words(&self) -> String {
        limit_words(self.limit)
    }
}

/// The words for a wait's limit.
pub(crate) fn limit_words(limit: Option<Duration>) -> String {
    match limit {
        Some(limit) => format!("at most {}", times::typed(limit)),
        None => "without a limit".to_owned(),
    }
}

/// The line before the wait for a drain.
pub(crate) fn beginning_words(limit: Option<Duration>, allowed: u64, counts: &str) -> String {
    let goal = match allowed {
        0 => "no session is left".to_owned(),
        1 => "at most 1 session is left".to_owned(),
        allowed => format!("at most {allowed} sessions are left"),
    };
    format!(
        "waiting {} until {goal} (now {counts}). Ctrl-C stops waiting; the node stays closed",
        limit_words(limit)
    )
}

/// A wait that was reached.
pub(crate) struct Reached {
    /// What the daemon said.
    pub(crate) ended: WaitEnded,
    /// How long it took.
    pub(crate) waited: Duration,
    /// How many sessions were seen to end.
    pub(crate) sessions_ended: u64,
}

impl Reached {
    /// The node when the wait ended.
    pub(crate) fn seen(&self) -> Seen {
        Seen::Daemon(Box::new(self.ended.status.clone()))
    }
}

/// Waits until it is so. Everything else is a failure. What is known of the wait goes into the report.
pub(crate) async fn watch(
    context: &mut Context<'_>,
    signals: &mut Signals,
    plan: &Plan,
    report: &mut Report,
) -> Result<Reached, Failure> {
    let settle = Duration::from_secs_f64(plan.wait.settle_seconds.unwrap_or_default());
    let meter = Meter::new(
        &context.output,
        (
            plan.wait.wait_for,
            plan.wait.max_sessions.unwrap_or(0),
            settle,
        ),
        plan.limit,
    );
    let mut watcher = Watcher {
        context,
        signals,
        plan,
        meter,
        log_id: None,
        lost_since: None,
        was_lost: false,
    };
    let end = watcher.follow_over_losses().await;
    watcher.meter.clear();
    let waited = watcher.meter.elapsed();
    report.waited(waited);
    match end {
        Ok(Watched::Ended(ended)) => {
            report.status = Some(Seen::Daemon(Box::new(ended.status.clone())));
            report.oldest_sessions = OldestSessions::Sessions(ended.oldest_sessions.clone());
            let sessions_ended = watcher.meter.ended(ended.status.sessions);
            if ended.outcome == wait::Outcome::Superseded {
                report.outcome = Outcome::Superseded;
                let now = last_look(context, &Known::of(ended.status.mode)).await;
                return Err(superseded(
                    ended.status.node_name.as_str(),
                    &now,
                    plan.wait.wait_for,
                ));
            }
            judge(
                Reached {
                    ended: *ended,
                    waited,
                    sessions_ended,
                },
                plan,
                report,
            )
        }
        Ok(Watched::Signal(exit)) => {
            report.outcome = Outcome::Interrupted;
            Err(interrupted(exit, waited))
        }
        Err(failure) => {
            report.outcome = if failure.exit == Exit::Superseded {
                Outcome::Superseded
            } else {
                Outcome::Failed
            };
            Err(failure)
        }
    }
}

/// Another client set a mode in which this wait has no end.
pub(crate) fn superseded(node: &str, now: &Known, wait_for: WaitFor) -> Failure {
    // One that is closed again was open in between.
    let opened = if wait_for == WaitFor::Drained && now.mode.is_block() {
        "it was opened meanwhile, and now "
    } else {
        ""
    };
    let message = format!(
        "stopped waiting on {}: {opened}{}",
        escape(node),
        meanwhile_words(now)
    );
    Failure::new(Exit::Superseded, message)
}

/// The remedy where another client opened the node.
pub(crate) fn superseded_hint(route: Route<'_>) -> String {
    format!(
        "Clients may connect again. To close the node and drain it: {}",
        route.command("drain")
    )
}

/// A signal ended the watching.
pub(crate) fn interrupted(exit: Exit, waited: Duration) -> Failure {
    Failure::new(
        exit,
        format!(
            "{} after {}: stopped waiting",
            signal_words(exit),
            times::span(waited)
        ),
    )
}

/// Whether it was reached, and if not, what to say.
fn judge(reached: Reached, plan: &Plan, report: &mut Report) -> Result<Reached, Failure> {
    let status = &reached.ended.status;
    let node = escape(status.node_name.as_str());
    match reached.ended.outcome {
        wait::Outcome::Reached => {
            report.outcome = Outcome::Reached;
            Ok(reached)
        }
        wait::Outcome::Timeout => {
            report.outcome = Outcome::Timeout;
            let how = match plan.wait.wait_for {
                WaitFor::Drained => {
                    let settle =
                        Duration::from_secs_f64(plan.wait.settle_seconds.unwrap_or_default());
                    left_words(
                        &node,
                        (status.sessions, plan.wait.max_sessions.unwrap_or_default()),
                        settle,
                    )
                }
                WaitFor::Mode => format!("{node} is {}", status.mode.mode),
                WaitFor::Joined => format!("{node} is {}", status.membership),
            };
            let message = format!(
                "timed out after {}: {how}",
                times::typed(plan.limit.unwrap_or_default())
            );
            let details = if plan.wait.wait_for == WaitFor::Drained {
                session_lines(reached.ended.oldest_sessions.iter())
            } else {
                Vec::new()
            };
            Err(Failure {
                details,
                ..Failure::new(Exit::TimedOut, message)
            })
        }
        wait::Outcome::Superseded => {
            report.outcome = Outcome::Superseded;
            Err(superseded(
                status.node_name.as_str(),
                &Known::of(status.mode.clone()),
                plan.wait.wait_for,
            ))
        }
    }
}

/// `2 sessions are left on node-01`, and why a node with few enough of them is not drained.
pub(crate) fn left_words(node: &str, (sessions, allowed): (u64, u64), settle: Duration) -> String {
    let verb = if sessions == 1 { "is" } else { "are" };
    let left = format!("{} {verb} left on {node}", counted(sessions, "session"));
    if sessions > allowed {
        return left;
    }
    if settle.is_zero() {
        format!("{left}, and there may be more: the session list is incomplete")
    } else {
        format!("{left}, but not yet for {}", times::typed(settle))
    }
}

/// A daemon that has forgotten the sessions.
pub(crate) fn restarted_without_state(node: &str) -> Failure {
    let message = format!(
        "soramoded was restarted without its state and does not know the sessions of {node} any more"
    );
    let failure = Failure {
        error_type: Some(ErrorType::SessionsIncomplete),
        ..Failure::new(Exit::SessionsIncomplete, message)
    };
    failure.with_hint(
        "Wait until the signalling server has reported its sessions again. If you have checked on the SFU that no client is connected, add --assume-complete",
    )
}

/// A line for each session that is left.
pub(crate) fn session_lines<'s, S: Lasting + 's>(
    blockers: impl Iterator<Item = &'s S>,
) -> Vec<String> {
    let line = |session: &S| {
        let age = session
            .since()
            .map(|since| format!(", for {}", times::age(since)));
        format!(
            "{}: {}{}",
            quoted(session.channel()),
            counted(session.connections(), "connection"),
            age.unwrap_or_default()
        )
    };
    blockers.map(line).collect()
}

const fn signal_words(exit: Exit) -> &'static str {
    match exit {
        Exit::HungUp => "hung up",
        Exit::Terminated => "terminated",
        Exit::Interrupted
        | Exit::Done
        | Exit::No
        | Exit::Usage
        | Exit::Unreachable
        | Exit::NotPermitted
        | Exit::Refused
        | Exit::Superseded
        | Exit::Versions
        | Exit::SessionsIncomplete
        | Exit::NotFound
        | Exit::Failed
        | Exit::TimedOut
        | Exit::Command(_) => "interrupted",
    }
}

enum Watched {
    Ended(Box<WaitEnded>),
    Signal(Exit),
}

struct Watcher<'a, 'b> {
    context: &'a mut Context<'b>,
    signals: &'a mut Signals,
    plan: &'a Plan,
    meter: Meter,
    /// The log of the daemon that this began with.
    log_id: Option<LogId>,
    /// When the daemon was lost, while nothing has been heard of it since.
    lost_since: Option<Instant>,
    was_lost: bool,
}

impl<'b> Watcher<'_, 'b> {
    async fn follow_over_losses(&mut self) -> Result<Watched, Failure> {
        let mut daemon = self.context.socket.connect().await?;
        loop {
            let lost = match self.follow(&mut daemon).await {
                Err(failure) if failure.exit == Exit::Unreachable => failure,
                Err(failure) => return Err(self.seen_from_here(failure)),
                Ok(watched) => return Ok(watched),
            };
            let is_new = self.lost_since.is_none();
            let since = *self.lost_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= RECONNECT_MAX {
                return Err(lost);
            }
            self.was_lost = true;
            if is_new {
                self.meter.note(
                    &self.context.output,
                    &format!(
                        "connection to soramoded lost: trying to reconnect for {} s",
                        RECONNECT_MAX.as_secs()
                    ),
                );
            }
            daemon = tokio::select! {
                found = self.context.socket.reconnect(since) => found?,
                exit = self.signals.next() => return Ok(Watched::Signal(exit)),
            };
        }
    }

    /// A node that was closed when this began and does not drain now was opened by somebody meanwhile.
    fn seen_from_here(&self, failure: Failure) -> Failure {
        let began_closed = self.was_lost || self.plan.wait.generation.is_some();
        if failure.error_type == Some(ErrorType::ConditionImpossible)
            && self.plan.wait.wait_for == WaitFor::Drained
            && began_closed
        {
            let message = "stopped waiting: the node was opened meanwhile".to_owned();
            return Failure {
                exit: Exit::Superseded,
                message,
                hint: None,
                ..failure
            };
        }
        failure
    }

    /// One wait on one connection.
    async fn follow(&mut self, daemon: &mut Daemon<'b>) -> Result<Watched, Failure> {
        self.recognise(daemon).await?;
        let id = daemon.send(&self.wait()).await?;
        let silence = self.meter.every() + SILENCE_MAX;
        loop {
            let message = tokio::select! {
                message = timeout(silence, daemon.receive()) => message,
                exit = self.signals.next() => return Ok(Watched::Signal(exit)),
            };
            match message {
                Err(_) => return Err(daemon.silent(silence)),
                Ok(Err(error)) => return Err(daemon.explain(Method::Wait, error)),
                Ok(Ok(Message::Answer(answered, answer))) if answered == id => {
                    return match read_answer::<Wait>(answer) {
                        Ok(ended) => Ok(Watched::Ended(Box::new(ended))),
                        Err(error) => Err(daemon.explain(Method::Wait, error)),
                    };
                }
                Ok(Ok(Message::Notification(Notification::Progress(progress)))) => {
                    self.heard();
                    let Progress {
                        sessions,
                        connections,
                        ended,
                        ref oldest_session,
                        ..
                    } = progress;
                    self.meter.show(
                        &mut self.context.output,
                        &Going {
                            sessions,
                            connections,
                            ended,
                            oldest: oldest_session.as_ref(),
                        },
                    )?;
                }
                Ok(Ok(
                    Message::Answer(..)
                    | Message::Notification(
                        Notification::Event(_)
                        | Notification::Gap(_)
                        | Notification::End(_)
                        | Notification::Fence(_),
                    ),
                )) => {}
            }
        }
    }

    /// It answers. One that takes a connection and does not answer is not back.
    fn heard(&mut self) {
        if self.lost_since.take().is_some() {
            self.meter.note(&self.context.output, "soramoded is back");
        }
    }

    /// A daemon that comes back with another log has forgotten the sessions: that it has none says nothing about the node.
    async fn recognise(&mut self, daemon: &mut Daemon<'b>) -> Result<(), Failure> {
        if self.plan.wait.wait_for != WaitFor::Drained || self.plan.wait.assume_complete {
            return Ok(());
        }
        let log_id = daemon.call(&GetInfo {}).await?.log_id;
        if *self.log_id.get_or_insert_with(|| log_id.clone()) == log_id {
            return Ok(());
        }
        let status = daemon.call(&GetStatus {}).await?;
        let node = escape(status.node_name.as_str());
        if !status.mode.mode.is_block() {
            let message = format!(
                "stopped waiting: soramoded was restarted without its state, and {node} is {}",
                status.mode.mode
            );
            return Err(Failure::new(Exit::Superseded, message));
        }
        Err(restarted_without_state(&node))
    }

    /// What to ask now: so much of the time is left.
    fn wait(&self) -> Wait {
        let left = self
            .plan
            .limit
            .map(|limit| limit.saturating_sub(self.meter.elapsed()));
        Wait {
            timeout_seconds: left.map(|left| left.as_secs_f64()),
            progress_seconds: Some(self.meter.every().as_secs_f64()),
            ..self.plan.wait.clone()
        }
    }
}
