//! A naive etcd: one revision after the other, each request carried out at once and whole, as the daemon's transactions do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_core::cluster::claim::{Claim, ClaimReply, Conflict};
use soramode_core::cluster::history::{Configuration, ObservedEtcd};
use soramode_core::cluster::{Incarnation, LeaseTerms, Token};
use soramode_core::member::etcd::{
    ClaimOp, EtcdRequest, EtcdResponse, Init, Joined, Load, MembersRead, NodeRecord, OwnedChannels,
    PurgedIncarnations,
};
use soramode_protocol::id::{ChannelId, ClusterId, HistoryId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::OrphanedChannels;

/// Lifetime of a member key without a read by its node.
pub(crate) const TTL: Duration = Duration::from_secs(10);

const CLUSTER_ID: u64 = 7;

/// The node that sends a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: NodeName,
    /// Counts the starts of its daemon.
    pub(crate) start: u64,
    /// Counts the starts of its machine.
    pub(crate) boot: u64,
    pub(crate) terms: LeaseTerms,
}

struct Member {
    incarnation: Incarnation,
    start: u64,
    boot: u64,
    mode: Mode,
    load: Load,
    expires: Duration,
}

pub(crate) struct Etcd {
    revision: u64,
    members: BTreeMap<NodeName, Member>,
    pub(crate) claims: BTreeMap<ChannelId, Claim>,
    purged: BTreeSet<Incarnation>,
    /// Every claim that was ever written, and the node that did.
    pub(crate) written: BTreeMap<(ChannelId, Token), NodeName>,
}

fn configuration() -> Configuration {
    Configuration {
        cluster_id: ClusterId::new("cluster").unwrap(),
        history_id: HistoryId::new("history").unwrap(),
        epoch: 1,
        etcd_cluster_id: CLUSTER_ID,
        set_back: None,
    }
}

impl Etcd {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            members: BTreeMap::new(),
            claims: BTreeMap::new(),
            purged: BTreeSet::new(),
            written: BTreeMap::new(),
        }
    }

    /// Returns a node's member key.
    pub(crate) fn member(&self, name: &NodeName) -> Option<Incarnation> {
        Some(self.members.get(name)?.incarnation)
    }

    /// Returns the mode that the other nodes see.
    pub(crate) fn published_mode(&self, name: &NodeName) -> Option<Mode> {
        Some(self.members.get(name)?.mode)
    }

    /// Has an operator purge a node while its daemon is down, and its SFU still serves its channels.
    pub(crate) fn purge_running(&mut self, name: &NodeName) {
        self.lose_member(name);
        self.purge(name, None, None);
    }

    /// Deletes expired member keys.
    pub(crate) fn expire(&mut self, now: Duration) {
        let before = self.members.len();
        self.members.retain(|_, member| member.expires > now);
        self.revision += u64::from(self.members.len() < before);
    }

    /// Deletes a member key before its time: nothing may rest on a lease.
    pub(crate) fn lose_member(&mut self, name: &NodeName) {
        self.revision += u64::from(self.members.remove(name).is_some());
    }

    fn next_revision(&mut self) -> u64 {
        self.revision += 1;
        self.revision
    }

    fn is_member(&self, name: &NodeName, by: Incarnation) -> bool {
        self.members
            .get(name)
            .is_some_and(|member| member.incarnation == by)
    }

    /// Reads all members; the node fills in its own times.
    pub(crate) fn read(&mut self, caller: &Caller, now: Duration) -> MembersRead {
        let own = self.members.get_mut(&caller.name);
        // A daemon keeps a key alive that it wrote itself, or an earlier start of it since the machine booted.
        if let Some(member) = own.filter(|member| member.boot == caller.boot) {
            member.expires = now + TTL;
        }
        let own = self.members.get(&caller.name);
        MembersRead {
            sent: Duration::ZERO,
            received: Duration::ZERO,
            etcd: ObservedEtcd {
                configuration: Some(configuration()),
                etcd_cluster_id: CLUSTER_ID,
                revision: self.revision,
                revision_before: 0,
                rollback: None,
            },
            configuration_text: b"cluster".to_vec(),
            own: own.map(|member| member.incarnation),
            own_of_this_start: own
                .filter(|member| member.start == caller.start)
                .map(|member| member.incarnation),
            own_of_another_boot: own.is_some_and(|member| member.boot != caller.boot),
            own_of_this_boot: own
                .filter(|member| member.boot == caller.boot)
                .map(|member| member.incarnation),
            nodes: self
                .members
                .iter()
                .map(|(name, member)| NodeRecord {
                    node_name: name.clone(),
                    incarnation: member.incarnation,
                    mode: Some(member.mode),
                    load: member.load,
                    signaling_url: None,
                    api_url: None,
                    page_url: None,
                    version: None,
                    since: None,
                })
                .collect(),
            purged: self.purged.iter().copied().collect(),
        }
    }

    /// Carries a request out; what comes back of it, if anything does.
    pub(crate) fn execute(
        &mut self,
        caller: &Caller,
        now: Duration,
        request: EtcdRequest,
    ) -> Option<EtcdResponse> {
        Some(match request {
            EtcdRequest::Join {
                mode,
                give_up,
                reads_claims,
            } => {
                let own = self
                    .claims
                    .values()
                    .filter(|claim| reads_claims && claim.node == caller.name);
                let owners = own.map(|claim| claim.incarnation).collect();
                let joined = self.join(caller, now, mode, give_up);
                EtcdResponse::Joined(joined.map(|incarnation| Joined {
                    incarnation,
                    owners,
                }))
            }
            EtcdRequest::Claim { channel_id, by, op } => EtcdResponse::ClaimReplied {
                reply: Ok(self.claim(caller, &channel_id, by, op)),
                channel_id,
                by,
            },
            EtcdRequest::FindClaim { channel_id, .. } => EtcdResponse::ClaimFound {
                found: Ok(self.found(caller, &channel_id)),
                channel_id,
            },
            EtcdRequest::Release(channel_id, token) => {
                self.delete(&channel_id, token, &caller.name);
                EtcdResponse::Released(channel_id, token, Ok(()))
            }
            EtcdRequest::MigrateClaims { by, claims } => EtcdResponse::ClaimsMigrated {
                by,
                replies: claims
                    .into_iter()
                    .map(|(channel_id, token)| {
                        let reply = self.migrate(caller, &channel_id, by, token);
                        (channel_id, reply)
                    })
                    .collect(),
                more: false,
            },
            EtcdRequest::Publish { by, mode } => {
                let is_member = self.is_member(&caller.name, by);
                if let Some(member) = self.members.get_mut(&caller.name).filter(|_| is_member) {
                    member.mode = mode;
                    self.revision += 1;
                }
                let lost = || "the key is gone".to_owned();
                EtcdResponse::Published(mode, is_member.then_some(()).ok_or_else(lost))
            }
            EtcdRequest::PublishLoad { by, load } => {
                if self.is_member(&caller.name, by)
                    && let Some(member) = self.members.get_mut(&caller.name)
                {
                    member.load = load;
                    self.revision += 1;
                }
                return None;
            }
            EtcdRequest::Count => EtcdResponse::Counted(Ok(self.count())),
            EtcdRequest::Purge {
                reply_to,
                node_name,
                running,
                departed,
                ..
            } => {
                let outcome = Ok(self.purge(&node_name, running, departed));
                EtcdResponse::Purged {
                    reply_to,
                    node_name,
                    outcome,
                }
            }
            EtcdRequest::Init { reply_to, .. } => EtcdResponse::Initialized {
                reply_to,
                outcome: Ok(Init::Exists { epoch: 1 }),
            },
            EtcdRequest::DeleteMember(incarnation) => {
                if self.is_member(&caller.name, incarnation) {
                    self.lose_member(&caller.name);
                }
                return None;
            }
            EtcdRequest::Trust { .. } | EtcdRequest::ReadMembers | EtcdRequest::KeepMember => {
                return None;
            }
            other @ (EtcdRequest::Distrust(_) | EtcdRequest::NoteRollback { .. }) => {
                panic!("nothing is wrong with this etcd: {other:?}")
            }
        })
    }

    /// Purges the departed incarnation, and the earlier ones that own channels. Returns them, with the number of channels.
    fn purge(
        &mut self,
        node: &NodeName,
        running: Option<Incarnation>,
        departed: Option<Incarnation>,
    ) -> PurgedIncarnations {
        let of_node = self
            .claims
            .values()
            .filter(|claim| claim.node == *node && running != Some(claim.incarnation));
        let owners: Vec<Incarnation> = of_node.map(|claim| claim.incarnation).collect();
        self.purged.extend(owners.iter().copied());
        self.purged.extend(departed);
        let distinct: BTreeSet<Incarnation> = owners.iter().copied().chain(departed).collect();
        PurgedIncarnations {
            incarnations: distinct.into_iter().collect(),
            channels: owners.len() as u64,
        }
    }

    fn join(
        &mut self,
        caller: &Caller,
        now: Duration,
        mode: Mode,
        give_up: Option<Incarnation>,
    ) -> Result<Incarnation, String> {
        if give_up.is_some_and(|earlier| self.is_member(&caller.name, earlier)) {
            self.lose_member(&caller.name);
        }
        if self.members.contains_key(&caller.name) {
            return Err("the name is in use".to_owned());
        }
        let incarnation = Incarnation(self.next_revision());
        let member = Member {
            incarnation,
            start: caller.start,
            boot: caller.boot,
            mode,
            load: Load::default(),
            expires: now + TTL,
        };
        self.members.insert(caller.name.clone(), member);
        Ok(incarnation)
    }

    fn found(&self, caller: &Caller, channel_id: &ChannelId) -> Conflict {
        let own = self.members.get(&caller.name);
        Conflict {
            claim: self.claims.get(channel_id).cloned(),
            member: own.map(|member| member.incarnation),
            mode: own.map(|member| member.mode),
        }
    }

    fn is_still(&self, channel_id: &ChannelId, token: Token) -> bool {
        self.claims
            .get(channel_id)
            .is_some_and(|claim| claim.token == token)
    }

    fn delete(&mut self, channel_id: &ChannelId, token: Token, by: &NodeName) {
        let is_own = self
            .claims
            .get(channel_id)
            .is_some_and(|claim| claim.token == token && claim.node == *by);
        if is_own {
            self.claims.remove(channel_id);
            self.revision += 1;
        }
    }

    fn claim(
        &mut self,
        caller: &Caller,
        channel_id: &ChannelId,
        by: Incarnation,
        op: ClaimOp,
    ) -> ClaimReply {
        let holds = match op {
            ClaimOp::Get => false,
            ClaimOp::Release(claim) => {
                self.delete(channel_id, claim.token, &caller.name);
                false
            }
            ClaimOp::Acquire => !self.claims.contains_key(channel_id),
            ClaimOp::Rewrite(claim) => {
                claim.node == caller.name && self.is_still(channel_id, claim.token)
            }
            ClaimOp::TakeOver(claim) => {
                self.is_still(channel_id, claim.token)
                    && !self.is_member(&claim.node, claim.incarnation)
            }
        };
        let is_normal = self
            .members
            .get(&caller.name)
            .is_some_and(|member| member.incarnation == by && member.mode == Mode::Normal);
        if holds && is_normal {
            ClaimReply::Won(self.write(caller, channel_id, by))
        } else {
            ClaimReply::Refused(self.found(caller, channel_id))
        }
    }

    fn migrate(
        &mut self,
        caller: &Caller,
        channel_id: &ChannelId,
        by: Incarnation,
        token: Token,
    ) -> ClaimReply {
        let is_lost = !self.claims.contains_key(channel_id)
            && caller.terms.fence_after == soramode_core::cluster::FenceAfter::Never;
        let holds = self.is_still(channel_id, token) || is_lost;
        if holds && self.is_member(&caller.name, by) {
            ClaimReply::Won(self.write(caller, channel_id, by))
        } else {
            ClaimReply::Refused(self.found(caller, channel_id))
        }
    }

    fn write(&mut self, caller: &Caller, channel_id: &ChannelId, by: Incarnation) -> Token {
        let token = Token(self.next_revision());
        let claim = Claim {
            node: caller.name.clone(),
            incarnation: by,
            fence_after: caller.terms.fence_after,
            fence_budget: caller.terms.fence_budget,
            token,
        };
        self.claims.insert(channel_id.clone(), claim);
        self.written
            .insert((channel_id.clone(), token), caller.name.clone());
        token
    }

    fn count(&self) -> Vec<OwnedChannels> {
        let mut counts: BTreeMap<(NodeName, Incarnation), OrphanedChannels> = BTreeMap::new();
        for claim in self.claims.values() {
            let key = (claim.node.clone(), claim.incarnation);
            counts.entry(key).or_default().total += 1;
        }
        counts
            .into_iter()
            .map(|((node_name, incarnation), channels)| OwnedChannels {
                node_name,
                incarnation,
                channels,
            })
            .collect()
    }
}
