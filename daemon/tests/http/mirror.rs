//! `--sora-mode mirror`: the mode is set on a Sora that has one too.

use std::time::Duration;

use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramoded::args::http::SoraMode;

use crate::fake::{Fake, Reply};
use crate::wire::Node;

/// Starts a node that waits long for Sora.
fn node_before(sora: &Fake) -> Node {
    node_that_waits(sora, PATIENCE)
}

/// Starts a node that gives up on Sora soon.
fn impatient_node_before(sora: &Fake) -> Node {
    node_that_waits(sora, Duration::from_secs(2))
}

fn node_that_waits(sora: &Fake, upstream_timeout: Duration) -> Node {
    Node::with(|config| {
        config.http.sora.api = Some(sora.url("/").parse().unwrap());
        config.http.sora.mode = SoraMode::Mirror;
        config.http.sora.upstream_timeout = upstream_timeout;
    })
}

/// The modes that Sora was set to, in order.
fn mirrored_modes(sora: &Fake) -> Vec<String> {
    let got = sora
        .got()
        .into_iter()
        .filter(|got| got.header("x-sora-target") == Some("Sora_20211215.ChangeMode"));
    got.map(|got| {
        serde_json::from_slice::<Value>(&got.body).unwrap()["mode"]
            .as_str()
            .unwrap()
            .to_owned()
    })
    .collect()
}

#[test]
fn each_change_is_mirrored_before_its_answer() {
    let sora = Fake::that(Reply::json(200, r#"{"mode":"normal"}"#));
    let node = node_before(&sora);
    let mut client = node.daemon.client();
    for (number, mode) in [
        "block_new_session",
        "block_new_connection",
        "normal",
        "normal",
    ]
    .into_iter()
    .enumerate()
    {
        let changed = if number % 2 == 0 {
            client.get("ChangeMode", &json!({"mode": mode}))
        } else {
            node.ask(
                "Sora_20211215.ChangeMode",
                &json!({"mode": mode}).to_string(),
            )
            .json()
        };
        assert_eq!(
            (&changed["mode"], changed.get("warning")),
            (&json!(mode), None)
        );
        assert_eq!(mirrored_modes(&sora).len(), number + 1);
    }
    assert_eq!(
        mirrored_modes(&sora),
        [
            "block_new_session",
            "block_new_connection",
            "normal",
            "normal"
        ]
    );
}

#[test]
fn automatic_changes_are_mirrored_too() {
    let sora = Fake::that(Reply::json(200, r#"{"mode":"normal"}"#));
    let node = node_before(&sora);
    let mut client = node.daemon.client();
    client.get(
        "ChangeMode",
        &json!({"mode": "block_new_session", "expires_in_seconds": 1}),
    );
    let params = json!({"for": "mode", "mode": "normal", "timeout_seconds": 20});
    assert_eq!(client.get("Wait", &params)["outcome"], "reached");
    while mirrored_modes(&sora).len() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(mirrored_modes(&sora), ["block_new_session", "normal"]);
}

#[test]
fn a_failed_mirror_is_a_warning_and_no_lost_change() {
    let sora = Fake::that(Reply::json(500, r#"{"error_type":"HandlerException"}"#));
    let node = impatient_node_before(&sora);
    let mut client = node.daemon.client();
    let words = " to block_new_session: answered 500 HandlerException";
    let changed = client.get("ChangeMode", &json!({"mode": "block_new_session"}));
    assert_eq!(
        (&changed["mode"], &changed["changed"]),
        (&json!("block_new_session"), &json!(true))
    );
    assert!(
        changed["warning"].as_str().unwrap().ends_with(words),
        "{changed}"
    );
    assert!(
        client.status()["warnings"][0]
            .as_str()
            .unwrap()
            .ends_with(words)
    );
    let said = node.ask(
        "Sora_20211215.ChangeMode",
        r#"{"mode":"block_new_session"}"#,
    );
    assert_eq!(
        (said.status, said.text()),
        (200, r#"{"mode":"block_new_session"}"#)
    );
    assert!(said.header("x-soramode-warning").unwrap().ends_with(words));
    sora.reply_from_now(Reply::Hang);
    let changed = client.get("ChangeMode", &json!({"mode": "block_new_connection"}));
    assert!(
        changed["warning"]
            .as_str()
            .unwrap()
            .ends_with(" to block_new_connection: no answer in time"),
        "{changed}"
    );
    assert_eq!(
        client.get("GetMode", &json!({}))["mode"],
        "block_new_connection"
    );
    sora.reply_from_now(Reply::json(200, r#"{"mode":"normal"}"#));
    let changed = client.get("ChangeMode", &json!({"mode": "normal"}));
    assert_eq!(
        (changed.get("warning"), client.status().get("warnings")),
        (None, None),
        "the mode is set, and there is no problem"
    );
}

#[test]
fn the_stricter_of_two_modes_is_shown() {
    let sora = Fake::that(Reply::json(200, r#"{"mode":"block_new_session"}"#));
    let node = impatient_node_before(&sora);
    let mut client = node.daemon.client();
    let state = client.get("GetMode", &json!({}));
    assert_eq!(
        (&state["mode"], &state["own_mode"]),
        (&json!("block_new_session"), &json!("normal"))
    );
    assert_eq!(
        node.ask("Sora_20211215.GetMode", "").text(),
        r#"{"mode":"block_new_session"}"#
    );
    client.get("ChangeMode", &json!({"mode": "block_new_connection"}));
    let state = client.get("GetMode", &json!({}));
    assert_eq!(
        (&state["mode"], state.get("own_mode")),
        (&json!("block_new_connection"), None)
    );
    for reply in [
        Reply::Hang,
        Reply::json(400, r#"{"error_type":"MissingTarget"}"#),
        Reply::json(200, r#"{"mode":"odd"}"#),
    ] {
        sora.reply_from_now(reply);
        assert_eq!(
            client.get("GetMode", &json!({}))["mode"],
            "block_new_connection",
            "ours is known whatever Sora says"
        );
    }
}

#[test]
fn answers_come_in_their_order_though_some_wait_for_sora() {
    let sora = Fake::that(Reply::json(200, r#"{"mode":"normal"}"#));
    let node = node_before(&sora);
    let mut client = node.daemon.client();
    let asked: Vec<i64> = (0..200)
        .map(|number| match number % 3 {
            0 => client.send_request(
                "ChangeMode",
                &json!({"mode": if number % 2 == 0 { "block_new_session" } else { "normal" }}),
            ),
            1 => client.send_request("GetMode", &json!({})),
            _ => client.send_request("GetStatus", &json!({})),
        })
        .collect();
    let heard: Vec<i64> = asked
        .iter()
        .map(|_| client.recv()["id"].as_i64().unwrap())
        .collect();
    assert_eq!(heard, asked);
}

#[test]
fn a_shutdown_leaves_no_answer_pending() {
    let sora = Fake::that(Reply::Hang);
    let node = Node::with(|config| {
        config.http.sora.api = Some(sora.url("/").parse().unwrap());
        config.http.sora.mode = SoraMode::Mirror;
    });
    let mut client = node.daemon.client();
    let asked = client.send_request("ChangeMode", &json!({"mode": "block_new_session"}));
    while mirrored_modes(&sora).is_empty() {
        std::thread::yield_now();
    }
    node.daemon.request_stop();
    let answer = client.recv();
    assert_eq!(
        (&answer["id"], &answer["result"]["mode"]),
        (&json!(asked), &json!("block_new_session"))
    );
    assert!(
        answer["result"]["warning"]
            .as_str()
            .unwrap()
            .contains("is stopping")
    );
}

#[test]
fn a_reconnect_grace_that_sora_does_not_know_is_a_warning() {
    let sora = Fake::that(Reply::json(200, r#"{"mode":"normal"}"#));
    let warns = |grace| {
        let node = Node::with(|config| {
            config.http.sora.api = Some(sora.url("/").parse().unwrap());
            config.http.sora.mode = SoraMode::Mirror;
            config.reconnect_grace = grace;
        });
        node.daemon
            .client()
            .status()
            .to_string()
            .contains("--reconnect-grace")
    };
    assert!(warns(Duration::from_secs(30)) && !warns(Duration::ZERO));
}
