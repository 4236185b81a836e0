//! Tests of clients' tasks, with the test in the driver's place.

use super::*;

use std::io::Write as _;
use std::os::unix::net::UnixStream as StdStream;

use soramode_protocol::access::Access;
use tokio_util::task::TaskTracker;

use super::super::listing::tests::slice;
use crate::inbox::{Letters, Mailbox, inbox};

const LISTER: SocketId = SocketId(1);
const OTHER: SocketId = SocketId(2);

/// Begins to serve a client; the client's end of the socket.
fn welcome(tasks: &TaskTracker, socket: SocketId, inbox: &Inbox) -> StdStream {
    let (stream, client) = UnixStream::pair().unwrap();
    let peer = Peer { uid: 1, access: Access::View, actor: "uid:1".into() };
    let door = Door { socket, inbox: inbox.clone(), stop: CancellationToken::new(), first_word_due: Instant::now() };
    tasks.spawn(serve(stream, peer, Arc::new(House::new()), door));
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
        Some(Letter::Ask { socket, requests, .. }) => (socket, requests[0].0),
        other => panic!("{other:?}"),
    }
}

/// Has a page listed by one while another says something; how many slices are asked for before that is heard.
async fn slices_before_the_other(tasks: TaskTracker) -> u32 {
    let (inbox, mut letters) = inbox();
    let (mut lister, mut other) = (welcome(&tasks, LISTER, &inbox), welcome(&tasks, OTHER, &inbox));
    let (lister_mailbox, _other_mailbox) = (mailbox(&mut letters).await, mailbox(&mut letters).await);
    lister.write_all(b"{\"id\":1,\"method\":\"ListSessions\",\"params\":{\"limit\":1000}}\n").unwrap();
    let (mut slices, mut from) = (0, asked(&mut letters).await);
    other.write_all(b"{\"id\":1,\"method\":\"GetMode\"}\n").unwrap();
    while from.0 == LISTER {
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
    let slices = tasks.spawn(slices_before_the_other(tasks.clone())).await.unwrap();
    assert!(slices <= 2, "{slices} slices were asked for before");
}
