//! The etcd that a node goes by: transactions compare its configuration, and each read is judged.

use soramode_core::cluster::history::{Accepted, Known, Refusal, Writes, fall, judge};

use super::Mistake;
use super::node::Node;
use super::store::{Answer, Shown, Store, Txn};

impl Node {
    /// A transaction compares the configuration, and is believed if its answer can have come after those before it.
    pub(super) fn execute_trusted(&mut self, node: usize, store: &mut Store, txn: &Txn) -> Answer {
        let is_same = |known: &Known| {
            store
                .configuration
                .as_ref()
                .is_some_and(|it| it.history_id == known.history_id && it.set_back.is_none())
        };
        if *txn != Txn::Init && !self.known.as_ref().is_some_and(is_same) && !self.is_mistaken {
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
        if fall(self.highest(), store.revision, writes).is_none() || self.is_mistaken {
            return answer;
        }
        self.refuses = true;
        store.note_set_back();
        Answer::Nothing
    }

    /// Judges the etcd that it has read, as the daemon does.
    pub(super) fn trusts(&mut self, mistake: Mistake, shown: &Shown) -> bool {
        self.is_mistaken = mistake == Mistake::AnyEtcdIsTaken;
        let judged = judge(self.known.as_ref(), &shown.etcd);
        self.refuses = judged.is_err() && !self.is_mistaken;
        if mistake == Mistake::FreshNodeInits
            && judged == Err(Refusal::NotInitialized)
            && self.txn.is_none()
        {
            self.send(Txn::Init);
        }
        if judged == Ok(Accepted::First) {
            self.known = Known::of(&shown.etcd);
            self.stored_etcd = self.known.clone();
        }
        !self.refuses
    }
}
