//! A receiver of webhooks that answers as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as ReceivedWebhooks, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::PATIENCE;

/// Response of a receiver to a request.
#[derive(Clone, Debug)]
pub enum ReceiverBehaviour {
    /// With this status and these header lines.
    Status(u16, String),
    /// With 200, and a body of so many bytes.
    Body(usize),
    /// With 200 and half a body; then the connection is closed.
    Half,
    /// Not at all: the connection is closed.
    Close,
    /// Not at all, until the other side has had enough.
    Hang,
}

impl ReceiverBehaviour {
    pub fn ok() -> Self {
        Self::status(200)
    }

    pub fn status(status: u16) -> Self {
        Self::Status(status, String::new())
    }

    /// Asks to be tried again at once, which shortens no pause.
    pub fn busy() -> Self {
        Self::Status(503, "retry-after: 0\r\n".to_owned())
    }
}

/// Request that a receiver got.
#[derive(Clone, Debug)]
pub struct ReceivedWebhook {
    pub head: String,
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl ReceivedWebhook {
    pub fn event_type(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(it, _)| it.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
        })
    }
}

type Behaviour = dyn FnMut(&ReceivedWebhook) -> ReceiverBehaviour + Send;

/// The receiver: it takes as many connections as come.
pub struct Receiver {
    pub address: SocketAddr,
    requests: ReceivedWebhooks<ReceivedWebhook>,
}

impl Receiver {
    /// Answers each request as the test sets it.
    pub fn start(
        behaviour: impl FnMut(&ReceivedWebhook) -> ReceiverBehaviour + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(behaviour));
        std::thread::spawn(move || {
            // Ends with the test's process: requests may arrive at any time.
            for stream in listener.incoming().map_while(Result::ok) {
                let (behaviour, sender) = (Arc::clone(&behaviour), sender.clone());
                std::thread::spawn(move || serve(&stream, &behaviour, &sender));
            }
        });
        Self { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?key=secret", self.address)
    }

    /// Returns the next request.
    pub fn recv(&self) -> ReceivedWebhook {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    /// Returns the requests so far.
    pub fn received(&self) -> Vec<ReceivedWebhook> {
        self.requests.try_iter().collect()
    }
}

fn serve(stream: &TcpStream, behaviour: &Mutex<Behaviour>, sender: &Sender<ReceivedWebhook>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(requests) = read(&mut reader) {
        // The test may be over.
        let _ = sender.send(requests.clone());
        let behaviour = behaviour.lock().unwrap()(&requests);
        if answer(stream, behaviour).is_none() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<ReceivedWebhook> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")
            .map(str::to_owned)
    });
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut body).ok()?;
    let text = String::from_utf8(body).unwrap();
    Some(ReceivedWebhook {
        head,
        body: serde_json::from_str(&text).unwrap(),
        text,
    })
}

/// Answers; `None` if the connection is over then.
fn answer(mut stream: &TcpStream, behaviour: ReceiverBehaviour) -> Option<()> {
    match behaviour {
        ReceiverBehaviour::Status(status, headers) => stream
            .write_all(
                format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n").as_bytes(),
            )
            .ok(),
        ReceiverBehaviour::Body(bytes) => {
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").as_bytes())
                .ok()?;
            stream.write_all(&vec![b'x'; bytes]).ok()
        }
        ReceiverBehaviour::Half => stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .ok()
            .filter(|()| false),
        ReceiverBehaviour::Close => None,
        ReceiverBehaviour::Hang => {
            let mut byte = [0];
            stream.read(&mut byte).ok().filter(|_| false).map(drop)
        }
    }
}
