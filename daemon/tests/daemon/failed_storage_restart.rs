//! Restarts of a daemon that cannot write its state, before or after it starts.

use std::path::Path;

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::json;
use soramode_testkit::control_client::TestClient;

use crate::small_disk::{LOG_WRITES, OnSmallDisk, SYNCS, connect_until_refused, fill, make_room};

const WRITABLE_AGAIN: &str = "the state can be written again";

fn nothing(_: &Path) {}

/// Checks that the node is closed by its storage, and rejects clients; returns the state of the storage.
fn closed_by_storage(client: &mut TestClient) -> String {
    let status = client.status();
    assert_eq!(
        (&status["mode"], &status["actor"]),
        (&"block_new_connection".into(), &"system:storage".into()),
        "{status}"
    );
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("soramode set normal") || warning.contains("restart soramoded"),
        "{status}"
    );
    assert_eq!(
        client.connect("spam", "more")["reason"],
        "BLOCK-NEW-CONNECTION"
    );
    status["storage"]["state"].as_str().unwrap().to_owned()
}

/// Starts a node with a connection, which closes itself because its disk is full; `None` where no file system can be mounted.
fn closed_on_full_disk() -> Option<(OnSmallDisk, TestClient)> {
    let disk = OnSmallDisk::start()?;
    let mut client = disk.process.client();
    client.connect("spam", "first");
    disk.fill();
    connect_until_refused(&mut client);
    Some((disk, client))
}

/// Waits until a state that could not be written is written.
fn written(disk: &mut OnSmallDisk) -> TestClient {
    let mut client = disk.process.client();
    if closed_by_storage(&mut client) == "failed" {
        disk.process.read_log_until(WRITABLE_AGAIN);
    }
    assert_eq!(closed_by_storage(&mut client), "ok");
    client
}

/// Opens the node, which it stays over a restart.
fn opens(disk: OnSmallDisk) {
    let mut client = disk.process.client();
    client.get("ChangeMode", &json!({"mode": "normal"}));
    let disk = disk.restart(Signal::KILL, nothing);
    let mut client = disk.process.client();
    let status = client.status();
    assert_eq!(
        (&status["mode"], status.get("warnings")),
        (&"normal".into(), None),
        "{status}"
    );
    client.connect("spam", "last");
}

#[test]
fn a_node_that_closed_itself_stays_closed_over_restarts_on_the_full_disk() {
    for signal in [Signal::KILL, Signal::TERM] {
        let Some((disk, _)) = closed_on_full_disk() else {
            return;
        };
        // A stop in order frees the write-ahead log, so that a little can be written.
        let mut disk = disk.restart(signal, nothing);
        let mut client = disk.process.client();
        closed_by_storage(&mut client);
        assert_eq!(client.status()["sessions_complete"], true);
        assert_eq!(
            client.get("GetSession", &json!({"channel_id": "spam"}))["session"]["connections"],
            1
        );
        disk.make_room();
        drop(written(&mut disk));
        let disk = disk.restart(Signal::KILL, nothing);
        assert_eq!(closed_by_storage(&mut disk.process.client()), "ok");
        opens(disk);
    }
}

#[test]
fn a_node_that_closed_itself_stays_closed_over_a_restart_with_room_until_it_is_opened() {
    for signal in [Signal::KILL, Signal::TERM] {
        let Some((disk, mut client)) = closed_on_full_disk() else {
            return;
        };
        // It is in the mode already, says soramoded: that stays true.
        let asked = client.get("ChangeMode", &json!({"mode": "block_new_connection"}));
        assert_eq!(asked["changed"], false);
        let told = disk.check();
        assert!(
            told.contains("\nmode          normal (")
                && told.contains("\nstart         closed (block_new_connection)"),
            "{told}"
        );
        let disk = disk.restart(signal, make_room);
        let mut client = disk.process.client();
        assert_eq!(closed_by_storage(&mut client), "ok");
        let change = client.get("ListModeChanges", &json!({}))["changes"][0].clone();
        assert_eq!(
            (&change["mode"], &change["previous_mode"], &change["actor"]),
            (
                &"block_new_connection".into(),
                &"normal".into(),
                &"system:storage".into()
            ),
            "{change}"
        );
        opens(disk);
    }
}

#[test]
fn a_node_that_an_operator_had_closed_before_a_failed_write_is_still_closed_by_the_operator() {
    let Some(disk) = OnSmallDisk::start() else {
        return;
    };
    let mut client = disk.process.client();
    client.get(
        "ChangeMode",
        &json!({"mode": "block_new_connection", "reason": "CHG-1"}),
    );
    disk.fail(LOG_WRITES, Errno::NOSPC);
    let change = json!({"mode": "block_new_connection", "reason": "CHG-2"});
    assert_eq!(
        client.error_type_of("ChangeMode", &change),
        "StorageUnavailable"
    );
    disk.heal();
    let disk = disk.restart(Signal::KILL, nothing);
    let status = disk.process.client().status();
    assert_eq!(
        (&status["mode"], &status["reason"]),
        (&"block_new_connection".into(), &"CHG-1".into()),
        "{status}"
    );
}

#[test]
fn a_start_that_cannot_write_is_as_a_running_node_whose_writes_fail_and_heals() {
    let faults = [
        (LOG_WRITES, Errno::NOSPC),
        (LOG_WRITES, Errno::IO),
        (LOG_WRITES, Errno::ROFS),
        (LOG_WRITES, Errno::DQUOT),
        (SYNCS, Errno::IO),
    ];
    let Some(mut disk) = OnSmallDisk::start() else {
        return;
    };
    disk.process.client().connect("spam", "first");
    for (calls, errno) in faults {
        disk.process
            .client()
            .get("ChangeMode", &json!({"mode": "normal"}));
        // It did not notice, so nothing says that it cannot write.
        disk.fail(calls, errno);
        disk = disk.restart(Signal::KILL, nothing);
        let mut client = disk.process.client();
        assert_eq!(closed_by_storage(&mut client), "failed", "{calls}{errno}");
        assert_eq!(client.status()["sessions"], 1);
        assert_eq!(client.status()["sessions_complete"], true);
        assert_eq!(
            client.error_type_of("ChangeMode", &json!({"mode": "normal"})),
            "StorageUnavailable"
        );
        // Still so after another start, in which the first write fails too.
        disk = disk.restart(Signal::KILL, nothing);
        assert_eq!(closed_by_storage(&mut disk.process.client()), "failed");
        disk.heal();
        disk.process.read_log_until(WRITABLE_AGAIN);
        assert_eq!(closed_by_storage(&mut disk.process.client()), "ok");
    }
    opens(disk);
}

#[test]
fn a_start_on_a_disk_that_was_filled_after_a_clean_stop_is_closed_until_it_is_opened() {
    let Some(disk) = OnSmallDisk::start() else {
        return;
    };
    disk.process.client().connect("spam", "first");
    let disk = disk.restart(Signal::TERM, fill);
    assert_eq!(closed_by_storage(&mut disk.process.client()), "failed");
    let disk = disk.restart(Signal::TERM, make_room);
    let mut client = disk.process.client();
    assert_eq!(closed_by_storage(&mut client), "ok");
    assert_eq!(client.status()["sessions"], 1);
    opens(disk);
}

#[test]
fn a_start_on_a_read_only_file_system_is_closed_and_says_so() {
    let Some(disk) = OnSmallDisk::start() else {
        return;
    };
    disk.process.client().connect("spam", "first");
    let disk = disk.restart_mounted(Signal::KILL, "remount,ro");
    let mut client = disk.process.client();
    assert_eq!(closed_by_storage(&mut client), "failed");
    let status = client.status();
    assert!(
        status["warnings"][0]
            .as_str()
            .unwrap()
            .contains("Mount that file system for writing, and restart soramoded"),
        "{status}"
    );
    let disk = disk.restart_mounted(Signal::TERM, "remount,rw");
    assert_eq!(disk.process.client().status()["sessions"], 1);
}
