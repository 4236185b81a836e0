//! SIGHUP: the configuration is read again; what is said to be taken is taken, and the rest is said to need a restart.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::json;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::receiver::{Receiver, ReceiverBehaviour};

use crate::process::{Process, soramoded};
use crate::socket_activation::Hands;

/// A daemon with a configuration file.
struct Home {
    file: PathBuf,
    socket: PathBuf,
    process: Process,
}

impl Home {
    fn start(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (
            folder.path().join("soramoded.toml"),
            folder.path().join("gate.sock"),
        );
        fs::write(&file, config).unwrap();
        let mut command = soramoded();
        command
            .arg("--ephemeral")
            .arg("--socket")
            .arg(&socket)
            .arg("--config")
            .arg(&file);
        Self {
            process: Process::spawn(folder, socket.clone(), command),
            file,
            socket,
        }
    }

    /// Reads this instead; gives the log until it says what was made of it.
    fn reload(&mut self, config: &str, words: &str) -> String {
        fs::write(&self.file, config).unwrap();
        self.process.kill(Signal::HUP);
        self.process.read_log_until(words)
    }
}

const READ: &str = "configuration reloaded";

#[test]
fn applied_settings_and_those_that_need_a_restart_are_reported() {
    let mut home = Home::start("");
    let log = home.reload(
        "log-level = \"debug\"\nkeep-events = 7\napi-listen = \"127.0.0.1:1\"\n",
        READ,
    );
    assert!(
        log.contains("applied: log-level; restart required for: keep-events, api-listen\n"),
        "{log}"
    );
    let log = home.reload("log-level = \"debug\"\n", READ);
    assert!(
        log.contains("applied: nothing; restart required for: nothing\n"),
        "{log}"
    );
    // Applied: requests are logged now.
    TestClient::to(&home.socket).get("GetMode", &json!({}));
    home.process.read_log_until("client disconnected");
    assert_eq!(
        TestClient::to(&home.socket).get("GetMode", &json!({}))["mode"],
        "normal"
    );
}

#[test]
fn an_invalid_configuration_changes_nothing() {
    let mut home = Home::start("log-level = \"info\"\n");
    let log = home.reload(
        "log-level = \"debug\"\nkeep-event = 7\n",
        "configuration not reloaded",
    );
    assert!(
        log.contains("soramoded.toml:2: unknown field `keep-event`: did you mean keep-events?"),
        "{log}"
    );
    assert_eq!(
        TestClient::to(&home.socket).get("GetMode", &json!({}))["mode"],
        "normal"
    );
    let warning = |home: &Home| {
        TestClient::to(&home.socket)
            .status()
            .get("warnings")
            .map(ToString::to_string)
    };
    assert!(
        warning(&home)
            .unwrap()
            .contains("soramoded would not start with it"),
        "{:?}",
        warning(&home)
    );
    let log = home.reload("operator-group = \"no such group\"\n", READ);
    assert!(
        log.contains("setting not applied: operator-group: there is no group \"no such group\""),
        "{log}"
    );
    assert!(
        log.contains("applied: nothing; restart required for: nothing\n"),
        "{log}"
    );
    assert_eq!(warning(&home), None, "a good one was read");
}

#[test]
fn a_wrong_file_shows_no_secret() {
    let mut home = Home::start("log-level = \"info\"\n");
    for wrong in [
        "webhook = [\"http://u:HOOKPASS@h/?key=QSECRET\"\n",
        "webhook = \"ftp://u:HOOKPASS@h/?key=QSECRET\"\n",
        "webhook = \"http://u:HOOKPASS@h/?key=QSECRET\" typo\n",
        "max-connections = \"HOOKPASS QSECRET\"\n",
    ] {
        let log = home.reload(wrong, "configuration not reloaded");
        let told = TestClient::to(&home.socket).status()["warnings"].to_string();
        for secret in ["HOOKPASS", "QSECRET"] {
            assert!(
                !log.contains(secret) && !told.contains(secret),
                "{log}{told}"
            );
        }
    }
}

#[test]
fn other_receivers_and_other_secrets_are_applied() {
    let (one, other) = (
        Receiver::start(|_| ReceiverBehaviour::ok()),
        Receiver::start(|_| ReceiverBehaviour::ok()),
    );
    let config = |receiver: &Receiver| {
        format!(
            "webhook = \"{}\"\nwebhook-events = \"mode.changed\"\n",
            receiver.url()
        )
    };
    let mut home = Home::start(&config(&one));
    let change = |home: &Home, mode: &str| {
        TestClient::to(&home.socket).get("ChangeMode", &json!({"mode": mode}))
    };
    change(&home, "block_new_session");
    assert_eq!(one.recv().header("webhook-signature"), None);
    let secrets = home.file.with_file_name("secrets");
    fs::write(&secrets, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    let mut signed = config(&one);
    writeln!(signed, "webhook-secret-file = {secrets:?}").unwrap();
    let log = home.reload(&signed, READ);
    assert!(log.contains("applied: webhook-secret-file;"), "{log}");
    change(&home, "normal");
    assert!(
        one.recv()
            .header("webhook-signature")
            .unwrap()
            .starts_with("v1,")
    );
    let log = home.reload(&config(&other), READ);
    assert!(
        log.contains("applied: webhook, webhook-secret-file;"),
        "{log}"
    );
    change(&home, "block_new_connection");
    let told = other.recv();
    assert_eq!(
        (told.body["mode"].as_str(), told.header("webhook-signature")),
        (Some("block_new_connection"), None)
    );
    // Back to the first receiver, which keeps its index.
    home.reload(&config(&one), READ);
    change(&home, "normal");
    assert_eq!(one.recv().body["mode"], "normal");
    assert_eq!(
        (one.received().len(), other.received().len()),
        (0, 0),
        "no receiver was sent another's events"
    );
}

#[test]
fn other_certificates_are_applied_if_valid() {
    let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
    let config = format!("webhook = \"{}\"\n", receiver.url());
    let mut home = Home::start(&config);
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/identity.pem");
    let log = home.reload(&format!("{config}ca-file = {certificates:?}\n"), READ);
    assert!(
        log.contains("applied: ca-file; restart required for: nothing\n"),
        "{log}"
    );
    let empty = home.file.with_file_name("empty.pem");
    fs::write(&empty, "").unwrap();
    let log = home.reload(
        &format!("{config}ca-file = {empty:?}\n"),
        "configuration not reloaded",
    );
    assert!(log.contains("empty.pem: has no PEM certificate"), "{log}");
}

#[test]
fn other_upstreams_are_applied() {
    let (one, other) = (
        Receiver::start(|_| ReceiverBehaviour::ok()),
        Receiver::start(|_| ReceiverBehaviour::ok()),
    );
    let hands = Hands::new();
    let file = hands.folder.path().join("soramoded.toml");
    let config = |receiver: &Receiver| {
        format!(
            "sora-listen = \"{}\"\nsession-upstream = \"{}\"\n",
            hands.address(),
            receiver.url()
        )
    };
    fs::write(&file, config(&one)).unwrap();
    let mut process = hands.start("sora", &["--config", file.to_str().unwrap()]);
    let send_request = || {
        let body = json!({"type": "session.created", "channel_id": "spam", "session_id": "s", "created_time": 1}).to_string();
        let mut stream = TcpStream::connect(hands.address()).unwrap();
        let head = format!(
            "POST /sora/session HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(send_request().starts_with("HTTP/1.1 200"));
    one.recv();
    fs::write(&file, config(&other)).unwrap();
    process.kill(Signal::HUP);
    let log = process.read_log_until(READ);
    assert!(
        log.contains("applied: session-upstream; restart required for: nothing\n"),
        "{log}"
    );
    assert!(send_request().starts_with("HTTP/1.1 200"));
    other.recv();
    assert_eq!(one.received().len(), 0);
    let upstreams = TestClient::to(&hands.socket()).status()["upstreams"].clone();
    assert!(
        upstreams[0]["url"]
            .as_str()
            .unwrap()
            .starts_with(&format!("http://{}/", other.address)),
        "{upstreams}"
    );
}

#[test]
fn the_socket_goes_to_another_group() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a file to any group");
        return;
    }
    let mut home = Home::start("");
    let group = nix::unistd::Group::from_name("nogroup").unwrap().unwrap();
    let log = home.reload("operator-group = \"nogroup\"\n", READ);
    assert!(
        log.contains("applied: operator-group; restart required for: nothing\n"),
        "{log}"
    );
    let metadata = fs::metadata(&home.socket).unwrap();
    assert_eq!(
        (metadata.gid(), metadata.mode() & 0o777),
        (group.gid.as_raw(), 0o660)
    );
    let log = home.reload("", READ);
    assert!(log.contains("applied: operator-group;"), "{log}");
    assert_eq!(fs::metadata(&home.socket).unwrap().gid(), 0);
}
