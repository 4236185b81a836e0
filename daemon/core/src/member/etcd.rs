//! Requests to etcd, and its responses.
//!
//! Every request but [`EtcdRequest::ReadMembers`], [`EtcdRequest::PublishLoad`], [`EtcdRequest::Trust`],
//! [`EtcdRequest::Distrust`], [`EtcdRequest::NoteRollback`], [`EtcdRequest::DeleteMember`] and [`EtcdRequest::KeepMember`] has a response,
//! in a bounded time and with its subject. A request may have been carried out though its response says that it failed.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::id::{ChannelId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::OrphanedChannels;
use soramode_protocol::time::Time;

use crate::cluster::claim::{Claim, ClaimReply, Conflict};
use crate::cluster::history::{Configuration, ObservedEtcd, Refusal, Rollback};
use crate::cluster::{Incarnation, Token};
use crate::handles::ReplyHandle;

/// A request to etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdRequest {
    /// Carry out later requests in an etcd with this `/cfg` alone: every transaction compares it.
    Trust {
        /// Byte for byte.
        configuration_text: Vec<u8>,
    },
    /// Say that this etcd is refused.
    Distrust(Refusal),
    /// Note in `/cfg`, where this is its text, that this etcd was rolled back.
    NoteRollback {
        /// Byte for byte.
        found: Vec<u8>,
        /// Revisions that show the rollback. An etcd with newer keys may be another one: the previous one, brought back.
        rollback: Rollback,
        /// The reason.
        why: String,
    },
    /// Write `/cfg`, where this is its text.
    Init {
        /// The request to answer.
        reply_to: ReplyHandle,
        /// `None`: there is no `/cfg`.
        found: Option<Vec<u8>>,
        /// The configuration to write.
        configuration: Configuration,
        /// The etcd may have clusters of other names.
        may_be_second: bool,
    },
    /// Read the members at once, not at the next heartbeat.
    ReadMembers,
    /// Create the node's member key and publish this mode; first delete an earlier key of its own, comparing its incarnation.
    Join {
        /// The mode that is published with it.
        mode: Mode,
        /// The key to delete first.
        give_up: Option<Incarnation>,
        /// Read the claims first: the node has no record of an earlier incarnation.
        reads_claims: bool,
    },
    /// Read or write the claim on a channel.
    Claim {
        /// The channel.
        channel_id: ChannelId,
        /// The incarnation that requests it: every transaction that writes compares it.
        by: Incarnation,
        /// The operation.
        op: ClaimOp,
    },
    /// Read the claim on a channel, for `Explain`.
    FindClaim {
        /// The channel.
        channel_id: ChannelId,
        /// The incarnation that requests it.
        by: Incarnation,
    },
    /// Delete a claim after its session has ended, comparing its token.
    Release(ChannelId, Token),
    /// Write these claims anew, each by a transaction that compares its token.
    MigrateClaims {
        /// The incarnation that requests it.
        by: Incarnation,
        /// The claims, each with its token.
        claims: Vec<(ChannelId, Token)>,
    },
    /// Publish the mode to the other nodes.
    Publish {
        /// The incarnation that requests it.
        by: Incarnation,
        /// The mode.
        mode: Mode,
    },
    /// Publish the load to the other nodes.
    PublishLoad {
        /// The incarnation that requests it.
        by: Incarnation,
        /// The load.
        load: Load,
    },
    /// Count the channels that each incarnation owns.
    Count,
    /// Purge an absent node: an operator says that it is off.
    Purge {
        /// The request to answer.
        reply_to: ReplyHandle,
        /// The node.
        node_name: NodeName,
        /// Its present incarnation: the earlier ones alone are purged.
        running: Option<Incarnation>,
        /// Its last known incarnation, if it is absent: this one is purged even if it owns no channel, so that each node forgets the node.
        departed: Option<Incarnation>,
        /// The operator.
        actor: String,
    },
    /// The daemon stops, and the node has nothing, or it is fenced: delete its member key.
    DeleteMember(Incarnation),
    /// The daemon stops, and adopts its sessions when it starts again: delete nothing.
    KeepMember,
}

/// Result of [`EtcdRequest::Init`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Init {
    /// The cluster was written as planned.
    Made(Configuration),
    /// Another node wrote it first.
    Exists {
        /// Its epoch.
        epoch: u64,
    },
    /// It was not written, because there are clusters of these names, the first ones by name.
    OtherNames(Vec<String>),
}

impl EtcdRequest {
    /// Returns the response for a request that could not be carried out, if it has one.
    pub fn refused(self, why: &str) -> Option<EtcdResponse> {
        match self {
            Self::Trust { .. }
            | Self::Distrust(_)
            | Self::NoteRollback { .. }
            | Self::ReadMembers
            | Self::PublishLoad { .. }
            | Self::DeleteMember(_)
            | Self::KeepMember => None,
            Self::Init { reply_to, .. } => Some(EtcdResponse::Initialized {
                reply_to,
                outcome: Err(why.to_owned()),
            }),
            Self::Join { .. } => Some(EtcdResponse::Joined(Err(why.to_owned()))),
            Self::Claim { channel_id, by, .. } => Some(EtcdResponse::ClaimReplied {
                channel_id,
                by,
                reply: Err(why.to_owned()),
            }),
            Self::FindClaim { channel_id, .. } => Some(EtcdResponse::ClaimFound {
                channel_id,
                found: Err(why.to_owned()),
            }),
            Self::Release(channel_id, token) => Some(EtcdResponse::Released(
                channel_id,
                token,
                Err(why.to_owned()),
            )),
            Self::MigrateClaims { by, .. } => Some(EtcdResponse::ClaimsMigrated {
                by,
                replies: Vec::new(),
                more: false,
            }),
            Self::Publish { mode, .. } => Some(EtcdResponse::Published(mode, Err(why.to_owned()))),
            Self::Count => Some(EtcdResponse::Counted(Err(why.to_owned()))),
            Self::Purge {
                reply_to,
                node_name,
                ..
            } => Some(EtcdResponse::Purged {
                reply_to,
                node_name,
                outcome: Err(why.to_owned()),
            }),
        }
    }
}

/// An operation on the claim of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOp {
    /// Read it.
    Get,
    /// Create it, if there is none.
    Acquire,
    /// Replace this claim of a departed owner, if it is still there.
    TakeOver(Claim),
    /// Write this claim of the node's own anew.
    Rewrite(Claim),
    /// Delete this claim of the node's own, then read it.
    Release(Claim),
}

/// A response of etcd.
#[derive(Clone, Debug, PartialEq)]
pub enum EtcdResponse {
    /// A linearizable read of all members: each heartbeat, and on request.
    MembersRead(Box<MembersRead>),
    /// A read of the members failed.
    MembersReadFailed(String),
    /// Response to [`EtcdRequest::Join`].
    Joined(Result<Joined, String>),
    /// Response to [`EtcdRequest::Claim`].
    ClaimReplied {
        /// The channel.
        channel_id: ChannelId,
        /// The incarnation that requested it.
        by: Incarnation,
        /// The reply.
        reply: Result<ClaimReply, String>,
    },
    /// Response to [`EtcdRequest::FindClaim`].
    ClaimFound {
        /// The channel.
        channel_id: ChannelId,
        /// The claim.
        found: Result<Conflict, String>,
    },
    /// Response to [`EtcdRequest::Release`]: an error if the claim may still be there.
    Released(ChannelId, Token, Result<(), String>),
    /// Response to [`EtcdRequest::MigrateClaims`]; claims without a reply are requested again.
    ClaimsMigrated {
        /// The incarnation that requests it.
        by: Incarnation,
        /// Some of the replies.
        replies: Vec<(ChannelId, ClaimReply)>,
        /// More replies follow.
        more: bool,
    },
    /// Response to [`EtcdRequest::Publish`].
    Published(Mode, Result<(), String>),
    /// Response to [`EtcdRequest::Purge`].
    Purged {
        /// The request to answer.
        reply_to: ReplyHandle,
        /// The node.
        node_name: NodeName,
        /// The outcome.
        outcome: Result<PurgedIncarnations, String>,
    },
    /// Response to [`EtcdRequest::Init`].
    Initialized {
        /// The request to answer.
        reply_to: ReplyHandle,
        /// The outcome.
        outcome: Result<Init, String>,
    },
    /// Response to [`EtcdRequest::Count`]: the channels of each incarnation that owns any.
    Counted(Result<Vec<OwnedChannels>, String>),
}

/// Incarnations of a node that were purged: their channels may be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgedIncarnations {
    /// The incarnations; none if the node had no orphaned channels.
    pub incarnations: Vec<Incarnation>,
    /// Number of their channels.
    pub channels: u64,
}

/// The node's key was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The new incarnation.
    pub incarnation: Incarnation,
    /// Incarnations of the node that own channels, where the claims were to be read.
    pub owners: BTreeSet<Incarnation>,
}

/// A linearizable read of all members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MembersRead {
    /// When it was sent, by the boot clock: the lease runs from then.
    pub sent: Duration,
    /// When the answer came, by the boot clock.
    pub received: Duration,
    /// The etcd that was read.
    pub etcd: ObservedEtcd,
    /// `/cfg`, byte for byte.
    pub configuration_text: Vec<u8>,
    /// The key under the node's own name.
    pub own: Option<Incarnation>,
    /// The key under the node's own name, if this start of the daemon wrote it.
    pub own_of_this_start: Option<Incarnation>,
    /// The key under the node's own name, if a start of the daemon wrote it, with this state, since the machine booted.
    pub own_of_this_boot: Option<Incarnation>,
    /// The key under the node's own name was written on another boot of this machine, or on another machine.
    pub own_of_another_boot: bool,
    /// All nodes, this one among them.
    pub nodes: Vec<NodeRecord>,
    /// Incarnations that an operator has purged.
    pub purged: Vec<Incarnation>,
}

/// A node as it published itself.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRecord {
    /// Its name.
    pub node_name: NodeName,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Its mode, if it can be read.
    pub mode: Option<Mode>,
    /// Its load.
    pub load: Load,
    /// URL that clients are redirected to.
    pub signaling_url: Option<String>,
    /// URL of its API.
    pub api_url: Option<String>,
    /// URL of its status page.
    pub page_url: Option<String>,
    /// Its soramoded's version.
    pub version: Option<String>,
    /// When it joined.
    pub since: Option<Time>,
}

/// Load of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Its connections.
    pub connections: u64,
    /// Its sessions.
    pub sessions: u64,
    /// Connections that it holds at most.
    pub limit: u64,
    /// `true` if a plan is about to close it: it takes new channels after all others.
    pub is_leaving: bool,
}

/// The channels that one incarnation owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedChannels {
    /// The node.
    pub node_name: NodeName,
    /// The incarnation.
    pub incarnation: Incarnation,
    /// Number of the channels, and of those that no time frees.
    pub channels: OrphanedChannels,
}

/// Sessions that a fence ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FenceScope {
    /// Everything.
    All,
    /// The session of one channel, which is another node's.
    Channel(ChannelId),
}

impl FenceScope {
    /// Returns the channel, if it is only one.
    pub const fn channel(&self) -> Option<&ChannelId> {
        match self {
            Self::All => None,
            Self::Channel(channel) => Some(channel),
        }
    }
}
