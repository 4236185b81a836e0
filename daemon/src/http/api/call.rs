//! Call of Sora's API: its target with the property of the body that the target needs.

use serde_json::{Value, json};
use soramode_protocol::decision::{Connect, Lifetime};
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::sora::Target;

use super::problem::{Mismatch, Problem};
use super::target::RequestTarget;

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

impl Call {
    /// Reads the call from its target and the body.
    pub fn read(target: &RequestTarget, body: &[u8]) -> Result<Self, Problem> {
        let is_empty = body.is_empty();
        let body = if is_empty {
            Value::Null
        } else {
            serde_json::from_slice(body).map_err(|_| Problem::NotJson)?
        };
        match (target.target(), is_empty) {
            (None | Some(Target::DisconnectChannel | Target::PushChannel), true) => {
                Err(Problem::UnknownWithoutBody)
            }
            (None | Some(Target::DisconnectChannel | Target::PushChannel), false) => {
                Err(Problem::Unknown(target.clone()))
            }
            (Some(Target::ChangeMode | Target::ListChannelConnections | Target::Connect), true) => {
                Err(Problem::NoBody(target.clone()))
            }
            (Some(Target::ChangeMode), false) => {
                read_change(body).map(|change| Self::ChangeMode(Box::new(change)))
            }
            (Some(Target::Connect), false) => {
                read_connect(body).map(|connect| Self::Connect(Box::new(connect)))
            }
            (Some(Target::ListChannelConnections), false) => {
                read_channel(body).map(Self::ListChannelConnections)
            }
            (Some(Target::GetMode), _) => Ok(Self::GetMode),
            (Some(Target::GetStatus), _) => Ok(Self::GetStatus),
            (Some(Target::ListClusterNodes), _) => Ok(Self::ListClusterNodes),
            (Some(Target::ListConnections), _) => Ok(Self::ListConnections),
            (Some(Target::ListSessions), _) => Ok(Self::ListSessions),
            (Some(Target::GetStatsAllConnections), _) => Ok(Self::GetStatsAllConnections),
            (Some(Target::GetStatsReport), _) => Ok(Self::GetStatsReport),
        }
    }
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
