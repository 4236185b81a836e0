//! Target of a call, and the property of its body that the target needs.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use soramode_protocol::access::Access;
use soramode_protocol::decision::{Connect, Lifetime};
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::sora::{TARGET_HEADER, Target};

use super::problem::{Mismatch, Problem};

const TARGET: HeaderName = HeaderName::from_static(TARGET_HEADER);

/// Names of the services: Sora's, and soramode's own.
const SERVICES: [&str; 2] = ["Sora", "Soramode"];

/// Digits of a version: a day.
const VERSION_DIGITS: usize = 8;

/// A target that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    /// Text of the header.
    name: Cow<'static, str>,
    /// Target, if soramode knows it.
    target: Option<Target>,
}

/// A target's name, taken apart.
#[derive(Serialize)]
struct Parts<'a> {
    service: &'a str,
    version: &'a str,
    operation: &'a str,
}

/// Call that is answered here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// The operation of the target `GetMode`.
    GetMode,
    /// `ChangeMode`, to a mode, and perhaps with a reason
    ChangeMode(Box<ChangeMode>),
    /// The operation of the target `ListClusterNodes`.
    ListClusterNodes,
    /// The operation of the target `ListConnections`.
    ListConnections,
    /// `ListChannelConnections`, of this channel
    ListChannelConnections(ChannelId),
    /// The operation of the target `ListSessions`.
    ListSessions,
    /// The operation of the target `GetStatsAllConnections`.
    GetStatsAllConnections,
    /// The operation of the target `GetStatsReport`.
    GetStatsReport,
    /// The operation `Connect` of soramode's own.
    Connect(Box<Connect>),
    /// The operation `GetStatus` of soramode's own.
    GetStatus,
}

impl RequestTarget {
    /// Reads the target from the header.
    pub fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(&TARGET).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Err(Problem::NoTarget),
            (Some(_), Some(_)) => return Err(Problem::WrongService),
            (Some(value), None) => value.to_str().map_err(|_| Problem::NotATarget)?,
        };
        if let Some(target) = Target::from_name(value) {
            return Ok(Self {
                name: Cow::Borrowed(target.name()),
                target: Some(target),
            });
        }
        let Parts {
            service,
            version,
            operation,
        } = Parts::of(value).ok_or(Problem::NotATarget)?;
        let is_version =
            version.len() == VERSION_DIGITS && version.bytes().all(|byte| byte.is_ascii_digit());
        if !is_word(service) || !is_version || !is_word(operation) {
            return Err(Problem::NotATarget);
        }
        if SERVICES.contains(&service) {
            Ok(Self {
                name: Cow::Owned(value.to_owned()),
                target: None,
            })
        } else {
            Err(Problem::WrongService)
        }
    }

    /// The target, if it is one that soramode knows.
    pub const fn target(&self) -> Option<Target> {
        self.target
    }

    /// Returns the access that a user needs for it. Targets that only Sora knows may do anything.
    pub(super) const fn access(&self) -> Access {
        match self.target {
            Some(
                Target::GetMode
                | Target::ListClusterNodes
                | Target::ListConnections
                | Target::ListChannelConnections
                | Target::ListSessions
                | Target::GetStatsAllConnections
                | Target::GetStatsReport
                | Target::GetStatus,
            ) => Access::View,
            Some(
                Target::ChangeMode
                | Target::DisconnectChannel
                | Target::PushChannel
                | Target::Connect,
            )
            | None => Access::Operate,
        }
    }

    /// Combines the target with the body.
    pub fn with(&self, body: &[u8]) -> Result<Call, Problem> {
        let is_empty = body.is_empty();
        let body = if is_empty {
            Value::Null
        } else {
            serde_json::from_slice(body).map_err(|_| Problem::NotJson)?
        };
        match (self.target(), is_empty) {
            (None | Some(Target::DisconnectChannel | Target::PushChannel), true) => {
                Err(Problem::UnknownWithoutBody)
            }
            (None | Some(Target::DisconnectChannel | Target::PushChannel), false) => {
                Err(Problem::Unknown(self.clone()))
            }
            (Some(Target::ChangeMode | Target::ListChannelConnections | Target::Connect), true) => {
                Err(Problem::NoBody(self.clone()))
            }
            (Some(Target::ChangeMode), false) => {
                read_change(body).map(|change| Call::ChangeMode(Box::new(change)))
            }
            (Some(Target::Connect), false) => {
                read_connect(body).map(|connect| Call::Connect(Box::new(connect)))
            }
            (Some(Target::ListChannelConnections), false) => {
                read_channel(body).map(Call::ListChannelConnections)
            }
            (Some(Target::GetMode), _) => Ok(Call::GetMode),
            (Some(Target::GetStatus), _) => Ok(Call::GetStatus),
            (Some(Target::ListClusterNodes), _) => Ok(Call::ListClusterNodes),
            (Some(Target::ListConnections), _) => Ok(Call::ListConnections),
            (Some(Target::ListSessions), _) => Ok(Call::ListSessions),
            (Some(Target::GetStatsAllConnections), _) => Ok(Call::GetStatsAllConnections),
            (Some(Target::GetStatsReport), _) => Ok(Call::GetStatsReport),
        }
    }
}

impl Serialize for RequestTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Parts::of(&self.name).serialize(serializer)
    }
}

impl<'a> Parts<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (service, rest) = name.split_once('_')?;
        let (version, operation) = rest.split_once('.')?;
        Some(Self {
            service,
            version,
            operation,
        })
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Reads the mode, and the reason, which is no field of Sora's.
fn read_change(body: Value) -> Result<ChangeMode, Problem> {
    let wrong = || Problem::Gate(format!("{:?}", ErrorType::InvalidParams));
    let reason = body.get("reason").cloned();
    let mut change = ChangeMode::to(read_mode(body)?);
    change.reason = match reason {
        None => None,
        Some(Value::String(reason)) => Some(reason),
        Some(_) => return Err(wrong()),
    };
    change.check().map_err(|_| wrong())?;
    Ok(change)
}

fn read_mode(body: Value) -> Result<SettableMode, Problem> {
    let names = SettableMode::ALL.map(|mode| Mode::from(mode).name());
    let schema = json!({"type": "string", "enum": names});
    let value = property(body, "mode", &schema)?;
    let mode = value
        .as_str()
        .and_then(|word| word.parse::<Mode>().ok())
        .filter(|mode| value == mode.name());
    let mode = mode.and_then(|mode| SettableMode::try_from(mode).ok());
    mode.ok_or_else(|| mismatch(schema, "not_in_enum", value, vec!["mode"]))
}

/// The params are the control socket's; nothing here hangs on a socket.
fn read_connect(body: Value) -> Result<Connect, Problem> {
    let wrong = || Problem::Gate(format!("{:?}", ErrorType::InvalidParams));
    let connect: Connect = serde_json::from_value(body).map_err(|_| wrong())?;
    if connect.lifetime == Lifetime::Explicit {
        Ok(connect)
    } else {
        Err(wrong())
    }
}

fn read_channel(body: Value) -> Result<ChannelId, Problem> {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 255});
    let value = property(body, "channel_id", &schema)?;
    let channel_id = value.as_str().and_then(|text| text.parse().ok());
    channel_id.ok_or_else(|| mismatch(schema, "wrong_length", value, vec!["channel_id"]))
}

/// The property that must be there, and be a string.
fn property(body: Value, name: &'static str, schema: &Value) -> Result<Value, Problem> {
    let whole = || json!({"type": "object", "properties": {name: schema}, "required": [name]});
    let Value::Object(mut object) = body else {
        return Err(mismatch(whole(), "wrong_type", body, Vec::new()));
    };
    match object.remove(name) {
        None => Err(mismatch(
            whole(),
            "missing_required_property",
            Value::Object(object),
            Vec::new(),
        )),
        Some(value) if value.is_string() => Ok(value),
        Some(value) => Err(mismatch(schema.clone(), "wrong_type", value, vec![name])),
    }
}

fn mismatch(schema: Value, error: &'static str, data: Value, path: Vec<&'static str>) -> Problem {
    Problem::Schema(Box::new(Mismatch {
        invalid: "data",
        schema,
        error,
        data,
        path,
    }))
}
