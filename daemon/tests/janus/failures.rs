//! Failures of Janus, of its Admin API and of soramoded, in the way `lock`: nothing is said to be closed, open or drained before it is.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::janus::client::post;
use soramode_testkit::janus::{ADMIN_KEY, ADMIN_SECRET, Janus, REFUSED, Setup};
use soramoded::args::janus::JanusWay;
use soramoded::config::{JanusConfig, Secret};

use crate::locks::{in_force, join, set};
use crate::proxy::{AdminProxy, Side};
use crate::watch::Watch;

/// Error code of a new session that Janus refuses.
const SESSIONS_REFUSED: u64 = 472;

fn is_drained(client: &mut TestClient) -> bool {
    let params = json!({"for": "drained", "timeout_seconds": 0.3});
    client.call("Wait", &params)["result"]["outcome"] == "reached"
}

/// Returns the error code of a new session, or 0.
fn new_session(janus: &Janus) -> u64 {
    let create = json!({"janus": "create", "transaction": "c"});
    let answer = post(janus.api, "/janus", &create);
    answer["error"]["code"].as_u64().unwrap_or(0)
}

#[test]
fn an_admin_api_that_refuses_or_does_not_answer_is_a_mode_that_is_not_in_force() {
    let janus = Janus::start(&Setup::default());
    // Its connections are accepted by the kernel, and nothing answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/admin", silent.local_addr().unwrap());
    let wrong = |settings: &mut JanusConfig| settings.admin_secret = Secret::new("wrong");
    let slow = move |settings: &mut JanusConfig| settings.admin = silent.parse().unwrap();
    let changes: [&dyn Fn(&mut JanusConfig); 2] = [&wrong, &slow];
    for change in changes {
        let daemon = janus.locking_with(|settings| {
            change(settings);
        });
        let mut client = daemon.client();
        assert_ne!(set(&mut client, "block_new_session"), "yes");
        in_force(&mut client, "no");
        assert_eq!(client.get("GetMode", &json!({}))["in_force"], "no");
        assert!(!is_drained(&mut client));
        let warnings = client.status()["warnings"].to_string();
        assert!(
            warnings.contains("Janus's rooms cannot be listed"),
            "{warnings}"
        );
    }
}

#[test]
fn new_sessions_are_refused_where_that_is_set_and_the_mode_lets_nobody_in() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.locking_with(|settings| {
        settings.refuse_sessions = true;
    });
    let mut client = daemon.client();
    for (mode, expected) in [
        ("block_new_session", 0),
        ("block_new_connection", SESSIONS_REFUSED),
        ("block_new_session", 0),
        ("block_new_connection", SESSIONS_REFUSED),
        ("normal", 0),
    ] {
        assert_eq!(set(&mut client, mode), "yes");
        assert_eq!(new_session(&janus), expected, "{mode}");
    }
}

#[test]
fn a_daemon_that_finds_new_sessions_refused_accepts_them_or_warns() {
    let janus = Janus::start(&Setup::default());
    let refuse = json!({
        "janus": "accept_new_sessions", "accept": false, "transaction": "t", "admin_secret": ADMIN_SECRET
    });
    post(janus.admin, "/admin", &refuse);
    let daemon = janus.locking();
    let mut client = daemon.client();
    while !client.status()["warnings"]
        .to_string()
        .contains("Janus refuses all new sessions")
    {
        std::thread::yield_now();
    }
    drop(daemon);
    let daemon = janus.locking_with(|settings| {
        settings.refuse_sessions = true;
    });
    in_force(&mut daemon.client(), "yes");
    assert_eq!(new_session(&janus), 0);
}

#[test]
fn a_restarted_janus_refuses_sessions_first_and_accepts_them_behind_its_locks() {
    for mode in ["block_new_session", "block_new_connection"] {
        let mut janus = Janus::start(&Setup::with_events());
        let proxy = AdminProxy::to(janus.admin);
        let daemon = janus.locking_with(|settings| {
            settings.refuse_sessions = true;
            settings.admin = format!("http://{}/admin", proxy.address).parse().unwrap();
        });
        let mut client = daemon.client();
        assert_eq!(set(&mut client, mode), "yes");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        proxy.at_requests(move |side, request| {
            if side == Side::Before {
                seen.lock().unwrap().push(request.clone());
            }
            true
        });
        janus.restart();
        let is_about_locks = |request: &Value| request["request"]["action"] == "enable";
        let locks = || {
            let requests = requests.lock().unwrap();
            requests.iter().filter(|it| is_about_locks(it)).count()
        };
        while locks() < 2 {
            std::thread::yield_now();
        }
        in_force(&mut client, "yes");
        let requests = std::mem::take(&mut *requests.lock().unwrap());
        let accepts: Vec<&Value> = requests
            .iter()
            .filter(|it| it["janus"] == "accept_new_sessions")
            .map(|it| &it["accept"])
            .collect();
        assert_eq!(accepts[0], false, "{accepts:?}");
        let at = |is: &dyn Fn(&Value) -> bool| requests.iter().position(is).unwrap();
        let (refused, locked) = (
            at(&|it| it["janus"] == "accept_new_sessions"),
            at(&is_about_locks),
        );
        assert!(refused < locked, "{requests:?}");
        let expected = if mode == "block_new_session" {
            0
        } else {
            SESSIONS_REFUSED
        };
        // A restart is seen twice, by the broken connection and by the event: sessions may be refused once more.
        while new_session(&janus) != expected {
            std::thread::yield_now();
        }
        assert_eq!(set(&mut client, "normal"), "yes");
        let mut user = janus.client();
        for room in [1, 2] {
            assert_eq!(join(&mut user, &json!(room), &json!(1)), 0);
        }
    }
}

#[test]
fn rooms_that_were_created_or_left_while_the_daemon_was_down_are_judged_anew() {
    let janus = Janus::start(&Setup::default());
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        janus.daemon_with(|config| {
            config.state_dir = Some(folder.path().to_owned());
            config.http.janus.as_mut().unwrap().way = JanusWay::Lock;
        })
    };
    let daemon = start();
    let mut watch = Watch::of(&daemon);
    let mut user = janus.client();
    let handle = user.must_join(&json!({"room": 1, "id": 1}));
    watch.came("1/1");
    assert_eq!(set(&mut watch.client, "block_new_session"), "yes");
    drop(daemon);
    assert_eq!(
        join(&mut user, &json!(2), &json!(1)),
        REFUSED,
        "it stays locked"
    );
    let create = |room: u64| json!({"request": "create", "room": room, "admin_key": ADMIN_KEY});
    for room in [7, 8] {
        janus.videoroom(&create(room));
    }
    user.must_join(&json!({"room": 7, "id": 1}));
    user.leave(&handle);
    let daemon = start();
    let mut client = daemon.client();
    in_force(&mut client, "yes");
    let settled = json!({"settled": 4, "outstanding": 0, "impossible": 0});
    assert_eq!(client.status()["rooms"], settled);
    for room in [1, 2, 8] {
        assert_eq!(join(&mut user, &json!(room), &json!(5)), REFUSED, "{room}");
    }
    assert_eq!(join(&mut user, &json!(7), &json!(5)), 0, "it has a session");
    assert!(!is_drained(&mut client));
}

#[test]
fn locks_of_a_daemon_that_is_gone_last_until_janus_is_restarted() {
    let mut janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    assert_eq!(set(&mut daemon.client(), "block_new_connection"), "yes");
    drop(daemon);
    assert_eq!(join(&mut janus.client(), &json!(1), &json!(1)), REFUSED);
    janus.restart();
    assert_eq!(join(&mut janus.client(), &json!(1), &json!(1)), 0);
    // With `normal` first, nothing is left, as the guide says.
    let daemon = janus.locking();
    for mode in ["block_new_connection", "normal"] {
        assert_eq!(set(&mut daemon.client(), mode), "yes");
    }
    drop(daemon);
    assert_eq!(join(&mut janus.client(), &json!(2), &json!(1)), 0);
}

#[test]
fn a_client_can_unlock_a_room_only_if_that_has_no_secret() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", ""), ("room-2", "secret = \"of-room-2\"")],
        ..Setup::default()
    });
    let (_path, secrets) = janus.room_secrets("2 of-room-2\n");
    let daemon = janus.locking_with(|settings| {
        settings.room_secrets = Some(secrets);
    });
    assert_eq!(set(&mut daemon.client(), "block_new_connection"), "yes");
    let mut user = janus.client();
    let handle = user.attach();
    for (room, expected) in [(1, 0), (2, REFUSED)] {
        user.message(
            &handle,
            &json!({"request": "allowed", "room": room, "action": "disable"}),
        );
        assert_eq!(
            join(&mut user, &json!(room), &json!(5)),
            expected,
            "room {room}"
        );
    }
}

#[test]
fn a_check_that_the_application_enabled_without_tokens_is_not_seen_and_goes_with_the_mode() {
    let janus = Janus::start(&Setup::default());
    let daemon = janus.locking();
    let mut client = daemon.client();
    in_force(&mut client, "yes");
    janus.videoroom(&json!({"request": "allowed", "room": 1, "action": "enable"}));
    let mut user = janus.client();
    assert_eq!(join(&mut user, &json!(1), &json!(1)), REFUSED);
    assert_eq!(set(&mut client, "block_new_session"), "yes");
    assert_eq!(set(&mut client, "normal"), "yes");
    assert_eq!(join(&mut user, &json!(1), &json!(1)), 0);
}

#[test]
fn a_viewer_passes_every_lock_and_is_nobody() {
    let with_stream = "dummy_publisher = true dummy_streams = ( { codec = \"opus\" } )";
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", with_stream)],
        ..Setup::default()
    });
    let daemon = janus.locking();
    let mut client = daemon.client();
    assert_eq!(set(&mut client, "block_new_connection"), "yes");
    let mut user = janus.client();
    assert_eq!(join(&mut user, &json!(1), &json!(1)), REFUSED);
    let list = json!({"request": "listparticipants", "room": 1});
    let feed = janus.videoroom(&list)["participants"][0]["id"].clone();
    let handle = user.attach();
    let view =
        json!({"request": "join", "ptype": "subscriber", "room": 1, "streams": [{"feed": feed}]});
    assert_eq!(user.message(&handle, &view)["videoroom"], "attached");
    while !is_drained(&mut client) {}
    assert_eq!(client.status()["connections"], 0);
}
