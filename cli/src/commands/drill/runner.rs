//! Runs the steps of a scenario, and describes the answers in a few words each.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{from_value, json};
use soramode_protocol::client::{Client, ClientError, Message, read_answer};
use soramode_protocol::cluster::InitCluster;
use soramode_protocol::decision::{Connect, Decision, Disconnect, HOPS_MAX};
use soramode_protocol::envelope::Notification;
use soramode_protocol::error::ErrorType;
use soramode_protocol::event::EventKind;
use soramode_protocol::http_client::Url;
use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::mode::{ChangeMode, GetMode, InForce, Mode, ModeChanged, SettableMode};
use soramode_protocol::node::{GetStatus, ListClusterNodes};
use soramode_protocol::request::{Call, Method};
use soramode_protocol::subscribe::Subscribe;
use soramode_protocol::wait::{Outcome, PROGRESS_SECONDS_MIN, Wait, WaitEnded, WaitFor};
use tokio::time::{Instant, sleep, timeout};

use super::janus_client::JanusClients;
use super::plan_runner;
use super::scenario::{NAMES, Request, Step};
use super::step_error::StepError;
use crate::output::{counted, counted_connections};

/// Limit of the time for a drain, so that the daemon keeps no wait without a client.
const DRAIN_SECONDS_MAX: f64 = 30.0;

/// The pause between two reads of a cluster's nodes.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// `ChangeMode` to any mode: the daemon has to refuse `initial`, not the types of this program.
#[derive(Serialize, Deserialize)]
struct ChangeModeToAny {
    mode: Mode,
}

impl Call for ChangeModeToAny {
    const METHOD: Method = Method::ChangeMode;
    type Reply = ModeChanged;
}

/// The connections to the nodes.
pub(super) struct Runner {
    /// One connection to each node, of its operator and its signalling server.
    nodes: Vec<Client>,
    /// Waits for the drain of the first node.
    watcher: Client,
    /// Subscribes to the events of the first node.
    subscriber: Client,
    /// The number of the wait in progress.
    wait: Option<i64>,
    /// The newest generation of the mode that an answer had.
    generation: u64,
    etcd: Option<Pid>,
    /// Clients of the Janus, where there is one.
    janus: Option<JanusClients>,
    step_max: Duration,
}

/// Servers beside the nodes.
pub(super) struct Servers {
    pub(super) etcd: Option<Pid>,
    /// URL of Janus's API.
    pub(super) janus: Option<Url>,
}

impl Runner {
    /// Connects to each node.
    pub(super) async fn connect(
        sockets: &[PathBuf],
        servers: Servers,
        step_max: Duration,
    ) -> Result<Self, ClientError> {
        let mut nodes = Vec::new();
        for socket in sockets {
            nodes.push(Client::connect(socket).await?);
        }
        let first = sockets.first().cloned().unwrap_or_default();
        Ok(Self {
            nodes,
            watcher: Client::connect(&first).await?,
            subscriber: Client::connect(&first).await?,
            wait: None,
            generation: 0,
            etcd: servers.etcd,
            janus: servers.janus.map(JanusClients::to),
            step_max,
        })
    }

    /// Executes a step and describes the answer; an error says why there is none.
    pub(super) async fn execute(&mut self, step: &Step) -> Result<String, String> {
        let step_max = self.step_max;
        match timeout(step_max, self.request(step)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(StepError::Refused(error_type))) => Ok(format!("refused: {error_type:?}")),
            Ok(Err(StepError::Lost(why))) => Err(why),
            Err(_) => Err(format!(
                "no {} within {} s",
                step.request.awaited(),
                step_max.as_secs()
            )),
        }
    }

    async fn request(&mut self, step: &Step) -> Result<String, StepError> {
        let node = step.node.unwrap_or_default();
        match step.request {
            Request::Get => Ok(self.node(node)?.call(&GetMode {}).await?.mode.to_string()),
            Request::Set(mode) => self.set(node, mode).await,
            Request::WaitDrained => {
                let wait = Wait {
                    timeout_seconds: Some(0.0),
                    ..Wait::new(WaitFor::Drained)
                };
                let ended = self.node(node)?.call(&wait).await?;
                Ok(describe_drain(&ended).to_owned())
            }
            Request::Connect(connection, channel) => {
                let connect = connect(connection, channel)?;
                Ok(describe_decision(&self.node(node)?.call(&connect).await?))
            }
            Request::Follow(connection, channel) => {
                self.follow(node, connect(connection, channel)?).await
            }
            Request::Drain => self.drain(node).await,
            Request::Disconnect(connections) => self.disconnect(node, connections).await,
            Request::Tail => self.tail().await,
            Request::StartPlan { lead, end } => {
                plan_runner::start(self.node_and_subscriber(node)?, lead, end).await
            }
            Request::CancelPlan => plan_runner::cancel(self.node(node)?).await,
            Request::EndByPlan => plan_runner::end_all(self.node_and_subscriber(node)?).await,
            Request::Join(client, room) => {
                let (node, janus) = self.node_and_janus(node)?;
                janus.join(client, room, node).await
            }
            Request::Leave(clients) => {
                let (first, janus) = self.node_and_janus(node)?;
                janus.leave(clients, first).await?;
                self.disconnect(node, &[]).await
            }
            Request::InitCluster => self.init_cluster(node).await,
            Request::WaitJoined => {
                for node in &mut self.nodes {
                    wait(node, Wait::new(WaitFor::Joined), self.step_max).await?;
                }
                self.wait_all_in(Mode::Normal).await
            }
            Request::ListNodes => self.list_nodes(node).await,
            Request::CountSessions => {
                let mut sessions = 0;
                for node in &mut self.nodes {
                    sessions += node.call(&GetStatus {}).await?.sessions;
                }
                Ok(counted(sessions, "session"))
            }
            Request::PauseEtcd => self.signal_etcd(Signal::SIGSTOP, Mode::Initial).await,
            Request::ResumeEtcd => self.signal_etcd(Signal::SIGCONT, Mode::Normal).await,
        }
    }

    fn node(&mut self, node: usize) -> Result<&mut Client, StepError> {
        self.nodes.get_mut(node).ok_or_else(no_such_node)
    }

    fn node_and_janus(
        &mut self,
        node: usize,
    ) -> Result<(&mut Client, &mut JanusClients), StepError> {
        let node = self.nodes.get_mut(node).ok_or_else(no_such_node)?;
        let no_janus = || StepError::Lost("there is no Janus".to_owned());
        Ok((node, self.janus.as_mut().ok_or_else(no_janus)?))
    }

    async fn set(&mut self, node: usize, mode: Mode) -> Result<String, StepError> {
        let before = self.generation;
        let changed = self.node(node)?.call(&ChangeModeToAny { mode }).await?;
        self.generation = changed.generation;
        Ok(match changed {
            ModeChanged { mode: now, .. } if now != mode => format!("the mode is {now}"),
            ModeChanged {
                changed: false,
                plan_cancelled: Some(_),
                ..
            } => "the plan is cancelled".to_owned(),
            ModeChanged {
                previous_mode,
                published: Some(is_published),
                ..
            } => {
                let others = if is_published { "know" } else { "do not know" };
                format!("was {previous_mode}, others {others}")
            }
            ModeChanged {
                changed: true,
                previous_mode,
                connections,
                in_force,
                ..
            } => {
                let before = match in_force {
                    Some(InForce::Yes) => "in force".to_owned(),
                    Some(InForce::Pending | InForce::Partial | InForce::No) => {
                        "not in force".to_owned()
                    }
                    None => format!("was {previous_mode}"),
                };
                format!("{before}; {connections} connected")
            }
            ModeChanged { generation, .. } if generation != before => {
                format!("another generation, {generation}")
            }
            ModeChanged { .. } => "nothing changed".to_owned(),
        })
    }

    async fn follow(&mut self, node: usize, mut connect: Connect) -> Result<String, StepError> {
        let mut decision = self.node(node)?.call(&connect).await?;
        while let Decision::Redirect { node_name, .. } = &decision
            && connect.hops < HOPS_MAX
        {
            let next = NAMES
                .iter()
                .position(|name| *name == node_name.as_str())
                .unwrap_or(usize::MAX);
            connect.hops += 1;
            decision = self.node(next)?.call(&connect).await?;
        }
        let redirect = if connect.hops > 0 { "redirect; " } else { "" };
        Ok(format!("{redirect}{}", describe_decision(&decision)))
    }

    fn node_and_subscriber(
        &mut self,
        node: usize,
    ) -> Result<(&mut Client, &mut Client), StepError> {
        let client = self.nodes.get_mut(node).ok_or_else(no_such_node)?;
        Ok((client, &mut self.subscriber))
    }

    async fn drain(&mut self, node: usize) -> Result<String, StepError> {
        let subscribe: Subscribe = from_value(json!({ "types": ["session.*"] }))?;
        self.subscriber.call(&subscribe).await?;
        let close = ChangeMode::to(SettableMode::BlockNewSession);
        let closed = self.node(node)?.call(&close).await?;
        let wait = Wait {
            generation: Some(closed.generation),
            timeout_seconds: Some(DRAIN_SECONDS_MAX),
            progress_seconds: Some(PROGRESS_SECONDS_MIN),
            ..Wait::new(WaitFor::Drained)
        };
        let id = self.watcher.send(&wait).await?;
        self.wait = Some(id);
        self.watch(node, id).await
    }

    async fn disconnect(&mut self, node: usize, connections: &[&str]) -> Result<String, StepError> {
        let id = self.wait;
        let step_max = self.step_max;
        let client = self.node(node)?;
        for connection in connections {
            let connection_id = ConnectionId::new(connection)?;
            client.call(&Disconnect { connection_id }).await?;
        }
        if let Some(id) = id {
            return self.watch(node, id).await;
        }
        wait(client, Wait::new(WaitFor::Drained), step_max).await?;
        Ok("drained".to_owned())
    }

    /// Returns the progress of the drain once it includes everything that was done, or its end.
    async fn watch(&mut self, node: usize, wait: i64) -> Result<String, StepError> {
        let now = self.node(node)?.call(&GetStatus {}).await?;
        let counts = (now.sessions, now.connections);
        loop {
            match self.watcher.receive().await? {
                Message::Answer(id, answer) if id == wait => {
                    self.wait = None;
                    return Ok(describe_drain(&read_answer::<Wait>(answer)?).to_owned());
                }
                Message::Notification(Notification::Progress(progress))
                    if now.sessions > 0 && (progress.sessions, progress.connections) == counts =>
                {
                    return Ok(format!(
                        "{}, {} left",
                        counted(progress.sessions, "session"),
                        counted_connections(progress.connections, progress.pending)
                    ));
                }
                Message::Answer(..) | Message::Notification(_) => {}
            }
        }
    }

    async fn tail(&mut self) -> Result<String, StepError> {
        let mut ended = 0;
        loop {
            let Message::Notification(Notification::Event(event)) =
                self.subscriber.receive().await?
            else {
                continue;
            };
            if event.kind == EventKind::SessionVanished {
                return Ok(format!("{ended} session.destroyed, session.vanished"));
            }
            ended += u64::from(matches!(event.kind, EventKind::SessionDestroyed { .. }));
        }
    }

    /// Creates the cluster, once etcd answers.
    async fn init_cluster(&mut self, node: usize) -> Result<String, StepError> {
        loop {
            match self.node(node)?.call(&InitCluster::default()).await {
                Ok(created) => return Ok(format!("made, epoch {}", created.epoch)),
                Err(ClientError::Refused(error))
                    if error.data.error_type == ErrorType::ClusterUnavailable =>
                {
                    sleep(READ_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits until a node lists all nodes as normal: until then it redirects no client to them. Returns the names of those connected.
    async fn list_nodes(&mut self, node: usize) -> Result<String, StepError> {
        let until = Instant::now() + self.step_max / 2;
        let list = ListClusterNodes {
            count_orphaned: false,
        };
        loop {
            let nodes = self.node(node)?.call(&list).await?.nodes;
            let names: Vec<&str> = nodes
                .iter()
                .filter(|node| node.connected)
                .map(|node| node.node_name.as_str())
                .collect();
            let normal = nodes
                .iter()
                .filter(|node| node.mode == Some(Mode::Normal))
                .count();
            if normal == NAMES.len() || Instant::now() > until {
                return Ok(names.join(", "));
            }
            sleep(READ_PAUSE).await;
        }
    }

    async fn signal_etcd(&mut self, signal: Signal, then: Mode) -> Result<String, StepError> {
        let ended = || StepError::Lost("etcd has ended".to_owned());
        kill(self.etcd.ok_or_else(ended)?, signal)
            .map_err(|problem| StepError::Lost(format!("etcd has ended: {problem}")))?;
        self.wait_all_in(then).await
    }

    /// Waits until each node is in this mode, and describes them.
    async fn wait_all_in(&mut self, mode: Mode) -> Result<String, StepError> {
        let mut described = Vec::new();
        for node in &mut self.nodes {
            // An answer of etcd from before it stopped may make a node normal for a moment.
            let status = loop {
                let in_mode = Wait {
                    mode: Some(mode),
                    ..Wait::new(WaitFor::Mode)
                };
                wait(node, in_mode, self.step_max).await?;
                let status = node.call(&GetStatus {}).await?;
                if status.mode.mode == mode {
                    break status;
                }
            };
            described.push(format!("{}, {}", status.membership, status.mode.mode));
        }
        described.dedup();
        Ok(format!("{}: {}", NAMES.join(", "), described.join("; ")))
    }
}

fn no_such_node() -> StepError {
    StepError::Lost("there is no such node".to_owned())
}

async fn wait(node: &mut Client, wait: Wait, limit: Duration) -> Result<(), StepError> {
    let wait = Wait {
        timeout_seconds: Some(limit.as_secs_f64()),
        ..wait
    };
    match node.call(&wait).await?.outcome {
        Outcome::Reached => Ok(()),
        Outcome::Timeout => Err(StepError::Lost("the wait timed out".to_owned())),
        Outcome::Superseded => Err(StepError::Lost("the wait was superseded".to_owned())),
    }
}

fn connect(connection: &str, channel: &str) -> Result<Connect, StepError> {
    Ok(Connect::new(
        ChannelId::new(channel)?,
        ConnectionId::new(connection)?,
    ))
}

fn describe_decision(decision: &Decision) -> String {
    match decision {
        Decision::Offer { created: true, .. } => "offer, a new session".to_owned(),
        Decision::Offer { created: false, .. } => "offer, the same session".to_owned(),
        Decision::Reject { reason, .. } => format!("reject {reason}"),
        Decision::Redirect { node_name, .. } => format!("redirect to {node_name}"),
    }
}

const fn describe_drain(ended: &WaitEnded) -> &'static str {
    match ended.outcome {
        Outcome::Reached => "drained",
        Outcome::Timeout => "the wait timed out",
        Outcome::Superseded => "the wait was superseded",
    }
}
