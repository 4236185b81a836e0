//! The cluster's settings as the gate and the ender take them, and its edge where it was built in.

use std::sync::Arc;
use std::time::Duration;

use soramode_core::cluster::{FenceAfter, LeaseTerms};
use soramode_core::member::etcd::EtcdRequest;
use soramode_core::settings::{ClusterSettings, FenceMeans};
use soramode_protocol::id::LogId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::args::cluster::OnFence;
use crate::config::{ClusterConfig, Config};
use crate::engine::Engine;
use crate::health::Health;
use crate::run_error::RunError;

/// Returns the means of ending sessions at a fence, and its time budget.
pub(crate) fn on_fence(config: &Config) -> (OnFence, Duration) {
    config
        .cluster
        .as_ref()
        .map(|cluster| (cluster.on_fence.clone(), cluster.fence_budget))
        .unwrap_or_default()
}

pub(crate) fn settings(config: &ClusterConfig) -> ClusterSettings {
    ClusterSettings {
        name: config.name.to_string(),
        endpoints: config.endpoints.iter().map(ToString::to_string).collect(),
        terms: LeaseTerms {
            isolated_after: config.isolated_after,
            fence_after: config
                .fence_after
                .map_or(FenceAfter::Never, FenceAfter::After),
            fence_budget: config.fence_budget,
        },
        no_takeover_reason: config.no_takeover_reason.clone(),
        on_fence: match config.on_fence {
            OnFence::None => FenceMeans::None,
            OnFence::SoraApi => FenceMeans::SoraApi,
            OnFence::Exec(_) => FenceMeans::Exec,
            OnFence::Socket => FenceMeans::Socket,
        },
        dead_man: config.dead_man.name().to_owned(),
        signaling_url: config.signaling_url.as_ref().map(ToString::to_string),
        api_url: config.api_url.as_ref().map(ToString::to_string),
        page_url: config.page_url.as_ref().map(ToString::to_string),
        fault: config.fault,
        registration_ttl: config.ttl + config.heartbeat,
    }
}

/// Cluster task of the daemon.
#[cfg(feature = "cluster")]
pub(crate) type Cluster = crate::cluster::ClusterTask;

/// Never built without the feature.
#[cfg(not(feature = "cluster"))]
pub(crate) enum Cluster {}

impl Cluster {
    /// Opens the cluster task if the node joins a cluster, and logs the consequences for its
    /// sessions.
    pub(crate) fn open(
        config: &Config,
        log_id: &LogId,
        requests: mpsc::UnboundedReceiver<EtcdRequest>,
        engine: &Engine,
        health: &Arc<Health>,
    ) -> Result<Option<Self>, RunError> {
        let Some(cluster) = &config.cluster else {
            return Ok(None);
        };
        log_membership(cluster);
        warn_of_ephemeral(config);
        build(config, (cluster, log_id), requests, engine, health).map(Some)
    }
}

#[cfg(feature = "cluster")]
fn build(
    config: &Config,
    (cluster, log_id): (&ClusterConfig, &LogId),
    requests: mpsc::UnboundedReceiver<EtcdRequest>,
    engine: &Engine,
    health: &Arc<Health>,
) -> Result<Cluster, RunError> {
    let identity = crate::cluster::Identity::new(
        cluster,
        (config.node_name.clone(), log_id),
        crate::random::random()?,
    );
    Ok(Cluster::new(
        cluster,
        identity,
        requests,
        engine.clone(),
        Arc::clone(health),
    ))
}

#[cfg(not(feature = "cluster"))]
fn build(
    _: &Config,
    _: (&ClusterConfig, &LogId),
    _: mpsc::UnboundedReceiver<EtcdRequest>,
    _: &Engine,
    _: &Arc<Health>,
) -> Result<Cluster, RunError> {
    Err(crate::config::ConfigError::WithoutCluster.into())
}

fn log_membership(config: &ClusterConfig) {
    let endpoints: Vec<String> = config.endpoints.iter().map(ToString::to_string).collect();
    let (cluster, etcd) = (config.name.as_str(), endpoints.join(","));
    match (&config.no_takeover_reason, config.fence_after) {
        (Some(why), _) => tracing::info!(
            cluster,
            etcd,
            why,
            "joining a cluster without automatic takeover: if this node is lost, its channels stay reserved until it returns or you run: soramode nodes purge"
        ),
        (None, fence_after) => tracing::info!(
            cluster,
            etcd,
            fence_after = fence_after.map(|time| humantime::format_duration(time).to_string()),
            "joining a cluster; sessions are ended after fence_after without etcd"
        ),
    }
}

fn warn_of_ephemeral(config: &Config) {
    if config.state_dir.is_none() {
        tracing::warn!(
            "--ephemeral in a cluster: each stop of soramoded with sessions orphans their channels. Remove --ephemeral"
        );
    }
}

/// Runs the edge where there is one.
#[cfg(feature = "cluster")]
pub(crate) async fn run(cluster: Option<Cluster>, stop: CancellationToken) {
    if let Some(cluster) = cluster {
        // Boxed, because it is large and exists once.
        Box::pin(cluster.run(stop)).await;
    }
}

/// Does nothing without the feature.
#[cfg(not(feature = "cluster"))]
pub(crate) fn run(_: Option<Cluster>, _: CancellationToken) -> std::future::Ready<()> {
    std::future::ready(())
}
