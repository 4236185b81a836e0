//! Each limit of a single client, reached and gone past by one.

use std::time::Duration;

use serde_json::{Value, json};
use soramode_protocol::client::Client;
use soramode_protocol::codec::REQUEST_BYTES_MAX;
use soramode_protocol::mode::GetMode;
use soramode_testkit::PATIENCE;
use soramode_testkit::daemon::{Daemon, serve};
use soramoded::config::Config;
use soramoded::control::LINE_TIME;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::advance;
use tokio_util::sync::CancellationToken;

const GET_MODE: &str = r#"{"jsonrpc":"2.0","id":7,"method":"GetMode"}"#;

/// A request of so many bytes.
fn padded(bytes: usize) -> String {
    format!("{GET_MODE}{}", " ".repeat(bytes - GET_MODE.len()))
}

#[test]
fn a_line_of_64_kib_is_accepted_and_a_longer_one_ends_the_connection() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.send(padded(REQUEST_BYTES_MAX) + "\n" + &padded(REQUEST_BYTES_MAX) + "\n");
    for _ in 0..2 {
        assert_eq!(client.recv()["id"], 7);
    }
    let endings = ["\n", "", &" ".repeat(1_000_000)];
    for ending in endings {
        let mut client = daemon.client();
        client.send(format!("{GET_MODE}\n"));
        client.send_allowing_close(padded(REQUEST_BYTES_MAX + 1) + ending);
        assert_eq!(client.recv()["id"], 7);
        client.recv_error(Value::Null, "InvalidRequest");
        client.recv_end();
    }
    assert_eq!(daemon.client().get("GetMode", &json!({}))["mode"], "normal");
}

#[test]
fn input_of_another_protocol_is_reported_once() {
    let daemon = Daemon::start();
    let blob: Vec<u8> = (0..=255).rev().cycle().take(100_000).collect();
    let strangers: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\n\n",
        b"\0",
        b"\"hello\"\n",
        &blob,
    ];
    for bytes in strangers {
        let mut client = daemon.client();
        client.send_allowing_close(bytes);
        client.recv_error(Value::Null, "ParseError");
        client.recv_end();
    }
}

#[test]
fn a_client_has_64_waits() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let wait = json!({"for": "mode", "mode": "block_new_session"});
    let waits: Vec<i64> = (0..64)
        .map(|_| client.send_request("Wait", &wait))
        .collect();
    assert_eq!(client.error_type_of("Wait", &wait), "InvalidRequest");
    assert_eq!(
        daemon
            .client()
            .error_type_of("Wait", &json!({"for": "joined"})),
        "ConditionImpossible"
    );
    client.send_request("ChangeMode", &json!({"mode": "block_new_session"}));
    let mut ended: Vec<i64> = Vec::new();
    while ended.len() < waits.len() {
        let message = client.recv();
        if message["result"]["outcome"] == "reached" {
            ended.push(message["id"].as_i64().unwrap());
        }
    }
    assert_eq!(ended, waits);
    assert_eq!(client.get("Wait", &wait)["outcome"], "reached");
}

#[test]
fn pages_have_1_to_1000_rows() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.connect("a", "1");
    let lists = [
        ("ListSessions", json!({}), "sessions"),
        ("GetSession", json!({"channel_id": "a"}), "connections"),
        ("ListConnections", json!({}), "connections"),
        ("ListModeChanges", json!({}), "changes"),
    ];
    for (method, params, rows) in lists {
        for (limit, is_taken) in [
            (json!(0), false),
            (json!(1), true),
            (json!(1000), true),
            (json!(1001), false),
            (json!(-1), false),
        ] {
            let mut params = params.clone();
            params["limit"] = limit;
            if is_taken {
                assert!(client.get(method, &params)[rows].is_array());
            } else {
                assert_eq!(
                    client.error_type_of(method, &params),
                    "InvalidParams",
                    "{method} {params}"
                );
            }
        }
        for cursor in [
            "",
            "x",
            "-",
            "1-",
            "1-x",
            "99999999999999999999-1",
            "1-99999999999",
        ] {
            let mut params = params.clone();
            params["cursor"] = cursor.into();
            assert_eq!(
                client.error_type_of(method, &params),
                "InvalidParams",
                "{method} {params}"
            );
        }
    }
}

/// Runs a daemon and its clients in one runtime with a clock that moves only explicitly.
async fn with_clock_stopped(clients: impl AsyncFnOnce(&std::path::Path)) {
    let (busy, hold) = std::sync::mpsc::channel::<()>();
    // While such a thread is busy, tokio's clock does not advance when all tasks wait for sockets.
    let holding = tokio::task::spawn_blocking(move || hold.recv().unwrap_err());
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("gate.sock");
    let stop = CancellationToken::new();
    tokio::select! {
        biased;
        outcome = serve(Config::on_socket(&socket), stop.clone(), || ()) => panic!("ended by itself: {outcome:?}"),
        () = clients(&socket) => {}
    }
    drop(busy);
    holding.await.unwrap();
}

/// When this is over the daemon has taken in what other clients had sent before.
async fn settle(other: &mut Client) {
    for _ in 0..3 {
        other.call(&GetMode {}).await.unwrap();
    }
}

async fn next_line(client: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = String::new();
    let bytes = client.read_line(&mut line).await.unwrap();
    (bytes > 0).then(|| serde_json::from_str(&line).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_line_has_30_seconds_from_its_first_byte_to_its_end() {
    let almost = LINE_TIME.checked_sub(Duration::from_millis(100)).unwrap();
    with_clock_stopped(async |socket| {
        let mut other = Client::connect(socket).await.unwrap();
        let mut client = BufReader::new(UnixStream::connect(socket).await.unwrap());
        let (first, rest) = GET_MODE.split_at(20);
        client.write_all(first.as_bytes()).await.unwrap();
        settle(&mut other).await;
        // Each next line begins with the end of the one before: what counts is each line's own beginning.
        for _ in 0..3 {
            advance(almost).await;
            settle(&mut other).await;
            client
                .write_all(format!("{rest}\n{first}").as_bytes())
                .await
                .unwrap();
            assert_eq!(next_line(&mut client).await.unwrap()["id"], 7);
        }
        settle(&mut other).await;
        advance(LINE_TIME + Duration::from_millis(1)).await;
        let error = next_line(&mut client).await.unwrap();
        assert_eq!(
            (&error["id"], &error["error"]["code"]),
            (&Value::Null, &(-32600).into()),
            "{error}"
        );
        assert!(next_line(&mut client).await.is_none());

        // A client that sends nothing may stay.
        settle(&mut other).await;
        let mut idle = BufReader::new(UnixStream::connect(socket).await.unwrap());
        settle(&mut other).await;
        advance(Duration::from_hours(24 * 30)).await;
        settle(&mut other).await;
        idle.write_all(format!("{GET_MODE}\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(next_line(&mut idle).await.unwrap()["id"], 7);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_client_has_no_time_limit_to_read() {
    const REQUESTS: usize = 2_000;

    with_clock_stopped(async |socket| {
        let mut other = Client::connect(socket).await.unwrap();
        let mut client = BufReader::new(UnixStream::connect(socket).await.unwrap());
        // More answers than the socket holds.
        client
            .write_all(
                "{\"id\":7,\"method\":\"GetInfo\"}\n"
                    .repeat(REQUESTS)
                    .as_bytes(),
            )
            .await
            .unwrap();
        client.shutdown().await.unwrap();
        settle(&mut other).await;
        advance(Duration::from_hours(1)).await;
        settle(&mut other).await;
        for _ in 0..REQUESTS {
            assert_eq!(next_line(&mut client).await.unwrap()["id"], 7);
        }
        assert!(next_line(&mut client).await.is_none());
    })
    .await;
}

/// The clock stands still, so any wait for a time would never end.
#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_clients_without_a_request() {
    let (busy, hold) = std::sync::mpsc::channel::<()>();
    let holding = tokio::task::spawn_blocking(move || hold.recv_timeout(PATIENCE).unwrap_err());
    let (folder, stop, began) = (
        tempfile::tempdir().unwrap(),
        CancellationToken::new(),
        tokio::time::Instant::now(),
    );
    let socket = folder.path().join("gate.sock");
    let clients = async {
        let silent = UnixStream::connect(&socket).await.unwrap();
        let mut other = Client::connect(&socket).await.unwrap();
        settle(&mut other).await;
        stop.cancel();
        silent
    };
    let (ended, silent) = tokio::join!(
        serve(Config::on_socket(&socket), stop.clone(), || ()),
        clients
    );
    ended.unwrap();
    assert!(
        began.elapsed().is_zero(),
        "it waited for {:?}",
        began.elapsed()
    );
    assert_eq!(next_line(&mut BufReader::new(silent)).await, None);
    drop(busy);
    holding.await.unwrap();
}
