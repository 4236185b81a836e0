//! Ends sessions on the SFU, if an operator requests it or the ownership lease has expired. The
//! only part of the daemon that disconnects clients.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::handles::FenceId;
use soramode_core::input::Input;
use soramode_core::member::etcd::FenceScope;
use soramode_core::plan::calls::SfuOutcome;
use soramode_protocol::cluster::Fence;
use soramode_protocol::end::EndSession;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::args::cluster::OnFence;
use crate::sfu::fence_command::run_command;
use crate::sfu::means::Means;
use crate::sfu::socket::notifier::Notifier;

/// Maximum number of fences that a command or the SFU executes at once: the others wait, and
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
    means: Option<Means>,
    subscribers: Notifier<Termination>,
    on_fence: OnFence,
    budget: Duration,
    slots: Arc<Semaphore>,
}

impl SessionTerminator {
    /// Uses the SFU's means, if there are any, and subscribers; at a fence the configured means, within
    /// `budget`.
    pub(crate) fn new(means: Option<Means>, (on_fence, budget): (OnFence, Duration)) -> Self {
        Self {
            means,
            subscribers: Notifier::default(),
            on_fence,
            budget,
            slots: Arc::new(Semaphore::new(FENCES_IN_FLIGHT_MAX)),
        }
    }

    /// Subscribes a client that ends sessions. `overflow` is cancelled when it has too much unread.
    pub(crate) fn subscribe(&self, overflow: CancellationToken) -> mpsc::Receiver<Termination> {
        self.subscribers.subscribe(overflow)
    }

    /// Returns the number of clients that accept end requests.
    pub(crate) fn subscribers(&self) -> u64 {
        self.subscribers.subscribers()
    }

    /// Has a session ended: by the SFU, if it has means, and by the subscribers. Returns within the timeout of a call of the SFU.
    pub(crate) async fn end(&self, session: EndSession) -> SfuOutcome {
        let session = Arc::new(session);
        // Subscribers are notified even if the SFU is called: the session may be theirs.
        let subscribers = self
            .subscribers
            .send(&Termination::Session(Arc::clone(&session)));
        let api = match &self.means {
            Some(means) => Some(means.end(&session).await),
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
            let channel_id = of.channel().cloned();
            let clients = self.subscribers.send(&Termination::Fence(Fence {
                id: id.0,
                channel_id,
            }));
            return Input::FenceNotified { id, clients };
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await.ok();
        let outcome = match (&self.on_fence, &self.means) {
            (OnFence::SoraApi, Some(Means::Sora(sora))) => sora.fence(&of, sessions).await,
            (OnFence::Exec(command), _) => {
                run_command(command, &of, self.budget.max(EXEC_TIME_MIN)).await
            }
            (OnFence::None | OnFence::Socket, _)
            | (OnFence::SoraApi, None | Some(Means::Janus(_))) => {
                Err("no means of ending sessions is configured".to_owned())
            }
        };
        Input::FenceFinished { id, outcome }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use rustix::process::Pid;
    use soramode_protocol::id::ChannelId;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

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
