//! Whoever talks to the gate in the rehearsal, each over a connection of its own, and what the gate's answers come down to.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{from_value, json};
use soramode_protocol::client::{Client, ClientError, Message, read_answer};
use soramode_protocol::decision::{Connect, Decision, Disconnect};
use soramode_protocol::envelope::Notification;
use soramode_protocol::event::EventKind;
use soramode_protocol::mode::{ChangeMode, GetMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::node::GetStatus;
use soramode_protocol::request::{Call, Method};
use soramode_protocol::subscribe::Subscribe;
use soramode_protocol::wait::{Outcome, PROGRESS_SECONDS_MIN, Wait, WaitEnded, WaitFor};
use tokio::time::timeout;

use super::story::{Ask, Said, Session};

/// How long the gate may take to say what a step waits for.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// How long the drain may take as a whole, so that the gate holds no wait that nobody watches any more.
const DRAIN_SECONDS_MAX: f64 = 30.0;

/// `ChangeMode` to any mode: the gate is to refuse `initial`, not the types of this program.
#[derive(Serialize, Deserialize)]
pub(super) struct ChangeModeToAny {
    pub(super) mode: Mode,
}

impl Call for ChangeModeToAny {
    const METHOD: Method = Method::ChangeMode;
    type Reply = ModeChanged;
}

/// The connections to the gate.
pub(super) struct Stage {
    operator: Client,
    signalling: Client,
    /// Waits for the drain.
    watcher: Client,
    /// Follows the events.
    follower: Client,
    /// The number of the wait that is under way.
    wait: Option<i64>,
    /// The newest that was heard of.
    generation: u64,
}

impl Stage {
    /// Everybody connects.
    pub(super) async fn enter(socket: &Path) -> Result<Self, ClientError> {
        Ok(Self {
            operator: Client::connect(socket).await?,
            signalling: Client::connect(socket).await?,
            watcher: Client::connect(socket).await?,
            follower: Client::connect(socket).await?,
            wait: None,
            generation: 0,
        })
    }

    /// Asks, and says what came; or why nothing did.
    pub(super) async fn perform(&mut self, ask: Ask) -> Result<Said, String> {
        match timeout(ANSWER_MAX, self.ask(ask)).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(ClientError::Refused(error))) => Ok(Said::Refused(error.data.error_type)),
            Ok(Err(lost)) => Err(lost.to_string()),
            Err(_) => Err(format!(
                "no {} within {} s",
                ask.answer(),
                ANSWER_MAX.as_secs()
            )),
        }
    }

    async fn ask(&mut self, ask: Ask) -> Result<Said, ClientError> {
        match ask {
            Ask::Get => Ok(Said::Is(self.operator.call(&GetMode {}).await?.mode)),
            Ask::Set(mode) => self.set(mode).await,
            Ask::WaitDrained => {
                let wait = Wait {
                    timeout_seconds: Some(0.0),
                    ..Wait::new(WaitFor::Drained)
                };
                Ok(said_by_wait(&self.operator.call(&wait).await?))
            }
            Ask::Connect(connection, channel) => {
                let connect: Connect =
                    from_value(json!({ "channel_id": channel, "connection_id": connection }))?;
                Ok(said_by_decision(&self.signalling.call(&connect).await?))
            }
            Ask::Drain => self.drain().await,
            Ask::Leave(connections) => self.leave(connections).await,
            Ask::Tail => self.follow().await,
        }
    }

    async fn set(&mut self, mode: Mode) -> Result<Said, ClientError> {
        let before = self.generation;
        let changed = self.operator.call(&ChangeModeToAny { mode }).await?;
        self.generation = changed.generation;
        Ok(match changed {
            ModeChanged { mode: now, .. } if now != mode => {
                Said::Other(format!("the mode is {now}"))
            }
            ModeChanged {
                changed: true,
                previous_mode: from,
                connections,
                ..
            } => Said::Changed { from, connections },
            ModeChanged { generation, .. } if generation != before => {
                Said::Other(format!("another generation, {generation}"))
            }
            ModeChanged { .. } => Said::Unchanged,
        })
    }

    async fn drain(&mut self) -> Result<Said, ClientError> {
        let subscribe: Subscribe = from_value(json!({ "types": ["session.*"] }))?;
        self.follower.call(&subscribe).await?;
        let closed = self
            .operator
            .call(&ChangeMode::to(SettableMode::BlockNewSession))
            .await?;
        let wait = Wait {
            generation: Some(closed.generation),
            timeout_seconds: Some(DRAIN_SECONDS_MAX),
            progress_seconds: Some(PROGRESS_SECONDS_MIN),
            ..Wait::new(WaitFor::Drained)
        };
        self.wait = Some(self.watcher.send(&wait).await?);
        self.watch().await
    }

    async fn leave(&mut self, connections: &[&str]) -> Result<Said, ClientError> {
        for connection in connections {
            let disconnect: Disconnect = from_value(json!({ "connection_id": connection }))?;
            self.signalling.call(&disconnect).await?;
        }
        self.watch().await
    }

    /// What the wait says once it has heard of all that was done.
    async fn watch(&mut self) -> Result<Said, ClientError> {
        let Some(wait) = self.wait else {
            return Ok(Said::Other("nobody waits any more".to_owned()));
        };
        let now = self.signalling.call(&GetStatus {}).await?;
        loop {
            match self.watcher.receive().await? {
                Message::Answer(id, answer) if id == wait => {
                    self.wait = None;
                    return Ok(said_by_wait(&read_answer::<Wait>(answer)?));
                }
                Message::Notification(Notification::Progress(progress))
                    if now.sessions > 0
                        && (progress.sessions, progress.connections)
                            == (now.sessions, now.connections) =>
                {
                    return Ok(Said::Left {
                        sessions: progress.sessions,
                        connections: progress.connections,
                    });
                }
                Message::Answer(..) | Message::Notification(_) => {}
            }
        }
    }

    async fn follow(&mut self) -> Result<Said, ClientError> {
        let mut ended = 0;
        loop {
            let Message::Notification(Notification::Event(event)) = self.follower.receive().await?
            else {
                continue;
            };
            if event.kind == EventKind::SessionVanished {
                return Ok(Said::Vanished { ended });
            }
            ended += u64::from(matches!(event.kind, EventKind::SessionDestroyed { .. }));
        }
    }
}

fn said_by_decision(decision: &Decision) -> Said {
    match decision {
        Decision::Offer { created: true, .. } => Said::Offer(Session::New),
        Decision::Offer { created: false, .. } => Said::Offer(Session::Same),
        Decision::Reject { reason, .. } => Said::Reject(*reason),
        Decision::Redirect { .. } => Said::Other("redirect to another node".to_owned()),
    }
}

fn said_by_wait(ended: &WaitEnded) -> Said {
    match ended.outcome {
        Outcome::Reached => Said::Drained,
        Outcome::Timeout => Said::Other("the wait timed out".to_owned()),
        Outcome::Superseded => Said::Other("the wait was superseded".to_owned()),
    }
}
