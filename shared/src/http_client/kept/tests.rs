//! Kept connections beside servers that close them at any moment.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, BufStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Treatment of the next request of a connection.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Reads the request, and writes this.
    Say(&'static str),
    /// Reads the request, writes this, and closes the connection.
    SayAndClose(&'static str),
    /// Reads the request, writes this, and takes further requests without another word.
    SayAndHang(&'static str),
    /// Reads the request, writes this, and closes its half of the connection.
    SayAndHalfClose(&'static str),
    /// Closes the connection once the request begins, before it is read.
    CloseUnread,
}

/// A server that treats each connection by a script; the last step of a script is repeated.
struct Server {
    client: KeptClient,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts a server. Its connections follow these scripts, and the last for all further ones.
    async fn start(scripts: &'static [&'static [Step]]) -> Self {
        Self::with_timeout(scripts, PATIENCE).await
    }

    async fn with_timeout(scripts: &'static [&'static [Step]], timeout: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api?key=1", listener.local_addr().unwrap());
        let client = KeptClient::new(
            Url::parse(&url).unwrap(),
            None,
            timeout,
            Keep::default(),
            &Outgoing::default(),
        );
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::default());
        let (accepted, counter) = (Arc::clone(&connections), Arc::clone(&requests));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = accepted.fetch_add(1, Ordering::Relaxed);
                let script = scripts.get(number).or(scripts.last()).unwrap();
                served.spawn(serve(stream, script, Arc::clone(&counter)));
            }
        });
        Self {
            client: client.unwrap(),
            connections,
            requests,
            _tasks: tasks,
        }
    }

    async fn post(&self) -> Result<Answer, RequestFailure> {
        let post = Post {
            body: Bytes::from_static(b"{\"channel_id\":\"spam\"}"),
            ..Post::default()
        };
        self.client.post(post, |_| 1024).await
    }

    /// Posts, and returns the body of an answer with 200.
    async fn body(&self) -> String {
        let answer = self.post().await.unwrap();
        assert_eq!(answer.status, StatusCode::OK);
        String::from_utf8(answer.body.unwrap().to_vec()).unwrap()
    }

    /// Returns the numbers of connections and of requests so far.
    fn counts(&self) -> (usize, usize) {
        (
            self.connections.load(Ordering::Relaxed),
            self.requests.load(Ordering::Relaxed),
        )
    }
}

async fn serve(stream: TcpStream, script: &[Step], requests: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    for step in script
        .iter()
        .chain(std::iter::repeat(script.last().unwrap()))
    {
        if matches!(step, Step::CloseUnread) {
            let _ = stream.fill_buf().await;
            return;
        }
        if read_request(&mut stream).await.is_none() {
            return;
        }
        requests.fetch_add(1, Ordering::Relaxed);
        let (Step::Say(text)
        | Step::SayAndClose(text)
        | Step::SayAndHang(text)
        | Step::SayAndHalfClose(text)) = step
        else {
            return;
        };
        stream.get_mut().write_all(text.as_bytes()).await.unwrap();
        match step {
            Step::Say(_) | Step::CloseUnread => {}
            Step::SayAndClose(_) => return,
            Step::SayAndHalfClose(_) => stream.get_mut().shutdown().await.unwrap(),
            Step::SayAndHang(_) => {
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                return;
            }
        }
    }
}

/// Reads a request; `None` at the end of the connection.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    assert!(head.starts_with("POST /api?key=1 HTTP/1.1\r\n"), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await.ok().map(drop)
}

/// Posts 50 times: now and then the end of the connection arrives before the next request, and now and then after it.
async fn all_succeed(server: &Server) {
    for number in 0..50 {
        assert_eq!(server.body().await, "{}", "request {number}");
    }
}

#[tokio::test]
async fn requests_in_a_row_use_one_connection() {
    let server = Server::start(&[&[Step::Say(OK)]]).await;
    all_succeed(&server).await;
    assert_eq!(server.counts(), (1, 50));
}

#[tokio::test]
async fn as_many_connections_are_kept_as_there_are_requests_at_a_time() {
    let server = Server::start(&[&[Step::Say(OK)]]).await;
    for _ in 0..20 {
        let mut calls = JoinSet::new();
        for _ in 0..KEPT_CONNECTIONS_MAX {
            let client = server.client.clone();
            calls.spawn(async move { client.post(Post::default(), |_| 9).await });
        }
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().status, StatusCode::OK);
        }
    }
    assert_eq!(server.counts().0, KEPT_CONNECTIONS_MAX);
    assert_eq!(server.client.shared.pool().idle.len(), KEPT_CONNECTIONS_MAX);
}

#[tokio::test]
async fn a_server_that_closes_after_its_answer_breaks_no_request() {
    let server = Server::start(&[&[Step::SayAndClose(OK)]]).await;
    all_succeed(&server).await;
    assert_eq!(server.counts(), (50, 50));
}

#[tokio::test]
async fn a_server_that_closes_its_half_after_its_answer_breaks_no_request() {
    let server = Server::start(&[&[Step::SayAndHalfClose(OK)]]).await;
    all_succeed(&server).await;
}

#[tokio::test]
async fn a_request_that_a_kept_connection_loses_is_sent_once_more() {
    for lost in [
        Step::CloseUnread,
        Step::SayAndClose(""),
        Step::SayAndClose("HTTP/1.1 200 OK\r\ncontent-le"),
        Step::Say("bytes that are no answer\r\n\r\n"),
        Step::SayAndClose("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let script: &'static [Step] = Box::leak(Box::new([Step::Say(OK), lost]));
        let scripts: &'static [&'static [Step]] = Box::leak(Box::new([script]));
        let server = Server::start(scripts).await;
        all_succeed(&server).await;
        assert_eq!(server.counts().0, 50, "{lost:?}");
    }
}

#[tokio::test]
async fn a_request_that_a_fresh_connection_loses_is_sent_once_more() {
    let server = Server::start(&[&[Step::SayAndClose("")], &[Step::Say(OK)]]).await;
    assert_eq!(server.body().await, "{}");
    assert_eq!(server.counts(), (2, 2));
}

#[tokio::test]
async fn a_request_that_two_connections_lose_is_not_sent_a_third_time() {
    let server = Server::start(&[
        &[Step::Say(OK), Step::SayAndClose("")],
        &[Step::SayAndClose("")],
    ])
    .await;
    assert_eq!(server.body().await, "{}");
    for requests in [3, 5] {
        let failure = server.post().await.unwrap_err();
        assert!(
            matches!(failure, RequestFailure::Unreachable(_)),
            "{failure:?}"
        );
        assert_eq!(server.counts().1, requests);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_in_its_body_is_not_asked_for_again() {
    let server = Server::start(&[
        &[
            Step::Say(OK),
            Step::SayAndClose("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
        ],
        &[Step::Say(OK)],
    ])
    .await;
    assert_eq!(server.body().await, "{}");
    let answer = server.post().await.unwrap();
    assert!(
        matches!(answer.body, Err(RequestFailure::Unreachable(_))),
        "{answer:?}"
    );
    assert_eq!(server.counts(), (1, 2));
    assert_eq!(server.body().await, "{}", "over a fresh connection");
}

#[tokio::test]
async fn a_connection_that_is_dropped_silently_costs_one_request() {
    let server = Server::with_timeout(
        &[&[Step::Say(OK), Step::SayAndHang("")], &[Step::Say(OK)]],
        Duration::from_millis(200),
    )
    .await;
    assert_eq!(server.body().await, "{}");
    assert_eq!(server.post().await.unwrap_err(), RequestFailure::TimedOut);
    assert_eq!(server.body().await, "{}");
    assert_eq!(server.counts(), (2, 3));
}

#[tokio::test]
async fn a_server_may_refuse_to_keep_connections() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let script: &'static [Step] = Box::leak(Box::new([Step::Say(answer)]));
        let scripts: &'static [&'static [Step]] = Box::leak(Box::new([script]));
        let server = Server::start(scripts).await;
        all_succeed(&server).await;
        assert_eq!(server.counts(), (50, 50), "{answer}");
    }
    let until_the_end = Server::start(&[&[Step::SayAndClose("HTTP/1.0 200 OK\r\n\r\n{}")]]).await;
    all_succeed(&until_the_end).await;
    assert_eq!(until_the_end.counts(), (50, 50));
}

#[tokio::test]
async fn bytes_that_a_server_sends_unasked_answer_no_request() {
    const TWICE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 500 X\r\ncontent-length: 1\r\n\r\nx";
    let server = Server::start(&[&[Step::Say(TWICE)]]).await;
    all_succeed(&server).await;
    assert_eq!(server.counts(), (50, 50));
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api?key=1", listener.local_addr().unwrap());
    let url = Url::parse(&url).unwrap();
    let client =
        KeptClient::new(url, None, PATIENCE, Keep::default(), &Outgoing::default()).unwrap();
    let (answer, mut stream) = tokio::join!(client.post(Post::default(), |_| 9), async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufStream::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
        }
        stream.write_all(OK.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stream
    });
    assert_eq!(answer.unwrap().status, StatusCode::OK);
    let idle_since = Instant::now();
    tokio::time::pause();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
    let idle = idle_since.elapsed();
    assert!(
        (KEPT_IDLE_MAX..2 * KEPT_IDLE_MAX).contains(&idle),
        "{idle:?}"
    );
    assert!(!client.shared.pool().has_closer);
}

#[tokio::test]
async fn one_connection_can_be_kept_until_the_server_closes_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!(
        "http://{}/api?key=1",
        listener.local_addr().unwrap()
    ));
    let keep = Keep {
        connections_max: 1,
        idle_max: None,
    };
    let client = KeptClient::new(url.unwrap(), None, PATIENCE, keep, &Outgoing::default());
    let client = client.unwrap();
    for number in 1..=2 {
        let serve_two = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            for _ in 0..2 {
                read_request(&mut stream).await.unwrap();
                stream.get_mut().write_all(OK.as_bytes()).await.unwrap();
            }
            stream
        };
        let post_two = async {
            client.post(Post::default(), |_| 9).await.unwrap();
            tokio::time::pause();
            tokio::time::advance(100 * KEPT_IDLE_MAX).await;
            tokio::time::resume();
            client.post(Post::default(), |_| 9).await.unwrap();
        };
        let (stream, ()) = tokio::join!(serve_two, post_two);
        assert_eq!(client.connections(), number);
        drop(stream);
        client.closed().await;
    }
}

#[tokio::test]
async fn a_request_may_have_a_target_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/other", listener.local_addr().unwrap()));
    let client = KeptClient::new(
        url.unwrap(),
        None,
        PATIENCE,
        Keep::default(),
        &Outgoing::default(),
    );
    let post = Post {
        target: Some(Uri::from_static("/api?key=1")),
        ..Post::default()
    };
    let client = client.unwrap();
    let serve = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        read_request(&mut stream).await.unwrap();
        stream.get_mut().write_all(OK.as_bytes()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.post(post, |_| 9), serve);
    assert_eq!(answer.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn an_answer_that_is_too_long_ends_its_connection() {
    let server = Server::start(&[&[Step::Say(OK)]]).await;
    for _ in 0..2 {
        let answer = server.client.post(Post::default(), |_| 1);
        let body = answer.await.unwrap().body;
        assert_eq!(body.unwrap_err(), RequestFailure::TooLarge);
    }
    assert_eq!(server.counts(), (2, 2));
}

#[test]
fn a_url_may_name_a_user() {
    for (url, token, expected) in [
        ("http://h/", None, None),
        ("http://h/", Some("T"), Some("Bearer T")),
        ("http://u%40:p%3A@h/", None, Some("Basic dUA6cDo=")),
        ("http://u@h/", None, Some("Basic dTo=")),
        ("http://u:p@h/", Some("T"), Some("Bearer T")),
    ] {
        let url = Url::parse(url).unwrap();
        assert_eq!(authorization(&url, token).as_deref(), expected, "{url}");
    }
}
