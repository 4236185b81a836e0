//! soramode's daemon: the doors to the gate, and the driver that keeps what the gate promises.
//!
//! The doors never know one another. Each writes letters to the [`inbox`]; the driver reads them, and it alone has the gate.

pub mod args;
pub mod clock;
pub mod config;
pub mod control;
mod descriptors;
mod driver;
pub mod event_log;
pub mod inbox;
pub mod log;
pub mod notify;
pub mod store;

use std::io;
use std::sync::Arc;

use soramode_core::gate::Gate;
use soramode_core::snapshot::{Clustering, PENDING_TIMEOUT_DEFAULT, Seed, Settings, Snapshot};
use soramode_protocol::id::LogId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use config::Config;
use control::peer::Peers;
use control::socket_file::{SocketError, SocketFile};
use control::{Control, House};
use driver::Driver;
use event_log::EventLog;
use store::Store;

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The control socket cannot be had.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The system gave no randomness.
    #[error("the system gives no randomness: {0}")]
    Random(getrandom::Error),
    /// The driver's timer failed.
    #[error("the timer failed")]
    Timer(#[from] io::Error),
    /// A bug: the driver panicked. What it held is lost, and nobody would be answered any more.
    #[error("a bug ended the driver: {0}")]
    Driver(tokio::task::JoinError),
}

/// Runs the daemon until `shutdown` is cancelled, and then stops it in order: the doors close, what was asked is answered, and the socket's
/// file is removed. Needs a tokio runtime with I/O and time.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    descriptors::raise_limit();
    let socket = SocketFile::open(&config)?;
    let store = Store::Memory;
    let log = Arc::new(EventLog::new(LogId::generate(random()?), config.keep_events));
    let gate = Gate::restore(Snapshot::empty(settings(&config, &store), clock::now()), Seed(random()?));
    let (inbox, letters) = inbox::inbox();
    let driver = Driver::new(letters, store, Arc::clone(&log))?;
    let house = House { log, node_name: config.node_name.clone(), operator_group: config.operator_group.clone() };
    let control = Control::new(house, Peers::new(socket.operator_gid()), inbox, shutdown);

    tracing::info!(node = %config.node_name, socket = %config.socket.display(), version = soramode_protocol::version::VERSION, "ready");
    notify::ready(&format!("serving {}", config.socket.display()));

    let driving = TaskTracker::new().spawn(driver.run(gate));
    // The doors are the last to write letters, so the driver ends after them, when it has done what they said.
    let serving = async {
        control.serve(socket.listener()).await;
        std::future::pending().await
    };
    let outcome = tokio::select! {
        outcome = serving => outcome,
        outcome = driving => outcome,
    };
    socket.close();
    tracing::info!("stopped");
    outcome.map_err(RunError::Driver)?.map_err(RunError::Timer)
}

fn settings(config: &Config, store: &Store) -> Settings {
    Settings {
        node_name: config.node_name.clone(),
        clustering: Clustering::Standalone,
        mode: config.mode,
        session_linger: config.session_linger,
        max_connections: config.max_connections,
        pending_timeout: PENDING_TIMEOUT_DEFAULT,
        socket_grace: config.socket_grace,
        sessions_known: config.sessions_known,
        storage: store.storage(),
    }
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], RunError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(RunError::Random)?;
    Ok(bytes)
}
