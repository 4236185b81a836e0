//! etcd as the protocol sees it: one revision after the other, member keys that vanish, and one channel's claim.

use std::collections::BTreeSet;

use soramode_core::cluster::claim::{Claim, ClaimReply, Conflict};
use soramode_core::cluster::history::{Configuration, ObservedEtcd};
use soramode_core::cluster::{Incarnation, Token};
use soramode_protocol::id::{ClusterId, HistoryId, NodeName};
use soramode_protocol::mode::Mode;

use super::TERMS;

/// Number of nodes.
pub(super) const NODES: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Store {
    pub(super) revision: u64,
    pub(super) members: [Option<Incarnation>; NODES],
    pub(super) claim: Option<Claim>,
    pub(super) configuration: Option<Configuration>,
}

/// Loss of the store, once in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Loss {
    /// It is empty.
    Emptied,
    /// It is as it was before the channel was claimed.
    RolledBack,
    /// It is another cluster's, with all that it needs to go on.
    Replaced,
}

/// The etcd's own id: the same flags give the same.
const ETCD: u64 = 7;

/// Configuration as an operator writes it.
fn configuration(name: &str) -> Configuration {
    let (cluster_id, history_id) = (ClusterId::new(name).unwrap(), HistoryId::new(name).unwrap());
    Configuration {
        cluster_id,
        history_id,
        epoch: 1,
        etcd_cluster_id: ETCD,
        set_back: None,
    }
}

/// A transaction that a node sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Txn {
    /// Create the member key where there is none; first delete that of this earlier incarnation.
    Join(Option<Incarnation>),
    /// Claim the channel where nobody has.
    Claim(Incarnation),
    /// Take it from this claim after its owner has left.
    TakeOver(Incarnation, Claim),
    /// Write the claim of this token anew.
    Renew(Incarnation, Token),
    /// Write it anew under the member key that follows one that was lost.
    Migrate(Incarnation, Token),
    /// Delete the claim of this token.
    Release(Token),
    /// Write the configuration where there is none, which no node does by itself.
    Init,
}

/// Result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Joined(Incarnation),
    Replied(ClaimReply),
    Nothing,
}

/// Result of a read of all members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shown {
    pub(super) etcd: ObservedEtcd,
    pub(super) revision: u64,
    pub(super) present: BTreeSet<Incarnation>,
    pub(super) own: Option<Incarnation>,
}

pub(super) fn name(node: usize) -> NodeName {
    NodeName::new(["n0", "n1"][node]).unwrap()
}

impl Store {
    /// Creates one that both nodes have joined, and in which the first has the channel.
    pub(super) fn new() -> Self {
        let (first, token) = (Incarnation(1), Token(3));
        let (fence_after, fence_budget) = (TERMS.fence_after, TERMS.fence_budget);
        let claim = Claim {
            node: name(0),
            incarnation: first,
            fence_after,
            fence_budget,
            token,
        };
        let members = [Some(first), Some(Incarnation(2))];
        Self {
            revision: token.0,
            members,
            claim: Some(claim),
            configuration: Some(configuration("first")),
        }
    }

    pub(super) fn lose(&mut self, loss: Loss) {
        *self = match loss {
            Loss::Emptied => Self {
                revision: 1,
                members: [None; NODES],
                claim: None,
                configuration: None,
            },
            Loss::RolledBack => Self {
                revision: 2,
                claim: None,
                members: [Some(Incarnation(1)), Some(Incarnation(2))],
                ..self.clone()
            },
            Loss::Replaced => Self {
                revision: 4,
                members: [None; NODES],
                claim: None,
                configuration: Some(configuration("another")),
            },
        }
    }

    /// Marks the store as set back, for the other nodes.
    pub(super) fn note_rollback(&mut self) {
        if let Some(configuration) = &mut self.configuration {
            configuration.set_back = Some(String::new());
        }
    }

    /// Returns it in the form that the core evaluates.
    pub(super) fn etcd(&self) -> ObservedEtcd {
        ObservedEtcd {
            configuration: self.configuration.clone(),
            etcd_cluster_id: ETCD,
            revision: self.revision,
            // The highest revision of earlier answers is the known one.
            revision_before: 0,
            rollback: None,
        }
    }

    pub(super) fn show(&self, node: usize) -> Shown {
        let present = self.members.iter().flatten().copied().collect();
        Shown {
            etcd: self.etcd(),
            revision: self.revision,
            present,
            own: self.members[node],
        }
    }

    /// The lease of a member key is over: late, early, or wrongly.
    pub(super) fn vanish(&mut self, node: usize) {
        if self.members[node].take().is_some() {
            self.revision += 1;
        }
    }

    pub(super) fn execute(&mut self, node: usize, txn: &Txn) -> Answer {
        match txn {
            Txn::Init => {
                if self.configuration.is_none() {
                    self.revision += 1;
                    self.configuration = Some(configuration("made"));
                }
                Answer::Nothing
            }
            Txn::Join(give_up) => {
                if give_up.is_some() && self.members[node] == *give_up {
                    self.vanish(node);
                }
                if self.members[node].is_some() {
                    return Answer::Nothing;
                }
                self.revision += 1;
                let incarnation = Incarnation(self.revision);
                self.members[node] = Some(incarnation);
                Answer::Joined(incarnation)
            }
            Txn::Release(token) => {
                if self.token() == Some(*token) {
                    self.claim = None;
                    self.revision += 1;
                }
                Answer::Nothing
            }
            Txn::Claim(mine) => self.write_if(self.claim.is_none().then_some(*mine), node),
            Txn::TakeOver(mine, seen) => {
                let is_gone = !self.members.contains(&Some(seen.incarnation));
                self.write_if(
                    (self.token() == Some(seen.token) && is_gone).then_some(*mine),
                    node,
                )
            }
            Txn::Renew(mine, token) | Txn::Migrate(mine, token) => {
                self.write_if((self.token() == Some(*token)).then_some(*mine), node)
            }
        }
    }

    fn token(&self) -> Option<Token> {
        self.claim.as_ref().map(|claim| claim.token)
    }

    /// Every write of a claim compares the writer's own member key.
    fn write_if(&mut self, incarnation: Option<Incarnation>, node: usize) -> Answer {
        let Some(incarnation) = incarnation.filter(|it| self.members[node] == Some(*it)) else {
            let found = Conflict {
                claim: self.claim.clone(),
                member: self.members[node],
                mode: Some(Mode::Normal),
            };
            return Answer::Replied(ClaimReply::Refused(found));
        };
        self.revision += 1;
        let token = Token(self.revision);
        let (fence_after, fence_budget) = (TERMS.fence_after, TERMS.fence_budget);
        self.claim = Some(Claim {
            node: name(node),
            incarnation,
            fence_after,
            fence_budget,
            token,
        });
        Answer::Replied(ClaimReply::Won(token))
    }
}
