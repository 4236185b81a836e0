//! Has the SFU end sessions: the only thing here that cuts anybody off, and only where an operator asked for it.

use std::sync::Arc;
use std::time::Duration;

use soramode_protocol::end::{EndSession, Ended, Means};
use soramode_protocol::error::Error;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::sora_api::{SoraApi, SoraApiError};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long Sora may take for all sessions that one request names. What it was not asked for by then is said to have failed.
const END_TIME: Duration = Duration::from_secs(8);

/// Sessions that Sora is asked to end at one time.
const END_AT_ONCE: usize = 8;

/// Requests to end sessions that a subscriber may have unread.
const UNREAD_REQUESTS_MAX: usize = 64;

/// What one request to end sessions tells each subscriber.
pub(crate) type Endings = Arc<[EndSession]>;

/// Whoever can end sessions.
#[derive(Clone, Debug)]
pub(crate) struct Ender {
    api: Option<SoraApi>,
    subscribers: broadcast::Sender<Endings>,
}

impl Ender {
    /// By Sora's API, where that is known, and by whoever subscribes.
    pub(crate) fn new(api: Option<SoraApi>) -> Self {
        Self { api, subscribers: broadcast::Sender::new(UNREAD_REQUESTS_MAX) }
    }

    /// For a client that ends sessions: what it is to end.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Endings> {
        self.subscribers.subscribe()
    }

    /// Has these sessions ended, in a bounded time.
    pub(crate) async fn end(self, sessions: Vec<EndSession>) -> Answer {
        let asked = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        // Subscribers hear of it also where Sora is asked: the session may be theirs.
        let heard = self.subscribers.send(sessions.as_slice().into());
        match self.api {
            Some(api) => Ok(Reply::Ended(by_sora(api, sessions).await)),
            None => match heard {
                Ok(_) => Ok(Reply::Ended(Ended { sessions: asked, means: Means::Subscribers, failed: 0, problem: None })),
                Err(_) => Err(Error::no_means()),
            },
        }
    }
}

async fn by_sora(api: SoraApi, sessions: Vec<EndSession>) -> Ended {
    let mut ended = Ended { sessions: 0, means: Means::SoraApi, failed: 0, problem: None };
    let until = Instant::now() + END_TIME;
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
        ended.problem = Some(format!("there were too many for {} s: ask again for the rest", END_TIME.as_secs()));
    }
    ended.failed += u64::try_from(untried).unwrap_or(u64::MAX);
    ended
}
