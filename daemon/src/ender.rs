//! Has the SFU end sessions: where an operator asked for it, and where the right to serve them is over. Nothing else here cuts anybody off.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::member::order::{FenceOf, Heard};
use soramode_protocol::cluster::Fence;
use soramode_protocol::end::{EndSession, Ended, Means};
use soramode_protocol::error::Error;
use soramode_protocol::id::ChannelId;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::process::Command;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::args::cluster::OnFence;

/// How long Sora may take for all sessions that one request names. What it was not asked for by then is said to have failed.
const END_TIME: Duration = Duration::from_secs(8);

/// Sessions that Sora is asked to end at one time.
const END_AT_ONCE: usize = 8;

/// Requests to end sessions that a subscriber may have unread.
const UNREAD_REQUESTS_MAX: usize = 64;

/// The least that a command may take that ends sessions, whatever the fence's budget.
const EXEC_TIME_MIN: Duration = Duration::from_secs(1);

/// What each subscriber that ends sessions is told.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// These are to end: somebody asked for it.
    Sessions(Arc<[EndSession]>),
    /// The right to them is over; it says so when they have ended.
    Fence(Fence),
}

/// Whoever can end sessions.
#[derive(Clone, Debug)]
pub(crate) struct Ender {
    api: Option<SoraApi>,
    subscribers: broadcast::Sender<Ending>,
    on_fence: OnFence,
    budget: Duration,
}

impl Ender {
    /// By Sora's API, where that is known, and by whoever subscribes; at a fence by its own means, which may take so long.
    pub(crate) fn new(api: Option<SoraApi>, (on_fence, budget): (OnFence, Duration)) -> Self {
        Self { api, subscribers: broadcast::Sender::new(UNREAD_REQUESTS_MAX), on_fence, budget }
    }

    /// For a client that ends sessions: what it is to end.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Ending> {
        self.subscribers.subscribe()
    }

    /// Has these sessions ended, in a bounded time.
    pub(crate) async fn end(self, sessions: Vec<EndSession>) -> Answer {
        let asked = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        // Subscribers hear of it also where Sora is asked: the session may be theirs.
        let heard = self.subscribers.send(Ending::Sessions(sessions.as_slice().into()));
        match self.api {
            Some(api) => Ok(Reply::Ended(by_sora(api, sessions, END_TIME).await)),
            None => match heard {
                Ok(_) => Ok(Reply::Ended(Ended { sessions: asked, means: Means::Subscribers, failed: 0, problem: None })),
                Err(_) => Err(Error::no_means()),
            },
        }
    }

    /// Has ended what is served without a right to it, in a bounded time.
    pub(crate) async fn fence(self, id: u64, of: FenceOf, sessions: Vec<EndSession>) -> Heard {
        let outcome = match (&self.on_fence, &self.api) {
            (OnFence::Socket, _) => {
                let channel_id = channel_of(&of).cloned();
                let clients = self.subscribers.send(Ending::Fence(Fence { id, channel_id })).unwrap_or(0);
                return Heard::FenceTold { id, clients: u64::try_from(clients).unwrap_or(u64::MAX) };
            }
            (OnFence::SoraApi, Some(api)) => self.fence_by_sora(api, &of, sessions).await,
            (OnFence::Exec(command), _) => by_command(command, &of, self.budget.max(EXEC_TIME_MIN)).await,
            (OnFence::None, _) | (OnFence::SoraApi, None) => Err("nothing here ends sessions".to_owned()),
        };
        Heard::FenceDone { id, outcome }
    }

    /// What Sora has may be more than what it told of.
    async fn fence_by_sora(&self, api: &SoraApi, of: &FenceOf, mut sessions: Vec<EndSession>) -> Result<(), String> {
        if *of == FenceOf::All {
            let listed = api.list_connections().await.map_err(|error| error.to_string())?;
            let known = |channel: &ChannelId| sessions.iter().any(|session| session.channel_id == *channel);
            let mut unknown: Vec<ChannelId> = listed.into_iter().map(|it| it.channel_id).filter(|channel| !known(channel)).collect();
            unknown.sort();
            unknown.dedup();
            let session = |channel_id| EndSession { channel_id, session_id: soramode_protocol::id::SessionId::generate([0; 16]) };
            sessions.extend(unknown.into_iter().map(session));
        }
        match by_sora(api.clone(), sessions, END_TIME).await {
            Ended { failed: 0, .. } => Ok(()),
            Ended { failed, problem, .. } => Err(format!("{failed} sessions could not be ended: {}", problem.unwrap_or_default())),
        }
    }
}

const fn channel_of(of: &FenceOf) -> Option<&ChannelId> {
    match of {
        FenceOf::All => None,
        FenceOf::Channel(channel) => Some(channel),
    }
}

/// Runs the command in a shell; it has ended everything, or `$SORAMODE_CHANNEL_ID`'s session, when it exits with 0.
async fn by_command(command: &str, of: &FenceOf, time: Duration) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(command).kill_on_drop(true).stdin(std::process::Stdio::null());
    match channel_of(of) {
        Some(channel) => shell.env("SORAMODE_CHANNEL_ID", channel.as_str()),
        None => shell.env_remove("SORAMODE_CHANNEL_ID"),
    };
    match timeout(time, shell.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("the command of --on-fence ended with {status}")),
        Ok(Err(error)) => Err(format!("the command of --on-fence cannot be run: {error}")),
        Err(_) => Err(format!("the command of --on-fence took longer than {} s", time.as_secs_f64())),
    }
}

async fn by_sora(api: SoraApi, sessions: Vec<EndSession>, time: Duration) -> Ended {
    let mut ended = Ended { sessions: 0, means: Means::SoraApi, failed: 0, problem: None };
    let until = Instant::now() + time;
    let mut left = sessions.into_iter();
    let mut asking = JoinSet::new();
    loop {
        // What fails once is likely to fail again: then no more are tried.
        while asking.len() < END_AT_ONCE && ended.problem.is_none() && Instant::now() < until {
            let Some(session) = left.next() else { break };
            let api = api.clone();
            asking.spawn(async move { timeout_at(until, api.disconnect_channel(session.channel_id)).await });
        }
        let Some(asked) = asking.join_next().await else { break };
        // A channel that is gone by now has ended as well.
        match asked
            .map_err(|bug| bug.to_string())
            .and_then(|asked| asked.unwrap_or(Err(SoraApiError::TimedOut)).map_err(|it| it.to_string()))
        {
            Ok(_) => ended.sessions += 1,
            Err(problem) => {
                ended.failed += 1;
                ended.problem = Some(problem);
            }
        }
    }
    let untried = left.count();
    if untried > 0 && ended.problem.is_none() {
        ended.problem = Some(format!("there were too many for {} s: ask again for the rest", time.as_secs()));
    }
    ended.failed += u64::try_from(untried).unwrap_or(u64::MAX);
    ended
}
