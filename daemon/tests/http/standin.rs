//! Whole days with a Sora: a stand-in that has clients, and loses, repeats and reorders what it says of them.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::fake_sora::{Chaos, FakeSora, Fault};

use crate::wire::{Node, SORA_PORT, own_address};

const API_PORT: u16 = 3001;

/// A Sora, and a soramoded beside it that may or may not know its API.
struct Beside {
    sora: FakeSora,
    webhooks: SocketAddr,
    api: SocketAddr,
}

impl Beside {
    fn new(seed: u64) -> Self {
        let address = own_address();
        let webhooks = SocketAddr::new(address.into(), SORA_PORT);
        let sora = FakeSora::new(&format!("http://{webhooks}"), seed);
        let api = sora.listen(SocketAddr::new(address.into(), API_PORT));
        Self {
            sora,
            webhooks,
            api,
        }
    }

    /// Moves the next daemon to another address. A program that another test starts at this moment
    /// inherits the open descriptors, and so holds the previous address a little longer.
    fn move_on(&mut self) {
        self.webhooks.set_ip(own_address().into());
        self.sora.webhooks = format!("http://{}", self.webhooks);
    }

    fn start(&self) -> Node {
        Node::with(|config| {
            // The defaults of the command line: the sessions of a running Sora are not known.
            config.assume_complete = false;
            // An empty session that nobody told the end of is over after two polls.
            config.http.sora.session_max_linger = Duration::from_secs(2);
            config.http.sora.listen = Some(self.webhooks);
            config.http.sora.api = Some(format!("http://{}/", self.api).parse().unwrap());
        })
    }

    fn start_without_api(&self) -> Node {
        Node::with(|config| {
            config.assume_complete = false;
            config.http.sora.listen = Some(self.webhooks);
        })
    }
}

/// Returns channel, session and connection of each row of the gate's tables.
fn table(client: &mut TestClient) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let mut page = client.get(
            "ListConnections",
            &if cursor.is_null() {
                json!({"limit": 1000})
            } else {
                json!({"limit": 1000, "cursor": cursor})
            },
        );
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let live = page["connections"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|row| row["state"] == "live");
        rows.extend(
            live.map(|row| {
                ["channel_id", "session_id", "connection_id"].map(|name| text(row, name))
            }),
        );
        cursor = page["cursor"].take();
        if cursor.is_null() {
            rows.sort();
            return rows;
        }
    }
}

/// Waits, from event to event, until the gate has the connections of the Sora.
fn until_equal(node: &Node, sora: &FakeSora) {
    let mut events = node.daemon.client();
    events.get("Subscribe", &json!({}));
    let mut client = node.daemon.client();
    while table(&mut client) != sora.table() {
        events.recv();
    }
}

#[test]
fn a_day_of_a_thousand_clients_with_lost_and_late_webhooks_ends_with_the_truth() {
    let seed = std::env::var("SORAMODE_SEED")
        .ok()
        .map_or(7, |seed| seed.parse().unwrap());
    eprintln!("SORAMODE_SEED={seed}");
    let Beside {
        mut sora,
        webhooks,
        api,
    } = Beside::new(seed);
    let node = Beside {
        sora: FakeSora::new("http://127.0.0.1:1", 0),
        webhooks,
        api,
    }
    .start();
    sora.chaos = Chaos {
        lost: 5,
        late: 10,
        twice: 5,
    };
    let mut there: Vec<String> = Vec::new();
    for _ in 0..1_000 {
        let channel = format!("channel-{}", sora.random(100));
        there.push(sora.connect(&channel).unwrap());
        if sora.random(2) == 0 {
            let leaves = usize::try_from(sora.random(there.len() as u64)).unwrap();
            assert!(sora.disconnect(&there.swap_remove(leaves)));
        }
    }
    sora.settle();
    let mut client = node.daemon.client();
    assert_ne!(
        table(&mut client),
        sora.table(),
        "so many webhooks were lost that this must be wrong by now"
    );
    // Closed, it asks more often.
    client.get("ChangeMode", &json!({"mode": "block_new_connection"}));
    until_equal(&node, &sora);
    // A new client's answer in this mode, so also for the stand-in's clients.
    assert_eq!(
        sora.connect("channel-0").unwrap_err().reason,
        "BLOCK-NEW-CONNECTION"
    );
    // One that came before would be heard now, while everybody is there.
    let vanished = {
        let (mut events, is_empty) = (node.daemon.client(), sora.watch_empty());
        events.get(
            "Subscribe",
            &json!({"from": 1, "types": ["session.vanished"]}),
        );
        thread::spawn(move || {
            events.recv_event("session.vanished");
            assert!(is_empty(), "session.vanished while somebody is there");
        })
    };
    let mut operator = node.daemon.client();
    let asked = operator.send_request("Wait", &json!({"for": "drained", "timeout_seconds": 60}));
    for id in there {
        sora.disconnect(&id);
    }
    sora.settle();
    let is_empty = sora.watch_empty();
    let answer = operator.recv();
    assert_eq!(
        (&answer["id"], &answer["result"]["outcome"]),
        (&json!(asked), &json!("reached")),
        "{answer}"
    );
    assert!(is_empty());
    vanished.join().unwrap();
    client.get(
        "Subscribe",
        &json!({"from": 1, "types": ["session.vanished", "mode.changed"]}),
    );
    assert_eq!(
        client.recv_event("mode.changed")["seq"]
            .as_u64()
            .map(|seq| seq > 0),
        Some(true)
    );
    assert!(client.recv_event("session.vanished").is_object());
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let next = client.recv();
    assert_eq!(
        next["params"]["type"], "mode.changed",
        "session.vanished came once: {next}"
    );
}

#[test]
fn of_a_thousand_starts_none_takes_a_sora_with_clients_for_drained() {
    let mut beside = Beside::new(11);
    for start in 0..1_000_u64 {
        let mut there = Vec::new();
        // The daemon is not there yet, so no client is decided on and no event is reported.
        let clients = beside.sora.random(4);
        beside.sora.add_unreported(clients, |id| there.push(id));
        beside.move_on();
        let node = beside.start();
        let mut client = node.daemon.client();
        // Some leave before anything is asked, some after.
        let early = beside.sora.random(3);
        for _ in 0..early {
            there.pop().map(|id| beside.sora.disconnect(&id));
        }
        client.get("ChangeMode", &json!({"mode": "block_new_session"}));
        let asked = client.send_request("Wait", &json!({"for": "drained", "timeout_seconds": 60}));
        let waiter = {
            let is_empty = beside.sora.watch_empty();
            thread::spawn(move || {
                let answer = client.recv();
                assert_eq!(
                    (&answer["id"], &answer["result"]["outcome"]),
                    (&json!(asked), &json!("reached")),
                    "start {start}: {answer}"
                );
                assert!(is_empty(), "start {start}: drained while somebody is there");
            })
        };
        for id in there {
            beside.sora.disconnect(&id);
        }
        waiter.join().unwrap();
        drop(node);
    }
}

#[test]
fn without_its_api_a_sora_never_counts_as_drained() {
    let mut beside = Beside::new(13);
    beside.sora.add_unreported(2, drop);
    let node = beside.start_without_api();
    let mut client = node.daemon.client();
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    assert_eq!(
        client.error_type_of("Wait", &json!({"for": "drained"})),
        "SessionsIncomplete"
    );
    assert_eq!(client.status()["sessions_complete"], false);
    let node = {
        drop((client, node));
        beside.start()
    };
    let mut client = node.daemon.client();
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let params = json!({"for": "drained", "timeout_seconds": 0.5});
    let ended = client.get("Wait", &params);
    assert_eq!(
        (
            &ended["outcome"],
            ended["oldest_sessions"].as_array().unwrap().len()
        ),
        (&json!("timeout"), beside.sora.channels())
    );
}

#[test]
fn a_failing_api_confirms_nothing_and_is_reported() {
    for fault in [Fault::Breaks, Fault::Garbles] {
        let mut beside = Beside::new(17);
        let node = beside.start();
        let mut client = node.daemon.client();
        let id = beside.sora.connect("spam").unwrap();
        until_equal(&node, &beside.sora);
        beside.sora.fail(fault);
        client.get("ChangeMode", &json!({"mode": "block_new_session"}));
        beside.sora.disconnect(&id);
        let ended = client.get("Wait", &json!({"for": "drained", "timeout_seconds": 1}));
        assert_eq!(
            (&ended["outcome"], &ended["status"]["sessions"]),
            (&json!("timeout"), &json!(0)),
            "{ended}"
        );
        let status = client.status();
        let sora = status["sources"]
            .as_array()
            .unwrap()
            .iter()
            .find(|source| source["name"] == "sora")
            .unwrap()
            .clone();
        assert!(
            sora["problem"].is_string() && sora["incomplete_reason"].is_string(),
            "{sora}"
        );
        beside.sora.fail(Fault::None);
        assert_eq!(
            client.get("Wait", &json!({"for": "drained", "timeout_seconds": 30}))["outcome"],
            "reached"
        );
    }
}

#[test]
fn an_older_sora_is_asked_without_a_body() {
    let mut beside = Beside::new(19);
    beside.sora.fail(Fault::IsOld);
    beside.sora.add_unreported(3, drop);
    let node = beside.start();
    until_equal(&node, &beside.sora);
    let asked = beside.sora.asked();
    assert!(
        asked
            .iter()
            .all(|target| target == "Sora_20201013.ListConnections")
            && asked.len() >= 2,
        "{asked:?}"
    );
}

#[test]
fn ended_connections_leave_and_the_drain_completes() {
    let mut beside = Beside::new(23);
    let node = beside.start();
    for channel in ["spam", "spam", "ham"] {
        beside.sora.connect(channel).unwrap();
    }
    until_equal(&node, &beside.sora);
    let mut client = node.daemon.client();
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    let mut ended = client.get("End", &json!({"all": true}));
    assert!(ended["id"].take().is_string());
    assert_eq!(ended, json!({"sessions": 2, "via": "sora_api", "id": null}));
    assert!(
        !beside.sora.is_empty(),
        "they were asked to, and have not yet"
    );
    beside.sora.end_requested_channels();
    assert!(beside.sora.is_empty());
    assert_eq!(
        client.get("Wait", &json!({"for": "drained", "timeout_seconds": 30}))["outcome"],
        "reached"
    );
    let mut asked = beside.sora.disconnected();
    asked.sort();
    assert_eq!(
        (asked, beside.sora.mode().as_str()),
        (vec!["ham".to_owned(), "spam".to_owned()], "normal")
    );
}
