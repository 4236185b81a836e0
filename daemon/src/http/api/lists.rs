//! Lists in Sora's format: requested from the gate in small pages, so that no other client is
//! delayed, and streamed.

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use hyper::{Response, StatusCode};
use serde::Serialize;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{
    Connection, ConnectionState, ListConnections, ListRequest, ListSessions, Page, Session,
};
use soramode_protocol::sora::SoraConnection;
use soramode_protocol::time::Time;
use tokio::task::yield_now;

use super::problem::Problem;
use crate::clock;
use crate::engine::Engine;
use crate::http::response::{BodyError, HttpResponse, JSON, streaming, typed};
use crate::http::state::HttpState;

/// Maximum number of rows per request to the gate.
const PAGE_ROWS: u32 = 64;

/// Pages that are made before the client has taken the first.
const PAGES_AHEAD: usize = 4;

/// Kind of list.
#[derive(Clone, Debug)]
pub(super) enum List {
    /// Connections, of one channel or of all.
    Connections(Option<ChannelId>),
    /// Rows of sessions.
    Sessions,
    /// Statistics of each connection.
    Stats,
}

/// Row of `Sora_20231220.ListSessions`.
#[derive(Serialize)]
struct SessionRow {
    channel_id: ChannelId,
    session_id: SessionId,
    created_time: i64,
    created_timestamp: Time,
    connections: u64,
    max_connections: u64,
    total_connections: u64,
}

/// Row of `GetStatsAllConnections`. Viewers take numbers, strings, booleans and objects; null and
/// arrays break them.
#[derive(Serialize)]
struct StatsRow {
    connection_id: ConnectionId,
    timestamp: Time,
    channel_id: ChannelId,
    session_id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    duration_seconds: u64,
}

/// Answers with the whole list. One that fits a page has a length; a longer one comes in chunks.
pub(super) async fn answer(state: &HttpState, list: List) -> Result<HttpResponse, Problem> {
    let mut pages = Pages {
        engine: state.engine.clone(),
        list,
        cursor: None,
        separator: b"",
    };
    let mut text = vec![b'['];
    let is_more = pages.next(&mut text).await?;
    if !is_more {
        text.push(b']');
        return Ok(typed(StatusCode::OK, JSON, text));
    }
    let (sender, body) = Channel::<Bytes, BodyError>::new(PAGES_AHEAD);
    state.tracker.spawn(pages.send(text, sender));
    let mut answer = Response::new(streaming(body));
    answer
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, JSON);
    Ok(answer)
}

struct Pages {
    engine: Engine,
    list: List,
    cursor: Option<String>,
    /// Text before the next row.
    separator: &'static [u8],
}

impl Pages {
    async fn send(mut self, first: Vec<u8>, mut sender: Sender<Bytes, BodyError>) {
        let (mut text, mut is_more) = (first, true);
        while is_more {
            // The client has disconnected.
            if sender
                .send_data(std::mem::take(&mut text).into())
                .await
                .is_err()
            {
                return;
            }
            // Clients that wait at a socket are served before the next page, as on the control
            // socket.
            yield_now().await;
            match self.next(&mut text).await {
                Ok(more) => is_more = more,
                // A partial list must not look complete.
                Err(_) => return sender.abort("soramoded is stopping".into()),
            }
        }
        text.push(b']');
        // The client may have closed its connection.
        let _ = sender.send_data(text.into()).await;
    }

    /// Writes the next page; true if another follows it.
    async fn next(&mut self, text: &mut Vec<u8>) -> Result<bool, Problem> {
        let (limit, cursor) = (Some(PAGE_ROWS), self.cursor.take());
        let request = match &self.list {
            List::Connections(channel_id) => ListRequest::Connections(ListConnections {
                channel_id: channel_id.clone(),
                limit,
                cursor,
            }),
            List::Stats => ListRequest::Connections(ListConnections {
                channel_id: None,
                limit,
                cursor,
            }),
            List::Sessions => ListRequest::Sessions(ListSessions {
                channel_id: None,
                limit,
                cursor,
            }),
        };
        match self
            .engine
            .ask_one("http".into(), GateRequest::List(request))
            .await
        {
            Ok(Reply::Page(Page::Connections(page))) => {
                self.cursor = page.cursor;
                // Pending connections are not among Sora's connections.
                let live = page
                    .connections
                    .into_iter()
                    .filter(|connection| connection.state == ConnectionState::Live);
                let now = clock::now().wall;
                for connection in live {
                    match self.list {
                        List::Stats => self.write(text, &stats(connection, now)),
                        List::Connections(_) | List::Sessions => self.write(text, &row(connection)),
                    }
                }
            }
            Ok(Reply::Page(Page::Sessions(page))) => {
                self.cursor = page.cursor;
                page.sessions
                    .into_iter()
                    .for_each(|session| self.write(text, &session_row(session)));
            }
            Ok(_) | Err(_) => return Err(Problem::Bug),
        }
        Ok(self.cursor.is_some())
    }

    fn write(&mut self, text: &mut Vec<u8>, row: &impl Serialize) {
        let length = text.len();
        text.extend_from_slice(self.separator);
        match serde_json::to_writer(&mut *text, row) {
            Ok(()) => self.separator = b",",
            // Serializing a row cannot fail.
            Err(error) => {
                tracing::error!(%error, "cannot write a row");
                text.truncate(length);
            }
        }
    }
}

fn row(connection: Connection) -> SoraConnection {
    let Connection {
        connection_id,
        channel_id,
        session_id,
        client_id,
        state: _,
        created_at,
    } = connection;
    SoraConnection {
        channel_id,
        session_id: Some(session_id),
        client_id,
        connection_id,
        created_time: Some(created_at.as_micros()),
        created_timestamp: Some(created_at),
    }
}

fn stats(connection: Connection, now: Time) -> StatsRow {
    let Connection {
        connection_id,
        channel_id,
        session_id,
        client_id,
        state: _,
        created_at,
    } = connection;
    StatsRow {
        connection_id,
        timestamp: now,
        channel_id,
        session_id,
        client_id,
        duration_seconds: now.since(created_at).as_secs(),
    }
}

fn session_row(session: Session) -> SessionRow {
    let Session {
        channel_id,
        session_id,
        created_at,
        connections,
        pending: _,
        max_connections,
        total_connections,
    } = session;
    let created_time = created_at.as_micros();
    SessionRow {
        channel_id,
        session_id,
        created_time,
        created_timestamp: created_at,
        connections,
        max_connections,
        total_connections,
    }
}
