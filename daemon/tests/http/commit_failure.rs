//! Servers that close the connections that they keep, without a word: nothing that is sent to one is lost to that.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use soramode_protocol::chat::WebhookFormat;
use soramode_protocol::event::EventType;
use soramoded::args::http::{HttpUrl, SoraMode};
use soramoded::config::{Upstreams, WebhookConfig, WebhookReceiver};

use crate::wire::{Ending, Node, read_body, read_head};

/// Requests of each kind.
const TIMES: usize = 20;

/// When a server closes a connection.
#[derive(Clone, Copy, Debug)]
enum Closes {
    /// At its second request, unanswered.
    AtTheSecondRequest,
    /// This long after an answer.
    After(Duration),
}

/// The manners of real servers: a keep-alive that ends as the next request comes is the usual case.
const ALL: [Closes; 3] = [
    Closes::AtTheSecondRequest,
    Closes::After(Duration::from_millis(1)),
    Closes::After(Duration::from_millis(20)),
];

/// A server that answers every request with the same JSON.
fn server(closes: Closes, body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream, closes, body));
        }
    });
    address
}

fn serve(stream: TcpStream, closes: Closes, body: &str) {
    let mut reader = BufReader::new(stream);
    let mut requests = 0;
    while let Some((_, headers)) = read_head(&mut reader) {
        read_body(&mut reader, &headers, Ending::Nothing);
        requests += 1;
        if matches!(closes, Closes::AtTheSecondRequest) && requests == 2 {
            return;
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        reader
            .get_mut()
            .write_all(answer.as_bytes())
            .unwrap_or_default();
        if let Closes::After(pause) = closes {
            reader.get_mut().set_read_timeout(Some(pause)).unwrap();
        }
    }
}

#[test]
fn no_client_is_refused_and_no_webhook_is_lost() {
    for closes in ALL {
        let application = server(closes, r#"{"allowed":true}"#);
        let url = |path: &str| -> Option<HttpUrl> {
            Some(format!("http://{application}{path}").parse().unwrap())
        };
        let node = Node::with(|config| {
            config.http.sora.upstreams = Upstreams {
                auth: url("/auth"),
                session: url("/session"),
                event: url("/event"),
            };
        });
        for number in 0..TIMES {
            let id = format!("c{number}");
            let auth = json!({"role": "sendrecv", "channel_id": "spam", "connection_id": id, "client_id": "alice"});
            assert_eq!(
                node.post_webhook("auth", &auth).text(),
                r#"{"allowed":true}"#,
                "{closes:?}"
            );
            let event = json!({"type": "connection.created", "channel_id": "spam", "session_id": "A", "connection_id": id});
            assert_eq!(node.post_webhook("event", &event).status, 200, "{closes:?}");
            let session =
                json!({"type": "session.created", "channel_id": "spam", "session_id": "A"});
            assert_eq!(
                node.post_webhook("session", &session).status,
                200,
                "{closes:?}"
            );
        }
    }
}

#[test]
fn soras_api_is_asked_and_passed_on_to_without_a_failure() {
    for closes in ALL {
        let sora = server(closes, "[]");
        let node = Node::with(|config| {
            config.http.sora.api = Some(format!("http://{sora}").parse().unwrap());
        });
        for _ in 0..TIMES {
            let said = node.ask("Sora_20201013.ListConnections", "");
            assert_eq!((said.status, said.text()), (200, "[]"), "{closes:?}");
        }
        assert_eq!(
            node.daemon.client().status()["upstreams"][0].get("problem"),
            None,
            "{closes:?}"
        );
    }
}

#[test]
fn each_mode_is_mirrored() {
    for closes in ALL {
        let sora = server(closes, r#"{"mode":"normal"}"#);
        let node = Node::with(|config| {
            config.http.sora.api = Some(format!("http://{sora}").parse().unwrap());
            config.http.sora.mode = SoraMode::Mirror;
        });
        let mut client = node.daemon.client();
        for number in 0..TIMES {
            let mode = if number % 2 == 0 {
                "block_new_session"
            } else {
                "normal"
            };
            let changed = client.get("ChangeMode", &json!({"mode": mode}));
            assert_eq!(changed.get("warning"), None, "{closes:?}: {changed}");
        }
    }
}

#[test]
fn each_event_is_delivered_at_the_first_try() {
    for closes in ALL {
        let receiver = server(closes, "{}");
        let node = Node::with(|config| {
            let receivers = vec![WebhookReceiver {
                url: format!("http://{receiver}/hook").parse().unwrap(),
                format: WebhookFormat::Json,
            }];
            config.webhooks = WebhookConfig {
                receivers,
                types: Some(vec![EventType::ModeChanged]),
                ..WebhookConfig::default()
            };
        });
        let mut ended = node.daemon.client();
        ended.get("Subscribe", &json!({"from": 1, "types": ["delivery.*"]}));
        let mut client = node.daemon.client();
        for number in 0..TIMES {
            let mode = if number % 2 == 0 {
                "block_new_session"
            } else {
                "normal"
            };
            client.get("ChangeMode", &json!({"mode": mode}));
            let event: Value = ended.recv_event("delivery.succeeded");
            assert_eq!(event["attempts"], 1, "{closes:?}: {event}");
        }
    }
}
