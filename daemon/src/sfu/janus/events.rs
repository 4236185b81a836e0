//! `POST /janus`: events that Janus's event handler `sampleevh` sends. They may be lost, late, doubled or out of order, so they only name
//! the rooms to list. The answer is 200 in any case: Janus sends again what is not answered in time, and takes every other status for
//! success.

use std::sync::Arc;

use hyper::{Method, Request, StatusCode};
use serde::Deserialize;

use super::due_lists::DueLists;
use super::ids::Id;
use crate::http::body::RequestBody;
use crate::http::listen::Caller;
use crate::http::response::{HttpResponse, JSON, error, typed};
use crate::http::state::HttpState;
use crate::rate_limit::log_limited;

/// Path of the events.
pub const EVENTS_PATH: &str = "/janus";

/// The largest group of events, in bytes.
pub const EVENTS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Type of an event of a plugin.
const PLUGIN_EVENT: u64 = 64;

/// Type of an event of Janus itself.
const CORE_EVENT: u64 = 256;

/// Status of a Janus that was just started.
const STARTED: &str = "started";

pub(crate) async fn answer(
    state: &HttpState,
    caller: &Caller,
    request: Request<RequestBody>,
) -> HttpResponse {
    if !caller.ip.is_some_and(|ip| ip.is_loopback()) {
        log_limited!(warn, peer = ?caller.ip, "rejected events from an unexpected address");
        return error(StatusCode::FORBIDDEN, "Forbidden");
    }
    if request.method() != Method::POST {
        return error(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed");
    }
    state.due_lists.note_events();
    match request.into_body().read(EVENTS_BYTES_MAX).await {
        Ok(body) => note_rooms(&state.due_lists, &body),
        Err(_) => state.due_lists.add_all(),
    }
    typed(StatusCode::OK, JSON, &b"{}"[..])
}

/// Takes the rooms from a body: one event, or a group of them. One that cannot be read has all rooms listed.
fn note_rooms(due_lists: &Arc<DueLists>, body: &[u8]) {
    let group: Result<OneOrMany, _> = serde_json::from_slice(body);
    let events = match group {
        Ok(OneOrMany::Many(events)) => events,
        Ok(OneOrMany::One(event)) => vec![event],
        Err(problem) => {
            log_limited!(warn, %problem, "cannot read events of Janus; listing all rooms");
            return due_lists.add_all();
        }
    };
    for event in events {
        match (event.event_type, event.event) {
            (
                PLUGIN_EVENT,
                Some(Body {
                    data: Some(data), ..
                }),
            ) => {
                if let Some(room) = data.room {
                    due_lists.add(room);
                }
            }
            (CORE_EVENT, Some(body)) if body.status.as_deref() == Some(STARTED) => {
                due_lists.note_restart();
            }
            (CORE_EVENT, _) => due_lists.add_all(),
            (_, _) => {}
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<Event>),
    One(Event),
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    event_type: u64,
    #[serde(default)]
    event: Option<Body>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    room: Option<Id>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::due_lists::Due;
    use super::*;

    async fn due(body: &str) -> Due {
        let due_lists = Arc::new(DueLists::default());
        note_rooms(&due_lists, body.as_bytes());
        due_lists.add(Id::Number(0));
        due_lists.next().await
    }

    #[tokio::test]
    async fn events_name_rooms_and_nothing_else_is_taken_from_them() {
        let rooms =
            |ids: &[u64]| Due::Rooms(ids.iter().copied().map(Id::Number).collect::<BTreeSet<_>>());
        let joined = r#"{"emitter":"j","type":64,"timestamp":1,"session_id":1,"handle_id":2,"opaque_id":"x",
            "event":{"plugin":"janus.plugin.videoroom","data":{"event":"joined","room":1234,"id":7,"private_id":8,"display":"Eve"}}}"#;
        assert_eq!(due(joined).await, rooms(&[0, 1234]));
        assert_eq!(
            due(&format!("[{joined},{joined}]")).await,
            rooms(&[0, 1234])
        );
        let media = r#"{"type":32,"event":{"media":"audio"}}"#;
        assert_eq!(due(media).await, rooms(&[0]));
        let started = r#"{"type":256,"event":{"status":"started","info":{}}}"#;
        assert_eq!(due(started).await, Due::Restarted);
        let ended = r#"{"type":256,"event":{"status":"shutdown","signum":15}}"#;
        assert_eq!(due(ended).await, Due::All);
        assert_eq!(due("nonsense").await, Due::All);
    }
}
