//! The node that a command acts on. The verbs do not know how it is reached, only which features it has.

use std::time::{Duration, Instant};

use soramode_protocol::id::NodeName;
use soramode_protocol::mode::{ChangeMode, GetMode, ListModeChanges, Mode};
use soramode_protocol::node::{GetInfo, GetStatus};
use tokio::time::timeout;

use crate::api::{Api, Detail};
use crate::caller::Caller;
use crate::command_line;
use crate::daemon::Daemon;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::mode_info::{ModeInfo, with_operator};
use crate::output::Output;
use crate::ssh::SshHost;

/// Number of newest mode changes to read: they include the present one and the one before it.
pub(crate) const NEWEST: u32 = 10;

/// Limit of the time for [`Node::last_mode`]: after Ctrl-C the operator waits for it.
const LAST_MODE_MAX: Duration = Duration::from_secs(1);

/// A node, and the way to it.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    /// A soramoded, through its control socket, here or on another host.
    Daemon(&'a Endpoint),
    /// A soramoded or a Sora, through Sora's HTTP API.
    Api(&'a Api),
}

/// Features that Sora's HTTP API lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Reasons of mode changes.
    Reason,
    /// Timers that open the node.
    Timer,
    /// Expected ends of maintenances.
    ExpectedEnd,
    /// Changes that depend on the present mode or generation.
    Condition,
    /// Waits for the node to join its cluster.
    WaitJoined,
    /// Everything else that takes the control socket: events, single sessions and connections, deliveries, the cluster's state.
    ControlSocket,
}

impl<'a> Node<'a> {
    /// Returns the node that `--node` named, else the context's.
    pub(crate) fn or(self, remote: Option<&'a Api>) -> Self {
        remote.map_or(self, Node::Api)
    }

    pub(crate) const fn supports(self, feature: Feature) -> bool {
        match (self, feature) {
            (Self::Daemon(_), _) => true,
            (Self::Api(api), Feature::Reason) => api.node_name().is_some(),
            (
                Self::Api(_),
                Feature::Timer
                | Feature::ExpectedEnd
                | Feature::Condition
                | Feature::WaitJoined
                | Feature::ControlSocket,
            ) => false,
        }
    }

    /// Refuses `what`, as it is typed, where the node lacks its feature.
    pub(crate) fn require(self, feature: Feature, what: &str) -> Result<(), Failure> {
        if self.supports(feature) {
            Ok(())
        } else {
            Err(needs_socket(what))
        }
    }

    /// Returns the command as it is typed for this node.
    pub(crate) fn command(self, words: &str) -> String {
        match self {
            Self::Daemon(endpoint) => endpoint.command(words),
            Self::Api(api) => api.command(words),
        }
    }

    /// Completes the commands of a text with the flags that select this node.
    pub(crate) fn completed(self, text: &str) -> String {
        match self {
            Self::Daemon(endpoint) => endpoint.completed(text),
            Self::Api(_) => text.to_owned(),
        }
    }

    /// Returns the flags that select this node, except the token's file.
    pub(crate) fn flags(self) -> String {
        match self {
            Self::Daemon(endpoint) => endpoint.flags(),
            Self::Api(api) => api.flags(),
        }
    }

    /// Returns the node's name in its cluster, if `--node` named it.
    pub(crate) const fn name_in_cluster(self) -> Option<&'a NodeName> {
        match self {
            Self::Daemon(_) => None,
            Self::Api(api) => api.node_name(),
        }
    }

    pub(crate) fn endpoint(self) -> Result<&'a Endpoint, Failure> {
        match self {
            Self::Daemon(endpoint) => Ok(endpoint),
            Self::Api(_) => Err(needs_socket("this command")),
        }
    }

    /// Returns the user that the caller represents.
    pub(crate) fn on_behalf_of(self) -> Option<String> {
        match self {
            Self::Daemon(endpoint) => endpoint.on_behalf_of(),
            Self::Api(_) => None,
        }
    }

    /// Returns the host that ssh leads to, if the node is on another one.
    pub(crate) const fn host(self) -> Option<&'a SshHost> {
        match self {
            Self::Daemon(endpoint) => endpoint.host(),
            Self::Api(_) => None,
        }
    }

    /// Connects to the control socket.
    pub(crate) async fn connect(self) -> Result<Daemon<'a>, Failure> {
        self.endpoint()?.connect().await
    }

    /// Connects to a daemon that answered before, and may be restarting.
    pub(crate) async fn connect_again(self) -> Result<Daemon<'a>, Failure> {
        let endpoint = self.endpoint()?;
        match endpoint.connect().await {
            Err(failure) if failure.exit == Exit::Unreachable => {
                endpoint.reconnect(Instant::now()).await
            }
            other => other,
        }
    }

    /// Reads the mode: over HTTP, the mode alone.
    pub(crate) async fn mode(self) -> Result<ModeInfo, Failure> {
        match self {
            Self::Daemon(_) => Ok(ModeInfo::of(self.connect().await?.call(&GetMode {}).await?)),
            Self::Api(api) => Ok(ModeInfo::mode_only(api.mode().await?)),
        }
    }

    /// Reads the node's status.
    pub(crate) async fn status(self, want: Detail) -> Result<LastStatus, Failure> {
        match self {
            Self::Daemon(_) => {
                let status = self.connect().await?.call(&GetStatus {}).await?;
                Ok(LastStatus::Daemon(Box::new(status)))
            }
            Self::Api(api) => api.read_status(want).await,
        }
    }

    /// Reads the mode with all that the node knows about it; waits for a daemon that restarts.
    pub(crate) async fn mode_now(self) -> Result<ModeInfo, Failure> {
        match self {
            Self::Daemon(_) => mode_now(&mut self.connect_again().await?).await,
            Self::Api(api) => Ok(api.read_status(Detail::Mode).await?.mode_info()),
        }
    }

    /// Reads the mode at the end of a wait; returns `last` if the node does not answer at once.
    pub(crate) async fn last_mode(self, last: &ModeInfo) -> ModeInfo {
        let read = async {
            match self {
                Self::Daemon(_) => mode_now(&mut self.connect().await?).await,
                Self::Api(_) => self.mode_now().await,
            }
        };
        match timeout(LAST_MODE_MAX, read).await {
            Ok(Ok(mode)) => mode,
            Ok(Err(_)) | Err(_) => last.clone(),
        }
    }

    /// Changes the mode; over HTTP, without the timer and the conditions.
    pub(crate) async fn change(self, change: &ChangeMode) -> Result<Mode, Failure> {
        match self {
            Self::Daemon(_) => Ok(self.connect().await?.call(change).await?.mode),
            Self::Api(api) => Ok(api.set(change.mode, change.reason.as_deref()).await?.mode),
        }
    }

    /// Returns this user as the daemon names it; `None` if it does not answer at once.
    pub(crate) async fn caller(self) -> Option<Caller> {
        let read = async { caller(&mut self.connect().await.ok()?).await };
        timeout(LAST_MODE_MAX, read).await.ok()?
    }

    /// Prints how many pending connections are missing from the lists that were printed.
    pub(crate) async fn note_pending(self, output: &Output) {
        if let Self::Api(api) = self {
            api.note_pending(output).await;
        }
    }
}

/// Returns the command as it is typed on another node than the one that was asked. Its socket and its host are not known here.
pub(crate) fn command_on_other_node(words: &str) -> String {
    command_line::soramode(&[words])
}

/// The failure for `what`, as it is typed, where the node is reached over HTTP.
pub(crate) fn needs_socket(what: &str) -> Failure {
    let failure = Failure::new(Exit::Usage, format!("{what} is not available over HTTP"));
    failure.with_hint(
        "Run it on the node itself, or over ssh with -H HOST; without --api-url and --node (or unset SORAMODE_API_URL)",
    )
}

/// Reads the name that the daemon has for this user.
pub(crate) async fn caller(daemon: &mut Daemon<'_>) -> Option<Caller> {
    let actor = daemon.call(&GetInfo {}).await.ok()?.actor?;
    Some(Caller {
        actor,
        on_behalf_of: daemon.on_behalf_of(),
    })
}

/// Reads the mode, with the represented operator.
pub(crate) async fn mode_now(daemon: &mut Daemon<'_>) -> Result<ModeInfo, Failure> {
    let newest = ListModeChanges {
        limit: Some(NEWEST),
    };
    let (status, history) = daemon.call_both(&GetStatus {}, &newest).await?;
    Ok(ModeInfo::of(with_operator(status.mode, &history.changes)))
}
