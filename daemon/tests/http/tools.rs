//! Programs of others, against our listeners.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::api::ORIGIN;
use crate::wire::{API_PORT, Node};

/// Runs it; `None`, with a word, where it is not installed.
fn run(command: &mut Command, input: &str) -> Option<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let Ok(mut child) = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{program} is not installed"
        );
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    Some(child.wait_with_output().unwrap())
}

#[test]
fn promtool_accepts_the_metrics() {
    let node = Node::start();
    node.daemon.client().connect("spam", "1");
    node.ask("Sora_20211215.GetMode", "");
    let text = node.get_observe("/metrics").text().to_owned();
    let Some(checked) = run(Command::new("promtool").args(["check", "metrics"]), &text) else {
        return;
    };
    let said = [checked.stdout, checked.stderr].concat();
    assert!(
        checked.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
    // It does look.
    let Some(wrong) = run(
        Command::new("promtool").args(["check", "metrics"]),
        "# TYPE x_count counter\nx_count 1\n",
    ) else {
        return;
    };
    assert!(!wrong.status.success());
}

/// The alert rules parse, and each fires and stays quiet as `soramode.rules.test.yml` says.
#[test]
fn the_alert_rules_pass_their_tests() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/prometheus/");
    for (task, file) in [
        ("check", "soramode.rules.yml"),
        ("test", "soramode.rules.test.yml"),
    ] {
        let mut command = Command::new("promtool");
        let Some(checked) = run(command.args([task, "rules", file]).current_dir(rules), "") else {
            return;
        };
        let said = [checked.stdout, checked.stderr].concat();
        assert!(
            checked.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
}

/// Runs the command of the mode feature's documentation: `http POST $URL x-sora-target:… [mode=…]
/// -vvv`.
fn httpie(node: &Node, arguments: &[&str]) -> Option<(String, Value)> {
    let url = node.at(API_PORT).to_string();
    let mut command = Command::new("http");
    let target = arguments.first().unwrap();
    command
        .args(["--ignore-stdin", "--print=h", "POST", &url, target])
        .args(arguments.iter().skip(1))
        .env("NO_COLOR", "1");
    let head = run(&mut command, "")?;
    let mut command = Command::new("http");
    command
        .args(["--ignore-stdin", "--print=b", "POST", &url, target])
        .args(arguments.iter().skip(1))
        .env("NO_COLOR", "1");
    let body = run(&mut command, "")?;
    assert!(
        head.status.success() && body.status.success(),
        "{}",
        String::from_utf8_lossy(&body.stderr)
    );
    Some((
        String::from_utf8(head.stdout).unwrap(),
        serde_json::from_slice(&body.stdout).unwrap(),
    ))
}

#[test]
fn httpie_gets_the_documented_answers() {
    let node = Node::with(|config| config.http.api.cors_origins = vec![ORIGIN.parse().unwrap()]);
    for mode in ["block_new_session", "block_new_connection", "normal"] {
        let change = format!("mode={mode}");
        let Some((head, body)) =
            httpie(&node, &["x-sora-target:Sora_20211215.ChangeMode", &change])
        else {
            return;
        };
        assert!(
            head.starts_with("HTTP/1.1 200 OK") && head.contains("access-control-max-age: 1000"),
            "{head}"
        );
        assert_eq!(body, json!({"mode": mode}));
        let Some((head, body)) = httpie(&node, &["x-sora-target:Sora_20211215.GetMode"]) else {
            return;
        };
        assert!(
            head.contains(&format!(
                "content-length: {}",
                json!({"mode": mode}).to_string().len()
            )),
            "{head}"
        );
        assert_eq!(body, json!({"mode": mode}));
    }
}

/// A viewer of Sora's statistics. `script` gives it a terminal, and it paints there only what is new.
#[test]
fn sorastats_shows_who_is_connected() {
    let node = Node::start();
    let mut client = node.daemon.client();
    client.connect("spam", "the-first-connection");
    client.connect("egg", "another-connection");
    let folder = tempfile::tempdir().unwrap();
    let viewer = format!(
        "stty rows 40 cols 120; exec timeout 60 sorastats http://{}/",
        node.at(API_PORT)
    );
    let mut command = Command::new("script");
    command
        .args(["-qfec", &viewer])
        .arg(folder.path().join("typescript"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut shown, mut piece) = (String::new(), [0; 4_096]);
    // Its names are cut to fit.
    while !["the-first-conn", "another-connec"]
        .iter()
        .all(|words| shown.contains(words))
    {
        let read = screen.read(&mut piece).unwrap();
        if read == 0 && shown.contains("No such file") {
            assert!(
                std::env::var_os("CI").is_none(),
                "sorastats is not installed"
            );
            eprintln!("skipped: sorastats is not installed");
            child.wait().unwrap();
            return;
        }
        assert!(read > 0, "ended: {shown}");
        shown.push_str(&String::from_utf8_lossy(piece.get(..read).unwrap()));
    }
    keys.write_all(b"q").unwrap();
    std::io::copy(&mut screen, &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success());
}
