//! `--api-url`: the same verbs against any server that speaks Sora's API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::sora::{Sora, connection};
use crate::support::{Daemon, Ended, Run, program};

fn command(sora: &Sora, args: &[&str]) -> Command {
    let mut command = program(Path::new("/nonexistent"));
    command.env("SORAMODE_API_URL", sora.url()).args(args);
    command
}

fn run(sora: &Sora, args: &[&str]) -> Ended {
    command(sora, args).ended()
}

fn ok(sora: &Sora, args: &[&str]) -> String {
    let ended = run(sora, args);
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    ended.stdout
}

fn with_clients() -> Sora {
    let sora = Sora::start();
    sora.state().connections = vec![
        connection("spam", "1", 100),
        connection("ham", "2", 50),
        connection("spam", "3", 60),
    ];
    sora
}

#[test]
fn the_mode_is_read_and_set() {
    let sora = with_clients();
    let name = sora.address;
    assert_eq!(ok(&sora, &["get"]), "normal\n");
    assert_eq!(
        ok(&sora, &["get", "--json"]),
        "{\"schema\":1,\"mode\":\"normal\"}\n"
    );
    let set = format!(
        "{name}: normal -> block_new_session (2 sessions, 3 connections stay). Undo: soramode set normal\n"
    );
    assert_eq!(ok(&sora, &["set", "block-new-session"]), set);
    assert_eq!(sora.state().mode, "block_new_session");
    assert_eq!(
        ok(&sora, &["set", "block_new_session"]),
        format!("{name} was already closed (block_new_session)\n")
    );
    assert_eq!(
        ok(&sora, &["set", "normal", "-o", "plain"]),
        format!("changed\t{name}\tblock_new_session\tnormal\n")
    );
    let changed: Value =
        serde_json::from_str(&ok(&sora, &["set", "block_new_connection", "--json"])).unwrap();
    assert_eq!(
        changed,
        json!({"schema": 1, "mode": "block_new_connection", "previous_mode": "normal", "changed": true, "node_name": name.to_string(),
            "sessions": 2, "connections": 3})
    );
    assert_eq!(run(&sora, &["set", "initial"]).code, 5);
    let flag = program(Path::new("/nonexistent"))
        .args(["--api-url", &sora.url(), "set", "normal"])
        .ended();
    assert!(
        flag.stdout.ends_with(&format!(
            "Undo: soramode --api-url {}/ set block_new_connection\n",
            sora.url()
        )),
        "{flag:?}"
    );
}

#[test]
fn sessions_connections_and_nodes_are_listed() {
    let sora = with_clients();
    assert_eq!(
        ok(&sora, &["sessions", "-o", "plain"]),
        "ham\tham-1\t1970-01-01T00:00:50.000000Z\t1\t\t\nspam\tspam-1\t1970-01-01T00:01:00.000000Z\t2\t\t\n"
    );
    assert!(ok(&sora, &["sessions", "--sort", "size", "-o", "plain"]).starts_with("spam"));
    assert_eq!(
        ok(&sora, &["sessions", "--channel", "ham", "-o", "plain"])
            .lines()
            .count(),
        1
    );
    assert_eq!(
        ok(&sora, &["connections", "--channel", "spam", "-o", "plain"])
            .lines()
            .count(),
        2
    );
    let rows: Value = serde_json::from_str(&ok(&sora, &["connections", "--json"])).unwrap();
    assert_eq!(
        (
            &rows["connections"][0]["state"],
            &rows["connections"][0]["created_at"]
        ),
        (&json!("live"), &json!("1970-01-01T00:00:50.000000Z"))
    );
    assert_eq!(
        ok(&sora, &["nodes", "-o", "plain"]),
        "a\tnormal\tjoined\t\t\t\t\t\twss://a/signaling\t\nb\t\tlost\t\t\t\t\t\t\t\n"
    );
    // A listed session without connections counts.
    sora.state().sessions = Some(vec![
        json!({"channel_id": "egg", "session_id": "E", "created_time": 1}),
    ]);
    assert!(
        ok(&sora, &["sessions", "-o", "plain"])
            .starts_with("egg\tE\t1970-01-01T00:00:00.000001Z\t0\t")
    );
    sora.state().mode = "block_new_session".to_owned();
    assert_eq!(
        run(&sora, &["is", "drained"]).stdout,
        format!(
            "no: {} is block_new_session and has 3 sessions\n",
            sora.address
        )
    );
}

#[test]
fn predicates_end_as_they_do_over_the_socket() {
    let sora = with_clients();
    assert_eq!(
        (
            run(&sora, &["is", "normal"]).code,
            run(&sora, &["is", "block_new_session"]).code
        ),
        (0, 1)
    );
    assert_eq!(run(&sora, &["is", "drained"]).code, 1);
    sora.state().connections.clear();
    let node = sora.address;
    let open = run(&sora, &["is", "drained"]);
    assert_eq!(
        (open.code, open.stdout),
        (1, format!("no: {node} is open: normal\n"))
    );
    sora.state().mode = "block_new_session".to_owned();
    assert_eq!(
        ok(&sora, &["is", "drained", "--json"]),
        format!(
            "{{\"schema\":1,\"is\":true,\"node_name\":\"{node}\",\"mode\":\"block_new_session\",\"sessions\":0,\"connections\":0}}\n"
        )
    );
    let drained = run(&sora, &["is", "drained"]);
    assert!(
        drained
            .stderr
            .contains("clients on their way in are in none of its lists"),
        "{drained:?}"
    );
    assert_eq!(run(&sora, &["is", "drained", "-q"]).stdout, "");
    assert_eq!(run(&sora, &["is", "joined"]).code, 2);
}

/// Runs a drain, and removes the last client once it waits.
fn drain_until_empty(sora: &Sora, args: &[&str]) -> Ended {
    let mut drain = command(sora, args).running();
    drain.until_said("waiting at most");
    sora.state().connections.clear();
    drain.ended()
}

#[test]
fn a_drain_ends_when_the_last_connection_has_left() {
    let sora = with_clients();
    let name = sora.address;
    let ended = drain_until_empty(&sora, &["drain", "--timeout", "60s"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.starts_with(&format!("{name} is empty after ")),
        "{ended:?}"
    );
    assert!(
        ended.stdout.ends_with(
            "(2 sessions ended) and still closed. When you are done: soramode set normal\n"
        ),
        "{ended:?}"
    );
    assert_eq!(sora.state().mode, "block_new_session");
    sora.state().connections = vec![connection("spam", "1", 100)];
    let ended = drain_until_empty(
        &sora,
        &["drain", "--connections", "--timeout", "60s", "--json"],
    );
    let report = ended.json();
    assert_eq!(
        (&report["outcome"], &report["exit_code"]),
        (&json!("reached"), &json!(0)),
        "{report}"
    );
    assert_eq!(
        report["change"],
        json!({"previous_mode": "block_new_session", "mode": "block_new_connection", "changed": true})
    );
    // In a stricter mode it only waits.
    let again = run(&sora, &["drain", "--timeout", "60s"]);
    assert!(
        again.code == 0
            && again
                .stderr
                .contains("is already in a stricter mode (block_new_connection); that mode stays"),
        "{again:?}"
    );
    assert_eq!(sora.state().mode, "block_new_connection");
    assert_eq!(
        run(&sora, &["wait", "drained", "-o", "plain"]).stdout,
        format!("reached\t{name}\tblock_new_connection\t0\t0\n")
    );
    let waited = run(&sora, &["set", "block_new_session", "--wait"]);
    assert_eq!(
        (waited.code, sora.state().mode.as_str()),
        (0, "block_new_session"),
        "{waited:?}"
    );
}

#[test]
fn a_drain_that_times_out_lists_the_remaining_sessions() {
    let sora = with_clients();
    let name = sora.address;
    let ended = run(&sora, &["drain", "--timeout", "1s"]);
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(
        ended.stderr.contains(&format!("timed out after 1 s: 2 sessions are left on {name}. {name} is still closed (block_new_session)\n")),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("\n  \"ham\": 1 connection, for "),
        "{ended:?}"
    );
    sora.state().mode = "normal".to_owned();
    let ended = run(
        &sora,
        &["drain", "--timeout", "1s", "--on-timeout", "undo", "--json"],
    );
    let report = ended.json();
    assert_eq!(
        (ended.code, &report["restored"], sora.state().mode.as_str()),
        (124, &json!(true), "normal")
    );
    assert_eq!(report["oldest_sessions"][0]["channel_id"], "ham");
    assert_eq!(
        run(&sora, &["drain", "--max-sessions", "2", "--timeout", "60s"]).code,
        0
    );
}

#[test]
fn an_opened_node_ends_the_wait() {
    let sora = with_clients();
    let mut drain = command(&sora, &["drain", "--timeout", "60s"]).running();
    drain.until_said("waiting at most");
    "normal".clone_into(&mut sora.state().mode);
    let ended = drain.ended();
    assert_eq!(
        (ended.code, ended.stderr.contains("stopped waiting on ")),
        (6, true),
        "{ended:?}"
    );
    let ended = run(&sora, &["wait", "drained"]);
    assert_eq!(
        (
            ended.code,
            ended
                .stderr
                .contains("the node is normal: only a closed node can become drained")
        ),
        (5, true),
        "{ended:?}"
    );
}

#[test]
fn a_mode_is_waited_for() {
    let sora = Sora::start();
    assert_eq!(
        ok(&sora, &["wait", "mode=normal"]),
        format!("{} is normal\n", sora.address)
    );
    let mut wait = command(
        &sora,
        &["wait", "mode=block_new_session", "--timeout", "60s"],
    )
    .running();
    wait.until_said("waiting until");
    "block_new_session".clone_into(&mut sora.state().mode);
    assert_eq!(wait.ended().code, 0);
    assert_eq!(
        run(&sora, &["wait", "mode=normal", "--timeout", "100ms"]).code,
        124
    );
}

#[test]
fn a_signal_ends_the_watching_and_not_the_drain() {
    let sora = with_clients();
    let mut drain = command(&sora, &["drain"]).running();
    drain.until_said("waiting at most");
    drain.signal(Signal::SIGINT);
    let ended = drain.ended();
    assert_eq!(
        (ended.code, sora.state().mode.as_str()),
        (130, "block_new_session"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains("Watch again: soramode wait drained"),
        "{ended:?}"
    );
}

#[test]
fn each_error_of_the_server_has_its_exit_code() {
    let sora = with_clients();
    let fail = |status: u16, body: &str| sora.state().fault = Some((status, body.to_owned()));
    let code = |args: &[&str]| {
        let ended = run(&sora, args);
        assert!(
            ended.stderr.starts_with("soramode: ") && ended.stdout.is_empty(),
            "{ended:?}"
        );
        ended.code
    };
    for (status, body, wanted) in [
        (0, "", 3),
        (502, r#"{"error_type":"BadGateway"}"#, 3),
        (504, "", 3),
        (401, "", 4),
        (403, r#"{"error_type":"Forbidden"}"#, 4),
        (400, r#"{"error_type":"NotJoined"}"#, 5),
        (400, r#"{"error_type":"StorageUnavailable"}"#, 70),
        (400, r#"{"error_type":"MissingTarget"}"#, 7),
        (
            400,
            r#"{"error_type":"SchemaNotFound","error_reason":{}}"#,
            7,
        ),
        (500, r#"{"error_type":"HandlerException"}"#, 70),
        (200, "no JSON", 70),
        (200, r#"{"mode":"odd"}"#, 70),
        (302, "", 70),
    ] {
        fail(status, body);
        assert_eq!(code(&["get"]), wanted, "{status} {body}");
        assert_eq!(code(&["set", "normal"]), wanted, "{status} {body}");
        let drain = run(&sora, &["drain", "--json"]);
        assert_eq!(
            (drain.code, &drain.json()["exit_code"]),
            (wanted, &json!(wanted)),
            "{status} {body}"
        );
    }
    let nobody = program(Path::new("/nonexistent"))
        .args(["--api-url", "http://127.0.0.1:1", "get"])
        .ended();
    assert_eq!(nobody.code, 3);
    assert!(
        nobody
            .stderr
            .contains("cannot reach 127.0.0.1:1: Connection refused"),
        "{nobody:?}"
    );
    for url in ["127.0.0.1:3000", "ftp://x", "http://", ""] {
        let wrong = program(Path::new("/nonexistent"))
            .args(["--api-url", url, "get"])
            .ended();
        assert_eq!(
            (
                wrong.code,
                wrong
                    .stderr
                    .contains("takes an absolute URL such as http://127.0.0.1:3000")
            ),
            (2, true),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_failing_server_is_polled_until_the_timeout() {
    let sora = with_clients();
    let mut drain = command(&sora, &["drain", "--timeout", "60s"]).running();
    drain.until_said("waiting at most");
    for (status, body) in [
        (0, ""),
        (500, r#"{"error_type":"HandlerException"}"#),
        (429, "<html>"),
        (200, "<html>"),
        (503, ""),
        (400, "{}"),
    ] {
        sora.state().fault = Some((status, body.to_owned()));
        drain.until_said("Trying again for at most");
        sora.state().fault = None;
        drain.until_said("is back");
    }
    sora.state().connections.clear();
    let ended = drain.ended();
    assert_eq!(
        (ended.code, ended.stdout.contains("is empty after")),
        (0, true),
        "{ended:?}"
    );
}

#[test]
fn a_timeout_says_that_the_server_has_not_answered() {
    let sora = with_clients();
    let mut drain = command(&sora, &["drain", "--timeout", "3s"]).running();
    drain.until_said("waiting at most");
    sora.state().fault = Some((0, String::new()));
    let ended = drain.ended();
    assert_eq!(
        (ended.code, ended.stderr.contains("has not answered for")),
        (124, true),
        "{ended:?}"
    );
    // A token that is not taken any more does not pass by itself.
    sora.state().fault = None;
    let mut drain = command(&sora, &["drain", "--timeout", "60s"]).running();
    drain.until_said("waiting at most");
    sora.state().fault = Some((401, String::new()));
    assert_eq!(drain.ended().code, 4);
}

#[test]
fn features_that_the_api_lacks_are_refused_before_any_request() {
    let sora = with_clients();
    for args in [
        &["tail"][..],
        &["status", "--watch"],
        &["doctor"],
        &["end", "spam", "--accept-risk=cuts-clients"],
        &["connect", "spam"],
        &["maintain", "--", "true"],
        &["set", "block_new_session", "-m", "why"],
        &["set", "block_new_session", "--for", "1h"],
        &["set", "block_new_session", "--if-mode", "normal"],
        &["drain", "-m", "why"],
        &["wait", "joined"],
        &["wait", "drained", "--generation", "3"],
    ] {
        let ended = run(&sora, args);
        assert_eq!(
            (
                ended.code,
                ended.stderr.contains("is not available over HTTP")
            ),
            (2, true),
            "{args:?}: {ended:?}"
        );
    }
    assert!(sora.state().asked.is_empty());
    let status = run(&sora, &["status"]);
    assert_eq!(
        (
            status.code,
            status.stderr.contains("status needs soramoded")
        ),
        (2, true),
        "{status:?}"
    );
    // A socket that is named outright weighs more than the variable.
    let daemon = Daemon::start();
    let socket = daemon.socket();
    assert_eq!(
        ok(
            &sora,
            &["--socket", socket.to_str().unwrap(), "is", "normal"]
        ),
        "yes: node-01 is normal\n"
    );
    let both = run(&sora, &["--socket", "/x", "--api-url", "http://x", "get"]);
    assert_eq!(both.code, 2);
}

#[test]
fn a_token_is_sent_to_a_server_that_requires_one() {
    let sora = with_clients();
    sora.state().token = Some("secret".to_owned());
    let refused = run(&sora, &["get"]);
    assert_eq!(
        (refused.code, refused.stderr.contains("--api-token-file")),
        (4, true),
        "{refused:?}"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "secret").unwrap();
    assert_eq!(
        ok(
            &sora,
            &["--api-token-file", file.path().to_str().unwrap(), "get"]
        ),
        "normal\n"
    );
    assert_eq!(
        run(&sora, &["--api-token-file", "/nonexistent", "get"]).code,
        2
    );
}

/// A soramoded and its API.
fn with_api(
    address: &str,
    configure: impl FnOnce(&mut soramoded::config::Config),
) -> (Daemon, impl Fn(&[&str]) -> Command) {
    let daemon = Daemon::start_with(|config| {
        config.http.api.listen = vec![address.parse().unwrap()];
        configure(config);
    });
    let url = format!("http://{address}");
    (daemon, move |args: &[&str]| {
        let mut command = program(Path::new("/nonexistent"));
        command.args(["--api-url", &url]).args(args);
        command
    })
}

#[test]
fn the_api_of_soramoded_reports_its_status() {
    let (daemon, over_api) = with_api("127.86.7.5:3000", |_| {});
    daemon.connect("spam", "1");
    daemon.connect("spam", "2");
    assert_eq!(
        over_api(&["sessions", "-o", "plain"])
            .ended()
            .stdout
            .split('\t')
            .nth(3),
        Some("2")
    );
    assert_eq!(
        over_api(&["nodes", "-o", "plain"])
            .ended()
            .stdout
            .split('\t')
            .next(),
        Some("node-01")
    );
    let is = over_api(&["is", "drained"]).ended();
    assert_eq!(
        (is.code, is.stdout.as_str()),
        (1, "no: node-01 is open: normal\n")
    );
    let mut drain = over_api(&["drain", "--timeout", "60s"]).running();
    drain.until_said("waiting at most");
    daemon.disconnect("1");
    daemon.disconnect("2");
    let ended = drain.ended();
    assert_eq!(
        (ended.code, ended.stdout.contains("node-01 is empty after")),
        (0, true),
        "{ended:?}"
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    let (by_socket, by_api) = (
        daemon.ok(&["status", "-o", "plain"]),
        over_api(&["status", "-o", "plain"]).ended(),
    );
    // The command that opens the node has the flags of the way to it.
    assert!(
        by_api
            .stdout
            .contains("to open\tWhen you are done, run: soramode --api-url "),
        "{by_api:?}"
    );
    let steady = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with("to open\t"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (by_api.code, steady(&by_api.stdout)),
        (0, steady(&by_socket))
    );
    let again = over_api(&["drain"]).ended();
    assert!(
        again
            .stderr
            .contains("node-01 was already closed (block_new_session, set by "),
        "{again:?}"
    );
    assert_eq!(over_api(&["is", "joined"]).ended().code, 1);
}

#[test]
fn the_api_and_the_socket_agree_on_drained() {
    let (daemon, over_api) = with_api("127.86.7.6:3000", |config| config.assume_complete = false);
    assert_eq!(over_api(&["drain", "--timeout", "60s"]).ended().code, 8);
    for args in [&["is", "drained"][..], &["wait", "drained"]] {
        let (by_socket, by_api) = (daemon.run(args), over_api(args).ended());
        assert_eq!(
            (by_socket.code, by_api.code),
            (8, 8),
            "{args:?}: {by_api:?}"
        );
        assert!(
            by_api.stderr.contains("session list incomplete"),
            "{by_api:?}"
        );
        assert_eq!(
            over_api(&[args, &["--assume-complete"]].concat())
                .ended()
                .code,
            0
        );
    }
    let error = over_api(&["is", "drained", "--json"]).ended().json();
    assert_eq!(
        (&error["exit_code"], &error["error"]["error_type"]),
        (&json!(8), &json!("SessionsIncomplete"))
    );
}

/// Asks as a Sora does before it lets a client in.
fn authenticate(webhooks: &str, body: &Value) -> String {
    let mut stream = TcpStream::connect(webhooks).unwrap();
    let body = body.to_string();
    write!(stream, "POST /sora/auth HTTP/1.1\r\nhost: {webhooks}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn a_pending_client_delays_a_drain_over_the_api() {
    const WEBHOOKS: &str = "127.86.7.7:3100";
    let sora = Sora::start();
    let (daemon, over_api) = with_api("127.86.7.7:3000", |config| {
        config.http.sora.listen = Some(WEBHOOKS.parse().unwrap());
        config.http.sora.api = Some(sora.url().parse().unwrap());
    });
    // A pending client is in no list of Sora's.
    let said = authenticate(
        WEBHOOKS,
        &json!({"type": "auth", "channel_id": "spam", "connection_id": "1"}),
    );
    assert!(said.contains("\"allowed\":true"), "{said}");
    for (list, format) in [
        ("sessions", "table"),
        ("connections", "plain"),
        ("connections", "json"),
    ] {
        let listed = over_api(&[list, "-o", format]).ended();
        let note = "node-01: over the API 1 pending connection cannot be listed. On that node: soramode connections\n";
        assert_eq!(
            (listed.code, listed.stderr.ends_with(note)),
            (0, true),
            "{listed:?}"
        );
    }
    let ended = over_api(&["drain", "--timeout", "2s"]).ended();
    assert_eq!(
        (
            ended.code,
            ended.stderr.contains("1 session is left on node-01")
        ),
        (124, true),
        "{ended:?}"
    );
    assert_eq!(
        (
            over_api(&["is", "drained"]).ended().code,
            daemon.run(&["is", "drained"]).code
        ),
        (1, 1)
    );
}

#[test]
fn a_drain_over_the_api_says_that_the_node_will_open_by_itself() {
    let (daemon, over_api) = with_api("127.86.7.8:3000", |_| {});
    daemon.ok(&["set", "block_new_session", "--for", "1h", "-m", "CHG-1"]);
    let ended = over_api(&["drain"]).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("reopens in 1 h; that cannot be cancelled over HTTP"),
        "{ended:?}"
    );
    assert!(ended.stdout.contains("it reopens in 1 h"), "{ended:?}");
}
