//! Tests of clients' tasks, with an engine that keeps nothing.

use super::*;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;

use soramode_core::commits::Durability;
use soramode_protocol::access::Access;
use tokio::task::yield_now;
use tokio_util::task::TaskTracker;

use super::super::subscription::TURN_EVENTS;
use super::super::subscription::tests::append;
use crate::engine::tests::{ask, connect, engine};

const FIRST: SocketId = SocketId(1);
const OTHER: SocketId = SocketId(2);

/// Begins to serve an operator; the client's end of the socket.
fn welcome(
    (tasks, state): (&TaskTracker, &Arc<ControlState>),
    socket: SocketId,
    engine: &Engine,
) -> StdStream {
    let (stream, client) = UnixStream::pair().unwrap();
    let peer = Peer {
        uid: 1,
        access: Access::Operate,
        actor: "uid:1".into(),
    };
    let context = ClientContext {
        socket,
        engine: engine.clone(),
        stop: CancellationToken::new(),
        first_request_deadline: Instant::now(),
    };
    tasks.spawn(serve(stream, peer, Arc::clone(state), context));
    client.into_std().unwrap()
}

/// Sends a request, and waits for the answer.
async fn recv(client: &mut StdStream, request: &[u8]) {
    client.write_all(request).unwrap();
    let mut line = [0; 4_096];
    loop {
        match client.read(&mut line) {
            Ok(bytes) => return assert!(line[..bytes].ends_with(b"\n")),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        yield_now().await;
    }
}

/// Reads everything that was sent to a client.
fn sent(client: &mut StdStream) -> Vec<u8> {
    let mut sent = Vec::new();
    let problem = client.read_to_end(&mut sent).unwrap_err();
    assert_eq!(problem.kind(), io::ErrorKind::WouldBlock, "it goes on");
    sent
}

/// Requests a page from one client while another sends a request; returns the output to the first
/// before the second's answer.
async fn sent_before_the_other(tasks: TaskTracker) -> Vec<u8> {
    let (engine, state) = (engine(Durability::Ephemeral), Arc::new(ControlState::new()));
    for channel in 0..1_000 {
        ask(&engine, connect(&format!("channel{channel}")))
            .await
            .unwrap();
    }
    let place = (&tasks, &state);
    let (mut lister, mut other) = (
        welcome(place, FIRST, &engine),
        welcome(place, OTHER, &engine),
    );
    lister
        .write_all(b"{\"id\":1,\"method\":\"ListSessions\",\"params\":{\"limit\":1000}}\n")
        .unwrap();
    recv(&mut other, b"{\"id\":1,\"method\":\"GetMode\"}\n").await;
    sent(&mut lister)
}

#[tokio::test]
async fn requests_during_a_long_page_are_served_between_two_slices() {
    let tasks = TaskTracker::new();
    let sent = tasks
        .spawn(sent_before_the_other(tasks.clone()))
        .await
        .unwrap();
    assert_eq!(sent, b"", "the page was put together before");
}

/// Lets a client catch up with many events while another sends a request; returns the number of
/// lines before the answer.
async fn lines_before_the_other(tasks: TaskTracker) -> usize {
    let (engine, state) = (engine(Durability::Ephemeral), Arc::new(ControlState::new()));
    append(&state.event_log, 1..=5_000);
    let (mut follower, mut other) = (
        welcome((&tasks, &state), FIRST, &engine),
        welcome((&tasks, &state), OTHER, &engine),
    );
    follower
        .write_all(b"{\"id\":1,\"method\":\"Subscribe\",\"params\":{\"from\":1}}\n")
        .unwrap();
    recv(&mut other, b"{\"id\":1,\"method\":\"GetMode\"}\n").await;
    memchr::memchr_iter(b'\n', &sent(&mut follower)).count()
}

#[tokio::test]
async fn requests_during_a_long_replay_are_served_between_two_turns() {
    let tasks = TaskTracker::new();
    let lines = tasks
        .spawn(lines_before_the_other(tasks.clone()))
        .await
        .unwrap();
    assert!(
        (1..=2 * TURN_EVENTS + 1).contains(&lines),
        "{lines} lines were sent before"
    );
}
