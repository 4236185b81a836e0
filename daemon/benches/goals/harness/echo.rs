//! The yardsticks of the control socket: servers of the same runtime that decide nothing, and write once for each read. One answers each line
//! with a constant; the other reads each line into the typed request and writes a typed answer, with the library that soramoded uses: the
//! limit of any server that speaks JSON.

use std::path::Path;

use soramode_protocol::codec::{LineBuffer, REQUEST_BYTES_MAX};
use soramode_protocol::decision::{Decision, Disconnected};
use soramode_protocol::envelope::{Incoming, read_request, write_answer};
use soramode_protocol::reply::Reply;
use soramode_protocol::request::{GateRequest, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Ids of the length that soramoded's have.
const CHANNEL: &str = "channel-00";
const SESSION: &str = "SESSION0000000000000000000";

/// Answers so many bytes, the line feed among them, to each line. Goes on until it is killed.
pub(crate) async fn serve(path: &Path, bytes: usize) {
    let answer = format!("{}\n", "x".repeat(bytes - 1)).into_bytes();
    serve_clients(path, |stream| answer_lines(stream, answer.clone())).await;
}

/// Answers each request of a `Connect` or a `Disconnect` as soramoded would. Goes on until it is killed.
pub(crate) async fn serve_json(path: &Path) {
    serve_clients(path, answer_requests).await;
}

async fn serve_clients<F>(path: &Path, answer: impl Fn(UnixStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = UnixListener::bind(path).unwrap();
    let mut clients = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        clients.spawn(answer(stream));
        while clients.try_join_next().is_some() {}
    }
}

async fn answer_lines(mut stream: UnixStream, answer: Vec<u8>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut out = Vec::new();
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        out.clear();
        for _ in memchr::memchr_iter(b'\n', &buffer[..bytes]) {
            out.extend_from_slice(&answer);
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn answer_requests(mut stream: UnixStream) {
    let mut lines = LineBuffer::new(REQUEST_BYTES_MAX);
    let mut out = Vec::new();
    while let Ok(1..) = stream.read_buf(lines.read_buf()).await {
        out.clear();
        while let Some(line) = lines.next_line().unwrap() {
            let Incoming { reply_to, request } = read_request(line);
            write_answer(&mut out, &reply_to.unwrap(), Ok(&reply(request.unwrap().1))).unwrap();
        }
        if stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

fn reply(request: Request) -> Reply {
    match request {
        Request::Gate(GateRequest::Connect(connect)) => Reply::Decision(Decision::Offer {
            channel_id: connect.channel_id,
            connection_id: connect.connection_id.unwrap(),
            session_id: SESSION.parse().unwrap(),
            created: true,
            claim: None,
        }),
        Request::Gate(GateRequest::Disconnect(_)) => Reply::Disconnected(Disconnected {
            found: true,
            channel_id: CHANNEL.parse().ok(),
            session_id: SESSION.parse().ok(),
            durable: true,
        }),
        other => panic!("the load has no {other:?}"),
    }
}
