//! A server that answers as a test says: well, badly, late, in pieces, or not at all.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use soramode_testkit::PATIENCE;

use crate::wire::{Ending, read_body, read_head};

/// Request that the server got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) first: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Pause between the blanks of a dripping answer.
const DRIP_PAUSE: Duration = Duration::from_millis(50);

/// Reaction to a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These bytes, and then the connection goes on.
    Say(Vec<u8>),
    /// These bytes, and then it is closed.
    SayAndClose(Vec<u8>),
    /// These bytes, and then a blank again and again, until the other side hangs up.
    Drip(Vec<u8>),
    /// Sends nothing, until the other side hangs up.
    Hang,
}

impl Reply {
    /// Creates a whole answer.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let length = body.len();
        Self::Say(format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes())
    }
}

/// The server. It lasts as long as the test's process.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    got: Arc<(Mutex<Vec<Got>>, Condvar)>,
    reply: Arc<Mutex<Reply>>,
}

impl Fake {
    pub(crate) fn that(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            got: Arc::default(),
            reply: Arc::new(Mutex::new(reply)),
        };
        let (got, reply) = (Arc::clone(&fake.got), Arc::clone(&fake.reply));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (got, reply) = (Arc::clone(&got), Arc::clone(&reply));
                thread::spawn(move || serve(stream, &got, &reply));
            }
        });
        fake
    }

    pub(crate) fn reply_from_now(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests so far, in order.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.0.lock().unwrap().clone()
    }

    /// Waits until it was asked that often.
    pub(crate) fn wait_for(&self, requests: usize) {
        let (got, changed) = &*self.got;
        let waited = changed
            .wait_timeout_while(got.lock().unwrap(), PATIENCE, |got| got.len() < requests)
            .unwrap();
        assert!(
            !waited.1.timed_out(),
            "it was asked {} times",
            waited.0.len()
        );
    }
}

fn serve(stream: TcpStream, (got, changed): &(Mutex<Vec<Got>>, Condvar), reply: &Mutex<Reply>) {
    let mut reader = BufReader::new(stream);
    while let Some((first, headers)) = read_head(&mut reader) {
        let body = read_body(&mut reader, &headers, Ending::Nothing);
        got.lock().unwrap().push(Got {
            first,
            headers,
            body,
        });
        changed.notify_all();
        let reply = reply.lock().unwrap().clone();
        match reply {
            // The client may have hung up.
            Reply::Say(bytes) => reader.get_mut().write_all(&bytes).unwrap_or_default(),
            Reply::SayAndClose(bytes) => {
                return reader.get_mut().write_all(&bytes).unwrap_or_default();
            }
            Reply::Drip(bytes) => return drip(reader.get_mut(), &bytes),
            Reply::Hang => {}
        }
    }
}

fn drip(stream: &mut TcpStream, bytes: &[u8]) {
    stream.set_read_timeout(Some(DRIP_PAUSE)).unwrap();
    let mut sent = stream.write_all(bytes);
    // The pause is a read that nothing ends but the other side's hanging up.
    while sent.is_ok() && stream.read(&mut [0]).is_err() {
        sent = stream.write_all(b" ");
    }
}
