//! Signs of life to the service manager, and reads, while the disk hangs.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use soramode_testkit::PATIENCE;
use soramode_testkit::control_client::TestClient;

use crate::process::{Process, soramoded};
use crate::state::Home;

/// The service manager wants a sign each 40 ms, so one is given each 20.
const WATCHDOG_MICROS: &str = "40000";

/// No sign for so long: none is given any more.
const SILENCE: Duration = Duration::from_millis(400);

/// More signs than there can be before the committer is stuck.
const SIGNS_MAX: usize = 10_000;

#[test]
fn a_daemon_whose_disk_hangs_gives_no_signs_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let (manager, state) = (
        UnixDatagram::bind(folder.path().join("notify")).unwrap(),
        folder.path().join("state"),
    );
    let socket = folder.path().join("gate.sock");
    let mut command = soramoded();
    command
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("WATCHDOG_USEC", WATCHDOG_MICROS);
    command
        .arg("--socket")
        .arg(&socket)
        .arg("--state-dir")
        .arg(&state);
    let process = Process::spawn(folder, socket.clone(), command);
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    let mut hear = |manager: &UnixDatagram| {
        manager
            .recv(&mut buffer)
            .map(|bytes| String::from_utf8_lossy(&buffer[..bytes]).into_owned())
    };
    let mut signs = 0;
    while signs < 5 {
        signs += usize::from(hear(&manager).unwrap().contains("WATCHDOG=1"));
    }
    // The disk does not answer: the committer waits, while the rest of the daemon goes on.
    let disk = rusqlite::Connection::open(state.join("soramode.db")).unwrap();
    disk.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut client = TestClient::to(&socket);
    client.send_request("ChangeMode", &json!({"mode": "block_new_session"}));
    manager.set_read_timeout(Some(SILENCE)).unwrap();
    let given = (0..SIGNS_MAX)
        .take_while(|_| hear(&manager).is_ok())
        .count();
    assert!(
        given < SIGNS_MAX,
        "a daemon whose disk hangs goes on giving signs"
    );
    disk.execute_batch("ROLLBACK").unwrap();
    client.recv();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    while !hear(&manager).unwrap().contains("WATCHDOG=1") {}
    drop(process);
}

/// Timeout for the daemon's end after a panic, on a slow machine.
const END_TIME: Duration = Duration::from_secs(10);

#[test]
fn a_panic_in_a_step_ends_the_daemon_with_a_failure_and_nothing_is_answered() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let home = Home::new();
    let mut command = Command::new("strace");
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    // A timer that cannot be set is a bug, and panics: the first time at the start of a wait with a time. Before that the timer for changes of
    // the wall clock is set, once.
    command.args([
        "-f",
        "-qqq",
        "-o",
        "/dev/null",
        "-e",
        "inject=timerfd_settime:error=EINVAL:when=2+",
    ]);
    command.arg(env!("CARGO_BIN_EXE_soramoded"));
    let mut process = home.start_with(command, &[]);
    let mut client = process.client();
    client.send_request(
        "Wait",
        &json!({"for": "mode", "mode": "block_new_session", "timeout_seconds": 60}),
    );
    client.recv_end();
    assert_eq!(process.end_unread(END_TIME), Some(1));
}

#[test]
fn while_the_disk_hangs_a_written_mode_is_read_and_an_unwritten_one_is_not() {
    let home = Home::new();
    let process = home.start(&["--node-name", "node-01"]);
    let (mut operator, mut reader) = (process.client(), process.client());
    operator.connect("spam", "first");
    let disk = rusqlite::Connection::open(home.state().join("soramode.db")).unwrap();
    disk.execute_batch("BEGIN IMMEDIATE").unwrap();
    operator.send_request("Connect", &json!({"channel_id": "spam"}));
    assert_eq!(reader.get("GetMode", &json!({}))["mode"], "normal");
    operator.send_request("ChangeMode", &json!({"mode": "block_new_session"}));
    // Its answer waits for the same write as the change's, and so does what shows connections.
    operator.send_request("GetMode", &json!({}));
    reader.send_request("GetStatus", &json!({}));
    let silent = |client: &TestClient| {
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: 300_000_000,
        };
        let stream = client.try_clone();
        let mut socket = [PollFd::new(&stream, PollFlags::IN)];
        poll(&mut socket, Some(&limit)).unwrap() == 0
    };
    assert!(silent(&operator) && silent(&reader));
    disk.execute_batch("ROLLBACK").unwrap();
    assert_eq!(operator.recv()["result"]["type"], "offer");
    assert_eq!(operator.recv()["result"]["changed"], true);
    assert_eq!(operator.recv()["result"]["mode"], "block_new_session");
    assert_eq!(reader.recv()["result"]["mode"], "block_new_session");
}
