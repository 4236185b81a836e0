//! Transactions in the one etcd that the gate trusts: each compares `/cfg`, so that in another one, or in another history, it does nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, Txn, TxnOp, TxnResponse};
use soramode_core::cluster::history::{Configuration, Refusal, Rollback, Writes, rollback};
use soramode_core::member::etcd::Init;

use super::etcd::{Etcd, TrustedEtcd};
use super::keys::{ConfigValue, Keys};
use super::members_read::gets;
use super::revision::{number, revision};
use crate::lock::lock;
use crate::rate_limit::log_limited;

/// The way to etcd for as long as this is its `/cfg`.
#[derive(Clone)]
pub(super) struct Trusted {
    pub(super) etcd: Arc<Etcd>,
    pub(super) configuration: Arc<TrustedEtcd>,
}

/// Outcome of writing `/cfg`: written, or its actual contents.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    Yes,
    No {
        there: Option<Vec<u8>>,
        revision: u64,
    },
}

/// Why `/cfg` was not written.
const CHANGED: &str = "the cluster's configuration in etcd (/cfg) was changed during the request; nothing was written";

/// Why an etcd was not marked.
const NEWER: &str = "etcd has keys that are newer than the rollback: it may be the previous etcd, brought back; nothing was written";

/// Other clusters that are named at most.
const OTHER_NAMES_MAX: usize = 5;

/// Result of a transaction.
pub(super) struct Done {
    /// `true` if all comparisons held.
    pub(super) succeeded: bool,
    pub(super) revision: u64,
    pub(super) gets: Vec<GetResponse>,
}

impl Trusted {
    /// Returns the way to the etcd that the gate trusts now, if it trusts one.
    pub(super) fn new(etcd: &Arc<Etcd>) -> Option<Self> {
        let configuration = etcd.trust()?;
        Some(Self {
            etcd: Arc::clone(etcd),
            configuration,
        })
    }

    /// Reads these keys.
    pub(super) async fn read(&self, reads: Vec<TxnOp>) -> Result<Vec<GetResponse>, String> {
        self.execute(Vec::new(), (reads.clone(), Writes::Nothing), reads)
            .await
            .map(|done| done.gets)
    }

    /// Writes `then` if all this is so, and reads `otherwise` if not; an error if that is not known, or the etcd is not the trusted one.
    pub(super) async fn txn(
        &self,
        when: Vec<Compare>,
        then: Vec<TxnOp>,
        otherwise: Vec<TxnOp>,
    ) -> Result<Done, String> {
        self.execute(when, (then, Writes::Something), otherwise)
            .await
    }

    async fn execute(
        &self,
        when: Vec<Compare>,
        (then, writes): (Vec<TxnOp>, Writes),
        otherwise: Vec<TxnOp>,
    ) -> Result<Done, String> {
        let key = self.etcd.keys.config();
        let is_trusted = Compare::value(
            key.clone(),
            CompareOp::Equal,
            self.configuration.text.clone(),
        );
        let when: Vec<Compare> = std::iter::once(is_trusted).chain(when).collect();
        let otherwise: Vec<TxnOp> = otherwise
            .into_iter()
            .chain([TxnOp::get(key, None)])
            .collect();
        let before = self.etcd.highest_revision();
        let answer = self
            .etcd
            .txn(Txn::new().when(when).and_then(then).or_else(otherwise))
            .await?;
        let header = answer.header().ok_or("etcd's answer has no header")?;
        let (revision, is_same) = (
            number(header.revision()),
            header.cluster_id() == self.configuration.etcd_cluster_id,
        );
        let (succeeded, mut gets) = (answer.succeeded(), gets(&answer));
        if !succeeded {
            let configuration = gets.pop();
            let text = configuration
                .as_ref()
                .and_then(|get| get.kvs().first())
                .map(etcd_client::KeyValue::value);
            if text != Some(&self.configuration.text) {
                return Err(
                    "this etcd is not the one that the node joined, or its /cfg has changed"
                        .to_owned(),
                );
            }
        }
        if !is_same {
            return Err(
                "etcd has the content of another etcd: it was restored from a backup".to_owned(),
            );
        }
        let writes = if succeeded { writes } else { Writes::Nothing };
        if let Some(rollback) = rollback(before, revision, writes) {
            self.etcd
                .on_rolled_back(rollback, &self.configuration.text)
                .await;
            return Err(format!(
                "etcd was rolled back: it is at revision {revision}, and was at {before}"
            ));
        }
        self.etcd.observe_revision(revision);
        Ok(Done {
            succeeded,
            revision,
            gets,
        })
    }
}

impl Etcd {
    /// The highest revision that any answer of the trusted etcd has shown.
    pub(super) fn highest_revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    fn observe_revision(&self, revision: u64) {
        self.revision.fetch_max(revision, Ordering::Relaxed);
    }

    /// Notes the revision of a read, if that was of the trusted etcd.
    pub(super) fn observe(
        &self,
        configuration_text: &[u8],
        (etcd_cluster_id, revision): (u64, u64),
    ) {
        let is_trusted = |trust: &TrustedEtcd| {
            trust.text == configuration_text && trust.etcd_cluster_id == etcd_cluster_id
        };
        if self.trust().as_deref().is_some_and(is_trusted) {
            self.observe_revision(revision);
        }
    }

    /// Does nothing more in this etcd before the gate has evaluated it, and marks it. One that is marked needs no memory of the rollback: a read
    /// without the mark is of another etcd, such as the previous one, brought back.
    async fn on_rolled_back(&self, rollback: Rollback, text: &[u8]) {
        self.set_rollback(Some(rollback));
        *lock(&self.trust) = None;
        let why = Refusal::RolledBack {
            seen: rollback.seen,
            found: rollback.found,
        };
        if self
            .mark_rolled_back((text, rollback), &why.to_string())
            .await
            == Ok(())
        {
            self.forget_rollback();
        }
    }

    fn set_rollback(&self, rollback: Option<Rollback>) {
        *lock(&self.rollback) = rollback;
    }

    /// Forgets the rollback: after a failed read, etcd may be another.
    pub(super) fn forget_rollback(&self) {
        self.set_rollback(None);
    }

    /// Returns the rollback that the gate must know of, until the etcd itself says so.
    pub(super) fn rollback(&self, found: Option<&Configuration>) -> Option<Rollback> {
        if found.is_some_and(|it| it.set_back.is_some()) {
            self.forget_rollback();
        }
        *lock(&self.rollback)
    }

    pub(super) fn trust(&self) -> Option<Arc<TrustedEtcd>> {
        lock(&self.trust).clone()
    }

    /// Trusts the etcd with this `/cfg` from now on.
    pub(super) fn set_trust(&self, text: Vec<u8>) {
        let Ok(Configuration {
            etcd_cluster_id,
            epoch,
            ..
        }) = ConfigValue::read(&text)
        else {
            return;
        };
        if lock(&self.trusted_text).replace(text.clone()).as_ref() != Some(&text) {
            // Revisions of another history do not compare with those of this one.
            self.revision.store(0, Ordering::Relaxed);
        }
        *lock(&self.trust) = Some(Arc::new(TrustedEtcd {
            text,
            etcd_cluster_id,
            epoch,
        }));
    }

    /// Marks an etcd that a read showed to be rolled back, and logs where that was not possible.
    pub(super) async fn note_rollback(&self, found: &[u8], rollback: Rollback, why: &str) {
        if let Err(why) = self.mark_rolled_back((found, rollback), why).await {
            log_limited!(
                warn,
                etcd = self.pool.urls(),
                why,
                "cannot record in etcd that it was rolled back; other nodes may not notice"
            );
        }
    }

    /// Marks an etcd as rolled back, for the other nodes. The previous etcd, brought back, has keys that are newer than what was found,
    /// and is not marked.
    async fn mark_rolled_back(
        &self,
        (text, mut rollback): (&[u8], Rollback),
        why: &str,
    ) -> Result<(), String> {
        let marked = Configuration {
            set_back: Some(format!("{}: {why}", self.identity.node_name.as_str())),
            ..ConfigValue::read(text)?
        }
        .into();
        loop {
            let is_same = Compare::mod_revision(
                self.keys.every(),
                CompareOp::Less,
                revision(rollback.found.saturating_add(1)),
            );
            match self
                .write_configuration((Some(text), Some(is_same.with_prefix())), &marked)
                .await?
            {
                Written::Yes => return Ok(()),
                // Other nodes write in it, too, and it is still behind.
                Written::No {
                    there: Some(there),
                    revision,
                } if there == text && rollback.found < revision && revision < rollback.seen => {
                    rollback.found = revision;
                }
                Written::No { .. } => return Err(NEWER.to_owned()),
            }
        }
    }

    /// Returns the names of other clusters in this etcd, the first ones by name.
    pub(super) async fn other_names(&self) -> Result<Vec<String>, String> {
        let (mut from, to) = Keys::clusters();
        let mut names = Vec::new();
        // This cluster may have a key, too.
        for _ in 0..=OTHER_NAMES_MAX {
            let range = GetOptions::new()
                .with_range(to.clone())
                .with_limit(1)
                .with_keys_only();
            let first = TxnOp::get(from, Some(range));
            let answer = self.txn(Txn::new().and_then([first])).await?;
            let gets = gets(&answer);
            let found = gets.first().and_then(|get| get.kvs().first());
            let Some((name, next)) = found.and_then(|kv| self.keys.other_cluster(kv.key())) else {
                break;
            };
            names.extend(name);
            from = next;
        }
        names.truncate(OTHER_NAMES_MAX);
        Ok(names)
    }

    /// Writes `/cfg` as it is planned, where it still is as it was found. Two nodes that are told to at once plan the same epoch.
    pub(super) async fn init(
        &self,
        found: Option<&[u8]>,
        configuration: Configuration,
    ) -> Result<Init, String> {
        if let Written::No { there, .. } = self
            .write_configuration((found, None), &configuration.clone().into())
            .await?
        {
            let there = there.and_then(|text| ConfigValue::read(&text).ok());
            let is_made =
                |it: &Configuration| it.set_back.is_none() && it.epoch == configuration.epoch;
            return there
                .filter(is_made)
                .map(|it| Init::Exists { epoch: it.epoch })
                .ok_or_else(|| CHANGED.to_owned());
        }
        let Configuration {
            cluster_id,
            epoch,
            etcd_cluster_id,
            ..
        } = &configuration;
        tracing::info!(
            cluster_id = cluster_id.as_str(),
            epoch,
            etcd_cluster_id,
            "created the cluster in etcd"
        );
        Ok(Init::Made(configuration))
    }

    async fn write_configuration(
        &self,
        (found, and): (Option<&[u8]>, Option<Compare>),
        value: &ConfigValue,
    ) -> Result<Written, String> {
        let key = self.keys.config();
        let json = serde_json::to_vec(value).map_err(|error| error.to_string())?;
        let is_still = match found {
            Some(text) => Compare::value(key.clone(), CompareOp::Equal, text),
            None => Compare::create_revision(key.clone(), CompareOp::Equal, 0),
        };
        // If the answer to the first try was lost, the second finds its work.
        let txn = Txn::new()
            .when(std::iter::once(is_still).chain(and).collect::<Vec<_>>())
            .and_then([TxnOp::put(key.clone(), json.clone(), None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.txn(txn).await?;
        let gets = gets(&answer);
        let there = gets
            .first()
            .and_then(|get| get.kvs().first())
            .map(|kv| kv.value().to_vec());
        Ok(if answer.succeeded() || there.as_ref() == Some(&json) {
            Written::Yes
        } else {
            let revision = number(
                answer
                    .header()
                    .map_or(0, etcd_client::ResponseHeader::revision),
            );
            Written::No { there, revision }
        })
    }

    pub(super) async fn txn(&self, txn: Txn) -> Result<TxnResponse, String> {
        let write = |mut client: Client| {
            let txn = txn.clone();
            async move { client.txn(txn).await }
        };
        self.pool.call(write).await
    }
}
