//! Whoever talks to the nodes of the cluster's rehearsal, and what their answers come down to.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use soramode_protocol::client::{Client, ClientError};
use soramode_protocol::cluster::InitCluster;
use soramode_protocol::decision::{Connect, Decision, Disconnect, HOPS_MAX};
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::{ChannelId, ConnectionId, InvalidId};
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::node::{GetStatus, ListClusterNodes, Status};
use soramode_protocol::wait::{Outcome, Wait, WaitFor};
use tokio::time::{Instant, sleep, timeout};

use super::cluster_story::{Ask, At, Power};
use super::private_cluster::{NAMES, PrivateCluster};
use super::stage::ChangeModeToAny;
use crate::output::counted;

/// How long a step may take. etcd may have to be read from a slow disk first.
const STEP_MAX: Duration = Duration::from_secs(30);

/// The pause between two looks at what a node sees.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// The connections to the nodes.
pub(super) struct ClusterStage {
    nodes: Vec<Client>,
    etcd: Option<Pid>,
}

/// Why a step was not answered.
enum Lost {
    Refused(String),
    Gone(String),
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(error) => {
                Self::Refused(format!("refused: {:?}", error.data.error_type))
            }
            other @ (ClientError::Connect { .. }
            | ClientError::Io(_)
            | ClientError::Closed
            | ClientError::Unreadable(_)
            | ClientError::TooLong(_)) => Self::Gone(other.to_string()),
        }
    }
}

impl From<InvalidId> for Lost {
    fn from(error: InvalidId) -> Self {
        Self::Gone(error.to_string())
    }
}

impl ClusterStage {
    /// Connects to each node.
    pub(super) async fn enter(cluster: &PrivateCluster) -> Result<Self, ClientError> {
        let mut nodes = Vec::new();
        for socket in cluster.sockets() {
            nodes.push(Client::connect(&socket).await?);
        }
        Ok(Self {
            nodes,
            etcd: cluster.etcd(),
        })
    }

    /// Asks, and says what came; or why nothing did.
    pub(super) async fn perform(&mut self, ask: Ask) -> Result<String, String> {
        match timeout(STEP_MAX, self.ask(ask)).await {
            Ok(Ok(said) | Err(Lost::Refused(said))) => Ok(said),
            Ok(Err(Lost::Gone(why))) => Err(why),
            Err(_) => Err(format!("no answer within {} s", STEP_MAX.as_secs())),
        }
    }

    async fn ask(&mut self, ask: Ask) -> Result<String, Lost> {
        match ask {
            Ask::Init(at) => self.init(at).await,
            Ask::Join => self.joined().await,
            Ask::Nodes(at) => self.seen(at).await,
            Ask::SetInitial(at) => Ok(self
                .node(at)?
                .call(&ChangeModeToAny {
                    mode: Mode::Initial,
                })
                .await?
                .mode
                .to_string()),
            Ask::Connect(at, connection, channel) => {
                let decision = self.connect(at, &ask_for(connection, channel)?).await?;
                Ok(words(&decision))
            }
            Ask::Follow(at, connection, channel) => {
                self.follow(at, ask_for(connection, channel)?).await
            }
            Ask::Set(at, mode) => self.set(at, mode).await,
            Ask::Leave(at, connections) => self.leave(at, connections).await,
            Ask::Sessions => self.sessions().await,
            Ask::Etcd(power) => self.switch_etcd(power).await,
        }
    }

    fn node(&mut self, at: At) -> Result<&mut Client, Lost> {
        self.nodes
            .get_mut(at)
            .ok_or_else(|| Lost::Gone("there is no such node".to_owned()))
    }

    /// Makes the cluster, once etcd answers.
    async fn init(&mut self, at: At) -> Result<String, Lost> {
        loop {
            match self.node(at)?.call(&InitCluster::default()).await {
                Ok(made) => return Ok(format!("made, epoch {}", made.epoch)),
                Err(ClientError::Refused(error))
                    if error.data.error_type == ErrorType::ClusterUnavailable =>
                {
                    sleep(LOOK_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn joined(&mut self) -> Result<String, Lost> {
        for node in &mut self.nodes {
            wait(node, Wait::new(WaitFor::Joined)).await?;
        }
        self.all(Mode::Normal).await
    }

    /// Waits until each node is in this mode, and says what they are.
    async fn all(&mut self, mode: Mode) -> Result<String, Lost> {
        let mut said = Vec::new();
        for node in &mut self.nodes {
            let status = once_in(node, mode).await?;
            said.push(format!("{}, {}", status.membership, status.mode.mode));
        }
        said.dedup();
        Ok(format!("{}: {}", NAMES.join(", "), said.join("; ")))
    }

    /// Waits until a node sees all nodes, and that they are normal: until then it sends no client to them. Names those that it sees.
    async fn seen(&mut self, at: At) -> Result<String, Lost> {
        let until = Instant::now() + STEP_MAX / 2;
        loop {
            let nodes = self
                .node(at)?
                .call(&ListClusterNodes {
                    count_orphaned: false,
                })
                .await?
                .nodes;
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
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn connect(&mut self, at: At, connect: &Connect) -> Result<Decision, Lost> {
        Ok(self.node(at)?.call(connect).await?)
    }

    async fn follow(&mut self, at: At, mut connect: Connect) -> Result<String, Lost> {
        let mut decision = self.connect(at, &connect).await?;
        while let Decision::Redirect { node_name, .. } = &decision
            && connect.hops < HOPS_MAX
        {
            let next = NAMES
                .iter()
                .position(|name| *name == node_name.as_str())
                .unwrap_or(usize::MAX);
            connect.hops += 1;
            decision = self.connect(next, &connect).await?;
        }
        let redirect = if connect.hops > 0 { "redirect; " } else { "" };
        Ok(format!("{redirect}{}", words(&decision)))
    }

    async fn set(&mut self, at: At, mode: SettableMode) -> Result<String, Lost> {
        let ModeChanged {
            previous_mode,
            published,
            ..
        } = self.node(at)?.call(&ChangeMode::to(mode)).await?;
        let known = if published == Some(true) {
            "others know"
        } else {
            "others do not know"
        };
        Ok(format!("was {previous_mode}, {known}"))
    }

    async fn leave(&mut self, at: At, connections: &[&str]) -> Result<String, Lost> {
        let node = self.node(at)?;
        for connection in connections {
            node.call(&Disconnect {
                connection_id: ConnectionId::new(connection)?,
            })
            .await?;
        }
        wait(node, Wait::new(WaitFor::Drained)).await?;
        Ok("drained".to_owned())
    }

    async fn sessions(&mut self) -> Result<String, Lost> {
        let mut sessions = 0;
        for node in &mut self.nodes {
            sessions += node.call(&GetStatus {}).await?.sessions;
        }
        Ok(counted(sessions, "session"))
    }

    async fn switch_etcd(&mut self, power: Power) -> Result<String, Lost> {
        let (signal, mode) = match power {
            Power::Off => (Signal::SIGSTOP, Mode::Initial),
            Power::On => (Signal::SIGCONT, Mode::Normal),
        };
        let etcd = self
            .etcd
            .ok_or_else(|| Lost::Gone("etcd has ended".to_owned()))?;
        kill(etcd, signal).map_err(|problem| Lost::Gone(format!("etcd has ended: {problem}")))?;
        self.all(mode).await
    }
}

/// The node, once it is in this mode. An answer that etcd owed from before it stopped may make it normal for a moment alone.
async fn once_in(node: &mut Client, mode: Mode) -> Result<Status, Lost> {
    loop {
        wait(
            node,
            Wait {
                mode: Some(mode),
                ..Wait::new(WaitFor::Mode)
            },
        )
        .await?;
        let status = node.call(&GetStatus {}).await?;
        if status.mode.mode == mode {
            return Ok(status);
        }
    }
}

async fn wait(node: &mut Client, wait: Wait) -> Result<(), Lost> {
    let wait = Wait {
        timeout_seconds: Some(STEP_MAX.as_secs_f64()),
        ..wait
    };
    match node.call(&wait).await?.outcome {
        Outcome::Reached => Ok(()),
        Outcome::Timeout => Err(Lost::Gone("the wait timed out".to_owned())),
        Outcome::Superseded => Err(Lost::Gone("the wait was superseded".to_owned())),
    }
}

fn ask_for(connection: &str, channel: &str) -> Result<Connect, Lost> {
    Ok(Connect::new(
        ChannelId::new(channel)?,
        ConnectionId::new(connection)?,
    ))
}

fn words(decision: &Decision) -> String {
    match decision {
        Decision::Offer { created: true, .. } => "offer, a new session".to_owned(),
        Decision::Offer { created: false, .. } => "offer, the same session".to_owned(),
        Decision::Reject { reason, .. } => format!("reject {reason}"),
        Decision::Redirect { node_name, .. } => format!("redirect to {node_name}"),
    }
}
