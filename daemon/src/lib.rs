//! soramode's daemon: its listeners, and the engine that keeps the gate's promises.
//!
//! The listeners are independent of each other. Each calls the engine, which alone has the gate.

pub mod args;
pub mod clock;
#[cfg(feature = "cluster")]
mod cluster;
mod cluster_settings;
mod committer;
pub mod config;
pub mod control;
mod deadlines;
mod descriptors;
mod end_log;
mod engine;
pub mod event_log;
mod failed_deliveries;
mod health;
pub mod http;
mod lock;
mod lock_file;
pub mod log;
mod metrics;
pub mod notify;
mod outputs;
mod random;
mod rate_limit;
mod readiness;
mod reload;
mod reservation_log;
mod run_error;
pub mod sfu;
mod socket_activation;
pub mod socket_file;
mod state;
pub mod store;
mod watchdog;
mod webhook;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use soramode_core::commits::Durability;
use soramode_core::gate::Gate;
use soramode_core::member::etcd::EtcdRequest;
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{Settings, SfuAdmission, SfuFeed, SfuMeans, SfuSettings};
use soramode_protocol::http_client::Outgoing;
use soramode_protocol::id::LogId;
use soramode_protocol::node::Storage;
use soramode_protocol::sora_api::SoraApi;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use args::http::{HttpUrl, SoraMode};
use args::janus::JanusWay;
use cluster_settings::Cluster;
use committer::Committer;
use config::{Admission, Config, HttpConfig, SoraConfig};
use control::{Budgets, Control, ControlState, Operators};
use engine::Engine;
use event_log::EventLog;
use health::Health;
use http::{Http, HttpDeps};
use metrics::Metrics;
use outputs::OutputDeps;
use random::random;
use reload::{Reloadable, Reloader};
use reservation_log::ReservationLog;
use sfu::announcer::Announcer;
use sfu::janus::{AdminApi, HolderCalls, JanusMeans, RoomLocker, holder_calls};
use sfu::means::Means;
use sfu::sora::SoraMeans;
use sfu::sora::mirror::{self, MirrorHandle, MirrorTask};
use sfu::terminator::SessionTerminator;
use socket_activation::InheritedSockets;
use socket_file::{SocketError, SocketFile};
use state::StartState;
use store::Store;
use webhook::Receivers;

pub use reload::{Reading, Reloads};
pub use run_error::RunError;
pub use socket_activation::InheritedSocketError;

/// Longest shutdown, in addition to the grace time of webhook receivers (`--shutdown-grace`). Each
/// part of it has a shorter limit of its own; the unit's `TimeoutStopSec` is longer.
const STOP_TIME_MAX: Duration = Duration::from_secs(40);

/// Runs the daemon until `shutdown` is cancelled, then stops it in order: listeners close, requests
/// in flight are answered, and the socket's file is removed. Needs a tokio runtime with I/O and
/// time.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let (_no_sender, reloads) = mpsc::channel(1);
    Box::pin(serve(config, shutdown, reloads)).await
}

/// Runs the daemon like [`run`], and applies the configurations that `reloads` brings.
pub async fn serve(
    config: Config,
    shutdown: CancellationToken,
    reloads: Reloads,
) -> Result<(), RunError> {
    let few_descriptors = descriptors::raise_limit(config.http.listeners());
    let mut inherited = InheritedSockets::take(&config)?;
    let socket = control_socket(&mut inherited, &config)?;
    // The state, and the parts that the engine's outputs go to.
    let state = StartState::open(&config, LogId::generate(random()?))?;
    let shared = Shared::new(&config, &state, few_descriptors)?;
    let mut sfu = Sfu::new(&config, &shared.outgoing)?;
    let mut receivers = shared.receivers(&config, &shutdown)?;
    let (etcd_requests, etcd_queue) = mpsc::unbounded_channel();
    let etcd_requests = config.cluster.is_some().then_some(etcd_requests);
    let deps = shared.output_deps(&state, &mut sfu, &receivers, etcd_requests);
    // The engine, before any listener: the gate's start precedes every request.
    let (engine, mut committer) = start_engine(&config, state, deps, &receivers)?;
    let clock_changes = clock::ClockChanges::new()?;
    // Before any answer, so that each of them knows whether the state can be written.
    committer.write_open().await;
    receivers.start(engine.clone());
    let receiver_tasks = receivers.tasks().clone();
    // Listeners and tasks that call the engine.
    let log_id = shared.event_log.log_id();
    let cluster = Cluster::open(&config, log_id, etcd_queue, &engine, &shared.health)?;
    let cluster = cluster_settings::run(cluster, shutdown.clone());
    let operators = Operators::of(config.operator_group.clone(), socket.operator_gid());
    let (operators_sender, operators) = watch::channel(operators);
    let control = Control::new(
        shared.control_state(&config, &sfu),
        operators.clone(),
        engine.clone(),
        shutdown.clone(),
    );
    let mirror = mirror::run(sfu.mirror_task, shutdown.clone());
    let http_deps = HttpDeps {
        engine: engine.clone(),
        event_log: shared.event_log,
        metrics: shared.metrics,
        health: Arc::clone(&shared.health),
        poll_wanted: shared.poll_wanted,
        api: sfu.api,
        janus: sfu.janus,
        locker: sfu.locker,
        outgoing: shared.outgoing,
        operators,
        stop: shutdown.clone(),
        inherited,
    };
    let http = Http::open(&config, http_deps)?;
    let reloadable = Reloadable {
        receivers,
        upstream_clients: http.upstream_clients(),
        health: shared.health,
        operators: operators_sender,
        control: socket.handle()?,
        api: http.files()?,
    };
    let overdue = overdue(shutdown.clone(), config.webhooks.shutdown_grace);
    let node = config.node_name.clone();
    let reloader = Reloader {
        config,
        socket_path: socket.path().to_owned(),
        reloadable,
        engine: engine.clone(),
        stop: shutdown,
    };

    tracing::info!(%node, socket = %socket.path().display(), version = soramode_protocol::version::VERSION, "ready");
    notify::ready(&format!("serving {}", socket.path().display()));

    let tasks = TaskTracker::new();
    let deadlines = tasks.spawn(deadlines::run(engine.clone(), clock_changes));
    let committer = tasks.spawn(committer.run());
    // Everything that calls the engine ends before it: listeners with their clients, the cluster's task, receivers after their grace time.
    let serving = async {
        tokio::join!(
            control.serve(&socket),
            http.serve(),
            mirror,
            reloader.run(reloads),
            cluster
        );
        receiver_tasks.close();
        receiver_tasks.wait().await;
        engine.begin_stop();
        std::future::pending::<Infallible>().await
    };
    let outcome = tokio::select! {
        never = Box::pin(serving) => match never {},
        // Once the engine has stopped, or after a panic.
        outcome = committer => outcome.map_err(|_| RunError::Engine),
        () = engine.broken() => Err(RunError::Engine),
        failed = deadlines => match failed {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => Err(RunError::Timer(error)),
            Err(_) => Err(RunError::Engine),
        },
        () = overdue => {
            tracing::error!("shutdown took too long; abandoning unfinished work");
            Ok(())
        }
    };
    socket.close();
    tracing::info!("stopped");
    outcome
}

/// State that several parts share.
struct Shared {
    event_log: Arc<EventLog>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Notified when the gate wants a poll of the SFU's API.
    poll_wanted: Arc<Notify>,
    outgoing: Outgoing,
}

impl Shared {
    fn new(
        config: &Config,
        state: &StartState,
        few_descriptors: Option<String>,
    ) -> Result<Self, RunError> {
        Ok(Self {
            event_log: Arc::clone(&state.event_log),
            health: Arc::new(Health::new(config, few_descriptors)),
            metrics: Arc::new(Metrics::new()?),
            poll_wanted: Arc::new(Notify::new()),
            outgoing: Outgoing {
                authorities: config.authorities.clone(),
                mark: Some(http::mark(random()?)),
            },
        })
    }

    fn receivers(&self, config: &Config, stop: &CancellationToken) -> Result<Receivers, RunError> {
        let (outgoing, health) = (self.outgoing.clone(), Arc::clone(&self.health));
        Receivers::new(&config.webhooks, outgoing, health, stop.clone()).map_err(RunError::Webhook)
    }

    fn output_deps(
        &self,
        state: &StartState,
        sfu: &mut Sfu,
        receivers: &Receivers,
        etcd_requests: Option<mpsc::UnboundedSender<EtcdRequest>>,
    ) -> OutputDeps {
        OutputDeps {
            event_log: Arc::clone(&self.event_log),
            health: Arc::clone(&self.health),
            metrics: Arc::clone(&self.metrics),
            poll_wanted: Arc::clone(&self.poll_wanted),
            announcer: sfu.announcer.clone(),
            terminator: sfu.terminator.clone(),
            receivers: receivers.senders(),
            mirror: sfu.mirror.take(),
            holder: sfu.holder.take(),
            etcd_requests,
            wal_size: state.store.wal_size(),
            storage_problem: state.warning.clone(),
            reservation_log: ReservationLog::of(state.stored.reservation.as_ref()),
        }
    }

    fn control_state(&self, config: &Config, sfu: &Sfu) -> ControlState {
        let janus = config.http.janus.as_ref();
        ControlState {
            event_log: Arc::clone(&self.event_log),
            announcer: sfu.announcer.clone(),
            terminator: sfu.terminator.clone(),
            node_name: config.node_name.clone(),
            operator_group: config.operator_group.clone(),
            budgets: Budgets::new(),
            sfu_holds_mode: janus.is_some_and(|janus| janus.way == JanusWay::Lock),
        }
    }
}

/// The SFU: its APIs, the means to announce and to end sessions, and the tasks that hold its mode.
struct Sfu {
    api: Option<SoraApi>,
    janus: Option<AdminApi>,
    announcer: Announcer,
    terminator: SessionTerminator,
    holder: Option<HolderCalls>,
    locker: Option<RoomLocker>,
    mirror: Option<MirrorHandle>,
    mirror_task: Option<MirrorTask>,
}

impl Sfu {
    fn new(config: &Config, outgoing: &Outgoing) -> Result<Self, RunError> {
        let api = sora_api(&config.http.sora, outgoing)?;
        let janus = janus_api(&config.http, outgoing)?;
        let means = means(config, api.as_ref(), janus.as_ref());
        let (holder, locker) = room_locker(config, janus.as_ref()).unzip();
        let (mirror, mirror_task) = mirror(&config.http.sora, api.as_ref()).unzip();
        Ok(Self {
            api,
            janus,
            announcer: Announcer::new(means.clone()),
            terminator: SessionTerminator::new(means, cluster_settings::on_fence(config)),
            holder,
            locker,
            mirror,
            mirror_task,
        })
    }
}

/// Restores the gate, and starts the engine with it.
fn start_engine(
    config: &Config,
    state: StartState,
    deps: OutputDeps,
    receivers: &Receivers,
) -> Result<(Engine, Committer), RunError> {
    let settings = Settings {
        assume_complete: config.assume_complete && state.warning.is_none(),
        receivers: receivers.settings(&config.webhooks),
        ..settings(config, state.storage)
    };
    let params = StartParams {
        settings,
        started: clock::now(),
        stored: state.stored,
    };
    let gate = Gate::restore(params, Seed(random()?));
    let durability = match state.store {
        Store::Memory => Durability::Ephemeral,
        Store::Disk(_) => Durability::Durable,
    };
    let metrics = Arc::clone(&deps.metrics);
    let engine = Engine::start(gate, durability, deps, state.inputs)?;
    let committer = Committer::new(engine.clone(), state.store, metrics);
    Ok((engine, committer))
}

/// Returns when a stop has taken too long.
async fn overdue(stop: CancellationToken, shutdown_grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(STOP_TIME_MAX + shutdown_grace).await;
}

fn control_socket(
    inherited: &mut InheritedSockets,
    config: &Config,
) -> Result<SocketFile, SocketError> {
    match inherited.control() {
        Some(listener) => SocketFile::inherited(listener, config),
        None => SocketFile::open(config),
    }
}

fn settings(config: &Config, storage: Storage) -> Settings {
    Settings {
        node_name: config.node_name.clone(),
        cluster: config.cluster.as_ref().map(cluster_settings::settings),
        mode: config.mode,
        reconnect_grace: config.reconnect_grace,
        stall_after: config.stall_after,
        max_connections: config.max_connections,
        pending_timeout: config.http.sora.pending_timeout,
        socket_grace: config.socket_grace,
        assume_complete: config.assume_complete,
        sfu: sfu_settings(&config.http),
        storage,
        receivers: Vec::new(),
    }
}

fn sfu_settings(http: &HttpConfig) -> SfuSettings {
    let sora = &http.sora;
    SfuSettings {
        feed: match (&http.janus, &sora.listen, &sora.api) {
            (Some(janus), _, _) => SfuFeed::Janus {
                has_events: janus.listen.is_some(),
                locks_rooms: janus.way == JanusWay::Lock,
                refuses_sessions: janus.refuse_sessions,
            },
            (None, None, None) => SfuFeed::None,
            (None, Some(_), None) => SfuFeed::Webhooks,
            (None, Some(_), Some(_)) => SfuFeed::WebhooksAndApi,
            (None, None, Some(_)) => SfuFeed::Api,
        },
        api_url: match (&http.janus, &sora.api) {
            (Some(janus), _) => Some(janus.admin.to_string()),
            (None, api) => api.as_ref().map(ToString::to_string),
        },
        admission: match (sora.admission, sora.listen, sora.mode) {
            (Admission::Shadow, _, _) => SfuAdmission::Shadow,
            (Admission::Enforced, None, SoraMode::Mirror) => SfuAdmission::BySfu,
            (Admission::Enforced, _, _) => SfuAdmission::Enforced,
        },
        means: match (&sora.api, &http.janus) {
            (Some(_), _) => SfuMeans::SORA_API,
            (None, Some(_)) => SfuMeans::JANUS_ADMIN,
            (None, None) => SfuMeans::default(),
        },
        session_max_linger: sora.session_max_linger,
    }
}

/// The way to Sora's own API.
fn sora_api(sora: &SoraConfig, outgoing: &Outgoing) -> Result<Option<SoraApi>, RunError> {
    let api = |url: &HttpUrl| SoraApi::new(url.0.clone(), None, sora.upstream_timeout, outgoing);
    sora.api
        .as_ref()
        .map(api)
        .transpose()
        .map_err(RunError::SoraApi)
}

fn janus_api(http: &HttpConfig, outgoing: &Outgoing) -> Result<Option<AdminApi>, RunError> {
    let janus = http.janus.as_ref();
    let api = janus
        .map(|janus| AdminApi::new(janus, outgoing))
        .transpose();
    api.map_err(RunError::JanusApi)
}

/// The task that locks and unlocks Janus's rooms; in the way `ask` it unlocks those that were locked before.
fn room_locker(config: &Config, janus: Option<&AdminApi>) -> Option<(HolderCalls, RoomLocker)> {
    let (settings, api) = config.http.janus.as_ref().zip(janus)?;
    let (calls, queue) = holder_calls();
    let locker = RoomLocker {
        api: api.clone(),
        room_secrets: settings.room_secrets.clone(),
        queue,
        refuses_sessions: settings.refuse_sessions,
    };
    Some((calls, locker))
}

/// Means of the SFU to end sessions and to announce maintenance.
fn means(config: &Config, api: Option<&SoraApi>, janus: Option<&AdminApi>) -> Option<Means> {
    let janus = config.http.janus.as_ref().zip(janus);
    match (api, janus) {
        (Some(api), _) => Some(Means::Sora(SoraMeans::new(api))),
        (None, Some((settings, api))) => Some(Means::Janus(JanusMeans::new(settings, api.clone()))),
        (None, None) => None,
    }
}

/// The mirror of the mode, where the configuration asks for one.
fn mirror(sora: &SoraConfig, api: Option<&SoraApi>) -> Option<(MirrorHandle, MirrorTask)> {
    match sora.mode {
        SoraMode::Own => None,
        SoraMode::Mirror => api.map(|api| MirrorHandle::new(api.clone())),
    }
}
