//! A server that speaks Sora's API as far as the program asks for it: a real Sora that has the mode feature, without soramoded.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

/// The state of the fake Sora.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) mode: String,
    pub(crate) connections: Vec<Value>,
    /// `None`: it does not know `ListSessions`.
    pub(crate) sessions: Option<Vec<Value>>,
    /// The token that it wants.
    pub(crate) token: Option<String>,
    /// The answer to every request instead: a status and a body. Status 0 closes the connection.
    pub(crate) fault: Option<(u16, String)>,
    /// The requests, in order.
    pub(crate) asked: Vec<String>,
}

/// The server. It lasts as long as the test's process.
#[derive(Debug)]
pub(crate) struct Sora {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// A row of `ListConnections`, so many seconds after the epoch.
pub(crate) fn connection(channel_id: &str, connection_id: &str, seconds: i64) -> Value {
    json!({
        "channel_id": channel_id, "session_id": format!("{channel_id}-1"), "client_id": "alice", "connection_id": connection_id,
        "created_time": seconds * 1_000_000, "role": "sendrecv", "more": [null],
    })
}

impl Sora {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            mode: "normal".to_owned(),
            connections: Vec::new(),
            sessions: None,
            token: None,
            fault: None,
            asked: Vec::new(),
        };
        let sora = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(state)),
        };
        let state = Arc::clone(&sora.state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                thread::spawn(move || serve(stream, &state));
            }
        });
        sora
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some((target, token, body)) = read(&mut reader) {
        let (status, said) = answer(&mut state.lock().unwrap(), &target, token.as_deref(), &body);
        if status == 0 {
            return;
        }
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            said.len()
        );
        // The client may have closed the connection.
        reader
            .get_mut()
            .write_all((head + &said).as_bytes())
            .unwrap_or_default();
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, Option<String>, Value)> {
    let (mut target, mut token, mut length) = (String::new(), None, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some(("x-sora-target", value)) => value.clone_into(&mut target),
            Some(("authorization", value)) => token = Some(value.to_owned()),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) | None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((
        target,
        token,
        serde_json::from_slice(&body).unwrap_or_default(),
    ))
}

fn answer(state: &mut State, target: &str, token: Option<&str>, body: &Value) -> (u16, String) {
    state.asked.push(target.to_owned());
    if let Some(fault) = &state.fault {
        return fault.clone();
    }
    if state.token.is_some()
        && token
            != state
                .token
                .as_ref()
                .map(|token| format!("Bearer {token}"))
                .as_deref()
    {
        return (401, json!({"error_type": "Unauthorized"}).to_string());
    }
    let said = match target {
        "Sora_20211215.GetMode" => json!({"mode": state.mode}),
        "Sora_20211215.ChangeMode" => {
            body["mode"].as_str().unwrap().clone_into(&mut state.mode);
            json!({"mode": state.mode})
        }
        "Sora_20211215.ListClusterNodes" => {
            json!([{"node_name": "a", "mode": state.mode, "connected": true, "cluster_signaling_url": "wss://a/signaling"}, {"node_name": "b", "connected": false}])
        }
        "Sora_20201013.ListConnections" => json!(state.connections),
        "Sora_20231220.ListSessions" if state.sessions.is_some() => json!(state.sessions),
        _ => return (400, json!({"error_type": "MissingTarget"}).to_string()),
    };
    (200, said.to_string())
}
