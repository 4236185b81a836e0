//! HTTP: a server with a constant answer, and clients that keep their connections.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::load::{ANSWER_MAX, count};
use super::runtime;

/// Answers every request with a number of so many digits. Goes on until it is killed.
pub(crate) async fn serve(address: SocketAddr, bytes: usize) {
    let listener = TcpListener::bind(address).await.unwrap();
    let body = Bytes::from("1".repeat(bytes));
    let mut clients = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let body = body.clone();
        let answer = service_fn(move |_: Request<hyper::body::Incoming>| {
            let answer = Response::builder()
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()));
            std::future::ready(Ok::<_, Infallible>(answer.unwrap()))
        });
        clients.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        while clients.try_join_next().is_some() {}
    }
}

/// Request to one server.
#[derive(Clone, Debug)]
pub(crate) struct HttpLoad {
    pub(crate) address: SocketAddr,
    request: String,
    /// Head and body, in bytes: the same each time.
    answer: usize,
    /// Size of the body alone.
    pub(crate) body: usize,
}

impl HttpLoad {
    /// Asks once, for the answer's length.
    pub(crate) fn to(address: SocketAddr, request: String) -> Self {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(
                stream.read_line(&mut head).unwrap() > 0,
                "the server closed: {head}"
            );
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .map(str::to_owned)
        });
        let body = length.unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; body]).unwrap();
        Self {
            address,
            request,
            answer: head.len() + body,
            body,
        }
    }

    /// Requests a second, over so many connections, each with one in flight.
    pub(crate) fn rate(&self, clients: usize, time: Duration) -> f64 {
        let began = Instant::now();
        let asked: usize = runtime().block_on(async {
            let clients: JoinSet<usize> = (0..clients)
                .map(|_| self.clone().ask_until(began + time))
                .collect();
            // An error is an answer that takes too long.
            tokio::time::timeout(time + ANSWER_MAX, clients.join_all())
                .await
                .unwrap()
                .into_iter()
                .sum()
        });
        count(asked) / began.elapsed().as_secs_f64()
    }

    async fn ask_until(self, end: Instant) -> usize {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![0; 16 * 1024];
        let mut asked = 0;
        while Instant::now() < end {
            stream.write_all(self.request.as_bytes()).await.unwrap();
            let mut got = 0;
            while got < self.answer {
                let bytes = stream.read(&mut buffer).await.unwrap();
                assert!(bytes > 0, "the server closed");
                got += bytes;
            }
            assert_eq!(got, self.answer, "{}", String::from_utf8_lossy(&buffer));
            asked += 1;
        }
        asked
    }
}
