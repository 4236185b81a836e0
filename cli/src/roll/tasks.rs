//! The tasks of a roll on one host that take their time: the drain, the command, the reboot, and the wait until it is ready.

use std::ffi::OsStr;
use std::rc::Rc;
use std::time::Duration;

use soramode_protocol::client::Message;
use soramode_protocol::envelope::Notification;
use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{ChangeMode, InForce, SettableMode};
use soramode_protocol::node::{GetStatus, Membership, RoomCounts, Status};
use soramode_protocol::plan::{Plan, PlanState};
use soramode_protocol::request::Method;
use soramode_protocol::wait::{Outcome, Wait, WaitEnded};
use soramode_roll::{HostIndex, SEEK_TIME_MAX, Stop, StopKind, Task, TaskEnd};
use tokio::time::{Instant, sleep, timeout};

use super::calls::is_passing;
use super::command_end::{Executed, end_of_command, with_last_line};
use super::request::RollRequest;
use super::show::RollView;
use super::stop::stop_of;
use crate::daemon::{Daemon, RECONNECT_MAX};
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::mode_info::ModeInfo;
use crate::node::Node;
use crate::output::escape::escape;
use crate::output::{counted, times};
use crate::plan::describe_not_done;
use crate::sfu::{FailingApi, describe_not_in_force};
use crate::ssh::SshHost;
use crate::ssh::command::{CommandThere, Exec, shown_line};
use crate::ssh::exec_lines::{BEGUN, REBOOT};
use crate::wait::{lacks_confirmation, unconfirmed};

/// Pause between two attempts to reach a host, and between two looks at it.
const PAUSE: Duration = Duration::from_secs(2);

/// Pause between two progress reports of a drain.
const PROGRESS_PAUSE: Duration = Duration::from_secs(1);

/// Time after an overdue progress report until the daemon counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A task on one host.
pub(super) struct Worker {
    pub(super) host: HostIndex,
    pub(super) endpoint: Rc<Endpoint>,
    pub(super) request: Rc<RollRequest>,
    pub(super) view: Rc<RollView>,
}

impl Worker {
    pub(super) async fn run(&self, task: Task) -> TaskEnd {
        let ended = match task {
            Task::Drain(plan) => self.drain(plan).await,
            Task::Command => return self.command().await,
            Task::Reboot => self.reboot().await,
            Task::Ready => self.ready().await,
        };
        match ended {
            Ok(()) => TaskEnd::Done,
            Err(stop) => TaskEnd::Failed(stop),
        }
    }

    fn stop(&self, kind: StopKind, problem: impl Into<String>) -> Stop {
        Stop::on(self.host, kind, problem)
    }

    fn ssh(&self) -> Result<&SshHost, Stop> {
        let host = self.endpoint.host();
        host.ok_or_else(|| self.stop(StopKind::Usage, "is not reached over ssh"))
    }

    /// Waits until the node is drained. A lost daemon is looked for again.
    async fn drain(&self, plan: Option<PlanId>) -> Result<(), Stop> {
        let began = Instant::now();
        let mut lost_since = None;
        loop {
            let failure = match self.drain_once(plan.as_ref(), began, &mut lost_since).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let since = *lost_since.get_or_insert_with(Instant::now);
            if !is_passing(failure.exit) || since.elapsed() >= RECONNECT_MAX {
                return Err(stop_of(self.host, &failure));
            }
            self.view
                .waits_for(self.host, "soramoded does not answer: looking for it");
            sleep(PAUSE).await;
        }
    }

    /// Waits over one connection.
    async fn drain_once(
        &self,
        plan: Option<&PlanId>,
        began: Instant,
        lost_since: &mut Option<Instant>,
    ) -> Result<(), Failure> {
        let mut daemon = self.endpoint.connect().await?;
        let drain = &self.request.work.drain;
        let base = match (plan, &drain.after_close) {
            (None, _) => drain.wait.clone(),
            (Some(_), Some(after_close)) => after_close.clone(),
            (Some(plan), None) => Wait {
                plan: Some(plan.clone()),
                ..Wait::new(soramode_protocol::wait::WaitFor::Drained)
            },
        };
        let status = match &base.plan {
            // It waits for the plan itself.
            Some(_) => daemon.call(&GetStatus {}).await?,
            None => closed(&mut daemon).await?,
        };
        self.view.sessions(self.host, status.sessions, None);
        let left = drain
            .limit
            .map(|limit| limit.saturating_sub(began.elapsed()));
        let wait = Wait {
            generation: base.plan.is_none().then_some(status.mode.generation),
            timeout_seconds: left.map(|left| left.as_secs_f64()),
            progress_seconds: Some(PROGRESS_PAUSE.as_secs_f64()),
            ..base
        };
        let ended = self.follow(&mut daemon, &wait, lost_since).await?;
        match ended.outcome {
            Outcome::Reached => Ok(()),
            Outcome::Superseded => Err(not_drained(&ended, Node::Daemon(&self.endpoint))),
            Outcome::Timeout => Err(self.timed_out(&wait, &ended.status, &mut daemon).await),
        }
    }

    async fn follow(
        &self,
        daemon: &mut Daemon<'_>,
        wait: &Wait,
        lost_since: &mut Option<Instant>,
    ) -> Result<WaitEnded, Failure> {
        let id = daemon.send(wait).await?;
        let silence = PROGRESS_PAUSE + SILENCE_MAX;
        loop {
            let message = match timeout(silence, daemon.receive()).await {
                Ok(message) => message.map_err(|error| daemon.explain(Method::Wait, error))?,
                Err(_) => return Err(daemon.silent(silence)),
            };
            match message {
                Message::Answer(answered, answer) if answered == id => {
                    return daemon.read::<Wait>(answer);
                }
                Message::Notification(Notification::Progress(progress)) => {
                    *lost_since = None;
                    let (sessions, in_force) = (progress.sessions, progress.in_force);
                    let obstacle = not_in_force(wait, sessions, in_force, None);
                    self.view.sessions(self.host, sessions, obstacle);
                }
                Message::Answer(..) | Message::Notification(_) => {}
            }
        }
    }

    /// The failure for a drain that took too long. Opens the node again if the operator wants that.
    async fn timed_out(&self, wait: &Wait, status: &Status, daemon: &mut Daemon<'_>) -> Failure {
        let limit = times::span(self.request.work.drain.limit.unwrap_or_default());
        let sessions = counted(status.sessions, "session");
        let obstacle = not_in_force(wait, status.sessions, status.in_force, status.rooms);
        let failing = FailingApi::awaited(status).filter(|_| lacks_confirmation(wait, status));
        let failure = match (failing, obstacle) {
            (Some(api), _) => {
                let why = api.describe(times::local);
                let message = format!("has {sessions} left after {limit}, not confirmed: {why}");
                unconfirmed(message, &api)
            }
            (None, Some(obstacle)) => {
                let message =
                    format!("has {sessions} left after {limit}, but its mode is {obstacle}");
                Failure::new(Exit::TimedOut, message)
            }
            (None, None) => Failure::new(
                Exit::TimedOut,
                format!("still has {sessions} after {limit}"),
            ),
        };
        if !self.request.work.drain.undoes {
            return failure;
        }
        let change = ChangeMode {
            reason: Some("drain timed out".to_owned()),
            if_roll: Some(self.request.settings.roll.clone()),
            on_behalf_of: Some(self.request.settings.by.clone()),
            ..ChangeMode::to(SettableMode::Normal)
        };
        match daemon.call(&change).await {
            Ok(_) => failure.and("It is open again"),
            Err(problem) => failure.and(format!("It could not be opened: {}", problem.message)),
        }
    }

    /// Runs the operator's command.
    async fn command(&self) -> TaskEnd {
        let RollRequest { settings, work, .. } = &*self.request;
        let executed = self.execute(Exec::Command(&settings.roll, &work.command));
        let end = executed.await.map_or_else(TaskEnd::Failed, |it| it.end);
        if let TaskEnd::CommandEnded(code) = &end {
            self.view.command_exit(self.host, *code);
        }
        end
    }

    /// Looks on the host for the operator's command after its connection was lost. A command that is gone is recorded there, where the roll
    /// reads it.
    pub(super) async fn look_for_command(&self) {
        let began = Instant::now();
        let Some(host) = self.endpoint.host() else {
            return;
        };
        let mut is_said = false;
        while began.elapsed() < SEEK_TIME_MAX {
            // A command with the exit code of a lost connection has only ended.
            if host.look(&self.request.settings.roll).await == Some(CommandThere::NotRunning) {
                return;
            }
            if !std::mem::replace(&mut is_said, true) {
                self.view.output_lost(self.host);
            }
            sleep(PAUSE).await;
        }
    }

    /// Works under `exec-stdio`, which refuses if the node is not this roll's any more, and shows the output.
    async fn execute(&self, exec: Exec<'_>) -> Result<Executed, Stop> {
        let host = self.ssh()?;
        let (mut has_begun, mut last_line) = (false, None);
        let ended = host
            .run_command(&host.exec_line(exec), async |_, text: &str| {
                if !has_begun && text == BEGUN {
                    has_begun = true;
                } else {
                    if !text.trim().is_empty() {
                        last_line = Some(text.to_owned());
                    }
                    self.view.output(self.host, text).await;
                }
            })
            .await;
        let ended = ended.map_err(|failure| stop_of(self.host, &failure))?;
        Ok(Executed {
            end: end_of_command(self.host, has_begun, &ended),
            last_line: last_line.map(|line| shown_line(&line)),
        })
    }

    /// Reboots the machine, and waits until the host answers with another boot id.
    async fn reboot(&self) -> Result<(), Stop> {
        let host = self.ssh()?;
        let began = Instant::now();
        let Some(before) = host.read_boot_id().await else {
            return Err(self.stop(StopKind::Unreachable, "cannot be reached to reboot it"));
        };
        let executed = self
            .execute(Exec::Reboot(&self.request.settings.roll))
            .await?;
        match executed.end {
            // The reboot may end the connection first.
            TaskEnd::CommandEnded(0) | TaskEnd::Lost(_) | TaskEnd::Done => {}
            TaskEnd::CommandEnded(code) => {
                let why = with_last_line(executed.last_line.as_deref());
                let problem = format!("{REBOOT} failed (exit code {code}){why}");
                return Err(self.stop(StopKind::Failed, problem));
            }
            TaskEnd::Failed(stop) => return Err(stop),
        }
        let limit = self.request.work.ready_timeout;
        while began.elapsed() < limit {
            sleep(PAUSE).await;
            if host.read_boot_id().await.is_some_and(|now| now != before) {
                return Ok(());
            }
        }
        let problem = format!("has not come back {} after the reboot", times::span(limit));
        Err(self.stop(StopKind::TimedOut, problem))
    }

    /// Waits until soramoded answers, the node has joined its cluster if it has one, and the operator's own check succeeds.
    async fn ready(&self) -> Result<(), Stop> {
        let limit = self.request.work.ready_timeout;
        let attempts = async {
            loop {
                match self.is_ready().await {
                    Ok(()) => return,
                    Err(why) => self.view.waits_for(self.host, &why),
                }
                sleep(PAUSE).await;
            }
        };
        let ready = timeout(limit, attempts).await;
        ready.map_err(|_| {
            let why = match self.view.last_wait(self.host) {
                why if why.is_empty() => why,
                why => format!(": {why}"),
            };
            let problem = format!("was not ready within {}{why}", times::span(limit));
            self.stop(StopKind::TimedOut, problem)
        })
    }

    async fn is_ready(&self) -> Result<(), String> {
        let status = async { self.endpoint.connect().await?.call(&GetStatus {}).await };
        let status = status.await.map_err(|failure| failure.message)?;
        if status.cluster.is_some() && status.membership != Membership::Joined {
            return Err(format!("it is {}", status.membership_words()));
        }
        let Some(ready) = &self.request.work.ready else {
            return Ok(());
        };
        let host = self.ssh().map_err(|stop| stop.problem)?;
        let end = host
            .run_command(OsStr::new(ready), async |_, _| ())
            .await
            .map_err(|failure| failure.message)?;
        match end.code {
            Some(0) => Ok(()),
            Some(code) => {
                let why = with_last_line(end.last_line.as_deref());
                Err(format!("{ready} ends with {code}{why}"))
            }
            None => Err("ssh was ended by a signal".to_owned()),
        }
    }
}

/// Describes a node with few enough sessions that is not drained, because the SFU does not hold its mode.
fn not_in_force(
    wait: &Wait,
    sessions: u64,
    in_force: Option<InForce>,
    rooms: Option<RoomCounts>,
) -> Option<String> {
    let is_awaited = !wait.assume_in_force && sessions <= wait.max_sessions.unwrap_or_default();
    let why = describe_not_in_force(in_force.filter(|_| is_awaited)?, rooms)?;
    Some(format!("not in force: {why}"))
}

/// Returns the failure for a drain that another user ended, or a plan that is over and not done.
fn not_drained(ended: &WaitEnded, node: Node<'_>) -> Failure {
    let Some(plan) = &ended.plan else {
        return Failure::new(
            Exit::Superseded,
            "another user changed the mode during the drain",
        );
    };
    let now = ModeInfo::of(ended.status.mode.clone());
    let name = escape(ended.status.node_name.as_str());
    describe_not_done(plan, (&name, &now), node)
}

/// Waits until the node is closed: its plan may do that later.
async fn closed(daemon: &mut Daemon<'_>) -> Result<Status, Failure> {
    loop {
        let status = daemon.call(&GetStatus {}).await?;
        let closes_later = status.plan.as_deref().is_some_and(closes_later);
        if status.mode.mode.is_block() || !closes_later {
            return Ok(status);
        }
        sleep(PAUSE).await;
    }
}

const fn closes_later(plan: &Plan) -> bool {
    matches!(plan.state, PlanState::Scheduled | PlanState::Lead)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use soramode_protocol::plan::PlanOutcome;

    use super::*;

    /// The end of a wait on a closed node, for a plan with this outcome if there is one.
    fn superseded(outcome: Option<PlanOutcome>) -> WaitEnded {
        let status = json!({
            "mode": "block_new_session", "generation": 2, "since": "2026-11-22T20:00:00.000000Z", "actor": "uid:0(root)",
            "node_name": "node-01", "membership": "standalone", "sessions": 1, "connections": 1, "pending": 0,
            "sessions_complete": true, "sources": [], "rejected": {}, "deliveries": {"pending": 0, "failed": 0},
            "storage": {"state": "memory"}, "version": "0.1.0", "protocol": 1, "uptime_seconds": 1,
            "started_at": "2026-11-22T20:00:00.000000Z",
        });
        let plan = outcome.map(|outcome| {
            Box::new(Plan {
                state: PlanState::Over,
                outcome: Some(outcome),
                why: Some("late by 20 min".to_owned()),
                ..crate::plan::describe::tests::plan()
            })
        });
        WaitEnded {
            outcome: Outcome::Superseded,
            status: serde_json::from_value(status).unwrap(),
            oldest_sessions: Vec::new(),
            plan,
        }
    }

    #[test]
    fn a_plan_that_is_not_done_is_no_change_of_another_user() {
        let endpoint = Endpoint::local(Some("/s".into()));
        for (outcome, exit, words) in [
            (
                None,
                Exit::Superseded,
                "another user changed the mode during the drain",
            ),
            (
                Some(PlanOutcome::Missed),
                Exit::TimedOut,
                " was missed (late by 20 min)",
            ),
            (
                Some(PlanOutcome::Failed),
                Exit::Failed,
                " failed (late by 20 min)",
            ),
            (
                Some(PlanOutcome::Cancelled),
                Exit::Superseded,
                " was cancelled (late by 20 min)",
            ),
            (
                Some(PlanOutcome::Replaced),
                Exit::Superseded,
                " was replaced by another plan",
            ),
        ] {
            let failure = not_drained(&superseded(outcome), Node::Daemon(&endpoint));
            assert_eq!(failure.exit, exit, "{outcome:?}");
            assert!(failure.message.contains(words), "{}", failure.message);
        }
    }

    #[test]
    fn a_drain_is_held_up_where_few_enough_sessions_are_left_and_the_mode_is_awaited() {
        let rooms = RoomCounts {
            settled: 4,
            outstanding: 0,
            impossible: 1,
        };
        let describe = |wait: &Wait, sessions, in_force| {
            not_in_force(wait, sessions, Some(in_force), Some(rooms))
        };
        let wait = Wait::new(soramode_protocol::wait::WaitFor::Drained);
        let words = "not in force: 1 of 5 rooms cannot be locked or unlocked";
        assert_eq!(describe(&wait, 0, InForce::Partial).as_deref(), Some(words));
        assert_eq!(describe(&wait, 1, InForce::Partial), None);
        assert_eq!(describe(&wait, 0, InForce::Yes), None);
        let assumed = Wait {
            assume_in_force: true,
            ..wait
        };
        assert_eq!(describe(&assumed, 0, InForce::Partial), None);
    }
}
