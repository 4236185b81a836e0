//! `doctor`, `nodes`, `end`, and what `status` and `set` say of a Sora.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use soramoded::args::http::SoraMode;
use soramoded::config::Admission;

use crate::sora::{Sora, connection};
use crate::support::{Daemon, until};

fn beside(sora: &Sora) -> Daemon {
    Daemon::start_with(|config| {
        config.assume_complete = false;
        config.http.sora.api = Some(sora.url().parse().unwrap());
        config.http.sora.mode = SoraMode::Mirror;
    })
}

/// Returns the result of each check.
fn checks(report: &Value) -> Vec<(&str, &str)> {
    let checks = report["checks"].as_array().unwrap();
    checks
        .iter()
        .map(|check| {
            (
                check["what"].as_str().unwrap(),
                check["verdict"].as_str().unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_healthy_node_passes() {
    let daemon = Daemon::start();
    let (code, report) = daemon.json(&["doctor"]);
    assert_eq!((code, &report["is_well"]), (0, &json!(true)));
    let wanted = [
        ("versions", "ok"),
        ("access", "ok"),
        ("mode", "ok"),
        ("state", "note"),
        ("socket", "note"),
        ("end", "note"),
        ("deliveries", "ok"),
        ("clock", "ok"),
    ];
    assert_eq!(checks(&report), wanted);
    assert_eq!(
        report["checks"][4]["how"],
        "no client has called Connect or Report since soramoded started"
    );
    daemon.connect("spam", "one");
    assert_eq!(checks(&daemon.json(&["doctor"]).1)[4], ("socket", "ok"));
    let table = daemon.ok(&["doctor"]);
    assert!(
        table.starts_with("ok    versions    soramoded ")
            && table.contains("\nnote  state       in memory: lost when soramoded ends\n                    hint: To keep"),
        "{table}"
    );
    assert!(
        daemon
            .ok(&["doctor", "-o", "plain"])
            .lines()
            .all(|line| line.split('\t').count() == 4)
    );
}

#[test]
fn a_sora_that_does_not_ask_is_reported_by_doctor_and_by_commands_that_close_the_node() {
    let sora = Sora::start();
    let daemon = Daemon::start_with(|config| {
        config.assume_complete = false;
        config.http.sora.listen = Some("127.86.7.8:3100".parse().unwrap());
        config.http.sora.api = Some(sora.url().parse().unwrap());
    });
    let status = || daemon.json(&["status"]).1;
    until(|| (status()["sessions_complete"] == true).then_some(()));
    let (code, report) = daemon.json(&["doctor"]);
    assert_eq!(code, 0, "{report}");
    assert!(
        checks(&report).contains(&("webhooks", "note")),
        "no auth webhook has come, and no client either: {report}"
    );
    sora.state().connections = vec![connection("eggs", "1", 4_000_000_000)];
    // A node that closes polls Sora.
    daemon.ok(&["set", "block_new_session"]);
    until(|| (status()["connections"] == 1).then_some(()));
    let (code, report) = daemon.json(&["doctor"]);
    assert_eq!(code, 1, "{report}");
    let checks = report["checks"].as_array().unwrap();
    let warning = checks.iter().find(|check| check["what"] == "warning");
    let how = warning.unwrap()["how"].as_str().unwrap();
    assert!(
        how.starts_with("1 connection came to Sora without an auth webhook"),
        "{report}"
    );
    let drained = daemon.run(&["drain", "--timeout", "1s"]);
    assert!(
        drained
            .stderr
            .contains("warning: 1 connection came to the Sora of node-01 without an auth webhook"),
        "{drained:?}"
    );
}

#[test]
fn a_grace_that_has_no_effect_is_reported_with_a_remedy() {
    let sora = Sora::start();
    let daemon = Daemon::start_with(|config| {
        config.http.sora.api = Some(sora.url().parse().unwrap());
        config.http.sora.mode = SoraMode::Mirror;
        config.reconnect_grace = Duration::from_secs(30);
    });
    let (code, report) = daemon.json(&["doctor"]);
    assert_eq!((code, &report["is_well"]), (1, &json!(false)), "{report}");
    let checks = report["checks"].as_array().unwrap();
    let warning = checks
        .iter()
        .find(|check| check["what"] == "warning")
        .unwrap();
    assert!(
        warning["how"]
            .as_str()
            .unwrap()
            .starts_with("--reconnect-grace has no effect with --sora-mode mirror"),
        "{warning}"
    );
}

#[test]
fn faults_are_reported_with_a_remedy() {
    let sora = Sora::start();
    sora.state().fault = Some((500, r#"{"error_type":"HandlerException"}"#.to_owned()));
    let daemon = beside(&sora);
    daemon.ok(&["set", "block_new_session"]);
    let (code, report) = daemon.json(&["doctor"]);
    assert_eq!((code, &report["is_well"]), (1, &json!(false)));
    let wanted = [
        ("versions", "ok"),
        ("access", "ok"),
        ("mode", "note"),
        ("state", "note"),
        ("socket", "ok"),
        ("sora", "bad"),
        ("auth", "note"),
        ("warning", "bad"),
        ("end", "note"),
        ("deliveries", "ok"),
        ("clock", "ok"),
    ];
    assert_eq!(checks(&report), wanted);
    let bad: Vec<&Value> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["verdict"] != "ok")
        .collect();
    assert!(
        bad.iter().all(|check| check["advice"].is_string()),
        "{report}"
    );
    let ended = daemon.run(&["doctor"]);
    assert!(
        ended
            .stderr
            .ends_with("soramode: doctor found 2 problems\n"),
        "{ended:?}"
    );
    let unknown = Daemon::start_with(|config| config.assume_complete = false);
    assert_eq!(checks(&unknown.json(&["doctor"]).1)[4], ("socket", "bad"));
}

#[test]
fn shadow_mode_and_an_unused_upstream_are_noted() {
    let daemon = Daemon::start_with(|config| {
        config.http.sora.listen = Some("127.86.7.6:3100".parse().unwrap());
        config.http.sora.admission = Admission::Shadow;
        config.http.sora.upstreams.auth =
            Some("http://ops:secret@127.0.0.1:1/auth".parse().unwrap());
    });
    let (code, report) = daemon.json(&["doctor"]);
    assert_eq!(code, 0, "{report}");
    assert_eq!(
        checks(&report)[5..10],
        [
            ("sora", "ok"),
            ("webhooks", "note"),
            ("shadow", "note"),
            ("access", "note"),
            ("upstream", "note")
        ]
    );
    let table = daemon.ok(&["doctor"]);
    assert!(
        table.contains(
            "sora-listen 127.86.7.6:3100: every user of this machine may impersonate Sora\n"
        ),
        "{table}"
    );
    let status = daemon.ok(&["status"]);
    assert!(
        status.contains("\n  auth         http://127.0.0.1:1/auth: not asked yet\n"),
        "{status}"
    );
    assert!(
        status.starts_with(
            "WARNINGS\n  shadow       SHADOW MODE: decisions are only logged, no client is blocked\n"
        ),
        "{status}"
    );
}

#[test]
fn a_sora_without_the_mode_is_a_warning_in_every_format() {
    let sora = Sora::start();
    let daemon = beside(&sora);
    daemon.ok(&["set", "block_new_session"]);
    assert_eq!(sora.state().mode, "block_new_session");
    sora.state().fault = Some((500, String::new()));
    for format in ["table", "plain", "json"] {
        let ended = daemon.run(&["set", "normal", "-q", "-o", format]);
        assert_eq!(ended.code, 0);
        assert!(
            ended
                .stderr
                .starts_with("soramode: warning: cannot set the mode of Sora (http://127.0.0.1:")
                && ended.stderr.contains(" to normal: "),
            "{ended:?}"
        );
    }
    assert!(
        daemon
            .ok(&["status"])
            .contains("WARNINGS\n  warning      cannot set the mode of Sora (http://127.0.0.1:")
    );
    sora.state().fault = None;
    "block_new_connection".clone_into(&mut sora.state().mode);
    assert_eq!(
        daemon.ok(&["get"]),
        "block_new_connection\n",
        "of two modes the stricter"
    );
    let state: Value = serde_json::from_str(&daemon.ok(&["get", "--json"])).unwrap();
    assert_eq!(
        (&state["mode"], &state["own_mode"]),
        (&json!("block_new_connection"), &json!("normal"))
    );
}

#[test]
fn the_nodes_are_listed() {
    let daemon = Daemon::start();
    let table = daemon.ok(&["nodes"]);
    let headers = [
        "NODE",
        "MODE",
        "MEMBERSHIP",
        "CONNECTIONS",
        "SESSIONS",
        "SINCE",
        "VERSION",
        "ORPHANED",
        "SIGNALING",
        "API",
    ];
    assert_eq!(
        table
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>(),
        headers
    );
    assert!(
        daemon
            .ok(&["nodes", "-o", "plain"])
            .starts_with("node-01\tnormal\tstandalone\t0\t0\t")
    );
    let purge = daemon.run(&["nodes", "purge", "node-02"]);
    assert_eq!(
        (purge.code, purge.stderr.contains("Nothing was done\nhint: Once you are sure that the SFU itself is off, add --accept-risk=still-running")),
        (2, true),
        "{purge:?}"
    );
    let purge = daemon.run(&["nodes", "purge", "node-02", "--accept-risk=still-running"]);
    assert_eq!(
        (purge.code, purge.stderr.contains("it has no cluster")),
        (5, true),
        "{purge:?}"
    );
    assert_eq!(
        daemon.run(&["nodes", "init"]).code,
        5,
        "it will never have a cluster"
    );
    let (_, nodes) = daemon.json(&["nodes"]);
    assert_eq!(
        (
            &nodes["nodes"][0]["node_name"],
            &nodes["nodes"][0]["temporary_node"]
        ),
        (&json!("node-01"), &json!(false))
    );
}

#[test]
fn end_requires_accepting_the_risk() {
    let sora = Sora::start();
    sora.state().connections = vec![connection("spam", "1", 100)];
    let daemon = beside(&sora);
    for args in [&["end", "spam"][..], &["end", "--all"]] {
        let ended = daemon.run(args);
        assert_eq!(
            (
                ended.code,
                ended
                    .stderr
                    .contains("Nothing was done\nhint: To go on, add --accept-risk=cuts-clients")
            ),
            (2, true),
            "{ended:?}"
        );
    }
    for args in [
        &["end", "--accept-risk=cuts-clients"][..],
        &["end", "spam", "--all", "--accept-risk=cuts-clients"],
        &["end", "spam", "--accept-risk=yes"],
    ] {
        assert_eq!(daemon.run(args).code, 2, "{args:?}");
    }
    assert!(
        !sora
            .state()
            .asked
            .iter()
            .any(|target| target.contains("Disconnect"))
    );
}

#[test]
fn without_an_end_method_the_error_says_so() {
    let daemon = Daemon::start();
    daemon.connect("spam", "1");
    let ended = daemon.run(&["end", "--all", "--accept-risk=cuts-clients"]);
    assert_eq!(
        (
            ended.code,
            ended
                .stderr
                .contains("cannot end sessions: --sora-api is not set")
        ),
        (5, true),
        "{ended:?}"
    );
}

#[test]
fn a_signalling_server_is_asked_to_end_sessions() {
    let daemon = Daemon::start();
    daemon.connect("spam", "1");
    let mut signalling = UnixStream::connect(daemon.socket()).unwrap();
    signalling.write_all(b"{\"id\":1,\"method\":\"Subscribe\",\"params\":{\"types\":[\"node.*\"],\"ends\":true}}\n").unwrap();
    let mut lines = BufReader::new(signalling.try_clone().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.next().unwrap().contains("next_seq"));
    let doctor = daemon.ok(&["doctor", "-o", "plain"]);
    assert!(
        doctor.contains("ok\tend\t1 subscribed client can end sessions\t"),
        "{doctor}"
    );
    let words = "asked the signalling server to end 1 session. Clients are being disconnected; follow it with: soramode sessions\n";
    assert_eq!(
        daemon.ok(&["end", "spam", "--accept-risk=cuts-clients"]),
        words
    );
    assert!(
        lines
            .next()
            .unwrap()
            .contains("\"method\":\"End\",\"params\":{\"channel_id\":\"spam\",")
    );
    assert_eq!(
        daemon.ok(&["end", "--all", "--accept-risk=cuts-clients", "-o", "plain"]),
        "1\t0\tsubscribers\n"
    );
    // A server that reconnected and did not subscribe again no longer counts.
    signalling.shutdown(Shutdown::Both).unwrap();
    let row = "note\tend\tno client accepts end requests: no command can end sessions\tHave the signalling server send Subscribe";
    until(|| Some(daemon.ok(&["doctor", "-o", "plain"])).filter(|doctor| doctor.contains(row)));
}
