//! Persistence of the state over restarts, and states that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use tempfile::TempDir;

use crate::process::{Process, soramoded};

/// A place for a state and a socket, over several starts.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.path().join("gate.sock")
    }

    pub(crate) fn start(&self, flags: &[&str]) -> Process {
        self.start_with(soramoded(), flags)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Returns the file that names the failing system calls.
    pub(crate) fn faults(&self) -> PathBuf {
        self.0.path().join("faults")
    }

    /// Starts the daemon with a command that ends with the program's name.
    pub(crate) fn start_with(&self, mut command: Command, flags: &[&str]) -> Process {
        command
            .arg("--state-dir")
            .arg(self.state())
            .arg("--socket")
            .arg(self.socket())
            .args(flags);
        Process::spawn(tempfile::tempdir().unwrap(), self.socket(), command)
    }

    /// Returns the output and the exit status of `--check-state`.
    pub(crate) fn check(&self) -> (Option<i32>, String) {
        self.run(&["--check-state"])
    }

    pub(crate) fn run(&self, flags: &[&str]) -> (Option<i32>, String) {
        let output = soramoded()
            .arg("--state-dir")
            .arg(self.state())
            .args(flags)
            .stdout(std::process::Stdio::piped())
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8(told)
                .unwrap()
                .replace(self.0.path().to_str().unwrap(), ""),
        )
    }
}

/// The seqs and types of the events from a seq on, and whether there was a gap before them.
fn events(client: &mut TestClient, from: u64) -> (Vec<(u64, String)>, bool) {
    let subscribed = client.get("Subscribe", &json!({"from": from}));
    let (mut events, mut had_gap) = (Vec::new(), false);
    while events
        .last()
        .map_or(from, |(seq, _): &(u64, String)| seq + 1)
        < subscribed["next_seq"].as_u64().unwrap()
    {
        let message = client.recv();
        match message["method"].as_str() {
            Some("Event") => {
                events.push((
                    message["params"]["seq"].as_u64().unwrap(),
                    message["params"]["type"].as_str().unwrap().to_owned(),
                ));
            }
            Some("Gap") => had_gap = true,
            _ => panic!("{message}"),
        }
    }
    client.get("Unsubscribe", &json!({}));
    (events, had_gap)
}

fn rows(client: &mut TestClient, method: &str, list: &str) -> Vec<Value> {
    client.get(method, &json!({"limit": 1_000}))[list]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one story, from the first kill to the last check"
)]
fn a_kill_loses_nothing_that_was_answered() {
    let home = Home::new();
    let first = home.start(&["--node-name", "node-01"]);
    let mut client = first.client();
    let log_id = client.get("GetInfo", &json!({}))["log_id"].clone();
    client.connect("spam", "one");
    client.connect("spam", "two");
    client.disconnect("two");
    client.connect("egg", "three");
    client.get(
        "ChangeMode",
        &json!({"mode": "block_new_session", "reason": "kernel"}),
    );
    let before = (
        rows(&mut client, "ListSessions", "sessions"),
        rows(&mut client, "ListConnections", "connections"),
    );
    let mode = client.get("GetMode", &json!({}));
    first.kill(Signal::KILL);
    client.recv_end();
    // Its sockets are closed before its locks are given back.
    let (status, ..) = first.end();
    assert_eq!(status, None);

    let second = home.start(&["--node-name", "node-01"]);
    let mut client = second.client();
    assert_eq!(
        (
            client.get("GetMode", &json!({})),
            client.get("GetInfo", &json!({}))["log_id"].clone()
        ),
        (mode, log_id)
    );
    let sorted = |mut rows: Vec<Value>| {
        rows.sort_by_key(Value::to_string);
        rows
    };
    let after = (
        rows(&mut client, "ListSessions", "sessions"),
        rows(&mut client, "ListConnections", "connections"),
    );
    assert_eq!(
        (sorted(after.0), sorted(after.1)),
        (sorted(before.0), sorted(before.1))
    );
    assert_eq!(
        client.get("ListModeChanges", &json!({}))["changes"][0]["reason"],
        "kernel"
    );
    let (old, had_gap) = events(&mut client, 1);
    let types: Vec<&str> = old
        .iter()
        .map(|(_, event_type)| event_type.as_str())
        .collect();
    let expected = [
        "session.created",
        "connection.created",
        "connection.created",
        "connection.destroyed",
        "session.created",
        "connection.created",
        "mode.changed",
    ];
    assert_eq!((types.as_slice(), had_gap), (&expected[..], false));
    client.disconnect("one");
    client.disconnect("three");
    let (all, had_gap) = events(&mut client, 3);
    assert_eq!(
        (
            all.iter().map(|(seq, _)| *seq).collect::<Vec<u64>>(),
            had_gap
        ),
        ((3..=12).collect(), false)
    );
    assert_eq!(all.last().unwrap().1, "session.vanished");
    // A clean stop changes nothing either.
    second.kill(Signal::TERM);
    let (status, log, _) = second.end();
    assert_eq!(status, Some(0), "{log}");
    assert_eq!(
        files(&home.state()),
        [
            "soramode.db",
            "soramode.db-shm",
            "soramode.db-wal",
            "soramode.lock"
        ]
    );
    assert_eq!(
        fs::metadata(home.state().join("soramode.db-wal"))
            .unwrap()
            .len(),
        0,
        "all is in the database"
    );
    let (status, told) = home.check();
    assert!(
        told.starts_with("/state/soramode.db: sound\n") && told.contains("\nsessions      0\n"),
        "{told}"
    );
    let third = home.start(&[]);
    assert_eq!(
        (
            status,
            third.client().get("GetMode", &json!({}))["mode"].clone()
        ),
        (Some(0), "block_new_session".into())
    );
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn other_users_cannot_read_the_state() {
    let home = Home::new();
    let process = home.start(&[]);
    process.client().connect("spam", "one");
    assert_eq!(
        fs::metadata(home.state()).unwrap().permissions().mode() & 0o777,
        0o700
    );
    for name in files(&home.state()) {
        assert_eq!(
            fs::metadata(home.state().join(&name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o600,
            "{name}"
        );
    }
}

#[test]
fn two_daemons_do_not_share_a_state() {
    let home = Home::new();
    let first = home.start(&[]);
    let other = tempfile::tempdir().unwrap();
    let (status, told) = home.run(&["--socket", other.path().join("s").to_str().unwrap()]);
    assert_eq!(
        (
            status,
            told.contains("/state is in use by a running soramoded (pid ")
        ),
        (Some(1), true),
        "{told}"
    );
    assert_eq!(first.client().get("GetMode", &json!({}))["mode"], "normal");
}

/// Checks a node with an unusable state.
fn is_closed(process: &Process, why: &str) {
    let mut client = process.client();
    let status = client.status();
    assert_eq!(
        (&status["mode"], &status["actor"]),
        (&"block_new_connection".into(), &"system:storage".into()),
        "{status}"
    );
    assert_eq!(
        (&status["storage"]["state"], &status["sessions_complete"]),
        (&"failed".into(), &false.into()),
        "{status}"
    );
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("/state") && warning.contains(why),
        "{warning}"
    );
    assert_eq!(
        client.connect("spam", "one")["reason"],
        "BLOCK-NEW-CONNECTION"
    );
    assert_eq!(
        client.error_type_of("ChangeMode", &json!({"mode": "normal"})),
        "StorageUnavailable"
    );
    assert_eq!(
        client.error_type_of("Wait", &json!({"for": "drained"})),
        "SessionsIncomplete"
    );
    // Reports of the signaling server are accepted nevertheless.
    client.get(
        "Report",
        &json!({"connections": [{"channel_id": "spam", "connection_id": "one"}], "complete": true}),
    );
    assert_eq!(client.disconnect("one")["durable"], false);
    assert_eq!(
        client.get("Wait", &json!({"for": "drained"}))["outcome"],
        "reached"
    );
}

type Damage = fn(&Path);

#[test]
fn a_state_that_cannot_be_used_closes_the_node_and_is_left_as_it_is() {
    let damage: [(&str, Damage); 2] = [
        ("it is damaged", |path| {
            fs::write(path, vec![0x5a; 20_000]).unwrap();
        }),
        ("a newer soramoded wrote it (schema 99", |path| {
            let database = rusqlite::Connection::open(path).unwrap();
            database.pragma_update(None, "user_version", 99).unwrap();
        }),
    ];
    for (why, damage) in damage {
        let home = Home::new();
        let first = home.start(&[]);
        first.client().connect("spam", "one");
        first.kill(Signal::TERM);
        first.end();
        let path = home.state().join("soramode.db");
        // It may be there, with nothing in it.
        let _ = fs::remove_file(home.state().join("soramode.db-wal"));
        damage(&path);
        let before = fs::read(&path).unwrap();
        let (status, told) = home.check();
        assert_eq!((status, told.contains(why)), (Some(1), true), "{told}");
        let process = home.start(&[]);
        is_closed(&process, why);
        process.kill(Signal::TERM);
        let (status, log, _) = process.end();
        assert_eq!(status, Some(0), "{log}");
        assert!(
            fs::read(&path).unwrap() == before,
            "{why}: the file was touched"
        );
        // Moved away, as the message says: the node begins with nothing, and open.
        fs::rename(&path, home.state().join("aside.db")).unwrap();
        let process = home.start(&[]);
        assert_eq!(
            process.client().get("GetMode", &json!({}))["mode"],
            "normal"
        );
    }
}

#[test]
fn a_state_that_may_not_be_written_closes_the_node() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become somebody else");
        return;
    }
    let home = Home::new();
    fs::set_permissions(home.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(home.state()).unwrap();
    let mut command = Command::new("setpriv");
    command
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    // A copy of the program: the other user may not be able to reach the original.
    let program = home.0.path().join("soramoded");
    fs::copy(env!("CARGO_BIN_EXE_soramoded"), &program).unwrap();
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program);
    let process = home.start_with(command, &[]);
    is_closed(
        &process,
        "read and write access to the state, and restart soramoded",
    );
}

#[test]
fn a_state_that_was_deleted_under_a_running_daemon_is_there_again_and_a_closed_node_stays_closed() {
    let home = Home::new();
    let mut process = home.start(&[]);
    let mut client = process.client();
    client.connect("spam", "one");
    client.get(
        "ChangeMode",
        &json!({"mode": "block_new_session", "reason": "before"}),
    );
    for what in [&home.state().join("soramode.db"), &home.state()] {
        if what.is_dir() {
            fs::remove_dir_all(what).unwrap();
        } else {
            fs::remove_file(what).unwrap();
        }
        client.get(
            "ChangeMode",
            &json!({"mode": "block_new_session", "reason": what.display().to_string()}),
        );
        process.read_log_until("it was written again");
        let (status, told) = home.check();
        assert!(
            status == Some(0)
                && told.contains("block_new_session")
                && told.contains("\nconnections   1\n"),
            "{told}"
        );
    }
    process.kill(Signal::KILL);
    process.end();
    let process = home.start(&[]);
    let status = process.client().status();
    assert_eq!(
        (&status["mode"], &status["connections"]),
        (&"block_new_session".into(), &1.into()),
        "{status}"
    );
}

#[test]
fn another_database_in_its_place_closes_the_node_which_says_what_to_do() {
    let home = Home::new();
    let mut process = home.start(&[]);
    let mut client = process.client();
    let path = home.state().join("soramode.db");
    fs::write(home.folder().join("backup"), "of another day").unwrap();
    fs::rename(home.folder().join("backup"), &path).unwrap();
    assert_eq!(
        client.error_type_of("ChangeMode", &json!({"mode": "block_new_session"})),
        "StorageUnavailable"
    );
    let status = client.status();
    assert_eq!(
        (&status["mode"], &status["storage"]["state"]),
        (&"block_new_connection".into(), &"failed".into()),
        "{status}"
    );
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("another file is in the place of")
            && warning.contains("Restart soramoded"),
        "{warning}"
    );
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        "of another day",
        "it is left as it is"
    );
    fs::remove_file(&path).unwrap();
    process.read_log_until("the state can be written again");
    client.get("ChangeMode", &json!({"mode": "normal"}));
}

#[test]
fn a_folder_or_a_file_that_others_could_have_made_is_refused() {
    // A check says the same, and makes nothing.
    let refused = |prepare: &dyn Fn(&Path)| {
        let home = Home::new();
        fs::create_dir(home.state()).unwrap();
        fs::set_permissions(home.state(), fs::Permissions::from_mode(0o700)).unwrap();
        prepare(&home.state());
        let (checked, check) = home.check();
        let process = home.start(&[]);
        let status = process.client().status();
        assert_eq!(
            (&status["storage"]["state"], checked),
            (&"failed".into(), Some(1)),
            "{status} {check}"
        );
        let told = status["warnings"][0]
            .as_str()
            .unwrap()
            .replace(home.folder().to_str().unwrap(), "");
        let (fact, hint) = check
            .strip_prefix("soramoded: ")
            .unwrap()
            .split_once("\nhint: ")
            .unwrap();
        assert!(
            told.starts_with(fact) && told.ends_with(hint.trim_end()),
            "{told} {check}"
        );
        told
    };
    let told =
        refused(&|state| fs::set_permissions(state, fs::Permissions::from_mode(0o777)).unwrap());
    assert!(
        told.contains("other users may write to its folder (mode 0777)"),
        "{told}"
    );
    let victim = tempfile::NamedTempFile::new().unwrap();
    for file in ["soramode.lock", "soramode.db", "soramode.db-wal"] {
        let told =
            refused(&|state| std::os::unix::fs::symlink(victim.path(), state.join(file)).unwrap());
        assert!(
            told.contains(&format!(
                "{file} is a link, or not a regular file with one name"
            )),
            "{told}"
        );
        let told = refused(&|state| {
            fs::write(state.join("twin"), "").unwrap();
            fs::hard_link(state.join("twin"), state.join(file)).unwrap();
        });
        assert!(told.contains("not a regular file with one name"), "{told}");
    }
    assert_eq!(
        fs::read_to_string(victim.path()).unwrap(),
        "",
        "nothing was written through a link"
    );
    if rustix::process::geteuid().is_root() {
        let told = refused(&|state| std::os::unix::fs::chown(state, Some(65_534), None).unwrap());
        assert!(
            told.contains("belongs to another user (uid 65534)"),
            "{told}"
        );
    }
    for in_its_place in ["a file", "a link that leads nowhere"] {
        let told = refused(&|state| {
            fs::remove_dir(state).unwrap();
            match in_its_place {
                "a file" => fs::write(state, "").unwrap(),
                _ => std::os::unix::fs::symlink("/nonexistent", state).unwrap(),
            }
        });
        assert!(
            told.contains("it is not a folder") && told.contains("Move that file away"),
            "{in_its_place}: {told}"
        );
    }
}

#[test]
fn a_state_on_a_read_only_file_system_can_be_looked_at() {
    let may_mount = Command::new("unshare").args(["-m", "true"]).status();
    if !may_mount.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user can mount no file system");
        return;
    }
    let home = Home::new();
    let process = home.start(&[]);
    process
        .client()
        .get("ChangeMode", &json!({"mode": "block_new_session"}));
    process.kill(Signal::TERM);
    process.end();
    let script = format!(
        "mount --bind '{0}' '{0}' && mount -o remount,ro,bind '{0}' && exec \"$@\"",
        home.state().display()
    );
    let mut command = Command::new("unshare");
    command
        .args([
            "-m",
            "sh",
            "-c",
            &script,
            "sh",
            env!("CARGO_BIN_EXE_soramoded"),
            "--check-state",
            "--state-dir",
        ])
        .arg(home.state());
    let output = command.output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        output.status.success() && told.contains("sound") && told.contains("block_new_session"),
        "{told}"
    );
}

#[test]
fn a_state_that_is_not_there_can_be_made_or_is_refused() {
    let home = Home::new();
    assert_eq!(
        home.check(),
        (Some(0), "/state/soramode.db: not there yet\n".to_owned())
    );
    assert!(!home.state().exists());
    fs::write(home.folder().join("file"), "").unwrap();
    let below = home.folder().join("file/state");
    let output = soramoded()
        .args(["--check-state", "--state-dir"])
        .arg(&below)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("it is not a folder")
    );
}

#[test]
fn root_checks_the_state_of_a_daemon_that_runs_as_another_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give files away");
        return;
    }
    let home = Home::new();
    let process = home.start(&[]);
    process.kill(Signal::TERM);
    process.end();
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
    for file in fs::read_dir(home.state()).unwrap() {
        own(&file.unwrap().path());
    }
    own(&home.state());
    let (status, told) = home.check();
    assert!(
        status == Some(0) && told.contains("sound") && told.contains("\nowner         uid 65534: "),
        "{told}"
    );
}

#[test]
fn files_that_others_could_read_are_closed_to_them() {
    let home = Home::new();
    let process = home.start(&[]);
    process.kill(Signal::KILL);
    process.end();
    let path = home.state().join("soramode.db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let _process = home.start(&[]);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}
