//! A client of Janus's own API, over its HTTP transport: enough to create rooms, join and leave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use soramode_testkit::PATIENCE;

/// A client with one session, and one handle of VideoRoom for each join.
pub(crate) struct JanusClient {
    api: SocketAddr,
    session: String,
    last_transaction: u64,
}

/// A handle in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handle(u64);

impl JanusClient {
    pub(crate) fn to(api: SocketAddr) -> Self {
        let created = post(
            api,
            "/janus",
            &json!({"janus": "create", "transaction": "c"}),
        );
        let id = created["data"]["id"]
            .as_u64()
            .unwrap_or_else(|| panic!("{created}"));
        Self {
            api,
            session: format!("/janus/{id}"),
            last_transaction: 0,
        }
    }

    pub(crate) fn attach(&self) -> Handle {
        let message =
            json!({"janus": "attach", "plugin": "janus.plugin.videoroom", "transaction": "a"});
        Handle(
            post(self.api, &self.session, &message)["data"]["id"]
                .as_u64()
                .unwrap(),
        )
    }

    /// Joins a room as a publisher without media; the answer of the plugin, and the handle.
    pub(crate) fn join(&mut self, join: &Value) -> (Handle, Value) {
        let handle = self.attach();
        let mut body = json!({"request": "join", "ptype": "publisher"});
        body.as_object_mut()
            .unwrap()
            .extend(join.as_object().unwrap().clone());
        let answer = self.message(&handle, &body);
        (handle, answer)
    }

    /// Joins a room, which must not be refused.
    pub(crate) fn must_join(&mut self, join: &Value) -> Handle {
        let (handle, answer) = self.join(join);
        assert_eq!(answer["videoroom"], "joined", "{join}: {answer}");
        handle
    }

    pub(crate) fn leave(&mut self, handle: &Handle) {
        let answer = self.message(handle, &json!({"request": "leave"}));
        assert_eq!(answer["leaving"], "ok", "{answer}");
    }

    /// Ends the session with all its handles, without leaving any room.
    pub(crate) fn destroy(self) {
        post(
            self.api,
            &self.session,
            &json!({"janus": "destroy", "transaction": "d"}),
        );
    }

    /// Sends a message to the plugin, and returns its answer.
    pub(crate) fn message(&mut self, Handle(handle): &Handle, body: &Value) -> Value {
        self.last_transaction += 1;
        let transaction = self.last_transaction.to_string();
        let path = format!("{}/{handle}", self.session);
        let message = json!({"janus": "message", "transaction": transaction, "body": body});
        let answer = post(self.api, &path, &message);
        if answer["janus"] != "ack" {
            return answer["plugindata"]["data"].clone();
        }
        loop {
            let event = get(self.api, &self.session);
            if event["transaction"] == transaction.as_str() {
                return event["plugindata"]["data"].clone();
            }
        }
    }
}

pub(crate) fn post(address: SocketAddr, path: &str, message: &Value) -> Value {
    try_post(address, path, message).unwrap_or_else(|| panic!("no answer to {message}"))
}

/// Returns the answer; `None` if there is none.
pub(crate) fn try_post(address: SocketAddr, path: &str, message: &Value) -> Option<Value> {
    let body = message.to_string();
    let length = body.len();
    exchange(
        address,
        &format!("POST {path} HTTP/1.0\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"),
    )
}

fn get(address: SocketAddr, path: &str) -> Value {
    let request = format!("GET {path}?maxev=1 HTTP/1.0\r\nhost: x\r\n\r\n");
    exchange(address, &request).unwrap()
}

fn exchange(address: SocketAddr, request: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}
