//! A disk that is full, or fails in the middle of a write, or at all, under a running daemon, and one that can be written again.

use rustix::io::Errno;
use serde_json::{Value, json};
use soramode_testkit::control_client::{TestClient, partial_report};

use crate::small_disk::{OnSmallDisk, SYNCS, WRITES, connect_until_refused};

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
    let told = disk.check();
    assert!(
        told.contains("\nconnections   1\n")
            && told.contains(&format!(
                "\nevents        1 to {}\n",
                vanished["seq"].as_u64().unwrap() + 4
            )),
        "{told}"
    );
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
