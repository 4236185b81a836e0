//! The way `ask`: the participants that the daemon knows, and those that it counts.

use std::time::{Duration, Instant};

use serde_json::json;
use soramode_testkit::daemon::Daemon;
use soramode_testkit::janus::client::post;
use soramode_testkit::janus::{ADMIN_KEY, Janus, Setup, free_address};
use soramoded::args::janus::JanusEnd;
use soramoded::config::{JanusConfig, Secret};

use crate::watch::Watch;

fn set_mode(watch: &mut Watch, mode: &str) {
    watch.client.get("ChangeMode", &json!({"mode": mode}));
}

/// Waits until a closed node is drained.
fn drained(daemon: &Daemon) {
    let params = json!({"for": "drained", "timeout_seconds": 60});
    assert_eq!(daemon.client().get("Wait", &params)["outcome"], "reached");
}

#[test]
fn participants_are_connections_and_the_same_id_in_two_rooms_is_two() {
    let janus = Janus::start(&Setup::default());
    let mut user = janus.client();
    user.must_join(&json!({"room": 1, "id": 42, "display": "before the daemon"}));
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    watch.synced();
    assert_eq!(
        watch.connections(),
        [("1".into(), "1/42".into(), "live".into())]
    );
    let second = user.must_join(&json!({"room": 2, "id": 42, "display": "secret name"}));
    let event = watch.came("2/42");
    assert_eq!(
        (&event["channel_id"], event.get("client_id")),
        (&json!("2"), None)
    );
    assert!(!event.to_string().contains("secret name"));
    user.leave(&second);
    assert_eq!(watch.left("2/42")["reason"], "disconnected");
    // A handle that vanishes with its session leaves as well.
    user.destroy();
    watch.left("1/42");
    assert_eq!(watch.client.status()["sessions"], 0);
}

#[test]
fn an_admitted_client_is_counted_once() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    watch.synced();
    let decision = watch.client.get(
        "Connect",
        &json!({"channel_id": "1", "connection_id": "place"}),
    );
    assert_eq!(decision["type"], "offer", "{decision}");
    assert_eq!(
        watch.connections(),
        [("1".into(), "place".into(), "pending".into())]
    );
    let mut user = janus.client();
    let handle = user.must_join(&json!({"room": 1, "id": 7}));
    watch.came("1/7");
    assert_eq!(
        watch.connections(),
        [("1".into(), "1/7".into(), "live".into())]
    );
    // A client that did not ask is one more.
    user.must_join(&json!({"room": 1, "id": 8}));
    watch.came("1/8");
    assert_eq!(watch.client.status()["connections"], 2);
    user.leave(&handle);
    watch.left("1/7");
    assert_eq!(watch.client.status()["connections"], 1);
}

#[test]
fn a_pending_connection_over_http_is_replaced_by_the_next_participant_of_its_room_or_expires() {
    let janus = Janus::start(&Setup::default());
    let api = free_address();
    let daemon = janus.daemon_with(|config| {
        config.http.api.listen = vec![api.to_string().parse().unwrap()];
        config.http.sora.pending_timeout = Duration::from_secs(1);
    });
    let mut watch = Watch::of(&daemon);
    watch.synced();
    let connect = |room: &str, id: &str| {
        let params = json!({"channel_id": room, "connection_id": id});
        post(api, "/v1/connect", &params)
    };
    assert_eq!(connect("1", "first")["type"], "offer");
    let pending = ("1".to_owned(), "first".to_owned(), "pending".to_owned());
    assert_eq!(watch.connections(), [pending]);
    let mut user = janus.client();
    user.must_join(&json!({"room": 1, "id": 7}));
    watch.came("1/7");
    let live = ("1".to_owned(), "1/7".to_owned(), "live".to_owned());
    assert_eq!(watch.connections(), [live]);
    // A client that never joins: its session ends with it.
    assert_eq!(connect("2", "second")["type"], "offer");
    assert_eq!(watch.client.status()["sessions"], 2);
    while watch.client.status()["sessions"] != 1 {
        std::thread::yield_now();
    }
    set_mode(&mut watch, "block_new_session");
    assert_eq!(connect("2", "third")["reason"], "BLOCK-NEW-SESSION");
    assert_eq!(connect("1", "fourth")["type"], "offer");
    user.must_join(&json!({"room": 1, "id": 8}));
    watch.came("1/8");
    assert_eq!(watch.client.status().get("warnings"), None);
}

#[test]
fn a_closed_node_rejects_and_drains_and_clients_that_did_not_ask_are_a_warning() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    watch.synced();
    let mut user = janus.client();
    let first = user.must_join(&json!({"room": 1, "id": 1}));
    watch.came("1/1");
    watch
        .client
        .get("ChangeMode", &json!({"mode": "block_new_session"}));
    let rejected = watch.client.get("Connect", &json!({"channel_id": "2"}));
    assert_eq!(rejected["type"], "reject", "{rejected}");
    let offered = watch.client.get("Connect", &json!({"channel_id": "1"}));
    assert_eq!(offered["type"], "offer", "its room has a session");
    let second = user.must_join(&json!({"room": 1, "id": 2}));
    watch.came("1/2");
    assert_eq!(watch.client.status().get("warnings"), None);
    let third = user.must_join(&json!({"room": 2, "id": 3}));
    watch.came("2/3");
    let status = watch.client.status();
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(
        warning.starts_with("1 connection joined a room of Janus without a Connect"),
        "{warning}"
    );
    for handle in [first, second, third] {
        user.leave(&handle);
    }
    drained(&daemon);
    watch.client.get("ChangeMode", &json!({"mode": "normal"}));
    assert_eq!(watch.client.status().get("warnings"), None);
}

#[test]
fn dummies_and_viewers_are_no_clients() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", "dummy_publisher = true"), ("room-2", "")],
        ..Setup::default()
    });
    let list = janus.videoroom(&json!({"request": "list"}));
    assert!(
        list["list"]
            .as_array()
            .unwrap()
            .iter()
            .any(|room| room["num_participants"] == 1),
        "{list}"
    );
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    watch.synced();
    watch
        .client
        .get("ChangeMode", &json!({"mode": "block_new_session"}));
    drained(&daemon);
    assert_eq!(watch.client.status()["connections"], 0);
}

#[test]
fn rooms_with_texts_as_ids_and_private_rooms_are_seen() {
    let janus = Janus::start(&Setup {
        string_ids: true,
        rooms: vec![("room-lobby", ""), ("room-77", "is_private = true")],
        ..Setup::default()
    });
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    watch.synced();
    let mut user = janus.client();
    user.must_join(&json!({"room": "lobby", "id": "a/b"}));
    watch.came("lobby/a/b");
    user.must_join(&json!({"room": "77", "id": "1"}));
    watch.came("77/1");
}

#[test]
fn a_private_room_without_the_key_keeps_the_sessions_incomplete_and_with_it_they_are_known() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", ""), ("room-2", "is_private = true")],
        ..Setup::default()
    });
    let mut user = janus.client();
    let handle = user.must_join(&json!({"room": 2, "id": 5}));
    let daemon = janus.daemon(|settings| settings.admin_key = None);
    let mut watch = Watch::of(&daemon);
    let problem = loop {
        let status = watch.client.status();
        let source = status["sources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|source| source["name"] == "janus")
            .cloned()
            .unwrap();
        assert_eq!(source["complete"], false);
        if let Some(problem) = source["problem"].as_str() {
            break problem.to_owned();
        }
        std::thread::yield_now();
    };
    assert!(
        problem.contains("the room 2 has a participant and is not in Janus's list"),
        "{problem}"
    );
    user.leave(&handle);
    watch.synced();
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    user.must_join(&json!({"room": 2, "id": 6}));
    watch.came("2/6");
}

#[test]
fn a_wrong_key_or_secret_is_said_and_nothing_counts_as_empty() {
    let janus = Janus::start(&Setup::default());
    for change in [
        |it: &mut JanusConfig| it.admin_key = Some(Secret::new("wrong")),
        |it: &mut JanusConfig| it.admin_secret = Secret::new("wrong"),
    ] {
        let daemon = janus.daemon(change);
        let mut client = daemon.client();
        client.get("ChangeMode", &json!({"mode": "block_new_session"}));
        let problem = loop {
            if let Some(problem) = client.status()["sources"][1]["problem"].as_str() {
                break problem.to_owned();
            }
            std::thread::yield_now();
        };
        assert!(problem.starts_with("answered 4"), "{problem}");
        let params = json!({"for": "drained", "timeout_seconds": 0});
        let answer = client.call("Wait", &params);
        assert!(
            answer
                .get("result")
                .is_none_or(|it| it["outcome"] == "timeout"),
            "{answer}"
        );
    }
}

#[test]
fn events_have_rooms_listed_at_once() {
    let janus = Janus::start(&Setup::with_events());
    let daemon = janus.daemon(|settings| settings.listen = janus.events_to);
    let mut watch = Watch::of(&daemon);
    watch.synced();
    let mut user = janus.client();
    // The next list of all is a minute away.
    for round in 0..5 {
        let handle = user.must_join(&json!({"room": 1, "id": 100 + round}));
        watch.came(&format!("1/{}", 100 + round));
        user.leave(&handle);
        watch.left(&format!("1/{}", 100 + round));
    }
    user.must_join(&json!({"room": 2, "id": 1}));
    watch.came("2/1");
    janus.videoroom(&json!({"request": "destroy", "room": 2}));
    watch.left("2/1");
}

#[test]
fn no_client_is_left_after_a_restart_and_a_dead_janus_is_a_problem_first() {
    let mut janus = Janus::start(&Setup::default());
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    watch.synced();
    janus.client().must_join(&json!({"room": 1, "id": 9}));
    watch.came("1/9");
    janus.kill();
    loop {
        let status = watch.client.status();
        if status["sources"][1]["problem"].is_string() {
            assert_eq!(status["connections"], 1, "what is not known is not gone");
            break;
        }
        std::thread::yield_now();
    }
    janus.restart();
    watch.left("1/9");
}

#[test]
fn sessions_are_ended_by_kicks_or_with_their_rooms() {
    let janus = Janus::start(&Setup {
        rooms: vec![
            ("room-1", ""),
            ("room-2", "secret = \"of-room-2\""),
            ("room-3", ""),
        ],
        ..Setup::default()
    });
    let mut user = janus.client();
    let daemon = janus.daemon(|_| ());
    let mut watch = Watch::of(&daemon);
    for (room, id) in [(1, 1), (1, 2), (2, 3)] {
        user.must_join(&json!({"room": room, "id": id}));
        watch.came(&format!("{room}/{id}"));
    }
    let ended = watch.client.get("End", &json!({"channel_id": "1"}));
    assert_eq!(
        (&ended["sessions"], &ended["via"]),
        (&json!(1), &json!("janus_admin")),
        "{ended}"
    );
    watch.left("1/1");
    watch.left("1/2");
    let refused = watch.client.get("End", &json!({"channel_id": "2"}));
    assert_eq!(refused["failed"], 1, "{refused}");
    let problem = refused["problem"].as_str().unwrap();
    assert!(
        problem.starts_with("Janus's Admin API at http://")
            && problem.contains(" (kick) answered ")
            && problem.ends_with("--janus-room-secrets-file"),
        "{refused}"
    );
    let (_path, secrets) = janus.room_secrets("2 of-room-2\n");
    let daemon = janus.daemon(|settings| {
        settings.room_secrets = Some(secrets);
        settings.end = JanusEnd::Destroy;
    });
    let mut watch = Watch::of(&daemon);
    watch.synced();
    watch.client.get("End", &json!({"channel_id": "2"}));
    watch.left("2/3");
    let (_, answer) = user.join(&json!({"room": 2}));
    assert_eq!(answer["error_code"], 426, "{answer}");
}

#[test]
fn after_a_thousand_joins_and_leaves_with_the_same_ids_in_all_rooms_both_have_the_same_table() {
    let janus = Janus::start(&Setup {
        rooms: vec![
            ("room-1", ""),
            ("room-2", ""),
            ("room-3", "is_private = true"),
        ],
        ..Setup::with_events()
    });
    let daemon = janus.daemon(|settings| settings.listen = janus.events_to);
    let mut watch = Watch::of(&daemon);
    watch.synced();
    let in_janus = || -> Vec<String> {
        let list = |room: u64| {
            let request = json!({"request": "listparticipants", "room": room});
            let listed = janus.videoroom(&request)["participants"].take();
            let ids = listed.as_array().cloned().unwrap_or_default();
            ids.into_iter()
                .map(move |it| format!("{room}/{}", it["id"]))
        };
        (1..=3).flat_map(list).collect()
    };
    let mut users = [janus.client(), janus.client()];
    let mut handles = Vec::new();
    for number in 0..500 {
        let (room, id) = (1 + number % 3, 1 + number / 3 % 5);
        if handles.len() == 15 {
            let (user, handle): (usize, _) = handles.remove(0);
            users[user].leave(&handle);
        }
        let user = number % 2;
        handles.push((
            user,
            users[user].must_join(&json!({"room": room, "id": id})),
        ));
        if number % 100 == 99 {
            let same = |watch: &mut Watch| {
                let mut rows = in_janus();
                rows.sort();
                let table = watch.connections().into_iter().map(|(_, id, _)| id);
                table.eq(rows)
            };
            while !same(&mut watch) {
                std::thread::yield_now();
            }
        }
    }
    for (user, handle) in handles {
        users[user].leave(&handle);
    }
    set_mode(&mut watch, "block_new_session");
    drained(&daemon);
    assert_eq!(watch.connections(), []);
}

#[test]
fn the_key_of_these_tests_is_the_one_that_janus_has() {
    let janus = Janus::start(&Setup::default());
    let with = |key: &str| janus.videoroom(&json!({"request": "list", "admin_key": key}));
    assert!(with(ADMIN_KEY)["list"].is_array());
    assert_eq!(with("wrong")["error_code"], 433);
}

#[test]
fn a_janus_without_an_admin_key_is_warned_of() {
    let warnings = |setup: Setup| {
        let janus = Janus::start(&setup);
        let daemon = janus.daemon(|_| ());
        let mut watch = Watch::of(&daemon);
        watch.synced();
        // The checks follow the first list; the second one comes after them.
        let seen = |watch: &mut Watch| watch.client.status()["sources"][1]["last_contact"].clone();
        let first = seen(&mut watch);
        while seen(&mut watch) == first {
            std::thread::yield_now();
        }
        watch.client.status()["warnings"].to_string()
    };
    assert_eq!(warnings(Setup::default()), "null");
    let warned = warnings(Setup {
        has_admin_key: false,
        ..Setup::default()
    });
    assert!(warned.contains("VideoRoom has no admin_key"), "{warned}");
}

#[test]
fn events_that_do_not_come_are_a_warning_and_the_rooms_are_listed_each_second() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.daemon(|settings| settings.listen = Some(free_address()));
    let mut watch = Watch::of(&daemon);
    watch.synced();
    let mut user = janus.client();
    let handle = user.must_join(&json!({"room": 1, "id": 1}));
    let joined = Instant::now();
    watch.came("1/1");
    user.leave(&handle);
    watch.left("1/1");
    assert!(
        joined.elapsed() < Duration::from_secs(30),
        "before the minute's list"
    );
    let warning = loop {
        if let Some(warning) = watch.client.status()["warnings"][0].as_str() {
            break warning.to_owned();
        }
        std::thread::yield_now();
    };
    assert!(
        warning.starts_with("Janus's events do not come"),
        "{warning}"
    );
}
