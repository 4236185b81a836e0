//! An async client of Janus's Admin API, and through it of the plugin VideoRoom. It keeps one connection open, for one request at a time: that
//! it breaks is a sign that Janus was restarted. Each request may be repeated: it sets a state, or reads one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::http::uri::InvalidUri;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value, json};
use soramode_protocol::http_client::kept::{Keep, KeptClient, Post, UnusableClient};
use soramode_protocol::http_client::{self, Outgoing};
use soramode_protocol::id::ChannelId;
use tokio::time::{Instant, timeout};

pub(super) use super::admin_error::AdminError;
use super::admin_error::{ANSWER_BYTES_MAX, refusal, unreadable};
use super::ids::{Id, IdKind, channel_of, is_shortened};
use crate::config::{JanusConfig, Secret};
use crate::lock::lock;

/// Timeout of a request, with the wait for the one before it.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Time without a request after which one is sent. Janus closes a connection that was idle for two minutes, which would look like its restart.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);

/// The plugin: its rooms are sessions.
const VIDEOROOM: &str = "janus.plugin.videoroom";

/// A key that no VideoRoom has.
const WRONG_KEY: &str = "soramode checks that this key is refused";

/// Janus's Admin API.
#[derive(Clone, Debug)]
pub(crate) struct AdminApi {
    client: KeptClient,
    secret: Secret,
    key: Option<Secret>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    transactions: AtomicU64,
    /// Held during a request.
    turn: tokio::sync::Mutex<()>,
    /// Number of connections up to the last one that brought an answer.
    answered: AtomicU64,
    /// Value of `answered` when `has_reconnected` was last called, or at the first answer.
    answered_before: AtomicU64,
    last_sent: Mutex<Option<Instant>>,
    /// Type of ids, once a list has shown it.
    ids: Mutex<Option<IdKind>>,
    /// Rooms with an id that is longer than a channel's.
    shortened: Mutex<BTreeMap<ChannelId, Id>>,
}

/// The part of Janus's description of itself that is used.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    /// Its plugins, by name.
    pub(super) plugins: Map<String, Value>,
    #[serde(rename = "accepting-new-sessions", default = "accepts")]
    pub(super) accepts_new_sessions: bool,
}

const fn accepts() -> bool {
    true
}

/// A room, as `list` shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Room {
    pub(super) room: Id,
    /// Number of participants, with dummies.
    pub(super) num_participants: u64,
}

/// A participant, as `listparticipants` shows it.
#[derive(Debug, Deserialize)]
pub(super) struct RoomParticipant {
    pub(super) id: Id,
    #[serde(default)]
    dummy: bool,
}

/// The part of `handle_info` that the plugin gives.
#[derive(Debug, Deserialize)]
pub(super) struct HandleInfo {
    #[serde(default)]
    plugin: String,
    #[serde(default)]
    plugin_specific: Map<String, Value>,
}

impl HandleInfo {
    /// Returns the room of a publisher.
    pub(super) fn published_room(&self) -> Option<Id> {
        if self.plugin != VIDEOROOM
            || self.plugin_specific.get("type").and_then(Value::as_str) != Some("publisher")
        {
            return None;
        }
        serde_json::from_value(self.plugin_specific.get("room")?.clone()).ok()
    }
}

impl AdminApi {
    pub(crate) fn new(janus: &JanusConfig, outgoing: &Outgoing) -> Result<Self, UnusableClient> {
        let keep = Keep {
            connections_max: 1,
            idle_max: None,
        };
        let url = janus.admin.0.clone();
        Ok(Self {
            client: KeptClient::new(url, None, ADMIN_TIMEOUT, keep, outgoing)?,
            secret: janus.admin_secret.clone(),
            key: janus.admin_key.clone(),
            state: Arc::default(),
        })
    }

    /// Returns the URL, without secrets that it may have.
    pub(crate) fn url(&self) -> String {
        http_client::redacted(self.client.url())
    }

    pub(super) fn secret(&self) -> &str {
        self.secret.expose()
    }

    /// Returns whether VideoRoom has an admin key: it refuses a wrong one.
    pub(super) async fn checks_admin_key(&self) -> Result<bool, AdminError> {
        let request = json!({"request": "list", "admin_key": WRONG_KEY});
        match self.plugin::<IgnoredAny>(&request).await {
            Ok(_) => Ok(false),
            Err(error) if error.is_secret() => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Sends a request if the connection has been idle for long. Its failure is that of the connection, which is noticed.
    pub(super) async fn keep_alive(&self) {
        if is_idle(*lock(&self.state.last_sent), Instant::now()) {
            let ping = json!({"janus": "ping"});
            let answered: Result<Map<String, Value>, AdminError> = self.send(&[], ping).await;
            answered.map(drop).unwrap_or_default();
        }
    }

    /// Returns Janus's description of itself.
    pub(super) async fn info(&self) -> Result<Info, AdminError> {
        self.send(&[], json!({"janus": "info"})).await
    }

    /// Lists all rooms; private ones only with the admin key.
    pub(super) async fn list(&self) -> Result<Vec<Room>, AdminError> {
        #[derive(Deserialize)]
        struct Listed {
            list: Vec<Room>,
        }
        let mut request = json!({"request": "list"});
        if let Some(key) = &self.key {
            set(&mut request, "admin_key", json!(key.expose()));
        }
        let Listed { list } = self.plugin(&request).await?;
        if let Some(first) = list.first() {
            *lock(&self.state.ids) = Some(first.room.kind());
        }
        lock(&self.state.shortened).clear();
        for room in &list {
            self.note_room(&room.room);
        }
        Ok(list)
    }

    /// Remembers the id of a room, if it is longer than a channel's.
    pub(super) fn note_room(&self, room: &Id) {
        if let Some(channel_id) = channel_of(room).filter(|it| is_shortened(it.as_str())) {
            lock(&self.state.shortened).insert(channel_id, room.clone());
        }
    }

    /// Returns the id of a channel's room.
    pub(super) fn room_of(&self, channel_id: &ChannelId) -> Result<String, AdminError> {
        if !is_shortened(channel_id.as_str()) {
            return Ok(channel_id.as_str().to_owned());
        }
        let shortened = lock(&self.state.shortened);
        let room = shortened.get(channel_id).ok_or(AdminError::Unlisted)?;
        Ok(room.to_string())
    }

    /// Has Janus accept new sessions of its clients, or refuse them.
    pub(super) async fn accept_new_sessions(&self, accept: bool) -> Result<(), AdminError> {
        let request = json!({"janus": "accept_new_sessions", "accept": accept});
        self.send::<Map<String, Value>>(&[], request)
            .await
            .map(drop)
    }

    /// Lists the participants of a room but for dummies; none if there is no such room.
    pub(super) async fn list_participants(
        &self,
        room: &str,
    ) -> Result<Vec<RoomParticipant>, AdminError> {
        #[derive(Deserialize)]
        struct Listed {
            participants: Vec<RoomParticipant>,
        }
        let request = json!({"request": "listparticipants"});
        match self.about_room::<Listed>(room, &request).await {
            Ok(Listed { participants }) => {
                Ok(participants.into_iter().filter(|it| !it.dummy).collect())
            }
            Err(error) if error.is_gone() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Returns the number of tokens of a room.
    pub(super) async fn show_tokens(
        &self,
        room: &str,
        secret: Option<&Secret>,
    ) -> Result<usize, AdminError> {
        self.tokens_after("add", room, secret).await
    }

    /// Lets only clients with a token into a room; returns the number of tokens.
    pub(super) async fn lock(
        &self,
        room: &str,
        secret: Option<&Secret>,
    ) -> Result<usize, AdminError> {
        self.tokens_after("enable", room, secret).await
    }

    /// Lets clients without a token into a room.
    pub(super) async fn unlock(
        &self,
        room: &str,
        secret: Option<&Secret>,
    ) -> Result<(), AdminError> {
        self.tokens_after("disable", room, secret).await.map(drop)
    }

    async fn tokens_after(
        &self,
        action: &str,
        room: &str,
        secret: Option<&Secret>,
    ) -> Result<usize, AdminError> {
        #[derive(Deserialize)]
        struct Shown {
            #[serde(default)]
            allowed: Vec<IgnoredAny>,
        }
        let request = with_secret(json!({"request": "allowed", "action": action}), secret);
        let Shown { allowed } = self.about_room(room, &request).await?;
        Ok(allowed.len())
    }

    /// Returns whether an answer has come over another connection since the last call: Janus may have been restarted meanwhile. A connection
    /// without an answer does not count: the system accepts it for a Janus that hangs.
    pub(super) fn has_reconnected(&self) -> bool {
        let now = self.state.answered.load(Ordering::Relaxed);
        let before = self.state.answered_before.swap(now, Ordering::Relaxed);
        now > before
    }

    /// Waits until the connection to Janus breaks. Cancel safe.
    pub(super) async fn broken(&self) {
        self.client.closed().await;
    }

    /// Removes a participant from a room.
    pub(super) async fn kick(
        &self,
        room: &str,
        id: &Id,
        secret: Option<&Secret>,
    ) -> Result<(), AdminError> {
        let request = with_secret(json!({"request": "kick", "id": id}), secret);
        self.about_room::<Map<String, Value>>(room, &request)
            .await
            .map(drop)
    }

    /// Destroys a room.
    pub(super) async fn destroy(
        &self,
        room: &str,
        secret: Option<&Secret>,
    ) -> Result<(), AdminError> {
        let request = with_secret(json!({"request": "destroy"}), secret);
        self.about_room::<Map<String, Value>>(room, &request)
            .await
            .map(drop)
    }

    /// Returns the ids of all sessions of Janus.
    pub(super) async fn list_sessions(&self) -> Result<Vec<u64>, AdminError> {
        #[derive(Deserialize)]
        struct Listed {
            sessions: Vec<u64>,
        }
        let request = json!({"janus": "list_sessions"});
        let Listed { sessions } = self.send(&[], request).await?;
        Ok(sessions)
    }

    /// Returns the ids of the handles of a session.
    pub(super) async fn list_handles(&self, session: u64) -> Result<Vec<u64>, AdminError> {
        #[derive(Deserialize)]
        struct Listed {
            handles: Vec<u64>,
        }
        let request = json!({"janus": "list_handles"});
        let Listed { handles } = self.send(&[session], request).await?;
        Ok(handles)
    }

    /// Returns details of a handle.
    pub(super) async fn handle_info(
        &self,
        session: u64,
        handle: u64,
    ) -> Result<HandleInfo, AdminError> {
        #[derive(Deserialize)]
        struct Shown {
            info: HandleInfo,
        }
        let request = json!({"janus": "handle_info", "plugin_only": false});
        let Shown { info } = self.send(&[session, handle], request).await?;
        Ok(info)
    }

    /// Sends a request about a room. Its id has the type that lists show; if none has shown it, the one that Janus accepts.
    async fn about_room<R: DeserializeOwned>(
        &self,
        room: &str,
        request: &Value,
    ) -> Result<R, AdminError> {
        let known = *lock(&self.state.ids);
        let kind = known.unwrap_or_else(|| IdKind::likely(room));
        let with_room = |kind| {
            let mut request = request.clone();
            set(&mut request, "room", json!(Id::of(room, kind)));
            request
        };
        match self.plugin(&with_room(kind)).await {
            Err(error) if error.is_wrong_type() && known.is_none() => {
                let answered = self.plugin(&with_room(kind.other())).await?;
                *lock(&self.state.ids) = Some(kind.other());
                Ok(answered)
            }
            answered => answered,
        }
    }

    /// Sends a request to the plugin.
    async fn plugin<R: DeserializeOwned>(&self, request: &Value) -> Result<R, AdminError> {
        #[derive(Deserialize)]
        struct Answer {
            response: Map<String, Value>,
        }
        let message = json!({"janus": "message_plugin", "plugin": VIDEOROOM, "request": request});
        let Answer { response } = self.send(&[], message).await?;
        if let Some(code) = response.get("error_code").and_then(Value::as_i64) {
            return Err(refusal(code, response.get("error")));
        }
        read(Value::Object(response))
    }

    /// Sends a request of the Admin API, about a session and a handle where these are given.
    async fn send<R: DeserializeOwned>(
        &self,
        path: &[u64],
        mut message: Value,
    ) -> Result<R, AdminError> {
        #[derive(Deserialize)]
        struct Refused {
            code: i64,
            reason: String,
        }
        let transaction = self.state.transactions.fetch_add(1, Ordering::Relaxed);
        set(&mut message, "transaction", json!(transaction.to_string()));
        set(&mut message, "admin_secret", json!(self.secret.expose()));
        let body = serde_json::to_vec(&message).map_err(|error| unreadable(&error))?;
        *lock(&self.state.last_sent) = Some(Instant::now());
        let post = Post {
            target: self.target(path)?,
            body: body.into(),
            ..Post::default()
        };
        let bytes = timeout(ADMIN_TIMEOUT, self.post(post))
            .await
            .unwrap_or(Err(AdminError::TimedOut))?;
        let mut answer: BTreeMap<String, Value> =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        if let Some(error) = answer.remove("error") {
            let Refused { code, reason } = read(error)?;
            return Err(refusal(code, Some(&Value::String(reason))));
        }
        read(Value::Object(answer.into_iter().collect()))
    }

    /// Returns the path of a session or a handle; `None` stands for Janus itself.
    fn target(&self, ids: &[u64]) -> Result<Option<Uri>, AdminError> {
        if ids.is_empty() {
            return Ok(None);
        }
        let base = self.client.url().path().trim_end_matches('/');
        let path = ids
            .iter()
            .fold(base.to_owned(), |path, id| format!("{path}/{id}"));
        let target = path.parse().map(Some);
        target.map_err(|error: InvalidUri| unreadable(&error))
    }

    /// Sends a request once the one before it is over.
    async fn post(&self, post: Post) -> Result<Bytes, AdminError> {
        let _turn = self.state.turn.lock().await;
        let answer = self.client.post(post, |_| ANSWER_BYTES_MAX).await?;
        let connections = self.client.connections();
        if self.state.answered.swap(connections, Ordering::Relaxed) == 0 {
            self.state
                .answered_before
                .store(connections, Ordering::Relaxed);
        }
        if answer.status.is_success() {
            Ok(answer.body?)
        } else {
            let status = answer.status;
            Err(AdminError::Unreadable(format!("HTTP status {status}")))
        }
    }
}

/// Returns whether a request is due that keeps the connection alive. One that was never used is not open.
fn is_idle(last_sent: Option<Instant>, now: Instant) -> bool {
    last_sent.is_some_and(|last| now.duration_since(last) >= KEEP_ALIVE_AFTER)
}

fn set(message: &mut Value, name: &str, value: Value) {
    if let Value::Object(fields) = message {
        fields.insert(name.to_owned(), value);
    }
}

fn with_secret(mut request: Value, secret: Option<&Secret>) -> Value {
    if let Some(secret) = secret {
        set(&mut request, "secret", json!(secret.expose()));
    }
    request
}

fn read<R: DeserializeOwned>(value: Value) -> Result<R, AdminError> {
    serde_json::from_value(value).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests;
