//! Errors: a closed list of types with codes that are never reused, and the one module with their
//! texts.

mod maintenance;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::id::{ChannelId, ConnectionId, NodeName};
use crate::mode::{Mode, ModeState};
use crate::node::Membership;
use crate::plan::{Plan, PlanRefusal};
use crate::reservation::Reservation;

/// Type of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ErrorType {
    /// Line is not JSON, or its `id` is null.
    ParseError,
    /// Line is not a request, is a batch, or is too long.
    InvalidRequest,
    /// Method does not exist.
    MethodNotFound,
    /// A param is missing, unknown or not as it must be.
    InvalidParams,
    /// A bug in the daemon.
    Internal,
    /// Mode was changed in the meantime.
    Superseded,
    /// `normal` cannot be set while the node has not joined its cluster.
    NotJoined,
    /// The connection is there already, in another channel.
    ConnectionIdInUse,
    /// Request is impossible in this state, or its condition can never become true.
    ConditionImpossible,
    /// Requested object does not exist.
    NotFound,
    /// Access of the client is not sufficient.
    PermissionDenied,
    /// A promise that needs the disk cannot be given.
    StorageUnavailable,
    /// Limit of clients is reached.
    TooManyClients,
    /// The cluster did not answer in time.
    ClusterUnavailable,
    /// Session list may lack sessions of the SFU.
    SessionsIncomplete,
    /// No means of ending a session: neither Sora's API nor a subscriber with `ends: true`.
    CannotEndSessions,
    /// The cluster to be created exists already.
    AlreadyExists,
    /// The node to be purged is still in its cluster.
    NodeStillJoined,
    /// The plan was refused, and nothing was changed; `why` names the reason.
    PlanRefused,
    /// No means of announcing: no Sora API, no subscriber and no receiver of the webhook.
    CannotAnnounce,
    /// The node is reserved for another roll; or the request's own roll has no reservation that allows
    /// the change. `reservation` is the one on record.
    Reserved,
    /// A newer daemon's. Never made here.
    #[cfg_attr(feature = "schema", schemars(skip))]
    #[serde(other)]
    Unknown,
}

impl ErrorType {
    /// All of the list.
    pub const ALL: [Self; 21] = [
        Self::ParseError,
        Self::InvalidRequest,
        Self::MethodNotFound,
        Self::InvalidParams,
        Self::Internal,
        Self::Superseded,
        Self::NotJoined,
        Self::ConnectionIdInUse,
        Self::ConditionImpossible,
        Self::NotFound,
        Self::PermissionDenied,
        Self::StorageUnavailable,
        Self::TooManyClients,
        Self::ClusterUnavailable,
        Self::SessionsIncomplete,
        Self::CannotEndSessions,
        Self::AlreadyExists,
        Self::NodeStillJoined,
        Self::PlanRefused,
        Self::CannotAnnounce,
        Self::Reserved,
    ];

    /// The JSON-RPC error code.
    pub const fn code(self) -> i32 {
        match self {
            Self::ParseError => -32_700,
            Self::InvalidRequest => -32_600,
            Self::MethodNotFound => -32_601,
            Self::InvalidParams => -32_602,
            Self::Internal | Self::Unknown => -32_603,
            Self::Superseded => -32_010,
            Self::NotJoined => -32_011,
            Self::ConnectionIdInUse => -32_012,
            Self::ConditionImpossible => -32_013,
            Self::NotFound => -32_014,
            Self::PermissionDenied => -32_015,
            Self::StorageUnavailable => -32_016,
            Self::TooManyClients => -32_017,
            Self::ClusterUnavailable => -32_018,
            Self::SessionsIncomplete => -32_019,
            Self::CannotEndSessions => -32_020,
            Self::AlreadyExists => -32_021,
            Self::NodeStillJoined => -32_022,
            Self::PlanRefused => -32_023,
            Self::CannotAnnounce => -32_024,
            Self::Reserved => -32_025,
        }
    }
}

/// An error as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Error {
    /// JSON-RPC code: each type has one of its own.
    pub code: i32,
    /// Description of the problem in one sentence.
    pub message: String,
    /// Machine-readable part of the error.
    pub data: Box<ErrorData>,
}

/// Machine-readable part of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ErrorData {
    /// Type of the error.
    pub error_type: ErrorType,
    /// Remedy for the problem, if known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
    /// The param that is wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// Present mode, with `Superseded`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub current_mode: Option<ModeState>,
    /// Group that has the access, with `PermissionDenied`. Absent if only root and the daemon's own
    /// user have it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// Channel of the existing connection, with `ConnectionIdInUse`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
    /// Methods of this daemon, with `MethodNotFound`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub methods: Option<Vec<String>>,
    /// Reason for the refusal, with `PlanRefused`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<PlanRefusal>,
    /// Plan that runs, with `PlanRefused`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub plan: Option<Box<Plan>>,
    /// Reservation on record, with `Reserved`. Absent if no roll has ever reserved the node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reservation: Option<Box<Reservation>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.data.hint {
            Some(hint) => write!(f, ". {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Creates an error with this type and message.
    pub fn new(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self {
            code: error_type.code(),
            message: message.into(),
            data: Box::new(ErrorData {
                error_type,
                hint: None,
                field: None,
                current_mode: None,
                group: None,
                channel_id: None,
                methods: None,
                why: None,
                plan: None,
                reservation: None,
            }),
        }
    }

    /// Adds a hint that describes the remedy.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.data.hint = Some(hint.into());
        self
    }

    /// Invalid value of a parameter. `problem` says which value it got and which it takes.
    pub fn invalid_params(field: &str, problem: impl fmt::Display) -> Self {
        let mut error = Self::new(ErrorType::InvalidParams, format!("{field}: {problem}"));
        error.data.field = Some(field.to_owned());
        error
    }

    /// `if_mode` or `if_generation` does not hold.
    pub fn superseded(current: ModeState) -> Self {
        let message = format!(
            "the mode is {} (generation {}, set by {}), not what was expected",
            current.mode, current.generation, current.actor
        );
        let mut error = Self::new(ErrorType::Superseded, message)
            .with_hint("Nothing was changed. Before you retry: soramode status");
        error.data.current_mode = Some(current);
        error
    }

    /// `normal` asked for while the node has not joined its cluster. An operator's mode outlasts the join, but not its own expiry.
    /// `membership` names the membership in words, and `problem` says why the node has not joined, with a remedy.
    pub fn not_joined(membership: &str, state: &ModeState, problem: Option<&str>) -> Self {
        let mode = state.mode;
        let then = match mode {
            Mode::Initial | Mode::Normal => {
                "it becomes normal when it joins the cluster".to_owned()
            }
            Mode::BlockNewSession | Mode::BlockNewConnection if state.expires_at.is_some() => {
                format!(
                    "it stays {mode} until its expiry, and becomes normal when it has also joined the cluster"
                )
            }
            Mode::BlockNewSession | Mode::BlockNewConnection => {
                format!("it stays {mode}, and can be opened after it has joined the cluster")
            }
        };
        Self::new(
            ErrorType::NotJoined,
            format!("the node is not in its cluster ({membership}): {then}"),
        )
        .with_hint(problem.unwrap_or("Check that etcd can be reached, with: soramode doctor"))
    }

    /// The connection is in another channel.
    pub fn connection_id_in_use(connection_id: &ConnectionId, channel_id: ChannelId) -> Self {
        let message = format!(
            "connection {:?} is already in channel {:?}",
            connection_id.as_str(),
            channel_id.as_str()
        );
        let mut error = Self::new(ErrorType::ConnectionIdInUse, message)
            .with_hint("Disconnect it first, or use another connection_id");
        error.data.channel_id = Some(channel_id);
        error
    }

    /// A wait for `drained` in a mode that lets new sessions in, or that the operator did not set.
    pub fn cannot_drain(mode: Mode) -> Self {
        let message = format!("the node is {mode}: only a closed node can become drained");
        Self::new(ErrorType::ConditionImpossible, message)
            .with_hint("Close it first: soramode close")
    }

    /// A wait for `joined` on a node without a cluster.
    pub fn cannot_join() -> Self {
        Self::new(
            ErrorType::ConditionImpossible,
            "this node is standalone; it has no cluster to join",
        )
    }

    /// The channel has no session.
    pub fn no_session(channel_id: &ChannelId) -> Self {
        Self::new(
            ErrorType::NotFound,
            format!("no session on channel {:?}", channel_id.as_str()),
        )
    }

    /// A delivery that reports the node as drained cannot be resent after the node was opened.
    pub fn obsolete_delivery(id: u64) -> Self {
        let message = format!("delivery {id} is obsolete: the node was opened after it");
        Self::new(ErrorType::ConditionImpossible, message)
            .with_hint("It is not resent, because its receiver would stop a node that is open")
    }

    /// The receiver of the delivery was removed.
    pub fn no_receiver(id: u64) -> Self {
        let message = format!("the receiver of delivery {id} is no longer configured");
        Self::new(ErrorType::ConditionImpossible, message)
            .with_hint("Add it to --webhook again, restart soramoded, and retry")
    }

    /// The delivery does not exist, or no longer.
    pub fn no_delivery(id: u64) -> Self {
        Self::new(ErrorType::NotFound, format!("no delivery {id}"))
            .with_hint("soramode deliveries lists all that are kept")
    }

    /// The client may only look.
    pub fn permission_denied(method: &str, needed: Access, group: Option<&str>) -> Self {
        let hint = group.map_or_else(
            || "Run it as root or as soramoded's user".to_owned(),
            |group| format!("Run it as root, as soramoded's user or as a member of group {group} (if you were just added, retry in 10 s)"),
        );
        let mut error = Self::new(
            ErrorType::PermissionDenied,
            format!(
                "permission denied: {method} needs {needed} access, and this user may only view"
            ),
        )
        .with_hint(hint);
        error.data.group = group.map(str::to_owned);
        error
    }

    /// A wait for `drained` while the session list is not complete; `remedy` is an imperative that completes it.
    pub fn sessions_incomplete(reason: &str, remedy: Option<&str>) -> Self {
        let remedy = remedy
            .map(|remedy| format!("{remedy}. "))
            .unwrap_or_default();
        Self::new(ErrorType::SessionsIncomplete, format!("session list incomplete: {reason}")).with_hint(format!(
            "{remedy}If you have checked on the SFU that no client is connected, add assume_complete (--assume-complete)"
        ))
    }

    /// A promise that needs the disk cannot be given.
    pub fn storage_unavailable(problem: impl fmt::Display) -> Self {
        Self::new(
            ErrorType::StorageUnavailable,
            format!("the state cannot be written: {problem}"),
        )
    }

    /// There is no means of ending a session.
    pub fn cannot_end_sessions() -> Self {
        Self::new(ErrorType::CannotEndSessions, "cannot end sessions: --sora-api is not set, and no client has subscribed with ends: true")
            .with_hint("Set --sora-api, or have the signalling server subscribe with ends: true")
    }

    /// The connection was disconnected before its `Connect` was decided.
    pub fn disconnected_during_claim(connection_id: &ConnectionId) -> Self {
        let message = format!(
            "connection {:?} was disconnected before it was admitted",
            connection_id.as_str()
        );
        Self::new(ErrorType::NotFound, message)
    }

    /// The request needs the cluster's etcd, which did not answer in time.
    pub fn cluster_unavailable(problem: impl fmt::Display) -> Self {
        Self::new(
            ErrorType::ClusterUnavailable,
            format!("the cluster did not answer: {problem}"),
        )
        .with_hint("Retry. To see the cause: soramode doctor")
    }

    /// The node has no cluster, so the request can never succeed.
    pub fn no_cluster() -> Self {
        Self::new(
            ErrorType::ConditionImpossible,
            "this node is standalone: it has no cluster",
        )
        .with_hint("Start its soramoded with --cluster")
    }

    /// A node was to be purged by one that is not in the cluster itself.
    pub fn cannot_purge(membership: Membership) -> Self {
        Self::new(
            ErrorType::NotJoined,
            format!("the node is not in its cluster ({membership}): only a node that is joined can purge another"),
        )
        .with_hint("Run it on a node that is joined, or wait until etcd answers. To see what is wrong: soramode doctor")
    }

    /// The cluster exists already.
    pub fn cluster_exists(epoch: u64) -> Self {
        Self::new(
            ErrorType::AlreadyExists,
            format!("etcd already has this cluster (epoch {epoch}), and it is healthy"),
        )
        .with_hint("Nothing to do: nodes join automatically")
    }

    /// The etcd has lost claims: an operator must accept the consequences.
    pub fn needs_risk_of_init(problem: impl fmt::Display) -> Self {
        let risk = crate::cluster::RISK_OF_INIT;
        Self::invalid_params("accept_risk", format_args!("takes {risk:?} here: {problem}")).with_hint(
            "Bring back the previous etcd. If that is impossible, first read \"etcd from a backup, or lost permanently\" in man/cluster.md: a channel with a lost claim is \
             served on two nodes if its node cannot be reached",
        )
    }

    /// The etcd has clusters of other names, and this one may be mistyped.
    pub fn other_names(name: &str, others: &[String]) -> Self {
        let others = others.join(", ");
        let message =
            format!("etcd has no cluster {name}, and has others: {others}. Nothing was created");
        Self::new(ErrorType::AlreadyExists, message).with_hint(
            "To join one of them, correct cluster-name in soramoded.toml and restart soramoded. If another cluster is meant, run: \
             soramode nodes init --accept-risk=second-cluster",
        )
    }

    /// The etcd has another cluster.
    pub fn other_cluster(problem: impl fmt::Display, remedy: &'static str) -> Self {
        Self::new(ErrorType::AlreadyExists, problem.to_string()).with_hint(remedy)
    }

    /// The node that is to be written off is there.
    pub fn node_is_member(node_name: &NodeName) -> Self {
        let message = format!(
            "node {:?} still counts as a member of the cluster, and has no orphaned channels",
            node_name.as_str()
        );
        Self::new(ErrorType::NodeStillJoined, message)
            .with_hint("To purge the node itself, stop it. If it is stopped, retry after its --cluster-ttl (default: 10s)")
    }

    /// The cluster has no such node, present or lost, and no channel is orphaned by it.
    pub fn no_such_node(node_name: &NodeName) -> Self {
        let message = format!(
            "the cluster has no node {:?}, and no orphaned channels of it: there is nothing to purge",
            node_name.as_str()
        );
        Self::new(ErrorType::NotFound, message).with_hint("List the nodes: soramode nodes")
    }

    /// The limit of clients is reached.
    pub fn too_many_clients(clients: usize) -> Self {
        Self::new(
            ErrorType::TooManyClients,
            format!("{clients} clients are already connected"),
        )
        .with_hint("Close some of them, and retry")
    }
}
