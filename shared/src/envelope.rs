//! JSON-RPC 2.0 around requests, answers and notifications.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::cluster::Fence;
use crate::end::EndSession;
use crate::error::{Error, ErrorType};
use crate::event::Event;
use crate::request::{Method, Request, RequestId, in_words};
use crate::subscribe::Gap;
use crate::wait::Progress;

/// A line that was read: who is to be answered, and what was asked.
#[derive(Debug)]
pub struct Incoming {
    /// Whom to answer; `None` for a notification, which gets no answer.
    pub reply_to: Option<ReplyTo>,
    /// What was asked, with its method; or why it cannot be.
    pub request: Result<(Method, Request), Error>,
}

/// Whom to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// The request of this id.
    Id(RequestId),
    /// A line whose id could not be read: `"id":null`.
    Null,
}

impl Serialize for ReplyTo {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Id(id) => id.serialize(serializer),
            Self::Null => serializer.serialize_none(),
        }
    }
}

/// A request's members as they stand in the line. A member that is none of these is a typo, and refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with a method, and id and params if need be")]
struct Members<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(default)]
    id: Id,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

/// `id` as it stands: absent and null are two things.
#[derive(Default)]
enum Id {
    #[default]
    Absent,
    Null,
    Is(RequestId),
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<RequestId>::deserialize(deserializer).map(|id| id.map_or(Self::Null, Self::Is))
    }
}

/// Reads one line, without its line feed.
pub fn read_request(line: &[u8]) -> Incoming {
    // Checked as UTF-8 once as a whole, and not string by string.
    let members = std::str::from_utf8(line).map_or_else(|_| serde_json::from_slice(line), serde_json::from_str);
    let members: Members<'_> = match members {
        // A derived reader takes an array for a struct.
        Ok(members) if !is_array(line) => members,
        Ok(_) => return refuse_batch(),
        Err(problem) => return refuse_line(line, &problem),
    };
    let reply_to = match members.id {
        Id::Absent => None,
        Id::Null => {
            let error = Error::new(ErrorType::ParseError, "id is null: leave it out for no answer, or give a number or a string");
            return Incoming { reply_to: Some(ReplyTo::Null), request: Err(error) };
        }
        Id::Is(id) => Some(ReplyTo::Id(id)),
    };
    let request = read_method(members.jsonrpc.as_deref(), &members.method)
        .and_then(|method| Ok((method, Request::read(method, members.params.map(RawValue::get))?)));
    Incoming { reply_to, request }
}

fn read_method(jsonrpc: Option<&str>, name: &str) -> Result<Method, Error> {
    if let Some(version) = jsonrpc.filter(|version| *version != "2.0") {
        return Err(Error::new(ErrorType::InvalidRequest, format!("jsonrpc is {version:?}, takes \"2.0\" or nothing")));
    }
    Method::from_name(name).ok_or_else(|| {
        let methods: Vec<String> = Method::ALL.iter().map(|method| method.name().to_owned()).collect();
        let mut error =
            Error::new(ErrorType::MethodNotFound, format!("no method {name:?}")).with_hint(format!("There are {}", methods.join(", ")));
        error.data.methods = Some(methods);
        error
    })
}

/// Says what is wrong with a line that is no request, to its id if that can be read.
fn refuse_line(line: &[u8], problem: &serde_json::Error) -> Incoming {
    #[derive(Deserialize)]
    struct OnlyId {
        id: Option<RequestId>,
    }

    if problem.is_syntax() || problem.is_eof() {
        let error = Error::new(ErrorType::ParseError, format!("not JSON: {problem}"));
        return Incoming { reply_to: Some(ReplyTo::Null), request: Err(error) };
    }
    if is_array(line) {
        return refuse_batch();
    }
    let id = serde_json::from_slice(line).ok().and_then(|OnlyId { id }| id);
    let error = Error::new(ErrorType::InvalidRequest, format!("not a request: {}", in_words(problem)));
    Incoming { reply_to: Some(id.map_or(ReplyTo::Null, ReplyTo::Id)), request: Err(error) }
}

fn is_array(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"[")
}

fn refuse_batch() -> Incoming {
    let error = Error::new(ErrorType::InvalidRequest, "batches are not taken: send one request a line");
    Incoming { reply_to: Some(ReplyTo::Null), request: Err(error) }
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
        Self { jsonrpc: "2.0", id, method: method.name(), params }
    }
}

/// An answer as the daemon writes it.
#[derive(Serialize)]
pub struct Answered<'a, R> {
    jsonrpc: &'static str,
    id: &'a ReplyTo,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Error>,
}

impl<'a, R: Serialize> Answered<'a, R> {
    /// To `id`: the result or the error.
    pub fn new(id: &'a ReplyTo, answer: Result<&'a R, &'a Error>) -> Self {
        Self { jsonrpc: "2.0", id, result: answer.ok(), error: answer.err() }
    }
}

/// What the daemon says unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", content = "params")]
pub enum Notification {
    /// An event of the subscription.
    Event(Event),
    /// Events of the subscription that are no longer kept.
    Gap(Gap),
    /// How a wait is going.
    Progress(Progress),
    /// A session that this client is to end.
    End(EndSession),
    /// The right to the channels is over: this client is to end what it names, and to acknowledge that.
    Fence(Fence),
}

/// A notification with its `jsonrpc`, as the daemon writes it.
#[derive(Serialize)]
pub struct Notified<'a, P> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a P,
}

impl<'a> Notified<'a, Event> {
    /// An event.
    pub const fn event(event: &'a Event) -> Self {
        Self { jsonrpc: "2.0", method: "Event", params: event }
    }
}

impl<'a> Notified<'a, Gap> {
    /// A gap.
    pub const fn gap(gap: &'a Gap) -> Self {
        Self { jsonrpc: "2.0", method: "Gap", params: gap }
    }
}

impl<'a> Notified<'a, Progress> {
    /// How a wait is going.
    pub const fn progress(progress: &'a Progress) -> Self {
        Self { jsonrpc: "2.0", method: "Progress", params: progress }
    }
}

impl<'a> Notified<'a, EndSession> {
    /// A session that is to end.
    pub const fn end(session: &'a EndSession) -> Self {
        Self { jsonrpc: "2.0", method: "End", params: session }
    }
}

impl<'a> Notified<'a, Fence> {
    /// What is to end because the right to it is over.
    pub const fn fence(fence: &'a Fence) -> Self {
        Self { jsonrpc: "2.0", method: "Fence", params: fence }
    }
}

/// A line that a client reads.
#[derive(Debug)]
pub enum FromDaemon {
    /// The answer to the request of this id; the result still as JSON, since only the asker knows its type.
    Answer(Option<RequestId>, Result<Box<RawValue>, Error>),
    /// What was said unasked. A method that this version does not know is left out.
    Notification(Option<Notification>),
}

/// Reads a line from the daemon.
pub fn read_from_daemon(line: &[u8]) -> Result<FromDaemon, serde_json::Error> {
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
        (Some("Event" | "Gap" | "Progress" | "End" | "Fence"), _, _) => {
            serde_json::from_slice(line).map(|it| FromDaemon::Notification(Some(it)))
        }
        (Some(_), _, _) => Ok(FromDaemon::Notification(None)),
        (None, _, Some(error)) => Ok(FromDaemon::Answer(members.id, Err(error))),
        (None, Some(result), None) => Ok(FromDaemon::Answer(members.id, Ok(result))),
        (None, None, None) => Err(serde::de::Error::custom("neither an answer nor a notification")),
    }
}

/// Appends a message and its line feed.
pub fn write_line(line: &mut Vec<u8>, message: &impl Serialize) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *line, message)?;
    line.push(b'\n');
    Ok(())
}
