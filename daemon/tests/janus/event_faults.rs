//! Events of Janus that are lost, doubled, late, or in another order: they only say which room to list, so nothing is wrong in the end.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use soramode_testkit::janus::client::post;
use soramode_testkit::janus::{Janus, REFUSED, Setup, free_address};

use crate::locks::{in_force, join, set};
use crate::watch::Watch;

/// Fault of all events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventFault {
    Lost,
    Doubled,
    Reversed,
    Late,
}

/// Receives Janus's events, and keeps them until they are passed on.
struct EventRelay {
    address: SocketAddr,
    kept: Arc<Mutex<Vec<String>>>,
}

impl EventRelay {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            kept: Arc::default(),
        };
        let kept = Arc::clone(&relay.kept);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || keep(stream, &kept));
            }
        });
        relay
    }

    /// Takes the events of VideoRoom, one each.
    fn take(&self) -> Vec<Value> {
        let bodies = std::mem::take(&mut *self.kept.lock().unwrap());
        let groups = bodies
            .iter()
            .map(|body| serde_json::from_str(body).unwrap());
        groups
            .flat_map(|group| match group {
                Value::Array(events) => events,
                event => vec![event],
            })
            .collect()
    }

    /// Waits for the event of a participant's leave, and returns all until then.
    fn until_left(&self, id: u64) -> Vec<Value> {
        let mut events = Vec::new();
        let is_last = |event: &Value| {
            let data = &event["event"]["data"];
            data["event"] == "leaving" && data["id"] == id
        };
        while !events.iter().any(is_last) {
            events.extend(self.take());
            std::thread::yield_now();
        }
        events
    }
}

/// Answers each request of a connection, and keeps its body.
fn keep(mut stream: TcpStream, kept: &Mutex<Vec<String>>) {
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 65_536]);
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if body.is_empty() && lower.contains("expect: 100-continue") {
            stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .unwrap_or_default();
        }
        if body.len() < length {
            continue;
        }
        kept.lock().unwrap().push(body.to_owned());
        bytes.clear();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        stream.write_all(answer).unwrap_or_default();
    }
}

fn pass_on(address: SocketAddr, event: &Value) {
    post(address, "/janus", event);
}

#[test]
fn events_that_are_lost_doubled_late_or_out_of_order_leave_the_same_table_and_locks() {
    for fault in [
        EventFault::Lost,
        EventFault::Doubled,
        EventFault::Reversed,
        EventFault::Late,
    ] {
        let relay = EventRelay::listen();
        let events_to = free_address();
        let janus = Janus::start(&Setup {
            events_to: Some(relay.address),
            ..Setup::default()
        });
        let daemon = janus.locking_with(|settings| {
            settings.listen = Some(events_to);
        });
        let mut watch = Watch::of(&daemon);
        watch.synced();
        let mut user = janus.client();
        let mut stay = BTreeSet::new();
        for id in 1..=20 {
            let handle = user.must_join(&json!({"room": 1 + id % 2, "id": id}));
            if id % 3 == 0 {
                stay.insert(format!("{}/{id}", 1 + id % 2));
            } else {
                user.leave(&handle);
            }
        }
        let events = relay.until_left(20);
        let in_order = |events: &[Value]| events.iter().for_each(|it| pass_on(events_to, it));
        match fault {
            EventFault::Lost => {}
            EventFault::Doubled => in_order(&[events.clone(), events].concat()),
            EventFault::Reversed => {
                let reversed: Vec<Value> = events.into_iter().rev().collect();
                in_order(&reversed);
            }
            EventFault::Late => {
                // After the list of a closed node.
                set(&mut watch.client, "block_new_session");
                in_order(&events);
            }
        }
        set(&mut watch.client, "block_new_session");
        in_force(&mut watch.client, "yes");
        let table = |watch: &mut Watch| -> BTreeSet<String> {
            watch
                .connections()
                .into_iter()
                .map(|(_, id, _)| id)
                .collect()
        };
        while table(&mut watch) != stay {
            std::thread::yield_now();
        }
        set(&mut watch.client, "block_new_connection");
        in_force(&mut watch.client, "yes");
        for room in [1, 2] {
            assert_eq!(
                join(&mut user, &json!(room), &json!(99)),
                REFUSED,
                "{fault:?}"
            );
        }
    }
}
