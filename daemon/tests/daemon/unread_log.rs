//! Standard error that is not read must not stop the daemon: not its answers, and not its end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use soramode_testkit::control_client::TestClient;
use soramoded::log::WAITING_BYTES_MAX;

use crate::process::{Process, wait_in_time};

/// Changes of the mode: each logs its reason, and together they are more than a pipe or a terminal holds.
const CHANGES: usize = 1_000;

/// The length of their reasons.
const REASON_BYTES: usize = 250;

/// Timeout of the shutdown: the log's last second, and a slow machine.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Changes the mode again and again.
fn change_modes(client: &mut TestClient, times: usize) {
    let reason = "x".repeat(REASON_BYTES);
    for number in 0..times {
        let mode = ["block_new_session", "normal"][number % 2];
        assert_eq!(
            client.get("ChangeMode", &json!({"mode": mode, "reason": reason}))["mode"],
            mode
        );
    }
}

#[test]
fn a_pipe_that_is_not_read_stops_neither_answers_nor_the_end() {
    let mut process = Process::start(&[]);
    let mut client = process.client();
    change_modes(&mut client, CHANGES);
    process.kill(Signal::TERM);
    client.recv_end();
    assert_eq!(process.end_unread(STOP_TIME), Some(0));
}

#[test]
fn dropped_lines_are_counted_once_the_log_is_read_again() {
    let mut process = Process::start(&[]);
    change_modes(&mut process.client(), 2 * WAITING_BYTES_MAX / REASON_BYTES);
    let log = process.read_log_until("log lines were dropped");
    let dropped = log.lines().last().unwrap().rsplit_once("lines=").unwrap().1;
    assert!(dropped.parse::<u64>().unwrap() > 0, "{dropped}");
    assert_eq!(
        process.client().get("GetMode", &json!({}))["mode"],
        "normal"
    );
}

/// `script` gives it a terminal, and is not read: so the terminal takes no more, as after Ctrl-S.
#[test]
fn a_terminal_that_takes_no_more_stops_neither_answers_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gate.sock");
    let program = format!(
        "exec {} --ephemeral --socket {}",
        env!("CARGO_BIN_EXE_soramoded"),
        socket.display()
    );
    let mut command = Command::new("script");
    command
        .args(["-qfec", &program, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut terminal = command.spawn().unwrap();
    let mut shown = BufReader::new(terminal.stdout.take().unwrap());
    let mut log = String::new();
    while !log.contains("ready") {
        assert!(shown.read_line(&mut log).unwrap() > 0, "ended: {log}");
    }
    let mut client = TestClient::to(&socket);
    change_modes(&mut client, CHANGES);
    let pid = std::fs::read_to_string(folder.path().join("gate.sock.lock")).unwrap();
    kill_process(
        Pid::from_raw(pid.trim().parse().unwrap()).unwrap(),
        Signal::TERM,
    )
    .unwrap();
    client.recv_end();
    // Its end frees the terminal, and with it `script`, once that is read.
    std::thread::spawn(move || std::io::copy(&mut shown, &mut std::io::sink()).unwrap());
    assert!(wait_in_time(&mut terminal, STOP_TIME).is_some_and(|status| status.success()));
}
