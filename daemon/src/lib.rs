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
#[expect(
    clippy::too_many_lines,
    reason = "starts every part of the daemon, in order"
)]
pub async fn serve(
    config: Config,
    shutdown: CancellationToken,
    reloads: Reloads,
) -> Result<(), RunError> {
    let few_descriptors = descriptors::raise_limit(config.http.listeners());
    let mut inherited = InheritedSockets::take(&config)?;
    let socket = control_socket(&mut inherited, &config)?;
    let StartState {
        store,
        event_log,
        stored,
        storage,
        inputs,
        warning,
    } = StartState::open(&config, LogId::generate(random()?))?;
    let assume_complete = config.assume_complete && warning.is_none();
    let outgoing = Outgoing {
        authorities: config.authorities.clone(),
        mark: Some(http::mark(random()?)),
    };
    let (health, poll_wanted) = (
        Arc::new(Health::new(&config, few_descriptors)),
        Arc::new(Notify::new()),
    );
    let mut receivers = Receivers::new(
        &config.webhooks,
        outgoing.clone(),
        Arc::clone(&health),
        shutdown.clone(),
    )
    .map_err(RunError::Webhook)?;
    let settings = Settings {
        assume_complete,
        receivers: receivers.settings(&config.webhooks),
        ..settings(&config, storage)
    };
    let reservation_log = ReservationLog::of(stored.reservation.as_ref());
    let gate = Gate::restore(
        StartParams {
            settings,
            started: clock::now(),
            stored,
        },
        Seed(random()?),
    );
    let metrics = Arc::new(Metrics::new()?);
    let api = sora_api(&config.http.sora, &outgoing)?;
    let janus = janus_api(&config.http, &outgoing)?;
    let means = means(&config, api.as_ref(), janus.as_ref());
    let announcer = Announcer::new(means.clone());
    let terminator = SessionTerminator::new(means, cluster_settings::on_fence(&config));
    let (etcd_requests, etcd_queue) = mpsc::unbounded_channel();
    let (holder, locker) = room_locker(&config, janus.as_ref()).unzip();
    let (mirror, mirror_task) = mirror(&config.http.sora, api.as_ref()).unzip();
    let deps = OutputDeps {
        event_log: Arc::clone(&event_log),
        health: Arc::clone(&health),
        metrics: Arc::clone(&metrics),
        poll_wanted: Arc::clone(&poll_wanted),
        announcer: announcer.clone(),
        terminator: terminator.clone(),
        receivers: receivers.senders(),
        mirror,
        holder,
        etcd_requests: config.cluster.is_some().then_some(etcd_requests),
        wal_size: store.wal_size(),
        storage_problem: warning,
        reservation_log,
    };
    let durability = match store {
        Store::Memory => Durability::Ephemeral,
        Store::Disk(_) => Durability::Durable,
    };
    // Started before any listener: the gate's start precedes every request.
    let engine = Engine::start(gate, durability, deps, inputs)?;
    let clock_changes = clock::ClockChanges::new()?;
    let mut committer = Committer::new(engine.clone(), store, Arc::clone(&metrics));
    // Before any answer, so that each of them knows whether the state can be written.
    committer.write_open().await;
    receivers.start(engine.clone());
    let receiver_tasks = receivers.tasks().clone();
    let cluster = Cluster::open(&config, event_log.log_id(), etcd_queue, &engine, &health)?;
    let (node_name, operator_group) = (config.node_name.clone(), config.operator_group.clone());
    let control_state = ControlState {
        event_log: Arc::clone(&event_log),
        announcer,
        terminator,
        node_name,
        operator_group,
        budgets: Budgets::new(),
        sfu_holds_mode: config
            .http
            .janus
            .as_ref()
            .is_some_and(|janus| janus.way == JanusWay::Lock),
    };
    let stop = shutdown.clone();
    let (operators_sender, operators) = watch::channel(Operators::of(
        config.operator_group.clone(),
        socket.operator_gid(),
    ));
    let http_deps = HttpDeps {
        engine: engine.clone(),
        event_log,
        metrics,
        health: Arc::clone(&health),
        poll_wanted,
        api,
        janus,
        locker,
        outgoing,
        operators: operators.clone(),
        stop,
        inherited,
    };
    let http = Http::open(&config, http_deps)?;
    let mirror_task = mirror::run(mirror_task, shutdown.clone());
    let cluster_task = cluster_settings::run(cluster, shutdown.clone());
    let (control, api) = (socket.handle()?, http.files()?);
    let reloadable = Reloadable {
        receivers,
        upstream_clients: http.upstream_clients(),
        health,
        operators: operators_sender,
        control,
        api,
    };
    let overdue = overdue(shutdown.clone(), config.webhooks.shutdown_grace);
    let (node, socket_path) = (config.node_name.clone(), socket.path().to_owned());
    let reloader = Reloader {
        config,
        socket_path,
        reloadable,
        engine: engine.clone(),
        stop: shutdown.clone(),
    };
    let control = Control::new(control_state, operators, engine.clone(), shutdown);

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
            mirror_task,
            reloader.run(reloads),
            cluster_task
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
