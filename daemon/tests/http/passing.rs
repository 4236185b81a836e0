//! Forwarding to a Sora's own API: requests and answers are unchanged.

use std::time::Duration;

use serde_json::{Value, json};
use soramode_testkit::PATIENCE;
use soramoded::args::http::{Listen, SoraMode};
use soramoded::http::{BODY_BYTES_MAX, LARGE_BODIES_KIB_MAX, LARGE_BODY_BYTES_MAX};

use crate::fake::{Fake, Reply};
use crate::wire::{API_PORT, Node, Wire, exchange, request};

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
        config.http.sora.upstream_timeout = upstream_timeout;
    })
}

#[test]
fn everything_but_the_mode_is_soras_both_ways() {
    let answer = "{ \"odd\" : [1 ,2] }\n";
    let whole = format!(
        "HTTP/1.1 418 Teapot\r\ncontent-type: text/x-sora\r\nx-sora-says: so\r\nx-two: a\r\nx-two: b\r\nkeep-alive: timeout=5\r\n\
         connection: x-hop, keep-alive\r\nx-hop: 1\r\naccess-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\n\
         access-control-expose-headers: x-sora-says\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    let sora = Fake::that(Reply::Say(whole.into_bytes()));
    let node = node_before(&sora);
    let body = "{\"any\" :\t1}";
    let headers = [
        ("x-sora-target", "Sora_20991231.NotYetInvented"),
        ("x-mine", "1"),
        ("connection", "x-private"),
        ("x-private", "2"),
        ("authorization", "Bearer of-soramode"),
        ("te", "trailers"),
        ("proxy-connection", "keep-alive"),
    ];
    let said = exchange(node.at(API_PORT), &request("/", &headers, body));
    assert_eq!((said.status, said.text()), (418, answer));
    assert_eq!(
        (said.header("content-type"), said.header("x-sora-says")),
        (Some("text/x-sora"), Some("so"))
    );
    assert_eq!(
        said.headers
            .iter()
            .filter(|(name, _)| name == "x-two")
            .count(),
        2
    );
    assert_eq!(
        (
            said.header("x-hop"),
            said.header("keep-alive"),
            said.header("access-control-allow-origin")
        ),
        (None, None, None)
    );
    assert!(
        !said
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("access-control-")),
        "{:?}",
        said.headers
    );
    // The daemon polls it too: the last is ours.
    let got = sora
        .got()
        .into_iter()
        .find(|got| got.header("x-sora-target") == Some("Sora_20991231.NotYetInvented"))
        .unwrap();
    assert_eq!(
        (got.first.as_str(), got.body.as_slice()),
        ("POST / HTTP/1.1", body.as_bytes())
    );
    assert_eq!(
        (got.header("x-mine"), got.header("host")),
        (Some("1"), Some(sora.address.to_string().as_str()))
    );
    assert_eq!(
        (
            got.header("x-private"),
            got.header("te"),
            got.header("authorization")
        ),
        (None, None, None)
    );
    assert_eq!(got.header("proxy-connection"), None);
    for ours in ["Sora_20211215.GetMode", "Sora_20211215.ChangeMode"] {
        let said = node.ask(ours, r#"{"mode":"normal"}"#);
        assert_eq!(said.text(), r#"{"mode":"normal"}"#);
        assert!(
            sora.got()
                .iter()
                .all(|got| got.header("x-sora-target") != Some(ours)),
            "the mode is ours alone"
        );
    }
    let target = "Soramode_20261201.GetStatus";
    assert_eq!(node.ask(target, "").json()["mode"], "normal");
    assert!(
        sora.got()
            .iter()
            .all(|got| got.header("x-sora-target") != Some(target)),
        "the status is ours alone"
    );
}

#[test]
fn a_failing_sora_and_a_refusing_one_get_different_answers() {
    let sora = Fake::that(Reply::Hang);
    let node = impatient_node_before(&sora);
    let ask = || {
        let said = node.ask("Sora_20201013.ListConnections", "");
        (said.status, said.json()["error_type"].clone())
    };
    assert_eq!(ask(), (504, json!("GatewayTimeout")));
    sora.reply_from_now(Reply::SayAndClose(Vec::new()));
    assert_eq!(ask(), (502, json!("BadGateway")));
    sora.reply_from_now(Reply::SayAndClose(b"nonsense\r\n\r\n".to_vec()));
    assert_eq!(ask(), (502, json!("BadGateway")));
    sora.reply_from_now(Reply::json(400, r#"{"error_type":"ItsOwn"}"#));
    assert_eq!(ask(), (400, json!("ItsOwn")));
    let nobody =
        Node::with(|config| config.http.sora.api = Some("http://127.0.0.1:1/".parse().unwrap()));
    let said = nobody.ask("Sora_20201013.ListConnections", "");
    assert_eq!(
        (said.status, said.json()),
        (
            502,
            json!({"error_type": "BadGateway", "error_reason": "Connection refused"})
        )
    );
    assert_eq!(
        nobody.ask("Sora_20211215.GetMode", "").status,
        200,
        "what is ours does not need it"
    );
}

#[test]
fn an_answer_that_breaks_off_breaks_off() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\":".to_vec();
    let sora = Fake::that(Reply::SayAndClose(half));
    let node = node_before(&sora);
    let mut wire = Wire::to(node.at(API_PORT));
    wire.send(request(
        "/",
        &[("x-sora-target", "Sora_20201013.ListConnections")],
        "",
    ));
    let received = wire.recv_all().unwrap_or_default();
    assert!(
        received.len() < 400 && !received.ends_with(b"}"),
        "what is half must not look whole: {}",
        String::from_utf8_lossy(&received)
    );
    // In chunks the end is said, and must not be.
    sora.reply_from_now(Reply::SayAndClose(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n[1,2\r\n".to_vec(),
    ));
    let mut wire = Wire::to(node.at(API_PORT));
    wire.send(request(
        "/",
        &[("x-sora-target", "Sora_20201013.ListConnections")],
        "",
    ));
    let received = wire.recv_all().unwrap_or_default();
    assert!(
        !received.ends_with(b"0\r\n\r\n"),
        "{}",
        String::from_utf8_lossy(&received)
    );
}

#[test]
fn a_long_answer_is_passed_on_while_it_comes() {
    let text = format!("[{}1]", "1,".repeat(4_000_000));
    let sora = Fake::that(Reply::json(200, &text));
    let node = node_before(&sora);
    let said = node.ask("Sora_20171101.GetStatsAllConnections", "");
    assert_eq!((said.status, said.body.len()), (200, text.len()));
    assert!(said.body == text.as_bytes());
}

#[test]
fn in_a_list_of_nodes_our_own_has_our_mode() {
    let theirs = r#"[{"node_name":"sfu-7","mode":"normal","connected":true,"epoch":3,"odd":null},{"node_name":"sfu-8","mode":"normal"},{"node_name":"sfu-9","connected":false}]"#;
    let sora = Fake::that(Reply::json(200, theirs));
    let node = Node::with(|config| {
        config.node_name = "sfu-7".parse().unwrap();
        config.http.sora.api = Some(sora.url("/").parse().unwrap());
    });
    node.ask(
        "Sora_20211215.ChangeMode",
        r#"{"mode":"block_new_session"}"#,
    );
    let mut wanted: Value = serde_json::from_str(theirs).unwrap();
    wanted[0]["mode"] = json!("block_new_session");
    assert_eq!(
        node.ask("Sora_20211215.ListClusterNodes", "").json(),
        wanted
    );
    for odd in ["{}", "[1]", "no JSON", "[]"] {
        sora.reply_from_now(Reply::json(200, odd));
        assert_eq!(
            node.ask("Sora_20211215.ListClusterNodes", "").text(),
            odd,
            "what is not a list of nodes is passed on as it is"
        );
    }
    sora.reply_from_now(Reply::json(400, r#"{"error_type":"MissingTarget"}"#));
    assert_eq!(node.ask("Sora_20211215.ListClusterNodes", "").status, 400);
}

#[test]
fn a_redirect_of_soras_is_not_followed() {
    let elsewhere = Fake::that(Reply::json(200, "{}"));
    let away = format!(
        "HTTP/1.1 307 X\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url("/")
    );
    let sora = Fake::that(Reply::Say(away.into_bytes()));
    let node = node_before(&sora);
    assert_eq!(node.ask("Sora_20201013.ListConnections", "").status, 307);
    assert!(elsewhere.got().is_empty());
}

#[test]
fn a_length_beside_chunks_says_nothing() {
    let odd = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\na\r\n[1,2,3,4,5\r\n1\r\n]\r\n0\r\n\r\n";
    let node = node_before(&Fake::that(Reply::SayAndClose(odd.to_vec())));
    let said = node.ask("Sora_20201013.ListConnections", "");
    assert_eq!(
        (said.status, said.text(), said.header("content-length")),
        (200, "[1,2,3,4,5]", None)
    );
}

#[test]
fn no_other_protocol_is_spoken_through_us() {
    let switch =
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: spam\r\n\r\n";
    let node = node_before(&Fake::that(Reply::Say(switch.to_vec())));
    assert_eq!(node.ask("Sora_20201013.ListConnections", "").status, 502);
}

/// Text of a server that may be anybody's, on the plain way to it.
#[test]
fn a_long_error_of_soras_is_cut() {
    for bytes in [1_000, 60_000, 6 * 1024 * 1024] {
        let long = "x".repeat(bytes);
        let sora = Fake::that(Reply::json(400, &json!({"error_type": long}).to_string()));
        let node = Node::with(|config| {
            config.http.sora.api = Some(sora.url("/").parse().unwrap());
            config.http.sora.mode = SoraMode::Mirror;
        });
        let mut client = node.daemon.client();
        let changed = client.get("ChangeMode", &json!({"mode": "block_new_session"}));
        assert!(
            changed["warning"].as_str().unwrap().len() < 500,
            "{bytes} bytes"
        );
        assert!(client.status().to_string().len() < 8_000, "{bytes} bytes");
    }
}

/// A name may lead back to the daemon, which its configuration does not show.
#[test]
fn a_forwarding_loop_ends_at_once_with_an_error() {
    let node = Node::with(|config| {
        let Listen::Tcp(own) = config.http.api.listen[0].clone() else {
            panic!("it listens on TCP")
        };
        let behind_a_name = format!("http://{own}/");
        config.http.sora.api = Some(behind_a_name.parse().unwrap());
        let sora = config.http.sora.listen.unwrap();
        config.http.sora.upstreams.auth = Some(format!("http://{sora}/sora/auth").parse().unwrap());
    });
    let said = node.ask("Sora_20201013.ListConnections", "");
    assert_eq!(
        (said.status, said.json()["error_type"].clone()),
        (508, json!("LoopDetected"))
    );
    let auth = json!({"role": "sendrecv", "channel_id": "spam", "connection_id": "one", "client_id": "alice"});
    assert_eq!(node.post_webhook("auth", &auth).json()["allowed"], false);
    let status = node.daemon.client().status();
    let upstreams = status["upstreams"].as_array().unwrap();
    let auth = upstreams.iter().find(|it| it["name"] == "auth").unwrap();
    assert_eq!(
        auth["problem"],
        "answered 508: its URL leads back to this soramoded"
    );
}

/// A body of so many bytes.
fn large(bytes: usize) -> String {
    let start = r#"{"pad":""#;
    format!("{start}{}\"}}", "x".repeat(bytes - start.len() - 2))
}

#[test]
fn a_call_as_large_as_sora_takes_is_passed_on_and_a_larger_one_is_refused() {
    let sora = Fake::that(Reply::json(200, "{}"));
    let node = node_before(&sora);
    let unknown = "Sora_20991231.NotYetInvented";
    for bytes in [BODY_BYTES_MAX + 1, LARGE_BODY_BYTES_MAX] {
        assert_eq!(node.ask(unknown, &large(bytes)).status, 200);
        let got = sora
            .got()
            .into_iter()
            .rfind(|got| got.header("x-sora-target") == Some(unknown))
            .unwrap();
        assert!(got.body == large(bytes).as_bytes());
    }
    let head = |length: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nx-sora-target: {unknown}\r\n{length}\r\n\r\n"
        )
    };
    let body = large(LARGE_BODY_BYTES_MAX);
    let chunked = format!(
        "{}{:x}\r\n{body}\r\n0\r\n\r\n",
        head("transfer-encoding: chunked"),
        body.len()
    );
    assert_eq!(exchange(node.at(API_PORT), &chunked).status, 200);
    let said = exchange(
        node.at(API_PORT),
        &head(&format!("content-length: {}", LARGE_BODY_BYTES_MAX + 1)),
    );
    assert_eq!(
        (said.status, said.text()),
        (413, r#"{"error_type":"PayloadTooLarge"}"#)
    );
}

#[test]
fn large_calls_share_a_bounded_memory() {
    let sora = Fake::that(Reply::Hang);
    let node = Node::with(|config| {
        config.http.sora.api = Some(sora.url("/").parse().unwrap());
        config.http.sora.upstream_timeout = PATIENCE;
    });
    // Each holds what it is larger than a small one, in KiB.
    let each = (LARGE_BODY_BYTES_MAX - BODY_BYTES_MAX).div_ceil(1024);
    let fit = LARGE_BODIES_KIB_MAX as usize / each;
    let call = request(
        "/",
        &[("x-sora-target", "Sora_20991231.NotYetInvented")],
        &large(LARGE_BODY_BYTES_MAX),
    );
    let mut waiting: Vec<Wire> = Vec::new();
    for _ in 0..fit {
        let mut wire = Wire::to(node.at(API_PORT));
        wire.send(&call);
        waiting.push(wire);
    }
    // One poll of the daemon's own, for the connections, is added.
    sora.wait_for(fit + 1);
    let left = LARGE_BODIES_KIB_MAX as usize - fit * each;
    let head = call.find('{').unwrap();
    let mut refused = Wire::to(node.at(API_PORT));
    refused.send(&call.as_bytes()[..=head + BODY_BYTES_MAX + left * 1024]);
    let said = refused.recv().unwrap();
    assert_eq!(
        (said.status, said.text()),
        (503, r#"{"error_type":"TooManyLargeRequests"}"#)
    );
    sora.reply_from_now(Reply::json(200, "{}"));
    assert_eq!(
        node.ask("Sora_20991231.NotYetInvented", &large(BODY_BYTES_MAX))
            .status,
        200,
        "a small one needs no room"
    );
}

#[test]
fn a_list_of_nodes_that_drips_is_not_waited_for() {
    let sora = Fake::that(Reply::Drip(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n["
            .to_vec(),
    ));
    let node = impatient_node_before(&sora);
    let said = node.ask("Sora_20211215.ListClusterNodes", "{}");
    assert_eq!(
        (said.status, said.json()["error_type"].as_str()),
        (504, Some("GatewayTimeout")),
        "{}",
        said.text()
    );
}
