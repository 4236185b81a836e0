//! Output: escapes, formats, closed pipes.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::sora::{Sora, connection};
use crate::support::{Daemon, Run, program};

#[test]
fn text_from_outside_cannot_control_the_terminal() {
    let daemon = Daemon::start();
    let channel = "a\tb\n\u{1b}[31m\u{202e}";
    daemon.connect(channel, "c1");
    daemon.ok(&["set", "block_new_session", "-m", "\u{1b}]0;owned\u{7}"]);
    for args in [
        &["sessions"][..],
        &["sessions", "-o", "plain"],
        &["session", channel],
        &["connections"],
        &["status"],
        &["history"],
        &["set", "block_new_session"],
        &["explain", channel],
        &["disconnect", "\u{1b}c"],
    ] {
        let ended = daemon.run(args);
        let printed = format!("{}{}", ended.stdout, ended.stderr);
        let has_control = printed.chars().any(|character| {
            character == '\u{202e}' || (character.is_control() && !"\n\t".contains(character))
        });
        assert!(!has_control, "{args:?}: {printed:?}");
    }
    let plain = daemon.ok(&["sessions", "-o", "plain"]);
    assert_eq!(
        plain.split('\t').next(),
        Some("a\\tb\\n\\u{1b}[31m\\u{202e}")
    );
    let (_, json) = daemon.json(&["sessions"]);
    assert_eq!(
        json["sessions"][0]["channel_id"], channel,
        "JSON has its own escapes"
    );
    let drain = daemon.run(&["drain", "--timeout", "10ms"]);
    assert!(
        drain.stderr.contains("\"\\u{1b}]0;owned\\u{7}\""),
        "{drain:?}"
    );
    assert!(!drain.stderr.contains('\u{1b}'), "{drain:?}");
}

#[test]
fn every_answer_comes_as_one_json_object() {
    let daemon = Daemon::start();
    for args in [
        &["get"][..],
        &["status"],
        &["info"],
        &[
            "connect",
            "spam",
            "--connection-id",
            "c1",
            "--client-id",
            "bob",
        ],
        &["explain", "spam"],
        &["session", "spam"],
        &["sessions"],
        &["connections"],
        &["disconnect", "c1"],
        &["set", "block_new_session", "--for", "45m"],
        &["is", "drained"],
        &["drain"],
        &["wait", "drained"],
        &["maintain", "--", "true"],
        &["history"],
    ] {
        let (code, _) = daemon.json(args);
        assert_eq!(code, 0, "{args:?}");
    }
}

#[test]
fn plain_is_a_record_a_line_without_a_header() {
    let daemon = Daemon::start();
    assert_eq!(
        daemon.ok(&["set", "block_new_session", "-o", "plain"]),
        "changed\tnode-01\tnormal\tblock_new_session\t2\n"
    );
    assert_eq!(daemon.ok(&["get", "-o", "plain"]), "block_new_session\n");
    assert_eq!(daemon.ok(&["is", "drained", "-o", "plain"]), "yes\n");
    assert_eq!(
        daemon.ok(&["drain", "-o", "plain"]),
        "reached\tnode-01\tblock_new_session\t0\t0\n"
    );
    assert_eq!(
        daemon.run(&["connect", "spam", "-o", "plain"]).stdout,
        "reject\tBLOCK-NEW-SESSION\tblock_new_session\n"
    );
    assert!(
        daemon
            .ok(&["status", "-o", "plain"])
            .contains("mode\tblock_new_session\n")
    );
}

#[test]
fn quiet_leaves_the_exit_code_alone() {
    let daemon = Daemon::start();
    for args in [
        &["set", "block_new_session", "-q"][..],
        &["drain", "-q"],
        &["wait", "drained", "-q"],
        &["set", "normal", "-q"],
    ] {
        let ended = daemon.run(args);
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (0, "", ""),
            "{args:?}"
        );
    }
    assert_eq!(daemon.ok(&["get", "-q"]), "normal\n");
}

#[test]
fn times_are_in_utc_and_nothing_is_painted_where_there_is_no_terminal() {
    let daemon = Daemon::start();
    let status = daemon.ok(&["status"]);
    let since = status
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("since"))
        .unwrap()
        .trim();
    assert!(
        since.parse::<soramode_protocol::time::Time>().is_ok(),
        "{since}"
    );
    assert_eq!(
        daemon.ok(&["get", "--color", "always"]),
        "\u{1b}[32mnormal\u{1b}[0m\n"
    );
}

#[test]
fn a_closed_stdout_ends_the_command_silently() {
    let daemon = Daemon::start();
    for args in [&["get"][..], &["status"], &["sessions", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = program(&daemon.socket())
            .args(args)
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let status = child.wait().unwrap();
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
    daemon.connect("spam", "c1");
    let mut drain = daemon.spawn(&["drain", "--timeout", "100ms", "-o", "jsonl"]);
    drain.until_said("1 of 1 session left");
    assert_eq!(
        drain.close_stdout(),
        124,
        "a reader that goes does not make a drain"
    );
}

#[test]
fn the_user_of_sudo_is_in_the_history() {
    let daemon = Daemon::start();
    let ended = program(&daemon.socket())
        .env("SUDO_USER", "alice")
        .args(["set", "block_new_session"])
        .ended();
    assert_eq!(ended.code, 0);
    let (_, history) = daemon.json(&["history"]);
    assert_eq!(history["changes"][0]["on_behalf_of"], "alice");
    assert!(daemon.ok(&["history"]).contains(" for alice"));
}

#[test]
fn an_expiry_can_be_set_and_taken_away() {
    let daemon = Daemon::start();
    let set = daemon.ok(&["set", "block_new_session", "--for", "45m"]);
    assert!(set.contains("; it reopens in 45 min"), "{set}");
    daemon.ok(&["set", "block_new_session", "--for", "never"]);
    let (_, mode) = daemon.json(&["get"]);
    assert!(mode.get("expires_at").is_none(), "{mode}");
}

#[test]
fn suggested_commands_name_the_socket_that_the_flag_named() {
    let daemon = Daemon::start();
    let socket = daemon.socket();
    let ended = program(&socket)
        .env_remove("SORAMODE_SOCKET")
        .arg("--socket")
        .arg(&socket)
        .args(["set", "block_new_session"])
        .ended();
    assert!(
        ended.stdout.contains(&format!(
            "Undo: soramode --socket {} set normal",
            socket.display()
        )),
        "{ended:?}"
    );
}

#[test]
fn a_suggested_command_can_be_pasted_wherever_the_socket_is() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("it's $HOME; my dir");
    std::fs::create_dir(&socket).unwrap();
    let socket = socket.join("s.sock");
    let daemon = Daemon::start_with(|config| config.socket = socket.clone());
    let ended = program(&socket)
        .arg("--socket")
        .arg(&socket)
        .args(["set", "block_new_session"])
        .ended();
    let undo = ended
        .stdout
        .trim()
        .rsplit_once("Undo: ")
        .unwrap()
        .1
        .to_owned();
    let path = format!(
        "{}:/usr/bin:/bin",
        Path::new(crate::support::PROGRAM)
            .parent()
            .unwrap()
            .display()
    );
    let pasted = std::process::Command::new("bash")
        .env("PATH", path)
        .arg("-c")
        .arg(&undo)
        .ended();
    assert_eq!(pasted.code, 0, "{undo}: {pasted:?}");
    assert_eq!(program(&socket).arg("get").ended().stdout, "normal\n");
    drop(daemon);
}

#[test]
fn one_rule_says_where_colours_are() {
    let daemon = Daemon::start();
    let paints = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = program(&daemon.socket());
        let ended = command.envs(variables.iter().copied()).args(args).ended();
        format!("{}{}", ended.stdout, ended.stderr).contains('\u{1b}')
    };
    for args in [
        &["get"][..],
        &["status"],
        &["doctor"],
        &["set", "nromal"],
        &["--help"],
    ] {
        let with = |color| [args, &["--color", color]].concat();
        assert!(!paints(args, &[]), "a pipe is not painted: {args:?}");
        assert!(
            !paints(
                &with("never"),
                &[("TERM", "xterm"), ("CLICOLOR_FORCE", "1")]
            ),
            "{args:?}"
        );
        assert!(
            paints(&with("always"), &[("TERM", "dumb"), ("NO_COLOR", "1")]),
            "{args:?}"
        );
    }
    let bad = daemon.run(&["doctor", "--color", "always"]).stdout;
    assert!(
        bad.contains("\u{1b}[1m\u{1b}[31mBAD") || bad.contains("\u{1b}[33mnote"),
        "{bad:?}"
    );
}

#[test]
fn an_expired_timer_is_not_shown_as_pending() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session", "--for", "1s", "-q"]);
    daemon.ok(&["wait", "mode=normal", "-q"]);
    let socket = daemon.socket();
    let script = format!(
        "{} --socket {} history; echo ended; exec sleep 600",
        crate::support::PROGRAM,
        socket.display()
    );
    let screen = crate::terminal::Terminal::open(&script, (160, 24)).until_shown("ended");
    assert!(
        screen.contains(" ago)") && !screen.contains("(in "),
        "{screen}"
    );
    // Both names of the actor: the one of `history`, and the one of sentences.
    let by = "system:expired, the timer of --for";
    assert!(screen.contains("system:expired"), "{screen}");
    assert!(daemon.ok(&["status"]).contains(by));
}

/// Fails where a time is no text, or something that is absent is there as null.
fn check_members(name: &str, value: &Value, said: &str) {
    let is_time = name == "since"
        || name.starts_with("last_")
        || ["_at", "_time", "timestamp"]
            .iter()
            .any(|end| name.ends_with(end));
    assert!(!value.is_null(), "{name} is null: {said}");
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| check_members(name, value, said)),
        Value::Array(values) => values
            .iter()
            .for_each(|value| check_members("", value, said)),
        Value::String(text) if is_time => {
            assert!(text.ends_with('Z'), "{name} is no time in UTC: {said}");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            assert!(!is_time, "{name} is no text: {said}");
        }
    }
}

#[test]
fn in_json_times_are_text_and_nothing_is_null() {
    let check = |said: &str| check_members("", &serde_json::from_str(said).unwrap(), said);
    let daemon = Daemon::start();
    let mut tail = daemon.spawn(&["tail", "--since", "all", "-o", "json"]);
    daemon.run(&["set", "block_new_session", "--for", "45m", "-o", "json"]);
    check(&tail.until_answered("mode.changed"));
    daemon.ok(&["set", "normal"]);
    daemon.connect("spam", "c1");
    let verbs = "get;status;info;doctor;sessions;connections;nodes;history;deliveries;session spam;explain spam;explain egg;connect egg;\
                 connect spam --connection-id c2 --client-id bob;disconnect c2;disconnect c9;session ham;is normal;is drained;\
                 wait mode=normal;set block_new_session --for 45m;set block_new_session;set normal;drain --timeout 1ms;\
                 maintain --timeout 1ms -- true;end spam;webhook test http://127.0.0.1:1/;nodes purge n9;frobnicate";
    for verb in verbs.split(';') {
        let args: Vec<&str> = ["-o", "json"]
            .into_iter()
            .chain(verb.split_whitespace())
            .collect();
        daemon.run(&args).stdout.lines().for_each(check);
    }
    daemon.disconnect("c1");
    check(&tail.until_answered("session.destroyed"));
    tail.stopped().stdout.lines().for_each(check);
    let sora = Sora::start();
    sora.state().connections = vec![connection("spam", "1", 100)];
    for verb in "get;sessions;connections;nodes;is drained;set block_new_session;drain --timeout 1ms;wait drained --timeout 1ms".split(';')
    {
        let mut command = program(Path::new("/nonexistent"));
        let ended = command.args(["--api-url", &sora.url(), "-o", "json"]).args(verb.split_whitespace()).ended();
        assert!(!ended.stdout.is_empty(), "{ended:?}");
        ended.stdout.lines().for_each(check);
    }
}

#[test]
fn set_prints_the_same_record_over_the_socket_and_over_the_api() {
    let daemon = Daemon::start_with(|config| {
        config.http.api.listen = vec!["127.86.7.11:3000".parse().unwrap()];
    });
    let over_api = |args: &[&str]| {
        let mut command = program(Path::new("/nonexistent"));
        command
            .args(["--api-url", "http://127.86.7.11:3000"])
            .args(args);
        command.ended().stdout
    };
    let plain = ["set", "block_new_session", "-o", "plain"];
    let json = ["set", "block_new_session", "-o", "json"];
    let changed = over_api(&plain);
    let unchanged = daemon.ok(&plain);
    assert_eq!(over_api(&plain), unchanged);
    assert_eq!(over_api(&json), daemon.ok(&json));
    let generation = unchanged.rsplit('\t').next().unwrap();
    assert_eq!(
        changed,
        format!("changed\tnode-01\tnormal\tblock_new_session\t{generation}")
    );
}
