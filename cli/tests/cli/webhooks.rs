//! `deliveries` and `webhook`, with a receiver of the test.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use soramode_protocol::chat::WebhookFormat;
use soramode_protocol::webhook::Secrets;
use soramode_testkit::receiver::{ReceivedWebhook, Receiver, ReceiverBehaviour};
use soramoded::config::{WebhookConfig, WebhookReceiver};

use crate::support::{Daemon, Run, program};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

pub(crate) fn with_receiver(receiver: &Receiver) -> Daemon {
    Daemon::start_with(|config| {
        let receivers = vec![WebhookReceiver {
            url: receiver.url().parse().unwrap(),
            format: WebhookFormat::Json,
        }];
        let secrets = Some(Secrets::parse(SECRET).unwrap());
        config.webhooks = WebhookConfig {
            receivers,
            secrets,
            ..WebhookConfig::default()
        };
    })
}

/// A node that became empty while it was closed; returns when its receiver's answer has been taken in.
pub(crate) fn drained(daemon: &Daemon) {
    daemon.connect("spam", "one");
    daemon.ok(&["set", "block_new_session"]);
    let mut tail = daemon.spawn(&[
        "tail",
        "--since",
        "all",
        "--type",
        "delivery.*",
        "-o",
        "jsonl",
    ]);
    daemon.disconnect("one");
    tail.until_answered("delivery.");
    tail.close_stdout();
}

#[test]
fn deliveries_are_listed_shown_and_sent_again() {
    let mut answers = vec![ReceiverBehaviour::ok(), ReceiverBehaviour::status(410)];
    let receiver = Receiver::start(move |_| answers.pop().unwrap());
    let daemon = with_receiver(&receiver);
    assert_eq!(daemon.run(&["deliveries"]).stderr, "no deliveries\n");
    drained(&daemon);
    let (_, list) = daemon.json(&["deliveries"]);
    let delivery = &list["deliveries"][0];
    let endpoint = json!(format!("http://{}/hook", receiver.address));
    assert_eq!(
        (&delivery["id"], &delivery["state"], &delivery["endpoint"]),
        (&json!(1), &json!("failed"), &endpoint)
    );
    let table = daemon.ok(&["deliveries", "list", "--state", "failed"]);
    assert!(
        table.starts_with("ID  STATE   TYPE") && table.contains("410 Gone"),
        "{table}"
    );
    assert_eq!(
        daemon.ok(&["deliveries", "--state", "pending", "-o", "plain"]),
        ""
    );
    assert_eq!(daemon.json(&["doctor"]).1["is_well"], false);
    assert!(daemon.ok(&["status"]).contains(
        "deliveries   0 pending, 1 failed. List them with: soramode deliveries --state failed"
    ));

    let shown = daemon.ok(&["deliveries", "show", "1"]);
    assert!(
        shown.contains("\ntype     session.vanished\n") && shown.contains("\nproblem  410 Gone\n"),
        "{shown}"
    );
    let absent = daemon.run(&["deliveries", "show", "7"]);
    assert_eq!(
        (absent.code, &*absent.stderr),
        (
            9,
            "soramode: no delivery 7\nhint: soramode deliveries lists all that are kept\n"
        )
    );
    let sent = daemon.ok(&["deliveries", "resend", "1"]);
    assert!(
        sent.starts_with("delivery 1 (session.vanished) is queued for http://127.0.0.1:"),
        "{sent}"
    );
    receiver.recv();
    receiver.recv();
    assert_eq!(
        daemon.run(&["deliveries", "list", "--state", "lost"]).code,
        2
    );
    assert_eq!(daemon.run(&["deliveries", "resend", "7"]).code, 9);
}

#[test]
fn a_receiver_that_fails_is_named_before_it_is_given_up() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::status(500));
    let daemon = with_receiver(&receiver);
    daemon.connect("spam", "one");
    daemon.ok(&["set", "block_new_session"]);
    daemon.disconnect("one");
    // When the second arrives, the outcome of the first is known.
    receiver.recv();
    receiver.recv();
    let (_, found) = daemon.json(&["doctor"]);
    let check = found["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["what"] == "webhook")
        .unwrap();
    let how = format!(
        "http://{}/hook: 500 Internal Server Error",
        receiver.address
    );
    assert_eq!(
        (&check["verdict"], &check["how"]),
        (&json!("bad"), &json!(how))
    );
    assert!(
        daemon
            .ok(&["status"])
            .contains(&format!("\n  webhook      {how}"))
    );
}

#[test]
fn obsolete_deliveries_are_not_sent_again() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::status(410));
    let daemon = with_receiver(&receiver);
    drained(&daemon);
    daemon.ok(&["set", "normal"]);
    let refused = daemon.run(&["deliveries", "resend", "1"]);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("soramode: delivery 1 is obsolete: the node was opened after it\nhint: "),
        "{refused:?}"
    );
}

#[test]
fn a_test_reports_the_answer_of_the_receiver() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    write_secret(&secret, SECRET);
    let nobody = folder.path().join("no.sock");
    let run = |args: &[&str]| program(&nobody).args(args).ended();
    let mut answers = vec![
        ReceiverBehaviour::status(301),
        ReceiverBehaviour::status(500),
        ReceiverBehaviour::ok(),
        ReceiverBehaviour::ok(),
    ];
    let receiver = Receiver::start(move |_| answers.pop().unwrap());
    let (url, secret) = (receiver.url(), secret.to_str().unwrap());
    let signed = run(&["webhook", "test", &url, "--secret-file", secret]);
    assert_eq!(signed.code, 0, "{signed:?}");
    assert!(
        signed
            .stdout
            .contains("/hook accepted a sample session.vanished: 200 OK, in "),
        "{signed:?}"
    );
    let delivery = receiver.recv();
    assert_eq!(
        (
            delivery.event_type(),
            delivery.header("webhook-signature").is_some()
        ),
        ("session.vanished", true)
    );
    let plain = run(&["webhook", "test", &url, "-o", "json"]).json();
    assert_eq!(
        (&plain["delivered"], &plain["status"]),
        (&json!(true), &json!(200))
    );
    assert_eq!(receiver.recv().header("webhook-signature"), None);
    for problem in [
        "500 Internal Server Error",
        "301 Moved Permanently: redirects are not followed",
    ] {
        let refused = run(&["webhook", "test", &url]);
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (70, ""),
            "{refused:?}"
        );
        assert!(
            refused.stderr.contains(problem) && !refused.stderr.contains("key=secret"),
            "{refused:?}"
        );
    }
    assert_eq!(run(&["webhook", "test", "ftp://127.0.0.1/"]).code, 2);
    assert_eq!(
        run(&["webhook", "test", &url, "--secret-file", "/nowhere"]).code,
        2
    );
    let dead = run(&["webhook", "test", "http://127.0.0.1:1/"]);
    assert!(
        dead.code == 70 && dead.stderr.contains("Connection refused"),
        "{dead:?}"
    );
}

#[test]
fn a_test_sends_a_chat_the_message_that_the_daemon_would() {
    let chat = Receiver::start(|_| ReceiverBehaviour::status(204));
    let folder = tempfile::tempdir().unwrap();
    let nobody = folder.path().join("no.sock");
    // The path of a chat's URL is its secret: it is read from a file, and not shown.
    let url = format!("http://{}/hook/services/SECRET\n", chat.address);
    fs::write(folder.path().join("url"), url).unwrap();
    let sentence = "sample-node is drained: its last session has ended.";
    for (format, text) in [
        ("slack", "/text"),
        ("mattermost", "/text"),
        ("discord", "/content"),
        ("teams", "/attachments/0/content/body/0/inlines/0/text"),
    ] {
        let mut command = program(&nobody);
        command.args(["webhook", "test", "--format", format, "-"]);
        let stdin = File::open(folder.path().join("url")).unwrap();
        let sent = command.stdin(Stdio::from(stdin)).ended();
        assert!(
            sent.code == 0
                && sent.stdout.contains(&format!(
                    " accepted a sample message for {format}: 204 No Content, in "
                ))
                && !sent.stdout.contains("SECRET"),
            "{sent:?}"
        );
        let received = chat.recv();
        assert!(
            received.head.starts_with("POST /hook/services/SECRET "),
            "{}",
            received.head
        );
        let said = received.body.pointer(text).and_then(|text| text.as_str());
        let plain = said.map(|said| said.replace('\\', ""));
        assert_eq!(plain.as_deref(), Some(sentence), "{format}");
    }
    let url = chat.url();
    let unknown = program(&nobody)
        .args(["webhook", "test", "--format", "irc", &url])
        .ended();
    assert!(
        unknown.code == 2
            && unknown
                .stderr
                .contains("json, slack, mattermost, discord, teams"),
        "{unknown:?}"
    );
    for (text, problem) in [
        (
            "SECRET",
            "standard input is no URL such as https://chat.example/hook",
        ),
        (&*"x".repeat(4_097), "the URL has more than 4096 bytes"),
    ] {
        fs::write(folder.path().join("url"), text).unwrap();
        let mut command = program(&nobody);
        let stdin = File::open(folder.path().join("url")).unwrap();
        let refused = command
            .args(["webhook", "test", "-"])
            .stdin(Stdio::from(stdin))
            .ended();
        assert_eq!(
            (refused.code, &*refused.stderr),
            (2, &*format!("soramode: {problem}\n"))
        );
    }
}

/// The exit code and the answer for a request from a file.
fn verified(folder: &Path, request: &str, secret: &str) -> (i32, String) {
    write_secret(&folder.join("secret"), secret);
    fs::write(folder.join("request"), request).unwrap();
    let mut command = program(&folder.join("no.sock"));
    command
        .args(["webhook", "verify", "--secret-file"])
        .arg(folder.join("secret"));
    let ended = command
        .stdin(Stdio::from(File::open(folder.join("request")).unwrap()))
        .ended();
    (ended.code, ended.stdout + &ended.stderr)
}

#[test]
fn a_request_is_verified_and_a_forged_one_is_refused_with_a_reason() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
    let daemon = with_receiver(&receiver);
    drained(&daemon);
    let ReceivedWebhook { head, text, .. } = receiver.recv();
    let folder = tempfile::tempdir().unwrap();
    let verified = |request: &str, secret: &str| verified(folder.path(), request, secret);
    let request = format!("{head}{text}");
    let (code, said) = verified(&request, SECRET);
    assert_eq!((code, said.starts_with("genuine: ")), (0, true), "{said}");
    // A request as an editor writes it; headers alone; an old secret beside a new one.
    assert_eq!(verified(&format!("{request}\n"), SECRET).0, 0);
    assert_eq!(
        verified(
            request.split_once("\r\n").unwrap().1,
            &format!("whsec_{}\n{SECRET}", "A".repeat(32))
        )
        .0,
        0
    );
    let (before, timestamp) = request.split_once("webhook-timestamp: ").unwrap();
    let (_, after) = timestamp.split_once("\r\n").unwrap();
    let old = format!("{before}webhook-timestamp: 1600000000\r\n{after}");
    for (wrong, secret, problem) in [
        (
            &*request,
            "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "signature invalid",
        ),
        (
            &request.replace("session.vanished", "session.vanisher"),
            SECRET,
            "signature invalid",
        ),
        (&old, SECRET, "signature timestamp too old"),
        (
            &request.replace("webhook-signature", "x-signature"),
            SECRET,
            "missing header signature",
        ),
    ] {
        assert_eq!(
            verified(wrong, secret),
            (1, format!("not genuine: {problem}\n"))
        );
    }
    assert_eq!(verified("no request at all", SECRET).0, 2);
    let (code, said) = verified(&format!("{request}{}", "x".repeat(1024 * 1024)), SECRET);
    assert_eq!(
        (code, &*said),
        (2, "soramode: the request has more than 1048576 bytes\n")
    );
    assert_eq!(verified(&request, "whsec_c2hvcnQ=").0, 2);
}

pub(crate) fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}
