//! Waiting over the control socket: the daemon watches, this shows its progress and reconnects.

use std::time::{Duration, Instant};

use soramode_protocol::client::Message;
use soramode_protocol::envelope::Notification;
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::LogId;
use soramode_protocol::mode::{ListModeChanges, Mode, ModeChanges};
use soramode_protocol::node::{GetInfo, GetStatus, Status};
use soramode_protocol::plan::{Plan, PlanState};
use soramode_protocol::request::Method;
use soramode_protocol::wait::{Outcome, Progress, Wait, WaitEnded, WaitFor};
use tokio::time::timeout;

use super::again::superseded_hint;
use super::request::{Ended, WaitRequest, interrupted, restarted_without_state};
use crate::daemon::{Daemon, RECONNECT_MAX};
use crate::describe::describe_change;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::mode_info::with_operator;
use crate::node::Node;
use crate::output::escape::escape;
use crate::output::{Output, ProgressDisplay, ProgressSnapshot, times};
use crate::session_info::SessionInfo;
use crate::signals::Signals;

/// Time after an overdue progress report until the daemon counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Waits until the condition is true, the wait ends in another way, or the daemon stays lost.
pub(super) async fn follow(
    endpoint: &Endpoint,
    request: &WaitRequest,
    progress: &mut ProgressDisplay,
    output: &mut Output,
    signals: &mut Signals,
) -> Ended {
    let mut follower = Follower {
        endpoint,
        request,
        progress,
        output,
        log_id: None,
        generation: request.wait.generation,
        lost_since: None,
        was_lost: false,
    };
    let ended = tokio::select! {
        biased;
        exit = signals.next() => {
            let waited = follower.progress.elapsed();
            return Ended::without_status(interrupted(exit, waited));
        }
        ended = follower.follow_over_losses() => ended,
    };
    let WaitEnded {
        outcome,
        status,
        oldest_sessions,
        plan,
    } = match ended {
        Ok(ended) => ended,
        Err(failure) => return Ended::without_status(failure),
    };
    Ended {
        outcome: Ok(outcome),
        status: Some(LastStatus::Daemon(Box::new(status))),
        oldest_sessions: oldest_sessions.into_iter().map(SessionInfo::Full).collect(),
        silence: None,
        plan,
    }
}

struct Follower<'a> {
    endpoint: &'a Endpoint,
    request: &'a WaitRequest,
    progress: &'a mut ProgressDisplay,
    output: &'a mut Output,
    /// The log id of the daemon at the beginning.
    log_id: Option<LogId>,
    /// The newest generation of the mode that was shown.
    generation: Option<u64>,
    /// Time of the loss, until the daemon answers again.
    lost_since: Option<Instant>,
    was_lost: bool,
}

impl Follower<'_> {
    async fn follow_over_losses(&mut self) -> Result<WaitEnded, Failure> {
        let mut daemon = self.endpoint.connect().await?;
        loop {
            let lost = match self.follow(&mut daemon).await {
                Err(failure) if failure.exit == Exit::Unreachable => failure,
                Err(failure) => return Err(self.opened_meanwhile(failure, &mut daemon).await),
                Ok(ended) => return Ok(ended),
            };
            let is_new = self.lost_since.is_none();
            let since = *self.lost_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= RECONNECT_MAX {
                return Err(lost);
            }
            self.was_lost = true;
            if is_new {
                let limit = RECONNECT_MAX.as_secs();
                let text =
                    format!("connection to soramoded lost: trying to reconnect for {limit} s");
                self.progress.note(self.output, &text);
            }
            let place = self.endpoint.on_host();
            let looking = |_| {
                let waited = times::span(since.elapsed());
                let limit = times::span(RECONNECT_MAX);
                Some(vec![
                    format!("looking for soramoded{place} for {waited}"),
                    format!("at most {limit}"),
                ])
            };
            let reconnecting = self.endpoint.reconnect(since);
            daemon = self.progress.until_answer(looking, reconnecting).await?;
        }
    }

    /// Restates the refusal of a wait for a drain: if the node was closed when the wait began, another client opened it meanwhile.
    async fn opened_meanwhile(&self, failure: Failure, daemon: &mut Daemon<'_>) -> Failure {
        let began_closed =
            self.was_lost || self.request.is_closed || self.request.wait.generation.is_some();
        let is_open = failure.error_type == Some(ErrorType::ConditionImpossible)
            && self.request.wait.wait_for == WaitFor::Drained;
        if !(is_open && began_closed) {
            return failure;
        }
        let status = daemon.call(&GetStatus {}).await;
        let mode = status.map_or(Mode::Normal, |status| status.mode.mode);
        let message = if mode == Mode::Initial {
            "stopped waiting: the node is initial"
        } else {
            "stopped waiting: the node was opened meanwhile"
        };
        Failure {
            exit: Exit::Superseded,
            message: message.to_owned(),
            hint: Some(self.hint_in(mode)),
            ..failure
        }
    }

    /// Returns the remedy after the node was open, for its present mode.
    fn hint_in(&self, mode: Mode) -> String {
        let WaitRequest { wait, then, .. } = self.request;
        superseded_hint(mode, wait, *then, Node::Daemon(self.endpoint))
    }

    /// Follows one wait on one connection.
    async fn follow(&mut self, daemon: &mut Daemon<'_>) -> Result<WaitEnded, Failure> {
        self.check_same_log(daemon).await?;
        let id = daemon.send(&self.wait()).await?;
        let silence = self.progress.every() + SILENCE_MAX;
        let (mut changes_id, mut status_id) = (None, None);
        let mut has_plan_closed = false;
        loop {
            let place = self.endpoint.on_host();
            let is_late = |for_now: Duration| {
                let silent = times::span(for_now);
                let is_late = for_now > self.progress.every() * 2;
                is_late.then(|| vec![format!("no answer from soramoded{place} for {silent}")])
            };
            let receiving = timeout(silence, daemon.receive());
            let message = match self.progress.until_answer(is_late, receiving).await {
                Ok(message) => message.map_err(|error| daemon.explain(Method::Wait, error))?,
                Err(_) => return Err(daemon.silent(silence)),
            };
            match message {
                Message::Answer(answered, answer) if answered == id => {
                    return daemon.read::<Wait>(answer);
                }
                Message::Answer(answered, answer) if changes_id == Some(answered) => {
                    changes_id = None;
                    // Without the history the wait goes on all the same.
                    if let Ok(changes) = daemon.read::<ListModeChanges>(answer) {
                        self.note_change(&changes);
                    }
                }
                Message::Answer(answered, answer) if status_id == Some(answered) => {
                    status_id = None;
                    if let Ok(status) = daemon.read::<GetStatus>(answer) {
                        self.take_status(&status, has_plan_closed)?;
                    }
                }
                Message::Notification(Notification::Progress(progress)) => {
                    let has_closed = progress.plan.as_deref().is_some_and(has_closed);
                    self.show(progress)?;
                    if self.request.until_closed && has_closed {
                        return closed_by_plan(daemon).await;
                    }
                    has_plan_closed = self.request.wait.plan.is_some() && has_closed;
                    let is_drain = self.request.wait.wait_for == WaitFor::Drained;
                    if is_drain && status_id.is_none() {
                        status_id = Some(daemon.send(&GetStatus {}).await?);
                    }
                    if is_drain && changes_id.is_none() {
                        let newest = ListModeChanges { limit: Some(1) };
                        changes_id = Some(daemon.send(&newest).await?);
                    }
                }
                Message::Answer(..) | Message::Notification(_) => {}
            }
        }
    }

    fn show(&mut self, progress: Progress) -> Result<(), Failure> {
        // A daemon that accepts the connection and does not answer is not back.
        if self.lost_since.take().is_some() {
            self.progress.note(self.output, "soramoded is back");
        }
        let oldest = progress.oldest_session.map(SessionInfo::Full);
        let snapshot = ProgressSnapshot {
            sessions: progress.sessions,
            connections: progress.connections,
            pending: progress.pending,
            ended: progress.ended,
            awaited: progress.awaited,
            oldest: oldest.as_ref(),
            plan: progress.plan.as_deref(),
            stalled: progress.stalled.as_ref(),
            in_force: progress.in_force,
        };
        self.progress.show(self.output, &snapshot)
    }

    /// Notes an SFU's API that cannot confirm the sessions. A plan that has closed the node needs a complete list.
    fn take_status(&mut self, status: &Status, has_plan_closed: bool) -> Result<(), Failure> {
        if !self.request.wait.assume_complete {
            self.progress.note_api(self.output, status);
        }
        if has_plan_closed {
            check_complete_soon(status)?;
        }
        Ok(())
    }

    /// Notes that another operator closed the node in another way; if one opens it, the wait ends.
    fn note_change(&mut self, history: &ModeChanges) {
        let Some(newest) = history.changes.first() else {
            return;
        };
        let generation = newest.change.generation;
        let is_new = self.generation.is_some_and(|known| known < generation);
        self.generation = self.generation.max(Some(generation));
        let is_of_plan =
            newest.change.plan_id.is_some() && newest.change.plan_id == self.request.wait.plan;
        if is_new && newest.change.mode.is_block() && !is_of_plan {
            let state = with_operator(newest.state(), &history.changes);
            let text = format!("still waiting, but {}", describe_change(&state));
            self.progress.note(self.output, &text);
        }
    }

    /// Checks that the daemon still has the log that this began with. With another it has lost the sessions: an empty list says nothing.
    async fn check_same_log(&mut self, daemon: &mut Daemon<'_>) -> Result<(), Failure> {
        if self.request.wait.wait_for != WaitFor::Drained || self.request.wait.assume_complete {
            return Ok(());
        }
        let log_id = daemon.call(&GetInfo {}).await?.log_id;
        if *self.log_id.get_or_insert_with(|| log_id.clone()) == log_id {
            return Ok(());
        }
        let status = daemon.call(&GetStatus {}).await?;
        let node = escape(status.node_name.as_str());
        let mode = status.mode.mode;
        if !mode.is_block() {
            let message = format!(
                "stopped waiting: soramoded was restarted without its state, and {node} is {mode}"
            );
            return Err(Failure::new(Exit::Superseded, message).with_hint(self.hint_in(mode)));
        }
        Err(restarted_without_state(&node))
    }

    /// Returns the request with the rest of the time.
    fn wait(&self) -> Wait {
        let left = self
            .request
            .limit
            .map(|limit| limit.saturating_sub(self.progress.elapsed()));
        Wait {
            timeout_seconds: left.map(|left| left.as_secs_f64()),
            progress_seconds: Some(self.progress.every().as_secs_f64()),
            ..self.request.wait.clone()
        }
    }
}

/// Returns whether a plan that runs has closed the node.
const fn has_closed(plan: &Plan) -> bool {
    matches!(plan.state, PlanState::Closed | PlanState::Ending)
}

/// Ends the wait for a plan that has closed the node.
async fn closed_by_plan(daemon: &mut Daemon<'_>) -> Result<WaitEnded, Failure> {
    let status = daemon.call(&GetStatus {}).await?;
    Ok(WaitEnded {
        outcome: Outcome::Reached,
        plan: status.plan.clone(),
        status,
        oldest_sessions: Vec::new(),
    })
}

/// Fails if the session list is incomplete and stays so until a client reports it: then no plan is done.
fn check_complete_soon(status: &Status) -> Result<(), Failure> {
    if status.is_complete_soon() {
        Ok(())
    } else {
        Err(status.sessions_incomplete().into())
    }
}
