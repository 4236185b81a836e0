//! The status page and `/status.json`.

use serde_json::{Value, json};
use soramoded::config::StatusPage;

use crate::wire::{API_PORT, Node, OBSERVE_PORT, Said, exchange};

/// Gets a path with these headers.
fn get(node: &Node, path: &str, headers: &str) -> Said {
    let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
    exchange(node.at(OBSERVE_PORT), &request)
}

fn with_peers(urls: &[String]) -> Node {
    let peers = urls.iter().map(|url| url.parse().unwrap()).collect();
    Node::with(|config| config.http.status_page = StatusPage::Served(peers))
}

#[test]
fn the_page_is_html_without_scripts_and_other_hosts() {
    let node = Node::start();
    let mut client = node.daemon.client();
    client.connect("<script>alert(1)</script>", "<b>1");
    let page = node.get_observe("/");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("cache-control"), Some("no-store"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'self';"),
        "{policy}"
    );
    let text = page.text();
    assert!(
        text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
        "{text}"
    );
    for absent in ["<script", "http:", "https:", "style=", "onload"] {
        assert!(!text.contains(absent), "{absent} in {text}");
    }
    let style = node.get_observe("/status.css");
    assert_eq!(
        style.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    assert!(!style.text().contains("url("));
    let japanese = get(
        &node,
        "/",
        "host: localhost\r\naccept-language: ja, en;q=0.5\r\n",
    );
    assert!(japanese.text().contains("受付中"), "{}", japanese.text());
}

#[test]
fn the_reason_of_an_incomplete_list_is_in_the_language_of_the_page() {
    let node = Node::with(|config| {
        config.assume_complete = false;
        config.http.sora.api = Some("http://127.0.0.1:9/".parse().unwrap());
    });
    for (language, words) in [
        ("en", "has had no usable answer from Sora"),
        ("ja", "は、Sora の API"),
    ] {
        let headers = format!("host: localhost\r\naccept-language: {language}\r\n");
        let page = get(&node, "/", &headers);
        assert!(page.text().contains(words), "no {words} in {}", page.text());
    }
}

#[test]
fn the_status_is_that_of_get_status() {
    let node = Node::start();
    let mut client = node.daemon.client();
    client.connect("spam", "1");
    let started = client.get(
        "StartPlan",
        &json!({"steps": [{"do": "mode", "at_seconds": 0, "mode": "block_new_session"}]}),
    );
    let document = node.get_observe("/status.json").json();
    let mut status = client.get("GetStatus", &json!({}));
    status["uptime_seconds"] = document["status"]["uptime_seconds"].clone();
    assert_eq!(
        (&document["schema"], &document["status"]),
        (&json!(1), &status)
    );
    assert_eq!(document["plan"]["id"], started["plan"]["id"]);
    assert_eq!(document["members"][0]["node_name"], status["node_name"]);
    assert!(node.get_observe("/").text().contains("Maintenance plan"));
}

#[test]
fn peers_are_shown_with_their_mode_or_their_problem() {
    let other = Node::start();
    other
        .daemon
        .client()
        .get("ChangeMode", &json!({"mode": "block_new_connection"}));
    let off = Node::with(|config| config.http.status_page = StatusPage::Off);
    let url = |node: &Node, port| format!("http://{}", node.at(port));
    let node = with_peers(&[
        url(&other, OBSERVE_PORT),
        url(&off, OBSERVE_PORT),
        url(&other, API_PORT),
    ]);
    let page = node.get_observe("/");
    let text = page.text();
    assert!(
        text.contains("<span class=\"closed\">Closed</span>"),
        "{text}"
    );
    assert_eq!(text.matches("HTTP status 40").count(), 2, "{text}");
}

#[test]
fn a_peer_is_read_only_as_far_as_it_makes_sense() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let node = with_peers(&[
        format!("http://{address}/long"),
        format!("http://{address}/moved"),
        format!("http://{address}/other"),
    ]);
    let answers = std::thread::spawn(move || {
        // The peers are called in any order, by the same path: each gets one of the answers.
        for head in [
            format!("200 OK\r\ncontent-length: {}", 70_000),
            "302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0".to_owned(),
            "200 OK\r\ncontent-length: 2".to_owned(),
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4_096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream
                .write_all(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes())
                .unwrap();
            // The reader may hang up before it has all of it.
            let body = if head.contains("70") {
                vec![b' '; 70_000]
            } else {
                b"{}".to_vec()
            };
            drop(stream.write_all(&body));
        }
    });
    let page = node.get_observe("/");
    answers.join().unwrap();
    for problem in [
        "answer longer than 65536 bytes",
        "HTTP status 302",
        "not the status of a soramoded",
    ] {
        assert!(page.text().contains(problem), "{problem}: {}", page.text());
    }
}

#[test]
fn the_page_can_be_switched_off() {
    let node = Node::with(|config| config.http.status_page = StatusPage::Off);
    for path in ["/", "/status.json", "/status.css"] {
        assert_eq!(node.get_observe(path).status, 404, "{path}");
    }
    assert_eq!(node.get_observe("/live").status, 200);
}

#[test]
fn a_local_browser_must_name_this_machine() {
    let node = Node::start();
    for path in ["/", "/status.json"] {
        let refused = get(&node, path, "host: evil.example:9400\r\n");
        assert_eq!(refused.status, 403, "{path}");
        let reason: Value = refused.json();
        assert_eq!(reason["error_type"], "Forbidden");
    }
    assert_eq!(get(&node, "/metrics", "host: evil.example\r\n").status, 200);
    let post = exchange(
        node.at(OBSERVE_PORT),
        "POST /status.json HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n",
    );
    assert_eq!(
        (post.status, post.header("allow")),
        (405, Some("GET, HEAD"))
    );
}
