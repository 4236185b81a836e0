//! A disk that is full, or fails in the middle of a write, or at all, under a running daemon, and one that can be written again.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use serde_json::{Value, json};
use soramode_testkit::control_client::{TestClient, partial_report};
use soramode_testkit::receiver::{Receiver, ReceiverBehaviour};

use crate::process::Process;
use crate::state::Home;

/// Daemon with its state on a small file system.
struct OnSmallDisk {
    home: Home,
    process: Process,
    receiver: Receiver,
}

impl OnSmallDisk {
    /// `None` where this user can mount nothing.
    fn start() -> Option<Self> {
        Self::start_after("true")
    }

    /// Starts once this command has been run in the state's folder.
    fn start_after(prepare: &str) -> Option<Self> {
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
        let mut command = Command::new("unshare");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .env_remove("SORAMODE_SOCKET");
        let script = format!(
            "mount -t tmpfs -o size=4m,mode=0700 none '{0}' && (cd '{0}' && {prepare}) && exec \"$@\"",
            home.state().display()
        );
        command.args(["-m", "sh", "-c", &script, "sh"]);
        command
            .arg("env")
            .arg(set("LD_PRELOAD", &faults_library(home.folder())))
            .arg(set("FAULTS", &home.faults()));
        command.arg(env!("CARGO_BIN_EXE_soramoded"));
        let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
        let process = home.start_with(
            command,
            &["--node-name", "node-01", "--webhook", &receiver.url()],
        );
        Some(Self {
            home,
            process,
            receiver,
        })
    }

    /// A file of the daemon's file system.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.home.state().join(name);
        PathBuf::from(format!(
            "/proc/{}/root{}",
            self.process.pid().as_raw_nonzero(),
            inside.display()
        ))
    }

    fn fill(&self) {
        let mut file = File::create(self.path("filler")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
        // Fills the last page too.
        while file.write_all(&[0]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path("filler")).unwrap();
    }

    /// Limits the size of the daemon's files: a write past that fails in its middle.
    fn limit_files(&self, bytes: &str) {
        let pid = self.process.pid().as_raw_nonzero().to_string();
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={bytes}:")])
            .status();
        assert!(status.unwrap().success());
    }

    /// Has the calls fail in the daemon from now on, with this error.
    fn fail(&self, calls: &str, errno: Errno) {
        self.fail_after(calls, errno, 0);
    }

    /// Makes these calls fail after a delay in milliseconds.
    fn fail_after(&self, calls: &str, errno: Errno, millis: u32) {
        let (path, next) = (
            self.home.faults(),
            self.home.faults().with_extension("next"),
        );
        std::fs::write(&next, format!("{calls}{} {millis}", errno.raw_os_error())).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    fn heal(&self) {
        std::fs::remove_file(self.home.faults()).unwrap();
    }
}

/// A variable of `env`.
fn set(name: &str, path: &Path) -> OsString {
    let mut variable = OsString::from(format!("{name}="));
    variable.push(path);
    variable
}

/// The library that has calls of the system fail, in this folder.
fn faults_library(folder: &Path) -> PathBuf {
    let library = folder.join("faults.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/faults.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(compiled.unwrap().success());
    library
}

/// Lets connections in until one is refused; gives those that were offered, and the one that was not.
fn connect_until_refused(client: &mut TestClient) -> (Vec<String>, String) {
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

fn ids(client: &mut TestClient) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let mut params = json!({"limit": 1_000});
        if cursor.is_string() {
            params["cursor"] = cursor;
        }
        let page = client.get("ListConnections", &params);
        ids.extend(
            page["connections"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["connection_id"].as_str().unwrap().to_owned()),
        );
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            ids.sort();
            return ids;
        }
    }
}

/// Everything from the disk's failure until an operator opens the node again.
fn fails_and_recovers(
    mut disk: OnSmallDisk,
    break_it: impl Fn(&OnSmallDisk),
    mend_it: impl Fn(&OnSmallDisk),
) {
    let mut client = disk.process.client();
    client.connect("spam", "first");
    break_it(&disk);
    let (mut offered, refused) = connect_until_refused(&mut client);
    offered.push("first".to_owned());
    offered.sort();
    // Closed, and it says so: in its log, in its status.
    disk.process.read_log_until("the state cannot be written");
    let status = client.status();
    assert_eq!(
        (&status["mode"], &status["actor"]),
        (&"block_new_connection".into(), &"system:storage".into()),
        "{status}"
    );
    assert_eq!(status["storage"]["state"], "failed");
    assert!(
        status["warnings"][0]
            .as_str()
            .unwrap()
            .starts_with("the state cannot be written ("),
        "{status}"
    );
    assert_eq!(ids(&mut client), offered, "{refused} is not in");
    assert_eq!(
        client.connect("spam", "more")["reason"],
        "BLOCK-NEW-CONNECTION"
    );
    for mode in ["normal", "block_new_session"] {
        let refusal = client.call("ChangeMode", &json!({"mode": mode}))["error"].clone();
        assert_eq!(
            refusal["data"]["error_type"], "StorageUnavailable",
            "{refusal}"
        );
        assert!(
            refusal["data"]["hint"]
                .as_str()
                .unwrap()
                .contains("soramode status"),
            "{refusal}"
        );
    }
    // Disconnections are applied; events about them wait.
    let mut reader = disk.process.client();
    let next_seq = reader.get("Subscribe", &json!({}))["next_seq"]
        .as_u64()
        .unwrap();
    for connection_id in &offered {
        assert_eq!(client.disconnect(connection_id)["durable"], false);
    }
    assert_eq!(
        (
            ids(&mut client).len(),
            client.get("GetInfo", &json!({}))["node_name"].clone()
        ),
        (0, "node-01".into())
    );
    assert!(
        disk.receiver.received().is_empty(),
        "told of what is not written"
    );
    mend_it(&disk);
    disk.process
        .read_log_until("the state can be written again");
    let mut seqs = Vec::new();
    let vanished = loop {
        let event = reader.recv()["params"].clone();
        seqs.push(event["seq"].as_u64().unwrap());
        if event["type"] == "session.vanished" {
            break event;
        }
    };
    assert_eq!(
        seqs,
        (next_seq..=vanished["seq"].as_u64().unwrap()).collect::<Vec<u64>>()
    );
    assert_eq!(disk.receiver.recv().body["id"], vanished["id"]);
    // It stays closed until somebody opens it.
    let status = client.status();
    assert_eq!(
        (&status["mode"], &status["storage"]["state"]),
        (&"block_new_connection".into(), &"ok".into()),
        "{status}"
    );
    assert!(
        status["warnings"][0]
            .as_str()
            .unwrap()
            .ends_with("stays closed until you run: soramode set normal"),
        "{status}"
    );
    client.get("ChangeMode", &json!({"mode": "normal"}));
    assert_eq!(client.status().get("warnings"), None);
    client.connect("spam", "last");
    let told = check(&disk);
    assert!(
        told.contains("\nconnections   1\n")
            && told.contains(&format!(
                "\nevents        1 to {}\n",
                vanished["seq"].as_u64().unwrap() + 4
            )),
        "{told}"
    );
}

/// Returns the contents of the database, read outside the daemon.
fn check(disk: &OnSmallDisk) -> String {
    let pid = disk.process.pid().as_raw_nonzero().to_string();
    let mut command = Command::new("nsenter");
    command
        .args([
            "-t",
            &pid,
            "-m",
            env!("CARGO_BIN_EXE_soramoded"),
            "--check-state",
            "--state-dir",
        ])
        .arg(disk.home.state());
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_full_disk_closes_the_node_until_there_is_room_again() {
    if let Some(disk) = OnSmallDisk::start() {
        fails_and_recovers(disk, OnSmallDisk::fill, OnSmallDisk::make_room);
    }
}

#[test]
fn a_start_on_a_full_disk_asks_for_room_and_says_why_the_sessions_are_not_known() {
    let Some(disk) = OnSmallDisk::start_after("{ cat /dev/zero > filler || true; } 2> /dev/null")
    else {
        return;
    };
    let status = disk.process.client().status();
    assert_eq!(
        (&status["mode"], &status["storage"]["state"]),
        (&"block_new_connection".into(), &"failed".into()),
        "{status}"
    );
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("Free disk space") && !warning.contains("access"),
        "{warning}"
    );
    let missing = status["sources"][0]["incomplete_reason"].as_str().unwrap();
    assert!(
        missing.contains("could not use its stored state when it started"),
        "{missing}"
    );
}

#[test]
fn a_write_that_fails_in_its_middle_closes_the_node_until_writes_succeed() {
    if let Some(disk) = OnSmallDisk::start() {
        fails_and_recovers(
            disk,
            |disk| disk.limit_files("200000"),
            |disk| disk.limit_files("unlimited"),
        );
    }
}

/// Calls that write the database, as `faults.c` names them.
const WRITES: &str = "w";

/// Calls that wait for the disk.
const SYNCS: &str = "s";

#[test]
fn writes_that_fail_close_the_node_until_they_succeed() {
    // A broken disk, a file system that became read-only, and an exceeded quota.
    for errno in [Errno::IO, Errno::ROFS, Errno::DQUOT] {
        let Some(disk) = OnSmallDisk::start() else {
            return;
        };
        fails_and_recovers(disk, |disk| disk.fail(WRITES, errno), OnSmallDisk::heal);
    }
}

#[test]
fn requests_decided_while_a_write_fails_are_refused_with_it_and_events_keep_their_order() {
    let Some(mut disk) = OnSmallDisk::start() else {
        return;
    };
    let mut clients: Vec<TestClient> = (0..8).map(|_| disk.process.client()).collect();
    clients[0].connect("spam", "before");
    let next_seq = clients[0].get("Subscribe", &json!({}))["next_seq"]
        .as_u64()
        .unwrap();
    clients[0].get("Unsubscribe", &json!({}));
    disk.fail_after(WRITES, Errno::IO, 2_000);
    // The first is being written when the others are decided.
    for (number, client) in clients.iter_mut().enumerate() {
        let connection_id = format!("c{number}");
        let params = json!({"channel_id": "a", "connection_id": connection_id});
        client.send_request("Connect", &params);
        client.send_request("Disconnect", &json!({"connection_id": connection_id}));
        client.send_request("Report", &partial_report([format!("r{number}")]));
        // None of this can be read before it is written or has failed.
        client.send_request("GetMode", &json!({}));
    }
    for client in &mut clients {
        let refused = client.recv();
        assert_eq!(
            refused["error"]["data"]["error_type"], "StorageUnavailable",
            "{refused}"
        );
        let gone = client.recv();
        assert_eq!(
            (&gone["result"]["found"], &gone["result"]["durable"]),
            (&true.into(), &false.into()),
            "{gone}"
        );
        assert!(client.recv()["result"].is_object());
        assert!(client.recv()["result"]["mode"].is_string());
    }
    let mut expected: Vec<String> = (0..8).map(|number| format!("r{number}")).collect();
    expected.insert(0, "before".to_owned());
    assert_eq!(ids(&mut clients[0]), expected);
    // Retries fail while more is reported.
    for round in 0..3 {
        clients[1].get("Report", &partial_report([format!("later{round}")]));
    }
    disk.heal();
    disk.process
        .read_log_until("the state can be written again");
    let mut reader = disk.process.client();
    let status = reader.status();
    assert_eq!(status["storage"]["state"], "ok", "{status}");
    let subscribed = reader.get("Subscribe", &json!({"from": next_seq}));
    let mut seqs = Vec::new();
    while seqs.last().map_or(next_seq, |seq| seq + 1) < subscribed["next_seq"].as_u64().unwrap() {
        seqs.push(reader.recv()["params"]["seq"].as_u64().unwrap());
    }
    assert_eq!(
        seqs,
        (next_seq..next_seq + seqs.len() as u64).collect::<Vec<u64>>()
    );
    assert_eq!(ids(&mut clients[0]).len(), expected.len() + 3);
}

#[test]
fn a_mode_that_is_not_safe_from_a_power_cut_is_not_promised() {
    let Some(mut disk) = OnSmallDisk::start() else {
        return;
    };
    let mut client = disk.process.client();
    client.connect("spam", "first");
    disk.fail(SYNCS, Errno::IO);
    assert_eq!(
        client.error_type_of("ChangeMode", &json!({"mode": "block_new_session"})),
        "StorageUnavailable"
    );
    let status = client.status();
    assert_eq!(
        (&status["mode"], &status["actor"]),
        (&"block_new_connection".into(), &"system:storage".into()),
        "{status}"
    );
    assert_eq!(
        client.error_type_of("ChangeMode", &json!({"mode": "normal"})),
        "StorageUnavailable"
    );
    disk.heal();
    disk.process
        .read_log_until("the state can be written again");
    // A change that was reported as failed is not made once the disk works: the record says that it
    // was reverted.
    let changes = client.get("ListModeChanges", &json!({}))["changes"].clone();
    assert_eq!(
        (&changes[1]["generation"], &changes[0]["mode"]),
        (&2.into(), &"block_new_connection".into()),
        "{changes}"
    );
    assert!(
        changes[0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("undoes generation 2"),
        "{changes}"
    );
    assert_eq!(client.status()["mode"], "block_new_connection");
    client.get("ChangeMode", &json!({"mode": "normal"}));
    assert_eq!(client.connect("spam", "second")["type"], "offer");
}

#[test]
fn a_change_to_the_mode_of_a_broken_disk_is_taken_back_with_its_expiry() {
    let Some(mut disk) = OnSmallDisk::start() else {
        return;
    };
    let mut client = disk.process.client();
    disk.fail(SYNCS, Errno::IO);
    let change = json!({"mode": "block_new_connection", "expires_in_seconds": 3_600});
    assert_eq!(
        client.error_type_of("ChangeMode", &change),
        "StorageUnavailable"
    );
    disk.heal();
    disk.process
        .read_log_until("the state can be written again");
    let status = client.status();
    assert_eq!(
        (&status["actor"], status.get("expires_at")),
        (&"system:storage".into(), None),
        "{status}"
    );
}
