//! What the gate wants done in etcd, and what it hears of it.
//!
//! Every order but [`EtcdRequest::ReadMembers`], [`EtcdRequest::PublishLoad`], [`EtcdRequest::Trust`],
//! [`EtcdRequest::Distrust`] and [`EtcdRequest::NoteSetBack`] comes back, in a bounded time and with what it was about. An order may have been
//! carried out though it came back as failed.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::id::{ChannelId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::OrphanedChannels;
use soramode_protocol::time::Time;

use crate::cluster::claim::{Claim, Found, Reply};
use crate::cluster::history::{Configuration, Fall, Refusal, Shown};
use crate::cluster::{Incarnation, Token};
use crate::handles::{ReplyHandle, SocketId};

/// Something to be done in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EtcdRequest {
    /// Carry out what is ordered from now on in an etcd with this `/cfg` alone: every transaction compares it.
    Trust {
        /// Byte for byte.
        configuration_text: Vec<u8>,
    },
    /// Say that this etcd is refused.
    Distrust(Refusal),
    /// Note in `/cfg`, where this is its text, that this etcd was rolled back.
    NoteSetBack {
        /// Byte for byte.
        found: Vec<u8>,
        /// Revisions that show the rollback. An etcd with newer keys may be another one: the previous one, brought back.
        fall: Fall,
        /// How this node knows.
        why: String,
    },
    /// Write `/cfg`, where this is its text.
    Init {
        /// Whom to answer.
        reply_to: ReplyHandle,
        /// Nothing: it is not there.
        found: Option<Vec<u8>>,
        /// What to write.
        configuration: Configuration,
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
    /// Find out whose a channel is, or make it this node's.
    Claim {
        /// Which.
        channel_id: ChannelId,
        /// As whom: every transaction that writes compares it.
        by: Incarnation,
        /// What.
        op: ClaimOp,
    },
    /// Find out whose a channel is, for `Explain`: nothing is written.
    FindClaim {
        /// Which.
        channel_id: ChannelId,
        /// As whom.
        by: Incarnation,
    },
    /// Delete a claim whose session has ended, comparing its token.
    Release(ChannelId, Token),
    /// Write these claims anew, each by a transaction that compares its token.
    MigrateClaims {
        /// As whom.
        by: Incarnation,
        /// Which.
        claims: Vec<(ChannelId, Token)>,
    },
    /// Tell the other nodes of the mode.
    Publish {
        /// As whom.
        by: Incarnation,
        /// Which.
        mode: Mode,
    },
    /// Tell them how full the node is.
    PublishLoad {
        /// As whom.
        by: Incarnation,
        /// How full.
        load: Load,
    },
    /// Count the channels that each incarnation owns.
    Count,
    /// Note an operator's word that a node is off.
    Purge {
        /// Whom to answer.
        reply_to: ReplyHandle,
        /// The node.
        node_name: NodeName,
        /// Its incarnation that is there: the earlier ones alone are purged.
        running: Option<Incarnation>,
        /// Who says so.
        actor: String,
    },
    /// The daemon stops, and the node has nothing: delete its member key.
    DeleteMember(Incarnation),
    /// The daemon stops, and what it has it means to adopt when it starts again: delete nothing.
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
}

impl EtcdRequest {
    /// What comes back of it where it could not be carried out.
    pub fn refused(self, why: &str) -> Option<EtcdResponse> {
        match self {
            Self::Trust { .. }
            | Self::Distrust(_)
            | Self::NoteSetBack { .. }
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
                written_off: Err(why.to_owned()),
            }),
        }
    }
}

/// What is wanted of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOp {
    /// To know whose it is.
    Get,
    /// To have it, if it is nobody's.
    Acquire,
    /// To have it, if this is still its claim, and that one's owner is gone.
    TakeOver(Claim),
    /// To write this claim of the node's own anew.
    Rewrite(Claim),
    /// To be rid of this claim of the node's own, and then to know whose the channel is.
    Release(Claim),
}

/// What was heard of etcd.
#[derive(Clone, Debug, PartialEq)]
pub enum EtcdResponse {
    /// A linearizable read of all members: each heartbeat, and when it was ordered.
    MembersRead(Box<MembershipView>),
    /// It failed.
    MembersReadFailed(String),
    /// What came of [`EtcdRequest::Join`].
    Joined(Result<Joined, String>),
    /// What came of [`EtcdRequest::Claim`].
    ClaimReplied {
        /// The channel.
        channel_id: ChannelId,
        /// As whom it was asked.
        by: Incarnation,
        /// What came back.
        reply: Result<Reply, String>,
    },
    /// What came of [`EtcdRequest::FindClaim`].
    ClaimFound {
        /// The channel.
        channel_id: ChannelId,
        /// What stands there.
        found: Result<Found, String>,
    },
    /// What came of [`EtcdRequest::Release`]: whether it is certain that the claim is gone.
    Released(ChannelId, Token, Result<(), String>),
    /// What came of [`EtcdRequest::MigrateClaims`]; claims of which nothing is said are to be tried again.
    ClaimsMigrated {
        /// As whom.
        by: Incarnation,
        /// Some of the replies.
        replies: Vec<(ChannelId, Reply)>,
        /// Whether more are to come.
        more: bool,
    },
    /// What came of [`EtcdRequest::Publish`].
    Published(Mode, Result<(), String>),
    /// What came of [`EtcdRequest::Purge`].
    Purged {
        /// Whom to answer.
        reply_to: ReplyHandle,
        /// The node.
        node_name: NodeName,
        /// Its incarnations that are written off, and the channels that they owed.
        written_off: Result<(Vec<Incarnation>, u64), String>,
    },
    /// What came of [`EtcdRequest::Init`].
    Initialized {
        /// Whom to answer.
        reply_to: ReplyHandle,
        /// What became of it.
        outcome: Result<Init, String>,
    },
    /// What came of [`EtcdRequest::Count`]: the channels of each incarnation that owns any.
    Counted(Result<Vec<Owned>, String>),
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
pub struct MembershipView {
    /// When it was sent, by the boot clock: the right runs from then.
    pub sent: Duration,
    /// When the answer came, by the boot clock.
    pub received: Duration,
    /// The etcd that was read.
    pub etcd: Shown,
    /// `/cfg`, byte for byte.
    pub configuration_text: Vec<u8>,
    /// What stands under the node's own name.
    pub own: Option<Incarnation>,
    /// The same, if this start of the daemon wrote it.
    pub own_of_this_start: Option<Incarnation>,
    /// The same, if a start of the daemon wrote it, with this state, since the machine booted.
    pub own_of_this_boot: Option<Incarnation>,
    /// Everybody, the node itself among them.
    pub nodes: Vec<NodeRecord>,
    /// Incarnations that an operator has written off.
    pub purged: Vec<Incarnation>,
}

/// A node as it published itself.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRecord {
    /// Its name.
    pub node_name: NodeName,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Its mode, if it is one.
    pub mode: Option<Mode>,
    /// How full it is.
    pub load: Load,
    /// Where clients are redirected to.
    pub signaling_url: Option<String>,
    /// Where its API is.
    pub api_url: Option<String>,
    /// Its soramoded's version.
    pub version: Option<String>,
    /// When it joined.
    pub since: Option<Time>,
}

/// How full a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Its connections.
    pub connections: u64,
    /// Its sessions.
    pub sessions: u64,
    /// How many connections it may hold.
    pub limit: u64,
}

/// The channels that one incarnation owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Whose it is.
    pub node_name: NodeName,
    /// Which.
    pub incarnation: Incarnation,
    /// How many, and how many of them no time gives free.
    pub channels: OrphanedChannels,
}

/// What is to end at a fence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FenceScope {
    /// Everything.
    All,
    /// The session of one channel, which is another node's.
    Channel(ChannelId),
}

/// Somebody said that what a fence named has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub(crate) id: u64,
    pub(crate) by: SocketId,
}
