//! Tests of clients' tasks, with the test in the driver's place.

use super::*;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream as StdStream;

use soramode_protocol::access::Access;
use tokio_util::task::TaskTracker;

use super::super::listing::tests::slice;
use super::super::subscription::TURN_EVENTS;
use super::super::subscription::tests::append;
use crate::inbox::{Letters, Mailbox, inbox};

const FIRST: SocketId = SocketId(1);
const OTHER: SocketId = SocketId(2);

/// Begins to serve a client; the client's end of the socket.
fn welcome(
    (tasks, house): (&TaskTracker, &Arc<House>),
    socket: SocketId,
    inbox: &Inbox,
) -> StdStream {
    let (stream, client) = UnixStream::pair().unwrap();
    let peer = Peer {
        uid: 1,
        access: Access::View,
        actor: "uid:1".into(),
    };
    let door = Door {
        socket,
        inbox: inbox.clone(),
        stop: CancellationToken::new(),
        first_word_due: Instant::now(),
    };
    tasks.spawn(serve(stream, peer, Arc::clone(house), door));
    client.into_std().unwrap()
}

async fn mailbox(letters: &mut Letters) -> Mailbox {
    match letters.recv().await {
        Some(Letter::Open(_, mailbox)) => mailbox,
        other => panic!("{other:?}"),
    }
}

async fn asked(letters: &mut Letters) -> (SocketId, u64) {
    match letters.recv().await {
        Some(Letter::Ask {
            socket, requests, ..
        }) => (socket, requests[0].0),
        other => panic!("{other:?}"),
    }
}

/// Has a page listed by one while another says something; how many slices are asked for before that is heard.
async fn slices_before_the_other(tasks: TaskTracker) -> u32 {
    let (inbox, mut letters) = inbox();
    let place = (&tasks, &Arc::new(House::new()));
    let (mut lister, mut other) = (welcome(place, FIRST, &inbox), welcome(place, OTHER, &inbox));
    let (lister_mailbox, _other_mailbox) =
        (mailbox(&mut letters).await, mailbox(&mut letters).await);
    lister
        .write_all(b"{\"id\":1,\"method\":\"ListSessions\",\"params\":{\"limit\":1000}}\n")
        .unwrap();
    let (mut slices, mut from) = (0, asked(&mut letters).await);
    other
        .write_all(b"{\"id\":1,\"method\":\"GetMode\"}\n")
        .unwrap();
    while from.0 == FIRST {
        slices += 1;
        lister_mailbox.take(Mail::Answer(from.1, Ok(slice(1, Some("more".to_owned())))));
        from = asked(&mut letters).await;
    }
    slices
}

#[tokio::test]
async fn whoever_speaks_while_a_page_is_put_together_is_heard_between_two_slices() {
    // A task as the driver is, which goes on where the runtime has not looked at the sockets yet.
    let tasks = TaskTracker::new();
    let slices = tasks
        .spawn(slices_before_the_other(tasks.clone()))
        .await
        .unwrap();
    assert!(slices <= 2, "{slices} slices were asked for before");
}

/// Has a client catch up with many events while another says something; how many lines it was sent before that is heard.
async fn lines_before_the_other(tasks: TaskTracker) -> usize {
    let (inbox, mut letters) = inbox();
    let house = Arc::new(House::new());
    append(&house.log, 1..=5_000);
    let (mut follower, mut other) = (
        welcome((&tasks, &house), FIRST, &inbox),
        welcome((&tasks, &house), OTHER, &inbox),
    );
    let _mailboxes = (mailbox(&mut letters).await, mailbox(&mut letters).await);
    follower
        .write_all(b"{\"id\":1,\"method\":\"Subscribe\",\"params\":{\"from\":1}}\n")
        .unwrap();
    other
        .write_all(b"{\"id\":1,\"method\":\"GetMode\"}\n")
        .unwrap();
    assert_eq!(asked(&mut letters).await.0, OTHER);
    let mut sent = Vec::new();
    let problem = follower.read_to_end(&mut sent).unwrap_err();
    assert_eq!(problem.kind(), io::ErrorKind::WouldBlock, "it goes on");
    memchr::memchr_iter(b'\n', &sent).count()
}

#[tokio::test]
async fn whoever_speaks_while_another_catches_up_is_heard_between_two_turns() {
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
