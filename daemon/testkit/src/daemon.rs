//! A daemon in this process.

use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;

use soramoded::config::Config;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::PATIENCE;
use crate::control_client::TestClient;

/// A daemon on a thread and a runtime of its own. Dropping it stops it, and fails the test if it does not stop in order.
pub struct DaemonThread {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl DaemonThread {
    /// Returns once the daemon listens.
    pub fn start(config: Config) -> Self {
        let stop = CancellationToken::new();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn({
            let stop = stop.clone();
            move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime
                    .block_on(serve(config, stop, || ready.send(()).unwrap()))
                    .unwrap();
            }
        });
        is_ready.recv_timeout(PATIENCE).unwrap();
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Begins the stop; dropping it waits for the end.
    pub fn request_stop(&self) {
        self.stop.cancel();
    }
}

impl Drop for DaemonThread {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            ended.unwrap();
        }
    }
}

/// A daemon on a socket in a folder of its own.
pub struct Daemon {
    pub socket: PathBuf,
    // Before the folder: the daemon stops while its files are there.
    thread: DaemonThread,
    _folder: TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        Self::with(|_| ())
    }

    /// Starts a daemon with changed settings.
    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("gate.sock");
        let mut config = Config::on_socket(&socket);
        change(&mut config);
        Self {
            socket,
            thread: DaemonThread::start(config),
            _folder: folder,
        }
    }

    pub fn client(&self) -> TestClient {
        TestClient::to(&self.socket)
    }

    /// Begins the stop; dropping it waits for the end.
    pub fn request_stop(&self) {
        self.thread.request_stop();
    }
}

/// Runs a daemon, and calls `ready` when it listens: the first time that it waits for anything.
pub async fn serve(
    config: Config,
    stop: CancellationToken,
    ready: impl FnOnce(),
) -> Result<(), soramoded::RunError> {
    let mut run = pin!(soramoded::run(config, stop));
    let at_once = poll_fn(|cx| match run.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => Poll::Ready(None),
    });
    if let Some(outcome) = at_once.await {
        return outcome;
    }
    ready();
    run.await
}
