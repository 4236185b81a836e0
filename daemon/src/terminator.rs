//! Ends sessions on the SFU, if an operator requests it or the ownership lease has expired. The
//! only part of the daemon that disconnects clients.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use soramode_core::handles::FenceId;
use soramode_core::input::Input;
use soramode_core::member::etcd::FenceScope;
use soramode_core::plan::calls::SfuOutcome;
use soramode_protocol::cluster::Fence;
use soramode_protocol::end::{EndMethod, EndSession, Ended};
use soramode_protocol::id::ChannelId;
use soramode_protocol::sora::DisconnectReason;
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::process::Command;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::announcer::{CALL_TIME, outcome_within};
use crate::args::cluster::OnFence;
use crate::notifier::Notifier;

/// Timeout for all sessions of a fence. Sessions that were not tried by then count as failed.
const END_TIME: Duration = Duration::from_secs(8);

/// Maximum number of concurrent requests to Sora.
const ENDS_IN_FLIGHT_MAX: usize = 8;

/// Maximum number of fences that a command or Sora's API executes at once: the others wait, and
/// their budget starts with their execution.
const FENCES_IN_FLIGHT_MAX: usize = 8;

/// Minimum timeout of the command that ends sessions, independent of the fence's budget.
const EXEC_TIME_MIN: Duration = Duration::from_secs(1);

/// Request to subscribers that end sessions.
#[derive(Clone, Debug)]
pub(crate) enum Termination {
    /// Session to end, as requested.
    Session(Arc<EndSession>),
    /// Fence: the ownership lease has expired; to be acknowledged when the sessions have ended.
    Fence(Fence),
}

/// Means of ending sessions.
#[derive(Clone, Debug)]
pub(crate) struct SessionTerminator {
    api: Option<SoraApi>,
    subscribers: Notifier<Termination>,
    on_fence: OnFence,
    budget: Duration,
    slots: Arc<Semaphore>,
}

impl SessionTerminator {
    /// Uses Sora's API, if known, and subscribers; at a fence the configured means, within
    /// `budget`.
    pub(crate) fn new(api: Option<SoraApi>, (on_fence, budget): (OnFence, Duration)) -> Self {
        Self {
            api,
            subscribers: Notifier::default(),
            on_fence,
            budget,
            slots: Arc::new(Semaphore::new(FENCES_IN_FLIGHT_MAX)),
        }
    }

    /// Subscribes a client that ends sessions.
    pub(crate) fn subscribe(&self) -> mpsc::Receiver<Termination> {
        self.subscribers.subscribe()
    }

    /// Returns the number of clients that accept end requests.
    pub(crate) fn subscribers(&self) -> u64 {
        self.subscribers.subscribers()
    }

    /// Returns whether Sora's API is known.
    pub(crate) const fn has_api(&self) -> bool {
        self.api.is_some()
    }

    /// Has a session ended: by Sora's API, if known, and by the subscribers. Returns within [`CALL_TIME`].
    pub(crate) async fn end(&self, session: EndSession) -> SfuOutcome {
        let (channel_id, plan_id) = (session.channel_id.clone(), session.plan_id.clone());
        // Subscribers are notified even if Sora is called: the session may be theirs.
        let subscribers = self
            .subscribers
            .send(&Termination::Session(Arc::new(session)));
        let api = match &self.api {
            Some(api) => {
                let reason = DisconnectReason {
                    plan_id: plan_id.as_ref(),
                    ..DisconnectReason::default()
                };
                let ended = api.disconnect_channel(&channel_id, Some(reason));
                Some(outcome_within(CALL_TIME, ended).await)
            }
            None => None,
        };
        SfuOutcome { api, subscribers }
    }

    /// Ends sessions that the node no longer owns, within a timeout.
    pub(crate) async fn fence(
        self,
        id: FenceId,
        of: FenceScope,
        sessions: Vec<EndSession>,
    ) -> Input {
        if self.on_fence == OnFence::Socket {
            let channel_id = channel_of(&of).cloned();
            let clients = self.subscribers.send(&Termination::Fence(Fence {
                id: id.0,
                channel_id,
            }));
            return Input::FenceNotified { id, clients };
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await.ok();
        let outcome = match (&self.on_fence, &self.api) {
            (OnFence::SoraApi, Some(api)) => self.fence_by_api(api, &of, sessions).await,
            (OnFence::Exec(command), _) => {
                run_command(command, &of, self.budget.max(EXEC_TIME_MIN)).await
            }
            (OnFence::None | OnFence::Socket, _) | (OnFence::SoraApi, None) => {
                Err("no means of ending sessions is configured".to_owned())
            }
        };
        Input::FenceFinished { id, outcome }
    }

    /// Ends sessions by Sora's API, which may have more sessions than it reported.
    async fn fence_by_api(
        &self,
        api: &SoraApi,
        of: &FenceScope,
        mut sessions: Vec<EndSession>,
    ) -> Result<(), String> {
        if *of == FenceScope::All {
            let listed = api
                .list_connections()
                .await
                .map_err(|error| error.to_string())?;
            let known = |channel: &ChannelId| {
                sessions
                    .iter()
                    .any(|session| session.channel_id == *channel)
            };
            let mut unknown: Vec<ChannelId> = listed
                .into_iter()
                .map(|it| it.channel_id)
                .filter(|channel| !known(channel))
                .collect();
            unknown.sort();
            unknown.dedup();
            let session = |channel_id| EndSession {
                channel_id,
                session_id: soramode_protocol::id::SessionId::generate([0; 16]),
                plan_id: None,
                reason: None,
            };
            sessions.extend(unknown.into_iter().map(session));
        }
        match end_by_api(api.clone(), sessions, END_TIME).await {
            Ended { failed: 0, .. } => Ok(()),
            Ended {
                failed, problem, ..
            } => Err(format!(
                "{failed} sessions could not be ended: {}",
                problem.unwrap_or_default()
            )),
        }
    }
}

const fn channel_of(of: &FenceScope) -> Option<&ChannelId> {
    match of {
        FenceScope::All => None,
        FenceScope::Channel(channel) => Some(channel),
    }
}

/// Runs the command in a shell; it has ended everything, or `$SORAMODE_CHANNEL_ID`'s session, when it exits with 0.
///
/// An id that no variable can carry is left out: then everything ends, which is more than was wanted and never less.
async fn run_command(command: &str, of: &FenceScope, time: Duration) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(command)
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null());
    match channel_of(of).filter(|channel| !channel.as_bytes().contains(&0)) {
        Some(channel) => shell.env("SORAMODE_CHANNEL_ID", channel.as_str()),
        None => shell.env_remove("SORAMODE_CHANNEL_ID"),
    };
    let cannot_run = |error| format!("cannot run the --on-fence command: {error}");
    let mut child = shell.spawn().map_err(cannot_run)?;
    let group = ProcessGroup(
        child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
    );
    let ended = timeout(time, child.wait()).await;
    let status = ended
        .map_err(|_| {
            format!(
                "the --on-fence command took longer than {} s",
                time.as_secs_f64()
            )
        })?
        .map_err(cannot_run)?;
    group.has_ended();
    if status.success() {
        Ok(())
    } else {
        Err(format!("the --on-fence command failed with {status}"))
    }
}

/// The process group of a command that is running. Dropped before it has ended, at its timeout or when the daemon stops, it is killed whole.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// The shell was waited for: its number may be another process's from now on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The process group may have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

async fn end_by_api(api: SoraApi, sessions: Vec<EndSession>, time: Duration) -> Ended {
    let mut ended = Ended {
        sessions: 0,
        via: EndMethod::SoraApi,
        failed: 0,
        problem: None,
        id: None,
    };
    let until = Instant::now() + time;
    let mut left = sessions.into_iter();
    let mut asking = JoinSet::new();
    loop {
        // A failure is likely to repeat: no more are tried then.
        while asking.len() < ENDS_IN_FLIGHT_MAX && ended.problem.is_none() && Instant::now() < until
        {
            let Some(session) = left.next() else { break };
            let api = api.clone();
            asking.spawn(async move {
                timeout_at(until, api.disconnect_channel(&session.channel_id, None)).await
            });
        }
        let Some(asked) = asking.join_next().await else {
            break;
        };
        // A channel without a session has ended as well.
        match asked.map_err(|bug| bug.to_string()).and_then(|asked| {
            asked
                .unwrap_or(Err(SoraApiError::TimedOut))
                .map_err(|it| it.to_string())
        }) {
            Ok(_) => ended.sessions += 1,
            Err(problem) => {
                ended.failed += 1;
                ended.problem = Some(problem);
            }
        }
    }
    let untried = left.count();
    if untried > 0 && ended.problem.is_none() {
        ended.problem = Some(format!(
            "not all could be ended within {} s; retry for the rest",
            time.as_secs()
        ));
    }
    ended.failed += u64::try_from(untried).unwrap_or(u64::MAX);
    ended
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn channel(id: &str) -> FenceScope {
        FenceScope::Channel(ChannelId::new(id).unwrap())
    }

    fn terminator(command: &str, budget: Duration) -> SessionTerminator {
        SessionTerminator::new(None, (OnFence::Exec(command.to_owned()), budget))
    }

    /// Returns a command that writes its shell's pid into this file and then hangs, in a process of
    /// its own.
    fn hangs(folder: &Path) -> (String, PathBuf) {
        let fifo = folder.join("pid");
        (
            format!("sleep 987 & echo $! > {}; wait; true", fifo.display()),
            fifo,
        )
    }

    async fn pid_in(file: &Path) -> Pid {
        let told = || {
            std::fs::read_to_string(file)
                .ok()?
                .strip_suffix('\n')
                .and_then(|text| Pid::from_raw(text.parse().ok()?))
        };
        let wait = async {
            while told().is_none() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
        told().unwrap()
    }

    /// Returns true if the process has exited: an orphan may remain a zombie until init has waited
    /// for it.
    fn has_exited(pid: Pid) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
            .unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with(['Z', 'X']))
    }

    async fn exits(pid: Pid) {
        let gone = async {
            while !has_exited(pid) {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_leaves_no_process_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (command, file) = hangs(folder.path());
        let input = terminator(&command, Duration::ZERO)
            .fence(FenceId(1), FenceScope::All, Vec::new())
            .await;
        assert!(
            matches!(input, Input::FenceFinished { outcome: Err(ref why), .. } if why.contains("longer than 1 s")),
            "{input:?}"
        );
        exits(pid_in(&file).await).await;
    }

    #[tokio::test]
    async fn a_command_under_way_ends_with_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let (command, file) = hangs(folder.path());
        let mut fences = JoinSet::new();
        fences.spawn(terminator(&command, PATIENCE).fence(FenceId(1), FenceScope::All, Vec::new()));
        let pid = pid_in(&file).await;
        fences.shutdown().await;
        exits(pid).await;
    }

    #[tokio::test]
    async fn a_command_is_given_every_id_that_a_variable_can_carry_and_all_is_ended_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ids");
        let command = format!(
            "printf '%s|' \"${{SORAMODE_CHANNEL_ID-everything}}\" >> {}",
            file.display()
        );
        for id in ["plain", "$(touch x)", "new\nline", "nul\0chan"] {
            let input = terminator(&command, PATIENCE)
                .fence(FenceId(1), channel(id), Vec::new())
                .await;
            assert_eq!(
                input,
                Input::FenceFinished {
                    id: FenceId(1),
                    outcome: Ok(())
                },
                "{id:?}"
            );
        }
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            "plain|$(touch x)|new\nline|everything|"
        );
    }

    #[tokio::test]
    async fn no_more_commands_run_at_one_time_than_there_are_places() {
        let folder = tempfile::tempdir().unwrap();
        let running = folder.path().join("running");
        let most = folder.path().join("most");
        std::fs::create_dir(&running).unwrap();
        let command = format!(
            "touch {0}/$$; ls {0} | wc -l >> {1}; sleep 0.05; rm {0}/$$",
            running.display(),
            most.display()
        );
        let terminator = terminator(&command, PATIENCE);
        let mut fences = JoinSet::new();
        for id in 0..4 * FENCES_IN_FLIGHT_MAX as u64 {
            fences.spawn(
                terminator
                    .clone()
                    .fence(FenceId(id), channel("spam"), Vec::new()),
            );
        }
        let input = timeout(PATIENCE, fences.join_all()).await.unwrap();
        assert!(
            input.iter().all(|input| matches!(
                input,
                Input::FenceFinished {
                    outcome: Ok(()),
                    ..
                }
            )),
            "{input:?}"
        );
        let counts = std::fs::read_to_string(most).unwrap();
        let most = counts
            .lines()
            .map(|line| line.trim().parse::<usize>().unwrap())
            .max();
        assert!(
            most.is_some_and(|most| most <= FENCES_IN_FLIGHT_MAX),
            "{most:?}"
        );
    }
}
