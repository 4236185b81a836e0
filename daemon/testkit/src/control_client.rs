//! A client of the control socket that sends and receives lines as they are.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::PATIENCE;

/// A client. Every read has a time limit.
pub struct TestClient {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    last_id: i64,
}

impl TestClient {
    pub fn to(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).unwrap())
    }

    fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self {
            reader: BufReader::new(stream.try_clone().unwrap()),
            stream,
            last_id: 0,
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends from a thread of its own: the daemon reads no further than its client does.
    pub fn send_meanwhile(&self, bytes: impl AsRef<[u8]> + Send + 'static) -> JoinHandle<()> {
        let mut stream = self.try_clone();
        std::thread::spawn(move || stream.write_all(bytes.as_ref()).unwrap())
    }

    /// Duplicates the socket's descriptor.
    pub fn try_clone(&self) -> UnixStream {
        self.stream.try_clone().unwrap()
    }

    /// Sends this again and again until the socket takes no more.
    pub fn send_until_full(&mut self, bytes: &[u8]) {
        self.stream.set_nonblocking(true).unwrap();
        let full = loop {
            if let Err(error) = self.stream.write_all(bytes) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
    }

    /// Sends what the daemon may not want to read to its end.
    pub fn send_allowing_close(&mut self, bytes: impl AsRef<[u8]>) {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            assert!(
                matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ),
                "{error}"
            );
        }
    }

    /// The next line, if there is one before the end.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.strip_suffix('\n').unwrap().to_owned()),
            // The daemon closed with something of ours unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line: {error}"),
        }
    }

    pub fn recv(&mut self) -> Value {
        let line = self
            .line()
            .unwrap_or_else(|| panic!("the daemon closed the socket"));
        let message: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    /// The next line is an answer to `id`, an error of this type.
    pub fn recv_error(&mut self, id: impl Into<Value>, error_type: &str) -> Value {
        let message = self.recv();
        assert_eq!(
            (&message["id"], &message["error"]["data"]["error_type"]),
            (&id.into(), &error_type.into()),
            "{message}"
        );
        message["error"].clone()
    }

    pub fn recv_end(&mut self) {
        assert_eq!(self.line(), None);
    }

    /// A request as a line; the number is its id.
    pub fn request(&mut self, method: &str, params: &Value) -> (i64, String) {
        self.last_id += 1;
        let request =
            json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params});
        (self.last_id, format!("{request}\n"))
    }

    pub fn send_request(&mut self, method: &str, params: &Value) -> i64 {
        let (id, line) = self.request(method, params);
        self.send(line);
        id
    }

    /// Asks, and passes over notifications until the answer is there.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        let id = self.send_request(method, params);
        loop {
            let message = self.recv();
            if message["id"] == id {
                return message;
            }
            assert!(message["method"].is_string(), "{message}");
        }
    }

    /// Asks what is answered with a result.
    pub fn get(&mut self, method: &str, params: &Value) -> Value {
        let answer = self.call(method, params);
        assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    /// Asks what is answered with an error, and gives its type.
    pub fn error_type_of(&mut self, method: &str, params: &Value) -> String {
        let answer = self.call(method, params);
        answer["error"]["data"]["error_type"]
            .as_str()
            .unwrap_or_else(|| panic!("{method} {params}: {answer}"))
            .to_owned()
    }

    pub fn connect(&mut self, channel_id: &str, connection_id: &str) -> Value {
        self.get(
            "Connect",
            &json!({"channel_id": channel_id, "connection_id": connection_id}),
        )
    }

    pub fn disconnect(&mut self, connection_id: &str) -> Value {
        self.get("Disconnect", &json!({"connection_id": connection_id}))
    }

    pub fn status(&mut self) -> Value {
        self.get("GetStatus", &json!({}))
    }

    /// The next `Event` of this type; others are passed over.
    pub fn recv_event(&mut self, event_type: &str) -> Value {
        loop {
            let message = self.recv();
            if message["method"] == "Event" && message["params"]["type"] == event_type {
                return message["params"].clone();
            }
        }
    }

    /// Says that nothing more will be said.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}

/// A report that these are live in the channel `a`, and that more follow.
pub fn partial_report<S: Into<String>>(connection_ids: impl IntoIterator<Item = S>) -> Value {
    let row = |id: S| json!({"channel_id": "a", "connection_id": id.into()});
    json!({"connections": connection_ids.into_iter().map(row).collect::<Vec<Value>>()})
}

/// A report that these are live, and with what was reported before all that are.
pub fn complete_report<S: Into<String>>(connection_ids: impl IntoIterator<Item = S>) -> Value {
    let mut report = partial_report(connection_ids);
    report["complete"] = true.into();
    report
}
