//! The etcd that a node goes by: transactions compare its configuration, and each read is evaluated.

use soramode_core::cluster::history::{Accepted, EtcdIdentity, Refusal, Writes, rollback};
use soramode_core::fault::{Fault, PlantedFault};

use super::node::Node;
use super::store::{Answer, Shown, Store, Txn};

impl Node {
    /// Executes a transaction as the daemon does: it compares the configuration, and is believed if its answer can have come after those
    /// before it.
    pub(super) fn execute_trusted(&mut self, node: usize, store: &mut Store, txn: &Txn) -> Answer {
        let compares = self.fault != PlantedFault::of(Fault::AnyEtcdIsAccepted);
        let is_same = |known: &EtcdIdentity| {
            store
                .configuration
                .as_ref()
                .is_some_and(|it| it.history_id == known.history_id && it.set_back.is_none())
        };
        if compares && *txn != Txn::Init && !self.etcd.known().is_some_and(is_same) {
            return Answer::Nothing;
        }
        let before = store.revision;
        let answer = store.execute(node, txn);
        if let Answer::Joined(incarnation) = answer {
            self.own_key = Some(incarnation);
        }
        let writes = if store.revision > before {
            Writes::Something
        } else {
            Writes::Nothing
        };
        let seen = self.etcd.known().map_or(0, |known| known.revision);
        match rollback(seen, store.revision, writes) {
            Some(rollback) if compares => {
                self.etcd.refuse(Refusal::RolledBack {
                    seen: rollback.seen,
                    found: rollback.found,
                });
                store.note_rollback();
                Answer::Nothing
            }
            _ => answer,
        }
    }

    /// Returns whether a read that was not evaluated yet is of the etcd that is known.
    pub(super) fn is_known(&self, shown: &Shown) -> bool {
        self.etcd.evaluate(&shown.etcd) == Ok(Accepted::Known)
    }

    /// Judges the etcd that it has read, as the daemon does.
    pub(super) fn trusts(&mut self, shown: &Shown) -> bool {
        match (
            self.etcd.evaluate(&shown.etcd),
            EtcdIdentity::of(&shown.etcd),
        ) {
            (Ok(accepted), known) => {
                if let Some(known) = known {
                    if accepted == Accepted::First {
                        self.stored_etcd = Some(known.clone());
                    }
                    self.etcd.accept(known);
                }
                true
            }
            (Err(refusal), _) => {
                let is_idle = self.txns.iter().all(Option::is_none);
                if self.is_founder && refusal == Refusal::NotInitialized && is_idle {
                    self.send(Txn::Init);
                }
                self.etcd.refuse(refusal);
                false
            }
        }
    }
}
