//! Waiting over Sora's HTTP API, which has no waits: it is polled.

use std::time::{Duration, Instant};

use soramode_protocol::error::Error;
use soramode_protocol::node::StorageState;
use soramode_protocol::or_pending::or_pending;
use soramode_protocol::wait::{OLDEST_SESSIONS_MAX, Outcome, WaitFor};
use tokio::time::sleep;

use super::request::{Ended, WaitRequest, interrupted, restarted_without_state};
use crate::api::snapshot::SessionSnapshot;
use crate::api::{Api, Detail};
use crate::error::{Exit, Failure};
use crate::last_status::{DrainCondition, Drained, LastStatus};
use crate::output::{Output, ProgressDisplay, ProgressSnapshot, times};
use crate::session_info::SessionInfo;
use crate::signals::Signals;

/// Least pause between two reads. It is ten times as long as a read takes: many connections are a
/// long list.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Limit of retries to a silent node in a wait that has no limit of its own.
const LOST_MAX: Duration = Duration::from_hours(1);

/// Waits until the condition is true, the wait ends in another way, or the node fails for good.
pub(super) async fn poll(
    api: &Api,
    request: &WaitRequest,
    progress: &mut ProgressDisplay,
    output: &mut Output,
    signals: &mut Signals,
) -> Ended {
    let limit = request.limit.map(sleep);
    let mut poller = Poller {
        api,
        request,
        progress,
        output,
        is_closed: request.is_closed,
        true_since: None,
        shown: None,
        lost: None,
        last: None,
    };
    let outcome = tokio::select! {
        biased;
        exit = signals.next() => Err(interrupted(exit, poller.progress.elapsed())),
        outcome = poller.poll_until_end() => outcome,
        () = or_pending(limit) => Ok(Outcome::Timeout),
    };
    let silence = match (&poller.lost, &poller.last) {
        (Some((since, failure)), _) => Some(format!(
            "{} has not answered for {}: {failure}",
            api.name(),
            times::span(since.elapsed())
        )),
        (None, None) => Some(format!("{} did not answer", api.name())),
        (None, Some(_)) => None,
    };
    let status = poller.last.take();
    let oldest_sessions = match &status {
        Some(status) if silence.is_none() => oldest_sessions(api, status).await,
        Some(_) | None => Vec::new(),
    };
    Ended {
        outcome,
        status,
        oldest_sessions,
        silence,
        plan: None,
    }
}

async fn oldest_sessions(api: &Api, status: &LastStatus) -> Vec<SessionInfo> {
    let snapshot = match status {
        LastStatus::Listed(listed) => listed.snapshot.clone().unwrap_or_default(),
        LastStatus::Daemon(status) if status.sessions == 0 => SessionSnapshot::default(),
        // Connections that cannot be listed are still counted.
        LastStatus::Daemon(_) => api.snapshot().await.unwrap_or_default(),
    };
    snapshot
        .list
        .into_iter()
        .take(OLDEST_SESSIONS_MAX)
        .collect()
}

struct Poller<'a> {
    api: &'a Api,
    request: &'a WaitRequest,
    progress: &'a mut ProgressDisplay,
    output: &'a mut Output,
    /// The node was closed at a read, or closed before the wait began.
    is_closed: bool,
    /// Start of the time for which the condition has been true.
    true_since: Option<Instant>,
    /// Time of the last progress.
    shown: Option<Instant>,
    /// Time and reason of the loss of the node.
    lost: Option<(Instant, Failure)>,
    last: Option<LastStatus>,
}

impl Poller<'_> {
    async fn poll_until_end(&mut self) -> Result<Outcome, Failure> {
        let want = match self.request.wait.wait_for {
            WaitFor::Drained => Detail::Counts,
            WaitFor::Mode | WaitFor::Joined | WaitFor::Ended => Detail::Mode,
        };
        loop {
            let began = Instant::now();
            let late = self.progress.every() * 2;
            let reading = self.api.read_status(want);
            let words = |waited| {
                let silence = self.describe_silence((waited > late).then_some(waited));
                silence.map(|it| vec![it])
            };
            let outcome = match self.progress.until_answer(words, reading).await {
                Ok(status) => self.take(status, began)?,
                Err(failure) => self.take_loss(failure).map(|()| None)?,
            };
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            let pausing = sleep(PAUSE_MIN.max(began.elapsed() * 10));
            let words = |_| self.describe_silence(None).map(|it| vec![it]);
            self.progress.until_answer(words, pausing).await;
        }
    }

    /// Describes for how long the node has been lost, or has not answered a read.
    fn describe_silence(&self, read: Option<Duration>) -> Option<String> {
        let lost = self.lost.as_ref().map(|(since, _)| since.elapsed());
        let silent = times::span(lost.or(read)?);
        Some(format!("no answer from {} for {silent}", self.api.name()))
    }

    fn take(&mut self, status: LastStatus, began: Instant) -> Result<Option<Outcome>, Failure> {
        let was_lost = self.lost.take().is_some();
        if was_lost {
            let text = format!("{} is back", self.api.name());
            self.progress.note(self.output, &text);
        }
        let is_first = was_lost || self.last.is_none();
        self.check_same_daemon(&status)?;
        self.note_api(&status);
        let status = self.last.insert(status);
        let wait = &self.request.wait;
        let enough = DrainCondition {
            max_sessions: self.request.max_sessions(),
            assume_complete: wait.assume_complete,
            assume_in_force: wait.assume_in_force,
        };
        let is_true = match status.drained(enough) {
            _ if wait.wait_for != WaitFor::Drained => wait.mode == Some(status.mode()),
            Drained::Yes => true,
            Drained::Left(_) | Drained::NotInForce(_) => false,
            Drained::Open if self.is_closed => return Ok(Some(Outcome::Superseded)),
            Drained::Open => return Err(Error::cannot_drain(status.mode()).into()),
            // A list that a Sora fails to return later is read again meanwhile.
            Drained::Incomplete if !is_first && is_socket_complete(status) => false,
            Drained::Incomplete => check_complete_soon(status).map(|()| false)?,
        };
        self.is_closed = true;
        // A pending client is in no list of a Sora yet: an empty node without soramoded is read twice.
        let needs_second_read = status.of_daemon().is_none() && wait.wait_for == WaitFor::Drained;
        let needed = if needs_second_read {
            self.request.settle().max(PAUSE_MIN)
        } else {
            self.request.settle()
        };
        if is_true {
            let since = *self.true_since.get_or_insert(began);
            if began.saturating_duration_since(since) >= needed {
                return Ok(Some(Outcome::Reached));
            }
        } else {
            self.true_since = None;
        }
        self.show().map(|()| None)
    }

    /// Notes an SFU's API that cannot confirm the sessions to soramoded.
    fn note_api(&mut self, status: &LastStatus) {
        let wait = &self.request.wait;
        let matters = wait.wait_for == WaitFor::Drained && !wait.assume_complete;
        if let Some(status) = status.of_daemon().filter(|_| matters) {
            self.progress.note_api(self.output, status);
        }
    }

    /// Checks that soramoded was not restarted without its state: then it has lost the sessions, and an empty list says nothing.
    fn check_same_daemon(&self, status: &LastStatus) -> Result<(), Failure> {
        let last = self.last.as_ref().and_then(LastStatus::of_daemon);
        let (Some(before), Some(now)) = (last, status.of_daemon()) else {
            return Ok(());
        };
        let has_lost_state =
            before.started_at != now.started_at && now.storage.state == StorageState::Memory;
        let matters = self.request.wait.wait_for == WaitFor::Drained
            && now.mode.mode.is_block()
            && !self.request.wait.assume_complete;
        if has_lost_state && matters {
            Err(restarted_without_state(&status.name()))
        } else {
            Ok(())
        }
    }

    /// Keeps polling a node that answered once: a network failure, a restart or an overload passes.
    fn take_loss(&mut self, failure: Failure) -> Result<(), Failure> {
        self.true_since = None;
        let has_answered = self.last.is_some() || self.is_closed;
        let may_pass = matches!(
            failure.exit,
            Exit::Unreachable | Exit::Failed | Exit::Refused
        );
        if !has_answered || !may_pass {
            return Err(failure);
        }
        let since = if let Some((since, _)) = &self.lost {
            *since
        } else {
            self.note_loss(&failure);
            Instant::now()
        };
        if self.request.limit.is_none() && since.elapsed() >= LOST_MAX {
            return Err(failure);
        }
        self.lost = Some((since, failure));
        Ok(())
    }

    fn note_loss(&self, failure: &Failure) {
        let left = match self.request.limit {
            Some(limit) => limit.saturating_sub(self.progress.elapsed()),
            None => LOST_MAX,
        };
        let text = format!(
            "connection to {} lost: {failure}. Trying again for at most {}",
            self.api.name(),
            times::span(left)
        );
        self.progress.note(self.output, &text);
    }

    /// Shows the progress, as often as a daemon would report it. The first read of a wait is not progress yet.
    fn show(&mut self) -> Result<(), Failure> {
        let Some(status) = &self.last else {
            return Ok(());
        };
        let (sessions, connections) = status.counts().unwrap_or_default();
        self.progress.add_seen(sessions);
        let shown = *self.shown.get_or_insert_with(Instant::now);
        if shown.elapsed() < self.progress.every() {
            return Ok(());
        }
        self.shown = Some(Instant::now());
        let oldest = match status {
            LastStatus::Daemon(status) => status.oldest_session.clone().map(SessionInfo::Full),
            LastStatus::Listed(listed) => listed
                .snapshot
                .as_ref()
                .and_then(|snapshot| snapshot.list.first().cloned()),
        };
        let snapshot = ProgressSnapshot {
            sessions,
            connections,
            pending: status.pending(),
            ended: 0,
            awaited: None,
            oldest: oldest.as_ref(),
            plan: None,
            stalled: None,
            in_force: status.of_daemon().and_then(|status| status.in_force),
        };
        self.progress.show(self.output, &snapshot)
    }
}

fn is_socket_complete(status: &LastStatus) -> bool {
    status.of_daemon().is_none_or(|status| {
        status
            .sources
            .iter()
            .all(|source| source.name != "socket" || source.complete)
    })
}

/// Fails if the session list is incomplete and soramoded's next poll of its Sora will not complete
/// it.
fn check_complete_soon(status: &LastStatus) -> Result<(), Failure> {
    match status.of_daemon() {
        Some(status) if !status.is_complete_soon() => Err(status.sessions_incomplete().into()),
        Some(_) | None => Ok(()),
    }
}
