//! Payloads: the bodies of its webhooks, with the fields that a Sora of 2024 sends.

use serde_json::{Value, json};
use soramode_protocol::time::Time;
use soramoded::clock;

use super::state::{Connection, Session};

const VERSION: &str = "2024.2.0";
const LABEL: &str = "WebRTC SFU Sora";

/// This node, as a Sora names it.
pub(crate) const NODE_NAME: &str = "sora@127.0.0.1";

const MICROS_PER_SECOND: i64 = 1_000_000;

pub(crate) fn auth(connection: &Connection, connections: usize) -> Value {
    json!({
        "timestamp": now(), "version": VERSION, "label": LABEL, "node_name": NODE_NAME, "role": "sendrecv",
        "channel_id": connection.channel_id, "client_id": connection.connection_id, "bundle_id": connection.connection_id,
        "connection_id": connection.connection_id, "multistream": true, "simulcast": false, "spotlight": false, "audio": true, "video": true,
        "metadata": {"token": "s3cret"}, "channel_connections": connections, "channel_sendrecv_connections": connections,
        "channel_sendonly_connections": 0, "channel_recvonly_connections": 0,
    })
}

pub(crate) fn session_created(session: &Session, id: &str) -> Value {
    json!({
        "type": "session.created", "timestamp": now(), "id": id, "version": VERSION, "label": LABEL, "node_name": NODE_NAME,
        "channel_id": session.channel_id, "session_id": session.session_id, "multistream": true, "spotlight": false,
        "created_time": seconds(session.created_at), "created_timestamp": session.created_at,
    })
}

pub(crate) fn session_destroyed(session: &Session, id: &str) -> Value {
    json!({
        "type": "session.destroyed", "timestamp": now(), "id": id, "version": VERSION, "label": LABEL, "node_name": NODE_NAME,
        "channel_id": session.channel_id, "session_id": session.session_id, "multistream": true, "spotlight": false,
        "created_time": seconds(session.created_at), "created_timestamp": session.created_at,
        "destroyed_time": seconds(now()), "destroyed_timestamp": now(),
        "max_connections": session.total, "total_connections": session.total, "connections": [],
    })
}

pub(crate) fn connection_created(connection: &Connection, id: &str) -> Value {
    event(
        "connection.created",
        connection,
        id,
        &json!({
            "created_time": seconds(connection.created_at), "created_timestamp": connection.created_at, "channel_connections": 1,
        }),
    )
}

pub(crate) fn connection_destroyed(connection: &Connection, id: &str) -> Value {
    event(
        "connection.destroyed",
        connection,
        id,
        &json!({
            "created_time": seconds(connection.created_at), "destroyed_time": seconds(now()), "channel_connections": 0,
            "reason": {"type": "SELF-CLOSED"},
        }),
    )
}

/// Formats a connection for `ListConnections`.
pub(crate) fn listed(connection: &Connection) -> Value {
    json!({
        "role": "sendrecv", "channel_id": connection.channel_id, "session_id": connection.session_id,
        "client_id": connection.connection_id, "bundle_id": connection.connection_id, "connection_id": connection.connection_id,
        "created_time": connection.created_at.as_micros(), "created_timestamp": connection.created_at,
        "audio": {"codec_type": "OPUS"}, "video": null, "multistream": true,
    })
}

fn event(event_type: &str, connection: &Connection, id: &str, data: &Value) -> Value {
    json!({
        "type": event_type, "timestamp": now(), "id": id, "version": VERSION, "label": LABEL, "node_name": NODE_NAME, "role": "sendrecv",
        "channel_id": connection.channel_id, "session_id": connection.session_id, "client_id": connection.connection_id,
        "bundle_id": connection.connection_id, "connection_id": connection.connection_id, "multistream": true, "simulcast": false,
        "spotlight": false, "data": data,
    })
}

fn now() -> Time {
    clock::now().wall
}

fn seconds(time: Time) -> i64 {
    time.as_micros() / MICROS_PER_SECOND
}
