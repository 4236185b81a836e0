//! A client of Janus's own API, over its HTTP transport: enough to create rooms, join and leave.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::PATIENCE;

/// A client with one session, and one handle of VideoRoom for each join.
pub struct JanusClient {
    connection: Kept,
    session: String,
    last_transaction: u64,
}

/// A handle in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle(u64);

impl JanusClient {
    pub fn to(api: SocketAddr) -> Self {
        let mut connection = Kept::to(api).unwrap();
        let create = json!({"janus": "create", "transaction": "c"});
        let created = connection.post("/janus", &create);
        let id = created["data"]["id"]
            .as_u64()
            .unwrap_or_else(|| panic!("{created}"));
        Self {
            connection,
            session: format!("/janus/{id}"),
            last_transaction: 0,
        }
    }

    pub fn attach(&mut self) -> Handle {
        let message =
            json!({"janus": "attach", "plugin": "janus.plugin.videoroom", "transaction": "a"});
        let answer = self.connection.post(&self.session, &message);
        Handle(answer["data"]["id"].as_u64().unwrap())
    }

    /// Joins a room as a publisher without media; the answer of the plugin, and the handle.
    pub fn join(&mut self, join: &Value) -> (Handle, Value) {
        let handle = self.attach();
        let answer = self.join_with(&handle, join);
        (handle, answer)
    }

    /// Joins a room with a new handle.
    pub fn join_with(&mut self, handle: &Handle, join: &Value) -> Value {
        let mut body = json!({"request": "join", "ptype": "publisher"});
        body.as_object_mut()
            .unwrap()
            .extend(join.as_object().unwrap().clone());
        self.message(handle, &body)
    }

    /// Joins a room, which must not be refused.
    pub fn must_join(&mut self, join: &Value) -> Handle {
        let (handle, answer) = self.join(join);
        assert_eq!(answer["videoroom"], "joined", "{join}: {answer}");
        handle
    }

    pub fn leave(&mut self, handle: &Handle) {
        let answer = self.message(handle, &json!({"request": "leave"}));
        assert_eq!(answer["leaving"], "ok", "{answer}");
    }

    /// Ends a handle, and with it its stay in a room.
    pub fn detach(&mut self, Handle(handle): &Handle) {
        let path = format!("{}/{handle}", self.session);
        let detach = json!({"janus": "detach", "transaction": "d"});
        self.connection.post(&path, &detach);
    }

    /// Ends the session with all its handles, without leaving any room.
    pub fn destroy(mut self) {
        let destroy = json!({"janus": "destroy", "transaction": "d"});
        self.connection.post(&self.session, &destroy);
    }

    /// Waits until a participant of this session has been removed from its room.
    pub fn wait_until_kicked(&mut self) {
        loop {
            let data = self.event()["plugindata"]["data"].clone();
            if data["leaving"] == "ok" && data["reason"] == "kicked" {
                return;
            }
        }
    }

    /// Waits for the next event of the session.
    fn event(&mut self) -> Value {
        let path = format!("{}?maxev=1", self.session);
        self.connection.exchange("GET", &path, "").unwrap()
    }

    /// Sends a message to the plugin, and returns its answer.
    pub fn message(&mut self, Handle(handle): &Handle, body: &Value) -> Value {
        self.last_transaction += 1;
        let transaction = self.last_transaction.to_string();
        let path = format!("{}/{handle}", self.session);
        let message = json!({"janus": "message", "transaction": transaction, "body": body});
        let answer = self.connection.post(&path, &message);
        if answer["janus"] != "ack" {
            return answer["plugindata"]["data"].clone();
        }
        loop {
            let event = self.event();
            if event["transaction"] == transaction.as_str() {
                return event["plugindata"]["data"].clone();
            }
        }
    }
}

/// A connection that is kept open.
struct Kept {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Kept {
    fn to(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let stream = BufReader::new(stream);
        Some(Self { address, stream })
    }

    /// Sends a request, and returns the answer; `None` if there is none.
    fn exchange(&mut self, method: &str, path: &str, body: &str) -> Option<Value> {
        let (host, length) = (self.address, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).ok()?;
        let (_, answer) = http_message(&mut self.stream)?;
        serde_json::from_slice(&answer).ok()
    }

    fn post(&mut self, path: &str, message: &Value) -> Value {
        let answer = self.exchange("POST", path, &message.to_string());
        answer.unwrap_or_else(|| panic!("no answer to {message}"))
    }
}

/// Reads a message of HTTP: all of it, and its body.
pub fn http_message(stream: &mut impl BufRead) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut whole, mut length, mut is_chunked) = (Vec::new(), 0, false);
    loop {
        let line = http_line(stream, &mut whole)?;
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        is_chunked |= line == "transfer-encoding: chunked";
        if line.is_empty() {
            break;
        }
    }
    let mut body = Vec::new();
    if !is_chunked {
        read_part(stream, length, &mut whole, &mut body)?;
        return Some((whole, body));
    }
    loop {
        let length = usize::from_str_radix(&http_line(stream, &mut whole)?, 16).ok()?;
        read_part(stream, length, &mut whole, &mut body)?;
        http_line(stream, &mut whole)?;
        if length == 0 {
            return Some((whole, body));
        }
    }
}

/// Reads a line, without its end and in lower case.
fn http_line(stream: &mut impl BufRead, whole: &mut Vec<u8>) -> Option<String> {
    let begin = whole.len();
    if stream.read_until(b'\n', whole).ok()? == 0 {
        return None;
    }
    let line = String::from_utf8_lossy(&whole[begin..]);
    Some(line.trim().to_ascii_lowercase())
}

fn read_part(
    stream: &mut impl BufRead,
    length: usize,
    whole: &mut Vec<u8>,
    body: &mut Vec<u8>,
) -> Option<()> {
    let begin = whole.len();
    whole.resize(begin + length, 0);
    stream.read_exact(&mut whole[begin..]).ok()?;
    body.extend_from_slice(&whole[begin..]);
    Some(())
}

pub fn post(address: SocketAddr, path: &str, message: &Value) -> Value {
    try_post(address, path, message).unwrap_or_else(|| panic!("no answer to {message}"))
}

/// Returns the answer; `None` if there is none.
pub fn try_post(address: SocketAddr, path: &str, message: &Value) -> Option<Value> {
    Kept::to(address)?.exchange("POST", path, &message.to_string())
}
