//! The way `lock`: rooms of a real Janus are locked and unlocked as the mode requires, and the mode says whether it is in force.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::janus::client::JanusClient;
use soramode_testkit::janus::{ADMIN_KEY, Janus, REFUSED, Setup};
use soramoded::args::janus::JanusWay;
use soramoded::config::JanusConfig;

use crate::watch::Watch;

/// Sets the mode, and returns whether it is in force then.
pub(crate) fn set(client: &mut TestClient, mode: &str) -> Value {
    client.get("ChangeMode", &json!({"mode": mode}))["in_force"].clone()
}

/// Waits until the mode is in force, or as far as it can be.
pub(crate) fn in_force(client: &mut TestClient, expected: &str) {
    while client.status()["in_force"] != expected {
        std::thread::yield_now();
    }
}

/// Returns the error code of a join, or 0.
pub(crate) fn join(user: &mut JanusClient, room: &Value, id: &Value) -> u64 {
    let (_, answer) = user.join(&json!({"room": room, "id": id}));
    answer["error_code"].as_u64().unwrap_or(0)
}

fn drained(client: &mut TestClient) {
    let params = json!({"for": "drained", "timeout_seconds": 60});
    assert_eq!(client.get("Wait", &params)["outcome"], "reached");
}

#[test]
fn the_modes_lock_the_rooms_that_they_close_and_no_other() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    let mut watch = Watch::of(&daemon);
    let mut user = janus.client();
    let first = user.must_join(&json!({"room": 1, "id": 1}));
    watch.came("1/1");
    assert_eq!(set(&mut watch.client, "block_new_session"), "yes");
    assert_eq!(
        join(&mut user, &json!(2), &json!(5)),
        REFUSED,
        "a room with nobody"
    );
    let second = user.must_join(&json!({"room": 1, "id": 2}));
    watch.came("1/2");
    assert_eq!(set(&mut watch.client, "block_new_connection"), "yes");
    assert_eq!(join(&mut user, &json!(1), &json!(3)), REFUSED);
    user.leave(&first);
    user.leave(&second);
    drained(&mut watch.client);
    assert_eq!(join(&mut user, &json!(1), &json!(3)), REFUSED);
    assert_eq!(set(&mut watch.client, "normal"), "yes");
    let status = watch.client.status();
    assert_eq!(
        status["rooms"],
        json!({"settled": 2, "outstanding": 0, "impossible": 0})
    );
    for room in [1, 2] {
        assert_eq!(join(&mut user, &json!(room), &json!(9)), 0);
    }
}

#[test]
fn a_room_is_locked_when_its_last_participant_has_left() {
    let janus = Janus::start(&Setup::with_events());
    let daemon = janus.locking();
    let mut watch = Watch::of(&daemon);
    let mut user = janus.client();
    let handle = user.must_join(&json!({"room": 1, "id": 1}));
    watch.came("1/1");
    assert_eq!(set(&mut watch.client, "block_new_session"), "yes");
    user.leave(&handle);
    watch.left("1/1");
    in_force(&mut watch.client, "yes");
    assert_eq!(join(&mut user, &json!(1), &json!(2)), REFUSED);
    drained(&mut watch.client);
    // A room that is created while the node is closed.
    janus.videoroom(&json!({"request": "create", "room": 7, "admin_key": ADMIN_KEY}));
    while watch.client.status()["rooms"]["settled"] != 3 {
        std::thread::yield_now();
    }
    assert_eq!(join(&mut user, &json!(7), &json!(2)), REFUSED);
}

#[test]
fn with_one_room_that_cannot_be_locked_nothing_is_drained() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", ""), ("room-2", "secret = \"of-room-2\"")],
        ..Setup::default()
    });
    let (path, secrets) = janus.room_secrets("1 unused\n");
    let daemon = janus.locking_with(|settings| {
        settings.room_secrets = Some(secrets);
    });
    let mut watch = Watch::of(&daemon);
    let changed = watch
        .client
        .get("ChangeMode", &json!({"mode": "block_new_session"}));
    assert_eq!(changed["in_force"], "partial", "{changed}");
    let warning = changed["warning"].as_str().unwrap();
    assert!(
        warning.contains("1 room cannot be locked or unlocked"),
        "{warning}"
    );
    let wait = |client: &mut TestClient, more: &str| {
        let mut params = json!({"for": "drained", "timeout_seconds": 0.5});
        if !more.is_empty() {
            params[more] = true.into();
        }
        client.get("Wait", &params)["outcome"].clone()
    };
    assert_eq!(wait(&mut watch.client, ""), "timeout");
    assert_eq!(wait(&mut watch.client, "assume_complete"), "timeout");
    assert_eq!(wait(&mut watch.client, "assume_in_force"), "reached");
    assert!(
        warning.contains("for \"2\""),
        "the room is named: {warning}"
    );
    // The operator gives the secret: the room is tried at once.
    let given = Instant::now();
    std::fs::write(path, "2 of-room-2\n").unwrap();
    in_force(&mut watch.client, "yes");
    assert!(
        given.elapsed() < Duration::from_secs(30),
        "before the next retry"
    );
    drained(&mut watch.client);
    assert_eq!(set(&mut watch.client, "normal"), "yes");
}

#[test]
fn tokens_of_the_application_never_change_and_its_rooms_are_left_alone() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", ""), ("room-2", ""), ("room-3", "")],
        ..Setup::default()
    });
    let allowed = |room: u64, action: &str, tokens: &[&str]| {
        let mut request = json!({"request": "allowed", "room": room, "action": action});
        if !tokens.is_empty() {
            request["allowed"] = json!(tokens);
        }
        janus.videoroom(&request)["allowed"].clone()
    };
    allowed(1, "add", &["alice", "bob"]);
    allowed(1, "enable", &[]);
    let daemon = janus.locking();
    let mut watch = Watch::of(&daemon);
    assert_eq!(set(&mut watch.client, "block_new_session"), "partial");
    let mut user = janus.client();
    let (_, answer) = user.join(&json!({"room": 1, "id": 1, "token": "alice"}));
    assert_eq!(
        answer["videoroom"], "joined",
        "the room is the application's: {answer}"
    );
    // While the node is closed the application revokes one, and takes over a room that is locked.
    allowed(1, "remove", &["bob"]);
    allowed(2, "add", &["carol"]);
    set(&mut watch.client, "normal");
    assert_eq!(allowed(1, "add", &[]), json!(["alice"]));
    assert_eq!(allowed(2, "add", &[]), json!(["carol"]));
    assert_eq!(allowed(3, "add", &[]), json!([]));
    assert_eq!(
        join(&mut user, &json!(2), &json!(1)),
        REFUSED,
        "taken over: its check stays"
    );
    assert_eq!(join(&mut user, &json!(3), &json!(1)), 0);
}

#[test]
fn a_restarted_janus_is_locked_again_and_a_dead_one_is_no_drain() {
    let mut janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    let mut watch = Watch::of(&daemon);
    assert_eq!(set(&mut watch.client, "block_new_connection"), "yes");
    drained(&mut watch.client);
    janus.kill();
    in_force(&mut watch.client, "no");
    let params = json!({"for": "drained", "timeout_seconds": 0.5});
    assert_eq!(watch.client.get("Wait", &params)["outcome"], "timeout");
    assert_eq!(set(&mut watch.client, "block_new_session"), "no");
    janus.restart();
    let mut user = janus.client();
    in_force(&mut watch.client, "yes");
    for room in [1, 2] {
        assert_eq!(join(&mut user, &json!(room), &json!(1)), REFUSED);
    }
    drained(&mut watch.client);
}

#[test]
fn a_daemon_that_comes_back_opens_what_the_one_before_had_locked() {
    let janus = Janus::start(&Setup {
        string_ids: true,
        rooms: vec![("room-a", ""), ("room-b", "")],
        ..Setup::default()
    });
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        janus.daemon_with(|config| {
            config.state_dir = Some(folder.path().to_owned());
            let settings: &mut JanusConfig = config.http.janus.as_mut().unwrap();
            settings.way = JanusWay::Lock;
        })
    };
    let daemon = start();
    assert_eq!(set(&mut daemon.client(), "block_new_session"), "yes");
    drop(daemon);
    let mut user = janus.client();
    for room in ["a", "b"] {
        assert_eq!(
            join(&mut user, &json!(room), &json!("1")),
            REFUSED,
            "no daemon opens it"
        );
    }
    let daemon = start();
    let mut client = daemon.client();
    assert_eq!(client.status()["mode"], "block_new_session");
    in_force(&mut client, "yes");
    drained(&mut client);
    assert_eq!(set(&mut client, "normal"), "yes");
    for room in ["a", "b"] {
        assert_eq!(join(&mut user, &json!(room), &json!("1")), 0);
    }
}

#[test]
fn a_daemon_that_has_lost_its_state_opens_what_it_had_locked() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    assert_eq!(set(&mut daemon.client(), "block_new_session"), "yes");
    drop(daemon);
    let mut user = janus.client();
    assert_eq!(join(&mut user, &json!(1), &json!(1)), REFUSED);
    let daemon = janus.locking();
    let mut client = daemon.client();
    assert_eq!(client.status()["mode"], "normal");
    in_force(&mut client, "yes");
    for room in [1, 2] {
        assert_eq!(join(&mut user, &json!(room), &json!(1)), 0);
    }
}

#[test]
fn a_daemon_in_the_way_ask_opens_what_the_one_before_had_locked() {
    let janus = Janus::start(&Setup::default());
    let folder = tempfile::tempdir().unwrap();
    let start = |way| {
        janus.daemon_with(|config| {
            config.state_dir = Some(folder.path().to_owned());
            config.http.janus.as_mut().unwrap().way = way;
        })
    };
    let daemon = start(JanusWay::Lock);
    assert_eq!(set(&mut daemon.client(), "block_new_session"), "yes");
    drop(daemon);
    let daemon = start(JanusWay::Ask);
    let mut user = janus.client();
    for room in [1, 2] {
        while join(&mut user, &json!(room), &json!(room)) == REFUSED {
            std::thread::yield_now();
        }
    }
    let mut client = daemon.client();
    assert_eq!(client.status().get("in_force"), None);
    assert_eq!(
        client
            .get("ChangeMode", &json!({"mode": "normal"}))
            .get("in_force"),
        None
    );
    assert_eq!(client.status().get("warnings"), None);
}

#[test]
fn rooms_without_a_secret_and_with_one_that_is_not_known_are_counted() {
    let janus = Janus::start(&Setup {
        rooms: vec![
            ("room-1", ""),
            ("room-2", "secret = \"of-room-2\""),
            ("room-3", "secret = \"of-room-3\""),
        ],
        ..Setup::default()
    });
    let (path, secrets) = janus.room_secrets("2 of-room-2\n");
    let daemon = janus.locking_with(|settings| settings.room_secrets = Some(secrets));
    let mut client = daemon.client();
    let mut has = |text: &str| {
        let status = client.status();
        let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
        warnings
            .iter()
            .any(|it| it.as_str().unwrap().starts_with(text))
    };
    while !has("1 room of Janus has a secret that soramoded does not know: \"3\"") {
        std::thread::yield_now();
    }
    assert!(has("1 room of Janus has no secret: \"1\""));
    std::fs::write(path, "2 of-room-2\n3 of-room-3\n").unwrap();
    while has("1 room of Janus has a secret") {
        std::thread::yield_now();
    }
    assert!(has("1 room of Janus has no secret: \"1\""));
}
