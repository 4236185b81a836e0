//! Strict parser of a request, which describes every problem.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::incoming::{Incoming, ReplyTo};
use crate::error::{Error, ErrorType};
use crate::request::{Method, Request, RequestId, humanize};

/// A request's members as they stand in the line. A member that is none of these is a typo, and refused.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with a method, and id and params if need be"
)]
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

/// Parses one line step by step, so that any problem can be described.
pub fn parse_strict(line: &[u8]) -> Incoming {
    // Checked as UTF-8 once as a whole, and not string by string.
    let members = std::str::from_utf8(line)
        .map_or_else(|_| serde_json::from_slice(line), serde_json::from_str);
    let members: Members<'_> = match members {
        // A derived reader takes an array for a struct.
        Ok(members) if !is_array(line) => members,
        Ok(_) => return refuse_batch(),
        Err(problem) => return refuse_line(line, &problem),
    };
    let reply_to = match members.id {
        Id::Absent => None,
        Id::Null => {
            let error = Error::new(
                ErrorType::ParseError,
                "id is null, takes a number or a string; leave it out for no answer",
            );
            return Incoming {
                reply_to: Some(ReplyTo::Null),
                request: Err(error),
            };
        }
        Id::Is(id) => Some(ReplyTo::Id(id)),
    };
    let request = read_method(members.jsonrpc.as_deref(), &members.method).and_then(|method| {
        Ok((
            method,
            Request::read(method, members.params.map(RawValue::get))?,
        ))
    });
    Incoming { reply_to, request }
}

fn read_method(jsonrpc: Option<&str>, name: &str) -> Result<Method, Error> {
    if let Some(version) = jsonrpc.filter(|version| *version != "2.0") {
        return Err(Error::new(
            ErrorType::InvalidRequest,
            format!("jsonrpc is {version:?}, takes \"2.0\" or nothing"),
        ));
    }
    Method::from_name(name).ok_or_else(|| {
        let methods: Vec<String> = Method::ALL
            .iter()
            .map(|method| method.name().to_owned())
            .collect();
        let mut error = Error::new(ErrorType::MethodNotFound, format!("no method {name:?}"))
            .with_hint(format!("The methods are {}", methods.join(", ")));
        error.data.methods = Some(methods);
        error
    })
}

/// Describes the problem of a line that is no request, addressed to its id if that can be read.
fn refuse_line(line: &[u8], problem: &serde_json::Error) -> Incoming {
    #[derive(Deserialize)]
    struct OnlyId {
        id: Option<RequestId>,
    }

    if problem.is_syntax() || problem.is_eof() {
        let error = Error::new(ErrorType::ParseError, format!("not JSON: {problem}"));
        return Incoming {
            reply_to: Some(ReplyTo::Null),
            request: Err(error),
        };
    }
    if is_array(line) {
        return refuse_batch();
    }
    let id = serde_json::from_slice(line)
        .ok()
        .and_then(|OnlyId { id }| id);
    let error = Error::new(
        ErrorType::InvalidRequest,
        format!("not a request: {}", humanize(problem)),
    );
    Incoming {
        reply_to: Some(id.map_or(ReplyTo::Null, ReplyTo::Id)),
        request: Err(error),
    }
}

fn is_array(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"[")
}

fn refuse_batch() -> Incoming {
    let error = Error::new(
        ErrorType::InvalidRequest,
        "batches are not supported: send one request per line",
    );
    Incoming {
        reply_to: Some(ReplyTo::Null),
        request: Err(error),
    }
}
