//! Means of ending the sessions of a fenced node, and its return to the cluster.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::etcd::Etcd;
use crate::node::{Events, FENCED, Node, stands};

fn fenced_by(means: &str) -> Vec<&str> {
    FENCED
        .into_iter()
        .filter(|word| !word.starts_with("--on-fence"))
        .chain([means])
        .collect()
}

/// From joined with a session over the fence to joined anew.
async fn fence(etcd: &Etcd, node: &Node, obey: impl AsyncFnOnce(&mut Events)) {
    node.joined().await;
    node.offered("spam", "1").await;
    let before = node.status().await.cluster.unwrap().incarnation;
    let mut events = node.events().await;
    etcd.freeze();
    events.until("node.fenced").await;
    stands(node, Membership::Fenced, Mode::Initial).await;
    obey(&mut events).await;
    etcd.thaw();
    events.until("node.joined").await;
    let status = node.status().await;
    assert_eq!(
        (status.sessions, status.mode.mode),
        (0, Mode::Normal),
        "what was served is over"
    );
    assert!(
        status.cluster.unwrap().incarnation > before,
        "and this is another life"
    );
    node.offered("spam", "2").await;
}

#[tokio::test]
async fn subscribers_are_notified_and_acknowledge() {
    let etcd = Etcd::start();
    let node = Node::start("n1", &etcd, &FENCED);
    fence(&etcd, &node, Events::obey).await;
}

#[tokio::test]
async fn a_command_is_run() {
    let etcd = Etcd::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ran");
    let means = format!("--on-fence=exec:echo all >> {}", file.display());
    let node = Node::start("n1", &etcd, &fenced_by(&means));
    fence(&etcd, &node, async |_: &mut Events| {}).await;
    assert_eq!(
        std::fs::read_to_string(file).unwrap().lines().next(),
        Some("all")
    );
}

#[tokio::test]
async fn soras_api_is_called() {
    let etcd = Etcd::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("--sora-api=http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&asked);
    std::thread::spawn(move || {
        listener
            .incoming()
            .for_each(|stream| answer(stream.unwrap(), &heard));
    });
    let words = fenced_by("--on-fence=sora-api")
        .into_iter()
        .chain([url.as_str()])
        .collect::<Vec<_>>();
    let node = Node::start("n1", &etcd, &words);
    fence(&etcd, &node, async |_: &mut Events| {}).await;
    let asked = asked.lock().unwrap();
    assert!(
        asked
            .iter()
            .any(|it| it.contains("Sora_20151104.DisconnectChannel") && it.contains("spam")),
        "{asked:?}"
    );
}

/// Answers like a Sora without connections that accepts every request.
fn answer(mut stream: TcpStream, heard: &Mutex<Vec<String>>) {
    let mut bytes = vec![0; 4_096];
    let mut text = String::new();
    // Head and body of these are small, and come in a piece or two.
    while !is_whole(&text) {
        let read = stream.read(&mut bytes).unwrap_or(0);
        if read == 0 {
            return;
        }
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    let body = if text.contains("List") { "[]" } else { "{}" };
    heard.lock().unwrap().push(text);
    let said = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{body}"
    );
    stream.write_all(said.as_bytes()).unwrap_or_default();
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")
            .and_then(|it| it.parse().ok())
    });
    body.len() >= length.unwrap_or(0)
}
