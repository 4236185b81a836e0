//! Identity of an etcd: a node uses only the one that it knows. One that was emptied, rolled back or replaced has lost claims: with it, the
//! node would give channels away that other nodes still serve.
//!
//! The key `/cfg` names the cluster and its present history. Within one history revisions only grow. The loss of a write that no node has
//! seen does no harm.

use std::fmt;

use soramode_protocol::id::{ClusterId, HistoryId};

use crate::fault::{Fault, PlantedFault};

/// Content of `/cfg`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its present history.
    pub history_id: HistoryId,
    /// Counts the histories: an operator begins a new one where an etcd is accepted that has lost claims.
    pub epoch: u64,
    /// The etcd in which it was begun.
    pub etcd_cluster_id: u64,
    /// A node has seen that this etcd was rolled back, and says how.
    pub set_back: Option<String>,
}

/// An etcd, as one read shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ObservedEtcd {
    /// Content of `/cfg`, if it exists.
    pub configuration: Option<Configuration>,
    /// etcd's own id.
    pub etcd_cluster_id: u64,
    /// Its revision.
    pub revision: u64,
    /// The highest revision that any answer had shown when this read was sent.
    pub revision_before: u64,
    /// A transaction before this read was answered with a revision that cannot have come after those that were seen.
    pub rollback: Option<Rollback>,
}

/// A revision that went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rollback {
    /// The revision that had been seen.
    pub seen: u64,
    /// The revision that was found.
    pub found: u64,
}

/// Identity of the etcd that the node was in last.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EtcdIdentity {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Its history.
    pub history_id: HistoryId,
    /// The history's number.
    pub epoch: u64,
    /// etcd's own id.
    pub etcd_cluster_id: u64,
    /// The highest revision that was seen.
    pub revision: u64,
}

impl EtcdIdentity {
    /// Returns the identity of an etcd with a cluster.
    pub fn of(shown: &ObservedEtcd) -> Option<Self> {
        let it = shown.configuration.as_ref()?;
        Some(Self {
            cluster_id: it.cluster_id.clone(),
            history_id: it.history_id.clone(),
            epoch: it.epoch,
            etcd_cluster_id: shown.etcd_cluster_id,
            revision: shown.revision,
        })
    }
}

/// The etcd that a node knows, and whether the last read was of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KnownEtcd {
    known: Option<EtcdIdentity>,
    refusal: Option<Refusal>,
    fault: PlantedFault,
}

impl KnownEtcd {
    /// Starts with the etcd that was stored, if the node was in one.
    pub fn new(stored: Option<EtcdIdentity>, fault: PlantedFault) -> Self {
        Self {
            known: stored.filter(|_| !fault.is(Fault::EtcdIsForgotten)),
            refusal: None,
            fault,
        }
    }

    /// Identity of the etcd that was accepted last.
    pub const fn known(&self) -> Option<&EtcdIdentity> {
        self.known.as_ref()
    }

    /// Reason why the last read was refused, if it was.
    pub const fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Judges the etcd of a read.
    pub fn evaluate(&self, shown: &ObservedEtcd) -> Result<Accepted, Refusal> {
        if self.fault.is(Fault::AnyEtcdIsAccepted) {
            return Ok(Accepted::Known);
        }
        evaluate(self.known.as_ref(), shown)
    }

    /// Takes in an etcd that may be used.
    pub fn accept(&mut self, accepted: EtcdIdentity) {
        (self.known, self.refusal) = (Some(accepted), None);
    }

    /// Takes in that an etcd may not be used; returns why the one before was refused, if it was.
    pub const fn refuse(&mut self, refusal: Refusal) -> Option<Refusal> {
        self.refusal.replace(refusal)
    }
}

/// An etcd that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Accepted {
    /// It is the one that is known.
    Known,
    /// The node was in no cluster before.
    First,
    /// It is the same cluster in a later history: nothing that the node remembers of the earlier one holds in this one.
    NewHistory,
}

/// Why an etcd may not be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No cluster was made in it, and the node was in none.
    NotInitialized,
    /// No cluster is in it, and the node was in one.
    Emptied,
    /// Its content was made in another etcd.
    Copied {
        /// The etcd that it was made in.
        made_in: u64,
        /// The etcd that it was found in.
        found: u64,
    },
    /// It has another cluster.
    OtherCluster {
        /// The cluster that the node is in.
        known: ClusterId,
        /// The cluster that etcd has.
        found: ClusterId,
    },
    /// It has an earlier history.
    OlderEpoch {
        /// The epoch that the node has seen.
        known: u64,
        /// The epoch that etcd has.
        found: u64,
    },
    /// It has another history of the same number.
    OtherHistory {
        /// Epoch of both.
        epoch: u64,
    },
    /// It has lost writes that the node has seen.
    RolledBack {
        /// The highest revision that was seen.
        seen: u64,
        /// The present one.
        found: u64,
    },
    /// Another node has seen that it lost writes.
    Reported(String),
}

impl Refusal {
    /// Returns whether it proves a loss that other nodes cannot see themselves.
    pub const fn is_proof(&self) -> bool {
        match self {
            Self::OlderEpoch { .. } | Self::OtherHistory { .. } | Self::RolledBack { .. } => true,
            Self::NotInitialized
            | Self::Emptied
            | Self::Copied { .. }
            | Self::OtherCluster { .. }
            | Self::Reported(_) => false,
        }
    }

    /// Returns the revisions that show it; for an earlier history, those of the read.
    pub const fn rollback(&self, shown: &ObservedEtcd) -> Rollback {
        match *self {
            Self::RolledBack { seen, found } => Rollback { seen, found },
            Self::NotInitialized
            | Self::Emptied
            | Self::Copied { .. }
            | Self::OtherCluster { .. }
            | Self::OlderEpoch { .. }
            | Self::OtherHistory { .. }
            | Self::Reported(_) => Rollback {
                seen: shown.revision,
                found: shown.revision,
            },
        }
    }

    /// Remedy for the operator.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NotInitialized => "Run once, on one node: soramode nodes init",
            Self::OtherCluster { .. } => {
                "Check --cluster and --cluster-name. To move the node to that cluster: drain it, stop soramoded, and remove its state \
                 folder"
            }
            Self::RolledBack { .. } => {
                "Bring back the previous etcd; if it is back, restart soramoded. If it is lost, or was restored from a backup, read \"etcd \
                 from a backup, or lost permanently\" in man/cluster.md, then run on one node: soramode nodes init --accept-risk=lost-claims"
            }
            Self::Emptied
            | Self::Copied { .. }
            | Self::OlderEpoch { .. }
            | Self::OtherHistory { .. }
            | Self::Reported(_) => {
                "Bring back the previous etcd. If it is lost, or was restored from a backup, read \"etcd from a backup, or lost permanently\" in man/cluster.md, \
                 then run on one node: soramode nodes init --accept-risk=lost-claims"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInitialized => write!(f, "etcd has no cluster of this name yet"),
            Self::Emptied => write!(
                f,
                "etcd has lost this node's cluster: it was emptied, or replaced by an empty one"
            ),
            Self::Copied { made_in, found } => {
                write!(
                    f,
                    "this etcd ({found}) is not the one that the cluster was made in ({made_in}): it was restored from a backup"
                )
            }
            Self::OtherCluster { known, found } => {
                write!(
                    f,
                    "etcd has cluster ({}), and this node belongs to cluster ({})",
                    found.as_str(),
                    known.as_str()
                )
            }
            Self::OlderEpoch { known, found } => {
                write!(
                    f,
                    "etcd was rolled back: it has epoch {found}, and this node has seen epoch {known}"
                )
            }
            Self::OtherHistory { epoch } => {
                write!(
                    f,
                    "etcd was rolled back: its epoch {epoch} is not the epoch {epoch} that this node was in"
                )
            }
            Self::RolledBack { seen, found } => {
                write!(
                    f,
                    "etcd was rolled back: it is at revision {found}, and this node has seen revision {seen}"
                )
            }
            Self::Reported(by) => write!(f, "etcd was rolled back, as another node has seen: {by}"),
        }
    }
}

/// Judges an etcd by what is known of it.
pub fn evaluate(known: Option<&EtcdIdentity>, shown: &ObservedEtcd) -> Result<Accepted, Refusal> {
    let Some(found) = &shown.configuration else {
        return Err(if known.is_some() {
            Refusal::Emptied
        } else {
            Refusal::NotInitialized
        });
    };
    if found.etcd_cluster_id != shown.etcd_cluster_id {
        return Err(Refusal::Copied {
            made_in: found.etcd_cluster_id,
            found: shown.etcd_cluster_id,
        });
    }
    let accepted = known.map_or(Ok(Accepted::First), |known| compare(known, found, shown))?;
    found
        .set_back
        .as_ref()
        .map_or(Ok(accepted), |by| Err(Refusal::Reported(by.clone())))
}

fn compare(
    known: &EtcdIdentity,
    found: &Configuration,
    shown: &ObservedEtcd,
) -> Result<Accepted, Refusal> {
    if found.cluster_id != known.cluster_id {
        return Err(Refusal::OtherCluster {
            known: known.cluster_id.clone(),
            found: found.cluster_id.clone(),
        });
    }
    if found.epoch < known.epoch {
        return Err(Refusal::OlderEpoch {
            known: known.epoch,
            found: found.epoch,
        });
    }
    if found.epoch > known.epoch {
        return Ok(Accepted::NewHistory);
    }
    if found.history_id != known.history_id || shown.etcd_cluster_id != known.etcd_cluster_id {
        return Err(Refusal::OtherHistory { epoch: known.epoch });
    }
    let seen = known.revision.max(shown.revision_before);
    let rollback = rollback(seen, shown.revision, Writes::Nothing).or(shown.rollback);
    rollback.map_or(Ok(Accepted::Known), |Rollback { seen, found }| {
        Err(Refusal::RolledBack { seen, found })
    })
}

/// Kind of a transaction, by its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// It only read.
    Nothing,
    /// It wrote: then it has a revision of its own.
    Something,
}

/// Returns the rollback that an answer shows, if `seen` had been seen when its request was sent.
pub fn rollback(seen: u64, found: u64, writes: Writes) -> Option<Rollback> {
    let is_back = match writes {
        Writes::Nothing => found < seen,
        Writes::Something => found <= seen,
    };
    is_back.then_some(Rollback { seen, found })
}

/// Risk that an operator accepts when a cluster is made, or goes on in an etcd that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedRisk {
    /// None.
    None,
    /// Claims may have been lost: nodes that cannot be reached may still serve those channels.
    LostClaims,
}

/// Reason why no `/cfg` is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitRefusal {
    /// The cluster exists, and nothing is wrong with it.
    Exists {
        /// Its epoch.
        epoch: u64,
    },
    /// Only an operator that accepts the risk may do this.
    NeedsRisk(Refusal),
    /// It has another cluster, which is not to be overwritten.
    OtherCluster(Refusal),
}

/// Plans the `/cfg` of a new cluster; or, where the risk is accepted, of the next history of the cluster that the node knows.
pub fn plan_init(
    known: Option<&EtcdIdentity>,
    shown: &ObservedEtcd,
    risk: AcceptedRisk,
    (cluster_id, history_id): (ClusterId, HistoryId),
) -> Result<Configuration, InitRefusal> {
    let etcd_cluster_id = shown.etcd_cluster_id;
    let found = shown.configuration.as_ref();
    let refusal = match evaluate(known, shown) {
        Ok(_) => {
            return Err(InitRefusal::Exists {
                epoch: found.map_or(0, |found| found.epoch),
            });
        }
        Err(Refusal::NotInitialized) => {
            return Ok(Configuration {
                cluster_id,
                history_id,
                epoch: 1,
                etcd_cluster_id,
                set_back: None,
            });
        }
        Err(refusal @ Refusal::OtherCluster { .. }) => {
            return Err(InitRefusal::OtherCluster(refusal));
        }
        Err(refusal) => refusal,
    };
    if risk == AcceptedRisk::None {
        return Err(InitRefusal::NeedsRisk(refusal));
    }
    let is_other =
        |found: &Configuration| known.is_some_and(|known| known.cluster_id != found.cluster_id);
    if let (Some(known), Some(found)) = (known, found.filter(|found| is_other(found))) {
        let (known, found) = (known.cluster_id.clone(), found.cluster_id.clone());
        return Err(InitRefusal::OtherCluster(Refusal::OtherCluster {
            known,
            found,
        }));
    }
    let epoch = known
        .map_or(0, |known| known.epoch)
        .max(found.map_or(0, |found| found.epoch))
        + 1;
    let cluster_id = known
        .map(|known| &known.cluster_id)
        .or(found.map(|found| &found.cluster_id))
        .cloned()
        .unwrap_or(cluster_id);
    Ok(Configuration {
        cluster_id,
        history_id,
        epoch,
        etcd_cluster_id,
        set_back: None,
    })
}

#[cfg(test)]
mod tests;
