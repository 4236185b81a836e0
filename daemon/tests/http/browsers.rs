//! Access to the API: pages of listed origins, no foreign host name, and from other hosts only with
//! a token.

use std::io::Write;

use serde_json::json;
use soramoded::config::Tokens;

use crate::api::ORIGIN;
use crate::wire::{API_PORT, Node, SORA_PORT, Said, exchange, request};

const GET_MODE: (&str, &str) = ("x-sora-target", "Sora_20211215.GetMode");

fn ask(node: &Node, headers: &[(&str, &str)]) -> Said {
    exchange(
        node.at(API_PORT),
        &request("/", &[&[GET_MODE], headers].concat(), ""),
    )
}

fn preflight(node: &Node, origin: &str) -> Said {
    let head =
        "access-control-request-method: POST\r\naccess-control-request-headers: x-sora-target";
    exchange(
        node.at(API_PORT),
        &format!(
            "OPTIONS / HTTP/1.1\r\nhost: localhost:{API_PORT}\r\norigin: {origin}\r\n{head}\r\n\r\n"
        ),
    )
}

#[test]
fn a_preflight_passes_from_a_listed_origin_alone() {
    let node = Node::with(|config| config.http.api.cors_origins = vec![ORIGIN.parse().unwrap()]);
    let passed = preflight(&node, ORIGIN);
    assert_eq!(
        (passed.status, passed.header("access-control-allow-origin")),
        (200, Some(ORIGIN))
    );
    assert_eq!(
        passed.header("access-control-allow-methods"),
        Some("POST, OPTIONS")
    );
    assert_eq!(
        passed.header("access-control-allow-headers"),
        Some("Origin, X-Requested-With, Content-Type, Accept, x-sora-target"),
        "and no Authorization, which nothing here takes"
    );
    assert_eq!(
        (
            passed.header("access-control-max-age"),
            passed.header("vary")
        ),
        (Some("1000"), None)
    );
    for other in [
        "http://127.0.0.1:5001",
        "https://127.0.0.1:5000",
        "http://127.0.0.1:50000",
        "http://127.0.0.1",
        "null",
        "",
    ] {
        let refused = preflight(&node, other);
        assert_eq!(
            (
                refused.status,
                refused.header("access-control-allow-origin")
            ),
            (403, None),
            "{other:?}"
        );
        assert_eq!(ask(&node, &[("origin", other)]).status, 403, "{other:?}");
    }
    assert_eq!(
        ask(&node, &[("origin", ORIGIN), ("origin", ORIGIN)]).status,
        403
    );
    assert_eq!(
        ask(&node, &[("origin", ORIGIN)]).text(),
        r#"{"mode":"normal"}"#
    );
    let wrong = exchange(node.at(API_PORT), &request("/", &[("origin", ORIGIN)], ""));
    assert_eq!(
        (wrong.status, wrong.header("access-control-allow-origin")),
        (400, Some(ORIGIN)),
        "a page sees its errors too"
    );
}

#[test]
fn each_of_several_origins_is_answered_with_its_own_name() {
    let second = "http://localhost:5000";
    let node = Node::with(|config| {
        config.http.api.cors_origins = [ORIGIN, second].map(|it| it.parse().unwrap()).into();
    });
    for origin in [ORIGIN, second] {
        let said = ask(&node, &[("origin", origin)]);
        assert_eq!(
            (
                said.header("access-control-allow-origin"),
                said.header("vary")
            ),
            (Some(origin), Some("origin"))
        );
    }
}

#[test]
fn without_cors_no_page_has_access() {
    let node = Node::start();
    assert_eq!(ask(&node, &[("origin", ORIGIN)]).status, 403);
    assert_eq!(
        ask(
            &node,
            &[("origin", &format!("http://localhost:{API_PORT}"))]
        )
        .status,
        403
    );
    assert_eq!(ask(&node, &[]).status, 200);
}

#[test]
fn a_name_that_is_not_ours_is_refused() {
    let listed =
        ["sfu.example.com", "[fd00:0::21]", "192.0.2.21"].map(|host| host.parse().unwrap());
    let node = Node::with(|config| config.http.api.hosts = listed.into());
    let ask = |host: &str| {
        let request = format!(
            "POST / HTTP/1.1\r\n{host}x-sora-target: Sora_20211215.GetMode\r\ncontent-length: 0\r\n\r\n"
        );
        exchange(node.at(API_PORT), &request)
    };
    for ours in [
        "localhost:3000",
        "LOCALHOST",
        "localhost:8080",
        "localhost.",
        "127.0.0.1",
        "127.9.9.9:3000",
        "[::1]:3000",
        "[::ffff:127.0.0.1]",
        "sfu.example.com",
        "SFU.example.com.:8443",
        "[fd00::21]",
        "[FD00:0:0::21]:3000",
        "192.0.2.21:80",
        "[::ffff:192.0.2.21]",
    ] {
        assert_eq!(ask(&format!("host: {ours}\r\n")).status, 200, "{ours}");
    }
    for foreign in [
        "evil.example.com",
        "evil.example.com:3000",
        "localhost.evil.example.com",
        "[fd00::22]",
        "192.0.2.2",
        "",
        "a b",
        "\u{e9}",
    ] {
        let said = ask(&format!("host: {foreign}\r\n"));
        assert!(matches!(said.status, 400 | 403), "{foreign:?}: {said:?}");
    }
    let refused = ask("host: proxy.example.com:8443\r\n").json();
    assert_eq!(
        refused["error_reason"],
        "the Host \"proxy.example.com:8443\" is not allowed"
    );
    assert_eq!(
        refused["hint"],
        "Start soramoded with --http-host proxy.example.com, or have the proxy send Host: localhost"
    );
    assert_eq!(ask("host: evil.example.com\r\n").status, 403);
    assert_eq!(
        ask("host: localhost:3000\r\nhost: localhost:3000\r\n").status,
        403,
        "two names are none"
    );
    assert_eq!(ask("").status, 403, "no name is none either");
}

#[test]
fn configured_tokens_are_required() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "# of the runbooks\nops {}\n{}",
        "a".repeat(32),
        "b".repeat(32)
    )
    .unwrap();
    let node = Node::with(|config| {
        config.http.api.tokens = Some(Tokens::read("http-token-file", file.path()).unwrap());
        config.http.api.cors_origins = vec![ORIGIN.parse().unwrap()];
    });
    let [a, b, c] = ["a", "b", "c"].map(|letter| letter.repeat(32));
    for wrong in [
        format!("Bearer {c}"),
        format!("Basic {a}"),
        a.clone(),
        "Bearer".to_owned(),
        format!("Bearer {a}{a}"),
        "Bearer ".to_owned(),
    ] {
        let refused = ask(&node, &[("authorization", &wrong)]);
        assert_eq!(
            (refused.status, refused.header("www-authenticate")),
            (401, Some("Bearer")),
            "{wrong}"
        );
    }
    assert_eq!(ask(&node, &[]).status, 401);
    let right = format!("Bearer {a}");
    assert_eq!(
        ask(
            &node,
            &[("authorization", &right), ("authorization", &right)]
        )
        .status,
        401
    );
    assert_eq!(
        ask(&node, &[("authorization", &format!("bearer {a}"))]).status,
        200
    );
    let change = [
        ("x-sora-target", "Sora_20211215.ChangeMode"),
        ("authorization", right.as_str()),
    ];
    exchange(
        node.at(API_PORT),
        &request("/", &change, r#"{"mode":"block_new_session"}"#),
    );
    assert_eq!(
        node.daemon.client().get("GetMode", &json!({}))["actor"],
        "http(ops)"
    );
    let unnamed = format!("Bearer {b}");
    let change = [
        ("x-sora-target", "Sora_20211215.ChangeMode"),
        ("authorization", unnamed.as_str()),
    ];
    exchange(
        node.at(API_PORT),
        &request("/", &change, r#"{"mode":"normal"}"#),
    );
    assert_eq!(
        node.daemon.client().get("GetMode", &json!({}))["actor"],
        "http"
    );
    // A page asks whether it may before it has a token to show.
    let passed = preflight(&node, ORIGIN);
    assert_eq!(passed.status, 200);
    assert!(
        passed
            .header("access-control-allow-headers")
            .unwrap()
            .ends_with(", Authorization")
    );
}

#[test]
fn no_page_can_send_webhooks() {
    let node = Node::start();
    let body = json!({"type": "connection.created", "channel_id": "spam", "session_id": "A", "connection_id": "1"}).to_string();
    let page = exchange(
        node.at(SORA_PORT),
        &request("/sora/event", &[("origin", ORIGIN)], &body),
    );
    assert_eq!(page.status, 403);
    assert_eq!(node.daemon.client().status()["connections"], 0);
}
