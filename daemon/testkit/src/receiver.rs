//! A receiver of webhooks that answers as a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver as Heard, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::PATIENCE;

/// How a request is answered.
#[derive(Clone, Debug)]
pub enum Manner {
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

impl Manner {
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

/// A request.
#[derive(Clone, Debug)]
pub struct Told {
    pub head: String,
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

impl Told {
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

type Manners = dyn FnMut(&Told) -> Manner + Send;

/// The receiver: it takes as many connections as come.
pub struct Receiver {
    pub address: SocketAddr,
    told: Heard<Told>,
}

impl Receiver {
    /// Answers each request as it is told.
    pub fn start(manners: impl FnMut(&Told) -> Manner + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = channel();
        let manners: Arc<Mutex<Manners>> = Arc::new(Mutex::new(manners));
        std::thread::spawn(move || {
            // It ends with the test's process: whoever tells it of something may come at any time.
            for stream in listener.incoming().map_while(Result::ok) {
                let (manners, tell) = (Arc::clone(&manners), tell.clone());
                std::thread::spawn(move || serve(&stream, &manners, &tell));
            }
        });
        Self { address, told }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook?key=secret", self.address)
    }

    /// What it was told next.
    pub fn hear(&self) -> Told {
        self.told.recv_timeout(PATIENCE).unwrap()
    }

    /// What it was told until now.
    pub fn heard(&self) -> Vec<Told> {
        self.told.try_iter().collect()
    }
}

fn serve(stream: &TcpStream, manners: &Mutex<Manners>, tell: &Sender<Told>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(told) = read(&mut reader) {
        // The test may be over.
        let _ = tell.send(told.clone());
        let manner = manners.lock().unwrap()(&told);
        if answer(stream, manner).is_none() {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Told> {
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
    Some(Told {
        head,
        body: serde_json::from_str(&text).unwrap(),
        text,
    })
}

/// Answers; `None` if the connection is over then.
fn answer(mut stream: &TcpStream, manner: Manner) -> Option<()> {
    match manner {
        Manner::Status(status, headers) => stream
            .write_all(
                format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\n\r\n").as_bytes(),
            )
            .ok(),
        Manner::Body(bytes) => {
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").as_bytes())
                .ok()?;
            stream.write_all(&vec![b'x'; bytes]).ok()
        }
        Manner::Half => stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .ok()
            .filter(|()| false),
        Manner::Close => None,
        Manner::Hang => {
            let mut byte = [0];
            stream.read(&mut byte).ok().filter(|_| false).map(drop)
        }
    }
}
