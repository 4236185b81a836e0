//! JSON-RPC 2.0 around requests, answers and notifications.

mod fast;
mod incoming;
mod strict;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::announce::AnnounceSession;
use crate::cluster::Fence;
use crate::end::EndSession;
use crate::error::Error;
use crate::event::Event;
use crate::request::{Method, RequestId};
use crate::subscribe::Gap;
use crate::wait::Progress;
pub use incoming::{Incoming, ReplyTo};
pub use strict::parse_strict;

/// Parses one line, without its line feed. Valid requests take one pass; anything else is parsed
/// again for a precise error.
pub fn read_request(line: &[u8]) -> Incoming {
    fast::read(line).unwrap_or_else(|| parse_strict(line))
}

/// A request as a client writes it.
#[derive(Serialize)]
pub struct Outgoing<'a, P> {
    jsonrpc: &'static str,
    id: i64,
    method: &'static str,
    params: &'a P,
}

impl<'a, P> Outgoing<'a, P> {
    /// Asks `method` with these params.
    pub const fn new(id: i64, method: Method, params: &'a P) -> Self {
        Self {
            jsonrpc: "2.0",
            id,
            method: method.name(),
            params,
        }
    }
}

/// Notification from the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params")]
pub enum Notification {
    /// An event of the subscription.
    Event(Event),
    /// Events of the subscription that are no longer kept.
    Gap(Gap),
    /// Progress of a wait that is in flight.
    Progress(Progress),
    /// A session that this client is to end.
    End(EndSession),
    /// Expiry of the ownership lease: the client ends the sessions that it names, and acknowledges
    /// that.
    Fence(Fence),
    /// A notice for the clients of a session, which this client passes on.
    Announce(AnnounceSession),
}

/// A notification with its `jsonrpc`, as the daemon writes it.
#[derive(Serialize)]
pub struct NotificationLine<'a, P> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a P,
}

/// The params of a notification, with the method that they go with.
pub trait NotificationBody: Serialize {
    /// Method name of the notification.
    const METHOD: &'static str;
}

impl NotificationBody for Event {
    const METHOD: &'static str = "Event";
}

impl NotificationBody for Gap {
    const METHOD: &'static str = "Gap";
}

impl NotificationBody for Progress {
    const METHOD: &'static str = "Progress";
}

impl NotificationBody for EndSession {
    const METHOD: &'static str = "End";
}

impl NotificationBody for Fence {
    const METHOD: &'static str = "Fence";
}

impl NotificationBody for AnnounceSession {
    const METHOD: &'static str = "Announce";
}

impl<'a, P: NotificationBody> NotificationLine<'a, P> {
    /// Returns the notification of these params.
    pub const fn new(params: &'a P) -> Self {
        Self {
            jsonrpc: "2.0",
            method: P::METHOD,
            params,
        }
    }
}

/// A line that a client reads.
#[derive(Debug)]
pub enum ServerMessage {
    /// The answer to the request of this id; the result still as JSON, since only the asker knows its type.
    Answer(Option<RequestId>, Result<Box<RawValue>, Error>),
    /// Notification from the daemon; `None` for a method that this version does not know.
    Notification(Option<Notification>),
}

/// Reads a line from the daemon.
pub fn read_server_message(line: &[u8]) -> Result<ServerMessage, serde_json::Error> {
    #[derive(Deserialize)]
    struct Members<'a> {
        id: Option<RequestId>,
        #[serde(borrow)]
        method: Option<Cow<'a, str>>,
        result: Option<Box<RawValue>>,
        error: Option<Error>,
    }

    let members: Members<'_> = serde_json::from_slice(line)?;
    match (members.method.as_deref(), members.result, members.error) {
        (Some("Event" | "Gap" | "Progress" | "End" | "Fence" | "Announce"), _, _) => {
            serde_json::from_slice(line).map(|it| ServerMessage::Notification(Some(it)))
        }
        (Some(_), _, _) => Ok(ServerMessage::Notification(None)),
        (None, _, Some(error)) => Ok(ServerMessage::Answer(members.id, Err(error))),
        (None, Some(result), None) => Ok(ServerMessage::Answer(members.id, Ok(result))),
        (None, None, None) => Err(serde::de::Error::custom(
            "neither an answer nor a notification",
        )),
    }
}

/// Appends an answer and its line feed. Writes the parts common to all answers as constants, which
/// saves a quarter of the time.
pub fn write_answer(
    line: &mut Vec<u8>,
    to: &ReplyTo,
    answer: Result<&impl Serialize, &Error>,
) -> Result<(), serde_json::Error> {
    line.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    serde_json::to_writer(&mut *line, to)?;
    match answer {
        Ok(result) => {
            line.extend_from_slice(br#","result":"#);
            serde_json::to_writer(&mut *line, result)?;
        }
        Err(error) => {
            line.extend_from_slice(br#","error":"#);
            serde_json::to_writer(&mut *line, error)?;
        }
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends a message and its line feed.
pub fn write_line(line: &mut Vec<u8>, message: &impl Serialize) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *line, message)?;
    line.push(b'\n');
    Ok(())
}
