//! The client of the Admin API beside servers that close its connections.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::args::janus::{JanusEnd, JanusWay};

/// Reads a request and answers it, or closes the connection without an answer.
fn serve(mut stream: TcpStream, answers: bool) {
    let mut request = [0; 4096];
    let read = stream.read(&mut request).unwrap();
    if answers && read > 0 {
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
        stream.write_all(head.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn a_connection_without_an_answer_is_no_restart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("http://{}/admin", listener.local_addr().unwrap());
    // Each request has a connection of its own, and a lost one is sent once more. The thread ends with the test.
    std::thread::spawn(move || {
        let scripted = [true, false, false, false, false];
        for answers in scripted.into_iter().chain(std::iter::repeat(true)) {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, answers);
        }
    });
    let janus = JanusConfig {
        admin: admin.parse().unwrap(),
        way: JanusWay::Lock,
        admin_secret: Secret::new("s"),
        admin_key: None,
        listen: None,
        room_secrets: None,
        end: JanusEnd::Kick,
        refuse_sessions: false,
    };
    let api = AdminApi::new(&janus, &Outgoing::default()).unwrap();
    let mut reports = Vec::new();
    for _ in 0..5 {
        let answered: Result<Map<String, Value>, _> = api.send(&[], json!({})).await;
        reports.push((answered.is_ok(), api.has_reconnected()));
    }
    let [first, hangs, still, again, next] = reports[..] else {
        panic!("five requests");
    };
    assert_eq!(first, (true, false));
    assert_eq!((hangs, still), ((false, false), (false, false)));
    assert_eq!(
        (again, next),
        ((true, true), (true, true)),
        "each over a connection of its own"
    );
}

#[test]
fn a_connection_that_was_used_is_kept_alive() {
    let now = Instant::now();
    assert!(!is_idle(None, now));
    assert!(!is_idle(Some(now), now));
    assert!(!is_idle(Some(now), now + KEEP_ALIVE_AFTER / 2));
    assert!(is_idle(Some(now), now + KEEP_ALIVE_AFTER));
}
