//! Client of etcd with this node's keys, lease and identity.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use soramode_core::cluster::history::Rollback;
use soramode_protocol::id::{LogId, NodeName};

use super::keys::{Keys, TermsValue, own_claims};
use super::pool::Pool;
use crate::config::ClusterConfig;
use crate::health::Health;
use crate::lock::lock;

/// Identity of this node.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(super) node_name: NodeName,
    /// The state folder, by its log's id: an ephemeral one is another with each start.
    pub(super) id: String,
    pub(super) boot_id: String,
    /// Identifier of this start of the daemon.
    pub(super) start: String,
    pub(super) terms: TermsValue,
    pub(super) signaling_url: Option<String>,
    pub(super) api_url: Option<String>,
    pub(super) page_url: Option<String>,
}

impl Identity {
    pub(crate) fn new(
        config: &ClusterConfig,
        (node_name, log_id): (NodeName, &LogId),
        random: [u8; 16],
    ) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            node_name,
            id: log_id.as_str().to_owned(),
            boot_id: crate::store::open::boot_id().unwrap_or_default(),
            start: LogId::generate(random).as_str().to_owned(),
            terms: TermsValue {
                fence_after_ms: config.fence_after.map(millis),
                fence_budget_ms: millis(config.fence_budget),
            },
            signaling_url: config
                .signaling_url
                .as_ref()
                .map(|url| url.as_str().to_owned()),
            api_url: config.api_url.as_ref().map(|url| url.as_str().to_owned()),
            page_url: config.page_url.as_ref().map(|url| url.as_str().to_owned()),
        }
    }
}

/// The etcd that the gate trusts.
#[derive(Debug)]
pub(super) struct TrustedEtcd {
    pub(super) text: Vec<u8>,
    pub(super) etcd_cluster_id: u64,
    pub(super) epoch: u64,
}

/// Client of etcd with this node's keys and lease.
pub(super) struct Etcd {
    pub(super) pool: Pool,
    pub(super) keys: Keys,
    pub(super) identity: Identity,
    pub(super) ttl: Duration,
    /// Range of the values of this state folder's claims.
    pub(super) own_claims: (Vec<u8>, Vec<u8>),
    pub(super) lease: Mutex<Option<i64>>,
    /// The etcd that the gate trusts.
    pub(super) trust: Mutex<Option<Arc<TrustedEtcd>>>,
    /// The text that was trusted last.
    pub(super) trusted_text: Mutex<Option<Vec<u8>>>,
    /// The highest revision that any answer of it has shown.
    pub(super) revision: AtomicU64,
    /// The etcd went back, and that is not yet noted in it.
    pub(super) rollback: Mutex<Option<Rollback>>,
}

impl Etcd {
    pub(super) fn new(config: &ClusterConfig, identity: Identity, health: Arc<Health>) -> Self {
        let keys = Keys::new(&config.name, identity.node_name.clone());
        let own_claims = own_claims(&identity.node_name, &identity.id);
        Self {
            pool: Pool::new(config, health),
            keys,
            identity,
            ttl: config.ttl,
            own_claims,
            lease: Mutex::new(None),
            trust: Mutex::new(None),
            trusted_text: Mutex::new(None),
            revision: AtomicU64::new(0),
            rollback: Mutex::new(None),
        }
    }

    pub(super) fn lease(&self) -> Option<i64> {
        *lock(&self.lease)
    }

    pub(super) fn set_lease(&self, lease: Option<i64>) {
        *lock(&self.lease) = lease;
    }
}
