//! Waits for what a daemon knows of a Janus.

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;
use soramode_testkit::daemon::Daemon;

/// A client that follows the daemon's events.
pub(crate) struct Watch {
    pub(crate) client: TestClient,
    events: TestClient,
}

impl Watch {
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let mut events = daemon.client();
        events.get("Subscribe", &json!({}));
        Self {
            client: daemon.client(),
            events,
        }
    }

    /// Waits until a participant has been reported.
    pub(crate) fn came(&mut self, connection_id: &str) -> Value {
        self.event("connection.created", connection_id)
    }

    /// Waits until a participant has been reported to be gone.
    pub(crate) fn left(&mut self, connection_id: &str) -> Value {
        self.event("connection.destroyed", connection_id)
    }

    /// Waits until a channel's session has ended, and returns the reason.
    pub(crate) fn destroyed(&mut self, channel_id: &str) -> Value {
        loop {
            let event = self.events.recv_event("session.destroyed");
            if event["channel_id"] == channel_id {
                return event["reason"].clone();
            }
        }
    }

    fn event(&mut self, event_type: &str, connection_id: &str) -> Value {
        loop {
            let event = self.events.recv_event(event_type);
            if event["connection_id"] == connection_id {
                return event;
            }
        }
    }

    /// Waits until every session is known.
    pub(crate) fn synced(&mut self) {
        while self.client.status()["sessions_complete"] != true {
            std::thread::yield_now();
        }
    }

    /// Returns the ids of all connections, with their channels and states.
    pub(crate) fn connections(&mut self) -> Vec<(String, String, String)> {
        let page = self.client.get("ListConnections", &json!({}));
        let rows = page["connections"].as_array().cloned().unwrap_or_default();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    text(row, "channel_id"),
                    text(row, "connection_id"),
                    text(row, "state"),
                )
            })
            .collect();
        rows.sort();
        rows
    }
}
