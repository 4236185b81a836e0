//! Cluster task: executes the gate's requests in etcd, reads the members at each heartbeat, and
//! reports the results.
//!
//! It decides nothing. Each operation has a timeout, so that a hanging etcd delays only the
//! requests that need it.

mod claim_scan;
mod claims;
mod etcd;
mod ignored_fields;
mod keys;
mod lost_nodes;
mod members_read;
mod membership;
mod poller;
mod pool;
mod revision;
mod trusted;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use soramode_core::cluster::claim::ClaimReply;
use soramode_core::cluster::history::Refusal;
use soramode_core::input::Input;
use soramode_core::member::etcd::{ClaimOp, EtcdRequest, EtcdResponse, Init};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ClusterConfig;
use crate::engine::Engine;
use crate::health::Health;
use etcd::Etcd;
pub(crate) use etcd::Identity;
use ignored_fields::IgnoredFields;
use lost_nodes::LostNodes;
use poller::MembershipPoller;
use trusted::Trusted;

/// Time without an answer after which a member of etcd is probed, to know its health.
const PROBE_AFTER: Duration = Duration::from_secs(10);

/// Time that a shutdown waits for the gate to decide about leaving.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Task that executes requests in etcd.
pub(crate) struct ClusterTask {
    etcd: Arc<Etcd>,
    heartbeat: Duration,
    requests: mpsc::UnboundedReceiver<EtcdRequest>,
    engine: Engine,
    wanted: Arc<Notify>,
    tasks: TaskTracker,
}

impl ClusterTask {
    pub(crate) fn new(
        config: &ClusterConfig,
        identity: Identity,
        requests: mpsc::UnboundedReceiver<EtcdRequest>,
        engine: Engine,
        health: Arc<Health>,
    ) -> Self {
        Self {
            etcd: Arc::new(Etcd::new(config, identity, health)),
            heartbeat: config.heartbeat,
            requests,
            engine,
            wanted: Arc::new(Notify::new()),
            tasks: TaskTracker::new(),
        }
    }

    /// Works until the daemon stops, and then leaves the cluster if the node has nothing in it.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let beat = CancellationToken::new();
        self.tasks.spawn(self.poller().run(beat.clone()));
        self.tasks
            .spawn(keep_alive(Arc::clone(&self.etcd), beat.clone()));
        self.tasks
            .spawn(probe(Arc::clone(&self.etcd), beat.clone()));
        self.tasks.spawn(watch::run(
            Arc::clone(&self.etcd),
            Arc::clone(&self.wanted),
            beat.clone(),
        ));
        loop {
            tokio::select! {
                request = self.requests.recv() => match request {
                    Some(request) => self.start(request),
                    None => break,
                },
                () = stop.cancelled() => {
                    self.leave_if_idle().await;
                    break;
                }
            }
        }
        beat.cancel();
        // Requests in flight get their response; later ones are refused at once.
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            self.start(request);
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn poller(&self) -> MembershipPoller {
        MembershipPoller {
            etcd: Arc::clone(&self.etcd),
            heartbeat: self.heartbeat,
            engine: self.engine.clone(),
            wanted: Arc::clone(&self.wanted),
            lost_nodes: LostNodes::default(),
            ignored_fields: IgnoredFields::default(),
            tasks: self.tasks.clone(),
        }
    }

    /// The gate knows whether the node has anything.
    async fn leave_if_idle(&mut self) {
        if self.engine.apply(Input::Shutdown).is_err() {
            return;
        }
        let leaving = async {
            while let Some(request) = self.requests.recv().await {
                match request {
                    EtcdRequest::DeleteMember(incarnation) => return Some(incarnation),
                    EtcdRequest::KeepMember => return None,
                    other @ (EtcdRequest::Trust { .. }
                    | EtcdRequest::Distrust(_)
                    | EtcdRequest::NoteRollback { .. }
                    | EtcdRequest::Init { .. }
                    | EtcdRequest::ReadMembers
                    | EtcdRequest::Join { .. }
                    | EtcdRequest::Claim { .. }
                    | EtcdRequest::FindClaim { .. }
                    | EtcdRequest::Release(..)
                    | EtcdRequest::MigrateClaims { .. }
                    | EtcdRequest::Publish { .. }
                    | EtcdRequest::PublishLoad { .. }
                    | EtcdRequest::Count
                    | EtcdRequest::Purge { .. }) => self.start(other),
                }
            }
            None
        };
        if let Ok(Some(incarnation)) = timeout(LEAVE_TIMEOUT, leaving).await {
            let Some(trusted) = self.trusted() else {
                return;
            };
            match trusted.leave(incarnation).await {
                Ok(()) => tracing::info!("left the cluster"),
                Err(why) => tracing::warn!(
                    why,
                    "cannot leave the cluster cleanly; etcd keeps the membership until the lease expires"
                ),
            }
        }
    }

    /// Executes a request concurrently; its response goes to the gate.
    fn start(&self, request: EtcdRequest) {
        let etcd = Arc::clone(&self.etcd);
        match request {
            EtcdRequest::ReadMembers => self.wanted.notify_one(),
            EtcdRequest::Trust { configuration_text } => etcd.set_trust(configuration_text),
            EtcdRequest::Distrust(refusal @ Refusal::NotInitialized) => {
                tracing::warn!(etcd = etcd.pool.urls(), why = %refusal, remedy = refusal.remedy(), "the cluster has not been created; the node admits no client until it is");
            }
            EtcdRequest::Distrust(refusal) => {
                tracing::error!(etcd = etcd.pool.urls(), why = %refusal, remedy = refusal.remedy(), "this etcd is refused; the node takes no new channel until the problem is fixed");
            }
            EtcdRequest::NoteRollback {
                found,
                rollback,
                why,
            } => self.spawn(async move {
                etcd.note_rollback(&found, rollback, &why).await;
                None
            }),
            EtcdRequest::Init {
                reply_to,
                found,
                configuration,
                may_be_second,
            } => self.spawn(async move {
                let is_new = found.is_none() && !may_be_second;
                let others = if is_new {
                    etcd.other_names().await
                } else {
                    Ok(Vec::new())
                };
                let outcome = match others {
                    Ok(others) if others.is_empty() => {
                        etcd.init(found.as_deref(), configuration).await
                    }
                    others => others.map(Init::OtherNames),
                };
                Some(EtcdResponse::Initialized { reply_to, outcome })
            }),
            request @ (EtcdRequest::Join { .. }
            | EtcdRequest::Claim { .. }
            | EtcdRequest::FindClaim { .. }
            | EtcdRequest::Release(..)
            | EtcdRequest::MigrateClaims { .. }
            | EtcdRequest::Publish { .. }
            | EtcdRequest::PublishLoad { .. }
            | EtcdRequest::Count
            | EtcdRequest::Purge { .. }
            | EtcdRequest::DeleteMember(_)
            | EtcdRequest::KeepMember) => {
                // Uses the etcd that is trusted now, even if another is trusted when the request is
                // sent.
                let (trusted, engine) = (self.trusted(), self.engine.clone());
                self.spawn(async move {
                    match trusted {
                        Some(trusted) => execute(&trusted, request, &engine).await,
                        None => request.refused("etcd has not been verified yet"),
                    }
                });
            }
        }
    }

    fn spawn(&self, work: impl Future<Output = Option<EtcdResponse>> + Send + 'static) {
        let engine = self.engine.clone();
        self.tasks.spawn(async move {
            if let Some(response) = work.await {
                // After the stop nothing waits for it.
                engine.apply(Input::Etcd(response)).unwrap_or_default();
            }
        });
    }

    fn trusted(&self) -> Option<Trusted> {
        Trusted::new(&self.etcd)
    }
}

async fn execute(etcd: &Trusted, request: EtcdRequest, engine: &Engine) -> Option<EtcdResponse> {
    match request {
        EtcdRequest::Join {
            mode,
            give_up,
            reads_claims,
        } => Some(EtcdResponse::Joined(
            etcd.join(mode, give_up, reads_claims).await,
        )),
        EtcdRequest::Claim { channel_id, by, op } => {
            let reply = etcd.execute_claim(&channel_id, by, &op).await;
            Some(EtcdResponse::ClaimReplied {
                channel_id,
                by,
                reply,
            })
        }
        EtcdRequest::FindClaim { channel_id, by } => {
            let found = match etcd.execute_claim(&channel_id, by, &ClaimOp::Get).await {
                Ok(ClaimReply::Refused(found)) => Ok(found),
                Ok(ClaimReply::Won(_)) => Err("etcd sent an unreadable answer".to_owned()),
                Err(why) => Err(why),
            };
            Some(EtcdResponse::ClaimFound { channel_id, found })
        }
        EtcdRequest::Release(channel_id, token) => {
            let outcome = etcd.release(&channel_id, token).await;
            Some(EtcdResponse::Released(channel_id, token, outcome))
        }
        EtcdRequest::MigrateClaims { by, claims } => {
            etcd.migrate_claims(by, &claims, engine).await;
            None
        }
        EtcdRequest::Publish { by, mode } => {
            Some(EtcdResponse::Published(mode, etcd.publish(by, mode).await))
        }
        EtcdRequest::Count => Some(EtcdResponse::Counted(etcd.count().await)),
        EtcdRequest::Purge {
            reply_to,
            node_name,
            running,
            departed,
            actor,
        } => {
            let outcome = etcd.purge((&node_name, running), departed, &actor).await;
            Some(EtcdResponse::Purged {
                reply_to,
                node_name,
                outcome,
            })
        }
        EtcdRequest::PublishLoad { by, load } => {
            if let Err(why) = etcd.publish_load(by, load).await {
                tracing::debug!(why, "cannot publish this node's load");
            }
            None
        }
        EtcdRequest::DeleteMember(incarnation) => {
            if let Err(why) = etcd.leave(incarnation).await {
                tracing::debug!(why, "cannot delete this node's member key");
            }
            None
        }
        EtcdRequest::Trust { .. }
        | EtcdRequest::Distrust(_)
        | EtcdRequest::NoteRollback { .. }
        | EtcdRequest::Init { .. }
        | EtcdRequest::ReadMembers
        | EtcdRequest::KeepMember => None,
    }
}

async fn keep_alive(etcd: Arc<Etcd>, stop: CancellationToken) {
    let pause = etcd.ttl / 3;
    loop {
        tokio::select! {
            () = sleep(pause) => etcd.keep_alive().await,
            () = stop.cancelled() => return,
        }
    }
}

/// Probes the members that were not asked recently: the one that answered last is preferred, so the
/// health of the others would be known only when they are needed.
async fn probe(etcd: Arc<Etcd>, stop: CancellationToken) {
    let key = etcd.keys.config();
    loop {
        tokio::select! {
            () = etcd.pool.probe(&key, PROBE_AFTER) => {}
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = sleep(PROBE_AFTER) => {}
            () = stop.cancelled() => return,
        }
    }
}
