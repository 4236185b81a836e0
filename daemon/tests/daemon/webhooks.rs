//! Webhooks out: receivers with good and bad manners, the order, what a restart and a stop do to it, and signatures.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use soramode_protocol::chat::WebhookFormat;
use soramode_protocol::event::EventType;
use soramode_protocol::webhook::{Secrets, read_request};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;
use soramode_testkit::receiver::{ReceivedWebhook, Receiver, ReceiverBehaviour};
use soramoded::config::{Config, WebhookConfig, WebhookReceiver};

use crate::state::Home;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn deliver_to(config: &mut Config, receivers: &[&Receiver], types: &[EventType]) {
    let receivers = receivers
        .iter()
        .map(|receiver| WebhookReceiver {
            url: receiver.url().parse().unwrap(),
            format: WebhookFormat::Json,
        })
        .collect();
    config.webhooks = WebhookConfig {
        receivers,
        types: Some(types.to_vec()),
        shutdown_grace: Duration::ZERO,
        ..WebhookConfig::default()
    };
}

const SESSIONS: [EventType; 3] = [
    EventType::SessionCreated,
    EventType::SessionDestroyed,
    EventType::SessionVanished,
];

/// A session that comes and goes in a node that is closed meanwhile.
fn one_drain(client: &mut TestClient) {
    client.connect("spam", "one");
    client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    client.disconnect("one");
}

fn deliveries(client: &mut TestClient) -> Vec<Value> {
    client.get("ListDeliveries", &json!({}))["deliveries"]
        .as_array()
        .unwrap()
        .clone()
}

/// Follows the log from its beginning, for the events that tell how deliveries ended.
fn follow(daemon: &Daemon) -> TestClient {
    let mut line = daemon.client();
    line.get("Subscribe", &json!({"from": 1, "types": ["delivery.*"]}));
    line
}

#[test]
fn each_receiver_has_each_event_in_order_and_none_waits_for_another() {
    let mut refusals = 1;
    let slow = Receiver::start(move |_| {
        refusals -= 1;
        if refusals >= 0 {
            ReceiverBehaviour::busy()
        } else {
            ReceiverBehaviour::ok()
        }
    });
    let good = Receiver::start(|_| ReceiverBehaviour::ok());
    let daemon = Daemon::with(|config| deliver_to(config, &[&slow, &good], &SESSIONS));
    let mut ended = follow(&daemon);
    one_drain(&mut daemon.client());
    for _ in 0..6 {
        ended.recv_event("delivery.succeeded");
    }
    let types = |told: Vec<ReceivedWebhook>| {
        told.iter()
            .map(|told| told.event_type().to_owned())
            .collect::<Vec<String>>()
    };
    assert_eq!(
        types(good.received()),
        ["session.created", "session.destroyed", "session.vanished"]
    );
    let heard = slow.received();
    assert_eq!(
        heard[0].header("webhook-id"),
        heard[1].header("webhook-id"),
        "the same id each time"
    );
    let expected = [
        "session.created",
        "session.created",
        "session.destroyed",
        "session.vanished",
    ];
    assert_eq!(types(heard), expected);
    let status = daemon.client().status();
    assert_eq!(status["deliveries"], json!({"pending": 0, "failed": 0}));
}

#[test]
fn bodies_have_soras_names_and_no_secret_is_shown() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
    let daemon = Daemon::with(|config| {
        deliver_to(config, &[&receiver], &[EventType::SessionVanished]);
        config.webhooks.label = "rack 7".to_owned();
    });
    let mut ended = follow(&daemon);
    one_drain(&mut daemon.client());
    let told = receiver.recv();
    assert_eq!(
        (&told.body["label"], &told.body["generation"]),
        (&json!("rack 7"), &json!(2)),
        "{told:?}"
    );
    assert!(
        told.head.starts_with("POST /hook?key=secret HTTP/1.1\r\n"),
        "{told:?}"
    );
    assert_eq!(
        (told.header("content-type"), told.header("webhook-id")),
        (Some("application/json"), told.body["id"].as_str())
    );
    assert_eq!(told.header("webhook-signature"), None);
    let event = ended.recv_event("delivery.succeeded");
    let endpoint = json!(format!("http://{}/hook", receiver.address));
    assert_eq!(
        (&event["endpoint"], &event["event_id"], &event["attempts"]),
        (&endpoint, &told.body["id"], &json!(1))
    );
    assert_eq!(deliveries(&mut daemon.client())[0]["endpoint"], endpoint);
}

/// Returns the state of a delivery during its second attempt, to a receiver that behaves so during the first: an attempt has a second request
/// if the connection is lost before an answer.
fn after(behaviour: &ReceiverBehaviour) -> Value {
    let requests = if matches!(behaviour, ReceiverBehaviour::Close) {
        2
    } else {
        1
    };
    let mut bad = vec![behaviour.clone(); requests];
    let receiver = Receiver::start(move |_| bad.pop().unwrap_or(ReceiverBehaviour::Hang));
    let good = Receiver::start(|_| ReceiverBehaviour::ok());
    let daemon = Daemon::with(|config| {
        deliver_to(config, &[&receiver, &good], &[EventType::SessionCreated]);
    });
    let mut client = daemon.client();
    client.connect("spam", "one");
    good.recv();
    for _ in 0..=requests {
        receiver.recv();
    }
    deliveries(&mut client)[1].clone()
}

#[test]
fn receivers_that_do_not_answer_2xx_get_a_retry() {
    let elsewhere = Receiver::start(|_| ReceiverBehaviour::ok());
    let redirect =
        ReceiverBehaviour::Status(302, format!("location: http://{}/\r\n", elsewhere.address));
    for (behaviour, status, problem) in [
        (redirect, json!(302), "redirects are not followed"),
        (
            ReceiverBehaviour::status(500),
            json!(500),
            "500 Internal Server Error",
        ),
        (ReceiverBehaviour::status(404), json!(404), "404 Not Found"),
        (
            ReceiverBehaviour::Close,
            Value::Null,
            "connection closed before message completed",
        ),
    ] {
        let known = after(&behaviour);
        assert_eq!(
            (&known["attempts"], &known["status"]),
            (&json!(1), &status),
            "{behaviour:?}: {known}"
        );
        assert!(
            known["problem"].as_str().unwrap().contains(problem),
            "{behaviour:?}: {known}"
        );
    }
    assert!(elsewhere.received().is_empty(), "a redirect was followed");
}

#[test]
fn the_first_failure_is_in_the_log_and_a_removed_receiver_is_one_line() {
    let home = Home::new();
    let receiver = Receiver::start(|_| ReceiverBehaviour::status(500));
    let process = home.start(&[
        "--webhook",
        &receiver.url(),
        "--webhook-events",
        "session.*",
        "--shutdown-grace",
        "0s",
    ]);
    let mut client = process.client();
    client.connect("spam", "one");
    client.disconnect("one");
    // When the second arrives, the outcome of the first is known.
    receiver.recv();
    receiver.recv();
    process.kill(Signal::TERM);
    let (_, log, _) = process.end();
    assert_eq!(
        log.matches("a webhook receiver failed; its deliveries will be retried")
            .count(),
        1,
        "{log}"
    );
    let process = home.start(&[]);
    let log_of_start = process.log_of_start.clone();
    process.kill(Signal::TERM);
    let (_, log, _) = process.end();
    let log = log_of_start + &log;
    assert_eq!(
        log.matches("a receiver was removed with deliveries pending")
            .count(),
        1,
        "{log}"
    );
    assert!(
        log.contains("deliveries=2") && !log.contains("ERROR"),
        "{log}"
    );
}

#[test]
fn receivers_that_hang_time_out_after_ten_seconds() {
    let began = Instant::now();
    let known = after(&ReceiverBehaviour::Hang);
    assert!(
        known["problem"].as_str().unwrap().starts_with("timed out"),
        "{known}"
    );
    assert!(began.elapsed() >= soramode_protocol::webhook::WEBHOOK_TIMEOUT);
}

#[test]
fn the_rest_of_a_response_is_ignored() {
    for behaviour in [
        ReceiverBehaviour::Half,
        ReceiverBehaviour::Body(10 * 1024 * 1024),
    ] {
        let receiver = Receiver::start(move |_| behaviour.clone());
        let daemon = Daemon::with(|config| deliver_to(config, &[&receiver], &SESSIONS));
        let mut ended = follow(&daemon);
        one_drain(&mut daemon.client());
        for _ in 0..3 {
            assert_eq!(ended.recv_event("delivery.succeeded")["attempts"], 1);
        }
    }
}

#[test]
fn status_410_is_final_until_a_resend() {
    let mut answers = vec![ReceiverBehaviour::ok(), ReceiverBehaviour::status(410)];
    let receiver = Receiver::start(move |_| answers.pop().unwrap());
    let daemon =
        Daemon::with(|config| deliver_to(config, &[&receiver], &[EventType::SessionCreated]));
    let (mut ended, mut client) = (follow(&daemon), daemon.client());
    client.connect("spam", "one");
    let failed = ended.recv_event("delivery.failed");
    assert_eq!(
        (&failed["status"], &failed["problem"]),
        (&json!(410), &json!("410 Gone"))
    );
    assert_eq!(
        client.status()["deliveries"],
        json!({"pending": 0, "failed": 1})
    );
    let sent = client.get("ResendDelivery", &json!({"id": failed["delivery_id"]}));
    assert_eq!(
        (&sent["state"], &sent["attempts"]),
        (&json!("pending"), &json!(0))
    );
    ended.recv_event("delivery.succeeded");
    assert_eq!(
        client.error_type_of("ResendDelivery", &json!({"id": 99})),
        "NotFound"
    );
}

#[test]
fn session_vanished_of_a_reopened_node_is_obsolete() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::status(500));
    let daemon =
        Daemon::with(|config| deliver_to(config, &[&receiver], &[EventType::SessionVanished]));
    let mut client = daemon.client();
    one_drain(&mut client);
    receiver.recv();
    receiver.recv();
    client.get("ChangeMode", &json!({"mode": "normal"}));
    let known = deliveries(&mut client)[0].clone();
    assert_eq!(
        (&known["state"], known.get("next_attempt_at")),
        (&json!("obsolete"), None),
        "{known}"
    );
}

#[test]
fn a_signature_is_genuine_to_us_and_to_an_implementation_of_others() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
    let daemon = Daemon::with(|config| {
        deliver_to(config, &[&receiver], &[EventType::SessionCreated]);
        config.webhooks.secrets =
            Some(Secrets::parse(&format!("{SECRET}\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")).unwrap());
    });
    daemon.client().connect("スパム", "one");
    let told = receiver.recv();
    let request = format!("{}{}", told.head, told.text);
    let (headers, body) = read_request(request.as_bytes()).unwrap();
    Secrets::parse(SECRET)
        .unwrap()
        .verify(&headers, body)
        .unwrap();
    if !has_standardwebhooks() {
        assert!(
            std::env::var_os("CI").is_none(),
            "python3 has no package standardwebhooks"
        );
        eprintln!("skipped: there is no python3 with the package standardwebhooks");
        return;
    }
    assert!(verifies(&told, SECRET));
    assert!(!verifies(&told, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB"));
    assert!(!verifies(
        &ReceivedWebhook {
            text: told.text.replace("one", "two").replace("spam", "egg") + " ",
            ..told
        },
        SECRET
    ));
}

fn has_standardwebhooks() -> bool {
    let python = Command::new("python3")
        .args(["-c", "import standardwebhooks"])
        .stderr(Stdio::null())
        .status();
    python.is_ok_and(|status| status.success())
}

/// Returns true if the Python package of Standard Webhooks verifies it.
fn verifies(told: &ReceivedWebhook, secret: &str) -> bool {
    let script = "import sys, json; from standardwebhooks import Webhook\n\
        Webhook(sys.argv[1]).verify(sys.argv[2].encode(), json.loads(sys.argv[3]))";
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: Value = names
        .iter()
        .map(|name| ((*name).to_owned(), json!(told.header(name).unwrap())))
        .collect();
    let mut python = Command::new("python3");
    python
        .args(["-c", script, secret, &told.text, &headers.to_string()])
        .stderr(Stdio::null());
    python.status().unwrap().success()
}

#[test]
fn a_shutdown_delivers_for_the_grace_time_and_the_next_start_the_rest() {
    let home = Home::new();
    let (let_go, may_go) = std::sync::mpsc::channel();
    let receiver = Receiver::start(move |_| {
        may_go
            .recv()
            .map_or_else(|_| ReceiverBehaviour::Hang, |()| ReceiverBehaviour::ok())
    });
    let url = receiver.url();
    let flags = [
        "--webhook",
        &url,
        "--webhook-events",
        "session.*",
        "--shutdown-grace",
        "60s",
    ];
    let process = home.start(&flags);
    let mut client = process.client();
    client.connect("spam", "one");
    client.disconnect("one");
    process.kill(Signal::TERM);
    client.recv_end();
    // Two are owed, and both are delivered before it ends.
    let_go.send(()).unwrap();
    let_go.send(()).unwrap();
    let (status, log, _) = process.end();
    assert_eq!((status, receiver.received().len()), (Some(0), 2), "{log}");
    // Without a grace it ends at once, and what is owed is delivered after the next start.
    let process = home.start(&[
        "--webhook",
        &url,
        "--webhook-events",
        "session.*",
        "--shutdown-grace",
        "0s",
    ]);
    process.client().connect("spam", "two");
    receiver.recv();
    process.kill(Signal::TERM);
    assert_eq!(process.end().0, Some(0));
    let_go.send(()).unwrap();
    let process = home.start(&flags);
    let_go.send(()).unwrap();
    let again = receiver.recv();
    assert_eq!(again.event_type(), "session.created");
    let mut ended = process.client();
    ended.get(
        "Subscribe",
        &json!({"from": 1, "types": ["delivery.succeeded"]}),
    );
    for expected in 1..=3 {
        assert_eq!(
            ended.recv_event("delivery.succeeded")["delivery_id"],
            expected
        );
    }
}

#[test]
fn a_chat_gets_a_sentence_and_programs_beside_it_the_event() {
    let receivers = [
        Receiver::start(|_| ReceiverBehaviour::ok()),
        Receiver::start(|_| ReceiverBehaviour::ok()),
    ];
    let [chat, program] = receivers.each_ref().map(Receiver::url);
    // The path of a chat's URL is its secret.
    let chat = format!("{}/SECRET", chat.trim_end_matches('/'));
    let home = Home::new();
    let process = home.start(&[
        "--webhook",
        &chat,
        "--webhook-format",
        "slack",
        "--webhook",
        &program,
        "--webhook-format",
        "json",
        "--page-url",
        "http://sfu-01.example:9400/",
    ]);
    let mut client = process.client();
    client.connect("<!channel>", "one");
    let reason = "CHG-1 <!channel>";
    let change = json!({"mode": "block_new_session", "reason": reason});
    client.get("ChangeMode", &change);
    let [chat, program] = receivers;
    let text = |receiver: &Receiver| receiver.recv().body["text"].as_str().unwrap().to_owned();
    let sentence = text(&chat);
    assert!(
        sentence.contains(" rejects new sessions from now on (by uid:")
            && sentence.ends_with(": CHG-1 &lt;!channel&gt;). http://sfu-01.example:9400/"),
        "{sentence}"
    );
    client.disconnect("one");
    let sentence = text(&chat);
    assert!(
        sentence.contains(" is drained: its last session has ended."),
        "{sentence}"
    );
    let event = program.recv();
    assert_eq!(event.event_type(), "session.vanished");
    // Neither the status nor the log has the secret.
    let shown = [
        client.get("GetStatus", &json!({})).to_string(),
        client.get("ListDeliveries", &json!({})).to_string(),
    ];
    process.kill(Signal::TERM);
    let (_, log, _) = process.end();
    for text in shown.iter().chain([&log]) {
        assert!(!text.contains("SECRET"), "{text}");
    }
}
