//! Pages of lists: a row that exists throughout appears exactly once, in the same order, despite
//! concurrent changes.

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

const ROWS: usize = 2_500;
const PAGES: [usize; 6] = [1, 7, 64, 65, 999, 1_000];

/// A list: its method, its params, where its rows stand and what they are called.
struct List {
    method: &'static str,
    params: Value,
    rows: &'static str,
    id: &'static str,
}

/// Each row that stays has one that goes beside it. They come in one piece, so that many have the same time of creation, and to places
/// that others have left, so that these stand in no order.
fn fill(client: &mut TestClient, channel_of: impl Fn(usize) -> String) {
    for number in 0..2 * ROWS {
        client.connect("before", &format!("before {number}"));
    }
    for number in (0..2 * ROWS).filter(|number| !number.is_multiple_of(500)) {
        client.disconnect(&format!("before {number}"));
    }
    let lines: String = (0..2 * ROWS)
        .map(|number| {
            client
                .request(
                    "Connect",
                    &json!({"channel_id": channel_of(number), "connection_id": name(number)}),
                )
                .1
        })
        .collect();
    let sender = client.send_meanwhile(lines);
    for _ in 0..2 * ROWS {
        assert_eq!(client.recv()["result"]["type"], "offer");
    }
    sender.join().unwrap();
}

fn name(number: usize) -> String {
    let kind = if number.is_multiple_of(2) {
        "stays"
    } else {
        "goes"
    };
    format!("{kind} {:05}", number / 2)
}

/// Reads a list to its end in pages of this size. Meanwhile the last row of a page goes if it is not one that stays, and comes again as
/// long as there is something left to see.
fn read(client: &mut TestClient, list: &List, page: usize) -> Vec<String> {
    let (mut params, mut seen, mut gone) =
        (list.params.clone(), Vec::new(), None::<(String, String)>);
    params["limit"] = page.into();
    for turn in 0.. {
        let got = client.get(list.method, &params);
        let rows = got[list.rows].as_array().unwrap();
        assert!(
            rows.len() <= page && turn <= 3 * ROWS,
            "{} rows",
            rows.len()
        );
        seen.extend(
            rows.iter()
                .map(|row| row[list.id].as_str().unwrap().to_owned())
                .filter(|id| id.starts_with("stays")),
        );
        if let Some((channel_id, connection_id)) = gone.take().filter(|_| seen.len() < ROWS) {
            client.connect(&channel_id, &connection_id);
        }
        let Some(cursor) = got["cursor"].as_str() else {
            break;
        };
        params["cursor"] = cursor.into();
        let shown_last = &rows[rows.len() - 1];
        let connection_id = shown_last["connection_id"]
            .as_str()
            .or(shown_last["channel_id"].as_str())
            .unwrap();
        if connection_id.starts_with("goes") {
            let left = client.disconnect(connection_id);
            gone = Some((
                left["channel_id"].as_str().unwrap().to_owned(),
                connection_id.to_owned(),
            ));
        }
    }
    seen
}

fn check(list: &List, channel_of: impl Fn(usize) -> String) {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    fill(&mut client, channel_of);
    let mut before = None;
    for page in PAGES {
        let seen = read(&mut client, list, page);
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(
            (sorted.len(), seen.len()),
            (ROWS, ROWS),
            "{} in pages of {page}",
            list.method
        );
        assert!(
            before.as_ref().is_none_or(|before| *before == seen),
            "the same order every time"
        );
        before = Some(seen);
    }
}

#[test]
fn sessions() {
    check(
        &List {
            method: "ListSessions",
            params: json!({}),
            rows: "sessions",
            id: "channel_id",
        },
        name,
    );
}

#[test]
fn connections() {
    let list = List {
        method: "ListConnections",
        params: json!({}),
        rows: "connections",
        id: "connection_id",
    };
    check(&list, |number| format!("channel {}", number % 7));
}

#[test]
fn connections_of_a_session() {
    let list = List {
        method: "GetSession",
        params: json!({"channel_id": "a"}),
        rows: "connections",
        id: "connection_id",
    };
    check(&list, |_| "a".to_owned());
}

#[test]
fn connections_of_a_channel() {
    let list = List {
        method: "ListConnections",
        params: json!({"channel_id": "a"}),
        rows: "connections",
        id: "connection_id",
    };
    check(&list, |_| "a".to_owned());
}

#[test]
fn a_session_that_ends_between_two_pages_ends_the_list() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    for number in 0..10 {
        client.connect("a", &number.to_string());
    }
    let page = client.get("GetSession", &json!({"channel_id": "a", "limit": 5}));
    assert_eq!(
        (
            &page["session"]["connections"],
            &page["session"]["total_connections"]
        ),
        (&10.into(), &10.into())
    );
    for number in 0..10 {
        client.disconnect(&number.to_string());
    }
    assert_eq!(
        client.error_type_of(
            "GetSession",
            &json!({"channel_id": "a", "limit": 5, "cursor": page["cursor"]})
        ),
        "NotFound"
    );
    let page = client.get(
        "ListConnections",
        &json!({"channel_id": "a", "cursor": page["cursor"]}),
    );
    assert_eq!(page, json!({"connections": []}));
}

#[test]
fn long_pages_delay_no_client() {
    let daemon = Daemon::start();
    let (mut reader, mut other) = (daemon.client(), daemon.client());
    fill(&mut other, |number| format!("channel {number}"));
    for _ in 0..25 {
        reader.send_request("ListSessions", &json!({"limit": 1000}));
    }
    let mut answered = 0;
    for number in 0..200 {
        other.connect("b", &format!("other {number}"));
        if number % 8 == 0 {
            let page = reader.recv()["result"].clone();
            assert!(page["cursor"].is_string(), "{page}");
            answered += page["sessions"].as_array().unwrap().len();
        }
    }
    assert!(answered > 25 * 100, "{answered} rows in 25 pages");
}
