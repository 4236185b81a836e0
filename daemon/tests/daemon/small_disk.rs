//! A soramoded with its state on a small file system, which can be filled, and calls of the system that can be made to fail.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::json;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::receiver::{Receiver, ReceiverBehaviour};

use crate::process::Process;
use crate::state::Home;

/// Calls that write, as `faults.c` names them.
pub(crate) const WRITES: &str = "w";

/// Calls that write the write-ahead log.
pub(crate) const LOG_WRITES: &str = "l";

/// Calls that wait for the disk.
pub(crate) const SYNCS: &str = "s";

/// Daemon with its state on a small file system.
pub(crate) struct OnSmallDisk {
    home: Home,
    pub(crate) process: Process,
    pub(crate) receiver: Receiver,
    mount: Mount,
}

/// Process that holds the mount namespace with the file system, over several starts. It ends when its input is closed.
struct Mount(Child);

impl Mount {
    /// Mounts a small file system on a folder, and runs a command in it.
    fn of(folder: &Path, prepare: &str) -> Self {
        let script = format!(
            "mount -t tmpfs -o size=4m,mode=0700 none '{0}' && (cd '{0}' && {prepare}) && echo mounted && exec cat",
            folder.display()
        );
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n");
        Self(child)
    }

    /// A command that enters the namespace; the program is its next argument.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.0.id().to_string(), "-m"]);
        command
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Also where the test has failed.
        let _ = self.0.wait();
    }
}

impl OnSmallDisk {
    /// `None` where this user can mount nothing.
    pub(crate) fn start() -> Option<Self> {
        Self::start_after("true")
    }

    /// Starts once this command has been run in the state's folder.
    pub(crate) fn start_after(prepare: &str) -> Option<Self> {
        let may_mount = Command::new("unshare")
            .args(["-m", "true"])
            .stderr(Stdio::null())
            .status();
        if !may_mount.is_ok_and(|status| status.success()) {
            eprintln!("skipped: this user can mount no file system");
            return None;
        }
        let home = Home::new();
        std::fs::create_dir(home.state()).unwrap();
        make_faults_library(home.folder());
        let mount = Mount::of(&home.state(), prepare);
        let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
        let process = start_in(&mount, &home, &receiver);
        Some(Self {
            home,
            process,
            receiver,
            mount,
        })
    }

    /// Ends the daemon by a signal, and starts it again when something has been done without it.
    pub(crate) fn restart(self, signal: Signal, meanwhile: impl FnOnce(&Path)) -> Self {
        self.restart_with(signal, |mount, home| {
            meanwhile(&inside(mount, &home.state()));
        })
    }

    /// Ends the daemon by a signal, and starts it again with its file system mounted with other options.
    pub(crate) fn restart_mounted(self, signal: Signal, options: &str) -> Self {
        self.restart_with(signal, |mount, home| {
            let mut command = mount.enter();
            command.args(["mount", "-o", options]).arg(home.state());
            assert!(command.status().unwrap().success());
        })
    }

    fn restart_with(self, signal: Signal, meanwhile: impl FnOnce(&Mount, &Home)) -> Self {
        let Self {
            home,
            process,
            receiver,
            mount,
        } = self;
        process.kill(signal);
        process.end();
        meanwhile(&mount, &home);
        let process = start_in(&mount, &home, &receiver);
        Self {
            home,
            process,
            receiver,
            mount,
        }
    }

    /// Returns the contents of the database, read outside the daemon.
    pub(crate) fn check(&self) -> String {
        let mut command = self.mount.enter();
        command.arg(env!("CARGO_BIN_EXE_soramoded"));
        command
            .args(["--check-state", "--state-dir"])
            .arg(self.home.state());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    pub(crate) fn fill(&self) {
        fill(&inside(&self.mount, &self.home.state()));
    }

    pub(crate) fn make_room(&self) {
        make_room(&inside(&self.mount, &self.home.state()));
    }

    /// Limits the size of the daemon's files: a write past that fails in its middle.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let pid = self.process.pid().as_raw_nonzero().to_string();
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={bytes}:")])
            .status();
        assert!(status.unwrap().success());
    }

    /// Has the calls fail in the daemon from now on, with this error.
    pub(crate) fn fail(&self, calls: &str, errno: Errno) {
        self.fail_after(calls, errno, 0);
    }

    /// Makes these calls fail after a delay in milliseconds.
    pub(crate) fn fail_after(&self, calls: &str, errno: Errno, millis: u32) {
        let (path, next) = (
            self.home.faults(),
            self.home.faults().with_extension("next"),
        );
        std::fs::write(&next, format!("{calls}{} {millis}", errno.raw_os_error())).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    pub(crate) fn heal(&self) {
        std::fs::remove_file(self.home.faults()).unwrap();
    }
}

/// Fills the state's file system.
pub(crate) fn fill(state: &Path) {
    let mut file = File::create(state.join("filler")).unwrap();
    while file.write_all(&[0; 4_096]).is_ok() {}
    // Fills the last page too.
    while file.write_all(&[0]).is_ok() {}
}

/// Removes the file that filled it.
pub(crate) fn make_room(state: &Path) {
    std::fs::remove_file(state.join("filler")).unwrap();
}

/// A folder as it is in the namespace, for this process.
fn inside(mount: &Mount, folder: &Path) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root{}", mount.0.id(), folder.display()))
}

fn start_in(mount: &Mount, home: &Home, receiver: &Receiver) -> Process {
    let mut command = mount.enter();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .env_remove("SORAMODE_SOCKET")
        .arg("env")
        .arg(set("LD_PRELOAD", &faults_library(home.folder())))
        .arg(set("FAULTS", &home.faults()))
        .arg(env!("CARGO_BIN_EXE_soramoded"));
    home.start_with(
        command,
        &["--node-name", "node-01", "--webhook", &receiver.url()],
    )
}

/// A variable of `env`.
fn set(name: &str, path: &Path) -> OsString {
    let mut variable = OsString::from(format!("{name}="));
    variable.push(path);
    variable
}

fn faults_library(folder: &Path) -> PathBuf {
    folder.join("faults.so")
}

/// Compiles the library that has calls of the system fail.
fn make_faults_library(folder: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/faults.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(faults_library(folder))
        .arg(source)
        .status();
    assert!(compiled.unwrap().success());
}

/// Lets connections in until one is refused; gives those that were offered, and the one that was not.
pub(crate) fn connect_until_refused(client: &mut TestClient) -> (Vec<String>, String) {
    let mut offered = Vec::new();
    for number in 0.. {
        let connection_id = format!("c{number}");
        let answer = client.call(
            "Connect",
            &json!({"channel_id": "a", "connection_id": connection_id}),
        );
        if answer["result"]["type"] == "offer" {
            offered.push(connection_id);
            continue;
        }
        assert_eq!(
            answer["error"]["data"]["error_type"], "StorageUnavailable",
            "{answer}"
        );
        return (offered, connection_id);
    }
    unreachable!("a disk is full some time")
}
