//! Servers in processes of their own.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Timeout of a server's start: Redis reads a million rows first.
const START_MAX: Duration = Duration::from_mins(2);

const NANOS_A_MILLI: f64 = 1e6;

/// A server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    pub(crate) path: PathBuf,
}

impl Server {
    /// Starts it, and waits until its socket can be connected to.
    pub(crate) fn start(command: &mut Command, path: PathBuf) -> Self {
        Self::start_when(command, path, |path| UnixStream::connect(path).is_ok())
    }

    /// Starts a server, and waits for another sign that it is ready.
    pub(crate) fn start_when(
        command: &mut Command,
        path: PathBuf,
        is_there: impl Fn(&Path) -> bool,
    ) -> Self {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child =
            child.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        let mut server = Self { child, path };
        let deadline = Instant::now() + START_MAX;
        while !is_there(&server.path) {
            assert!(
                server.child.try_wait().unwrap().is_none(),
                "{} ended",
                command.get_program().display()
            );
            assert!(
                Instant::now() < deadline,
                "{} does not start",
                command.get_program().display()
            );
            std::thread::yield_now();
        }
        server
    }

    /// With its HTTP listener at this address open: a daemon opens its socket first.
    pub(crate) fn with_http(self, address: SocketAddr) -> Self {
        let deadline = Instant::now() + START_MAX;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "nobody listens at {address}");
            std::thread::yield_now();
        }
        self
    }

    /// Starts a server that listens at an address.
    pub(crate) fn start_at(command: &mut Command, address: SocketAddr) -> Self {
        Self::start_when(command, PathBuf::new(), |_| {
            TcpStream::connect(address).is_ok()
        })
    }

    /// On this core alone.
    pub(crate) fn pin(&self, core: Core) {
        pin(self.child.id(), core);
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        self.status("VmRSS:") / 1024.0
    }

    /// Returns the number of wakeups of its threads.
    pub(crate) fn wakeups(&self) -> f64 {
        self.tasks()
            .map(|task| number(&task.join("status"), "voluntary_ctxt_switches:"))
            .sum()
    }

    /// Time on a core, in milliseconds.
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.tasks()
            .map(|task| number(&task.join("schedstat"), ""))
            .sum::<f64>()
            / NANOS_A_MILLI
    }

    fn tasks(&self) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(format!("/proc/{}/task", self.child.id()))
            .unwrap()
            .map(|task| task.unwrap().path())
    }

    fn status(&self, field: &str) -> f64 {
        number(
            &PathBuf::from(format!("/proc/{}/status", self.child.id())),
            field,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

/// The first number after this word.
fn number(file: &Path, field: &str) -> f64 {
    let text = fs::read_to_string(file).unwrap();
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

/// One of two, or both.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Core {
    First,
    Second,
    Any,
}

/// The load, and what it starts from then on.
pub(crate) fn pin_load(core: Core) {
    pin(std::process::id(), core);
}

fn pin(process: u32, core: Core) {
    let core = match core {
        Core::First => "0",
        Core::Second => "1",
        Core::Any => "0,1",
    };
    let pinned = Command::new("taskset")
        .args(["-a", "-p", "-c", core, &process.to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(
        pinned.is_ok_and(|status| status.success()),
        "taskset (util-linux) is needed, and two cores"
    );
}
