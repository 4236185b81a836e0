//! The yardstick of the control socket: a server of the same runtime that answers each line with a constant, and writes once for each
//! read.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// Answers so many bytes, the line feed among them, to each line. Goes on until it is killed.
pub(crate) async fn serve(path: &Path, bytes: usize) {
    let listener = UnixListener::bind(path).unwrap();
    let answer = format!("{}\n", "x".repeat(bytes - 1)).into_bytes();
    let mut clients = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        clients.spawn(answer_lines(stream, answer.clone()));
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
