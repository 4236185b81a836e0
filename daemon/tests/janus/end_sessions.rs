//! Ends of sessions in the way `lock`: a room is locked before its participants are removed.

use std::collections::BTreeSet;
use std::sync::mpsc;

use serde_json::json;
use soramode_testkit::PATIENCE;
use soramode_testkit::janus::{ADMIN_KEY, Janus, REFUSED, Setup};

use crate::locks::{in_force, join};
use crate::proxy::{AdminProxy, Side};
use crate::watch::Watch;

/// Clients that come back as soon as they are removed.
const CLIENTS: u64 = 3;

#[test]
fn clients_that_come_back_at_once_are_refused_until_the_session_has_ended() {
    let janus = Janus::start(&Setup::with_events());
    let proxy = AdminProxy::to(janus.admin);
    let daemon = janus.locking_with(|settings| {
        settings.admin = format!("http://{}/admin", proxy.address).parse().unwrap();
    });
    let mut watch = Watch::of(&daemon);
    watch.synced();
    in_force(&mut watch.client, "yes");
    let (tried, all_tried) = mpsc::channel();
    let mut untried = CLIENTS;
    proxy.at_requests(move |side, request| {
        // The room stays locked until each client has tried to come back.
        while side == Side::Before && request["request"]["action"] == "disable" && untried > 0 {
            all_tried.recv_timeout(PATIENCE).unwrap();
            untried -= 1;
        }
        true
    });
    let mut other = janus.client();
    other.must_join(&json!({"room": 2, "id": 9}));
    let eager: Vec<_> = (1..=CLIENTS)
        .map(|id| {
            let (mut user, tried) = (janus.client(), tried.clone());
            user.must_join(&json!({"room": 1, "id": id}));
            watch.came(&format!("1/{id}"));
            std::thread::spawn(move || {
                user.wait_until_kicked();
                let first = join(&mut user, &json!(1), &json!(10 + id));
                tried.send(()).unwrap();
                while join(&mut user, &json!(1), &json!(20 + id)) != 0 {}
                first
            })
        })
        .collect();
    let ended = watch.client.get("End", &json!({"channel_id": "1"}));
    assert_eq!(
        (&ended["sessions"], ended.get("failed")),
        (&json!(1), None),
        "{ended}"
    );
    let reason = watch.destroyed("1");
    assert_eq!(reason, "ended");
    let first: BTreeSet<u64> = eager.into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(first, BTreeSet::from([REFUSED]), "their room was locked");
    assert_eq!(watch.client.status()["mode"], "normal");
    in_force(&mut watch.client, "yes");
    let sessions = watch.client.get("ListSessions", &json!({}));
    assert!(
        sessions.to_string().contains("\"2\""),
        "the other room went on: {sessions}"
    );
}

#[test]
fn the_rooms_of_a_closed_node_are_ended_and_stay_locked() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    let mut watch = Watch::of(&daemon);
    let mut user = janus.client();
    user.must_join(&json!({"room": 1, "id": 1}));
    watch.came("1/1");
    watch
        .client
        .get("ChangeMode", &json!({"mode": "block_new_session"}));
    watch.client.get("End", &json!({"all": true}));
    let params = json!({"for": "drained", "timeout_seconds": 60});
    assert_eq!(watch.client.get("Wait", &params)["outcome"], "reached");
    assert_eq!(join(&mut user, &json!(1), &json!(2)), REFUSED);
    watch.client.get("ChangeMode", &json!({"mode": "normal"}));
    in_force(&mut watch.client, "yes");
    assert_eq!(join(&mut user, &json!(1), &json!(2)), 0);
}

#[test]
fn a_room_that_cannot_be_locked_is_ended_all_the_same() {
    let janus = Janus::start(&Setup::default());
    let tokens = json!({"request": "allowed", "room": 1, "action": "add", "allowed": ["alice"]});
    janus.videoroom(&tokens);
    let daemon = janus.locking();
    let mut watch = Watch::of(&daemon);
    let mut user = janus.client();
    user.must_join(&json!({"room": 1, "id": 1, "token": "alice"}));
    watch.came("1/1");
    watch.client.get("End", &json!({"channel_id": "1"}));
    watch.left("1/1");
    let show = json!({"request": "allowed", "room": 1, "action": "add"});
    assert_eq!(janus.videoroom(&show)["allowed"], json!(["alice"]));
}

#[test]
fn rooms_whose_ids_are_longer_than_a_channels_are_locked_and_ended() {
    let janus = Janus::start(&Setup {
        string_ids: true,
        rooms: Vec::new(),
        ..Setup::with_events()
    });
    let rooms = ["1", "2"].map(|end| format!("{}{end}", "é".repeat(150)));
    let create = |room: &str| {
        janus.videoroom(&json!({"request": "create", "room": room, "admin_key": ADMIN_KEY}))
    };
    create(&rooms[0]);
    let daemon = janus.locking();
    let mut watch = Watch::of(&daemon);
    watch.synced();
    // This one is known by its event alone.
    create(&rooms[1]);
    let mut user = janus.client();
    for room in &rooms {
        user.must_join(&json!({"room": room, "id": "a"}));
    }
    while watch.client.status()["connections"] != 2 {
        std::thread::yield_now();
    }
    watch.client.get("End", &json!({"all": true}));
    while watch.client.status()["connections"] != 0 {
        std::thread::yield_now();
    }
    let closed = json!({"mode": "block_new_session"});
    watch.client.get("ChangeMode", &closed);
    in_force(&mut watch.client, "yes");
    for room in &rooms {
        assert_eq!(join(&mut user, &json!(room), &json!("b")), REFUSED);
    }
    watch.client.get("ChangeMode", &json!({"mode": "normal"}));
    in_force(&mut watch.client, "yes");
    for room in &rooms {
        assert_eq!(join(&mut user, &json!(room), &json!("b")), 0);
    }
}
