//! HTTP/1.1 as it is on the wire: what is sent is bytes, and what is heard is taken apart no further than the protocol needs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use soramode_testkit::PATIENCE;
use soramode_testkit::daemon::Daemon;
use soramoded::config::Config;

/// The port of every API here; each daemon has an address of its own.
pub(crate) const API_PORT: u16 = 3000;

/// The port for Sora's webhooks.
pub(crate) const SORA_PORT: u16 = 3100;

/// The port for monitoring.
pub(crate) const OBSERVE_PORT: u16 = 9400;

/// A loopback address that nobody else in these tests has.
pub(crate) fn own_address() -> Ipv4Addr {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id();
    // Never the first or the last address of a network.
    let [second, third, fourth] = [
        1 + process / 15 % 250,
        process % 15 * 16 + number / 250,
        1 + number % 250,
    ];
    assert!(number < 16 * 250, "there are no more addresses");
    Ipv4Addr::from(u32::from_be_bytes([127, 0, 0, 0]) + (second << 16) + (third << 8) + fourth)
}

/// A daemon with all three HTTP listeners, each on its usual port.
pub(crate) struct Node {
    pub(crate) daemon: Daemon,
    address: Ipv4Addr,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let address = own_address();
        let daemon = Daemon::with(|config| {
            config.http.api.listen = vec![format!("{address}:{API_PORT}").parse().unwrap()];
            config.http.sora.listen = Some(SocketAddr::new(address.into(), SORA_PORT));
            config.http.observe_listen = Some(SocketAddr::new(address.into(), OBSERVE_PORT));
            change(config);
        });
        Self { daemon, address }
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address.into(), port)
    }

    /// Asks the API on a connection of its own.
    pub(crate) fn ask(&self, operation: &str, body: &str) -> Said {
        exchange(
            self.at(API_PORT),
            &request("/", &[("x-sora-target", operation)], body),
        )
    }

    /// Posts one of Sora's webhooks.
    pub(crate) fn post_webhook(&self, kind: &str, body: &Value) -> Said {
        exchange(
            self.at(SORA_PORT),
            &request(
                &format!("/sora/{kind}"),
                &[("content-type", "application/json")],
                &body.to_string(),
            ),
        )
    }

    /// Gets a page of the listener for monitoring.
    pub(crate) fn get_observe(&self, path: &str) -> Said {
        exchange(
            self.at(OBSERVE_PORT),
            &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        )
    }
}

/// A `POST` of this body.
pub(crate) fn request(path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers = headers.iter().fold(String::new(), |head, (name, value)| {
        head + name + ": " + value + "\r\n"
    });
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost:{API_PORT}\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Response of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    /// In the order they came, the names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Said {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

/// Connection to the server.
#[derive(Debug)]
pub(crate) struct Wire(BufReader<TcpStream>);

impl Wire {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer; `None` where the server closed the connection.
    pub(crate) fn recv(&mut self) -> Option<Said> {
        let (first, headers) = read_head(&mut self.0)?;
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let body = read_body(&mut self.0, &headers, Ending::Close);
        Some(Said {
            status,
            headers,
            body,
        })
    }

    /// Everything until the server closes, which may be an error.
    pub(crate) fn recv_all(&mut self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).map(|_| bytes)
    }
}

/// Sends one request, and returns the response.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> Said {
    let mut wire = Wire::to(address);
    wire.send(request);
    wire.recv()
        .unwrap_or_else(|| panic!("no answer to {request:?}"))
}

/// Replacement for a body without a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It goes on until the connection is closed.
    Close,
    /// No body at all.
    Nothing,
}

pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<(String, Vec<(String, String)>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end_matches("\r\n");
        if line.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let mut lines = lines.into_iter();
    let first = lines.next()?;
    let split = |line: String| {
        line.split_once(':')
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
    };
    Some((first, lines.filter_map(split).collect()))
}

pub(crate) fn read_body(
    reader: &mut impl BufRead,
    headers: &[(String, String)],
    ending: Ending,
) -> Vec<u8> {
    let header = |name: &str| {
        headers
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    };
    let mut body = Vec::new();
    if let Some(length) = header("content-length") {
        body.resize(length.parse().unwrap(), 0);
        reader.read_exact(&mut body).unwrap();
    } else if header("transfer-encoding") == Some("chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).unwrap() + 2];
            reader.read_exact(&mut chunk).unwrap();
            if chunk.len() == 2 {
                break;
            }
            body.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    } else if ending == Ending::Close {
        reader.read_to_end(&mut body).unwrap();
    }
    body
}
