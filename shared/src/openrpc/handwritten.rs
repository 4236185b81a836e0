//! Schemas of the types that serialize by hand, and of the body of a webhook.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::finish;
use crate::event::{EventKind, EventPattern, EventType};
use crate::mode::{Mode, SettableMode};
use crate::plan::{END_PER_MINUTE_MAX, EndRate, PLAN_STEPS_MAX, PlanStep};
use crate::request::{REQUEST_ID_BYTES_MAX, RequestId};
use crate::subscribe::SubscribeFrom;

/// Pattern of an id that a client chooses.
pub(crate) const NO_NUL: &str = "^[^\\u0000]*$";

impl JsonSchema for RequestId {
    fn schema_name() -> Cow<'static, str> {
        "RequestId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("Id of a request: a whole number, or a string of at most {REQUEST_ID_BYTES_MAX} bytes."),
            "anyOf": [
                {"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX},
                {"type": "string", "maxLength": REQUEST_ID_BYTES_MAX},
            ],
        })
    }
}

impl JsonSchema for SettableMode {
    fn schema_name() -> Cow<'static, str> {
        "SettableMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Mode that can be set. A node enters and leaves `initial` by itself.",
            "type": "string",
            "enum": Self::ALL.map(|mode| Mode::from(mode).name()),
        })
    }
}

impl JsonSchema for EndRate {
    fn schema_name() -> Cow<'static, str> {
        "EndRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Number of sessions that are asked to end per minute, evenly spread; or `max`: each answer of the SFU allows the next.",
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": END_PER_MINUTE_MAX},
                {"type": "string", "const": "max"},
            ],
        })
    }
}

impl JsonSchema for SubscribeFrom {
    fn schema_name() -> Cow<'static, str> {
        "SubscribeFrom".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Start of a subscription: the `seq` of its first event, or `now` for the next event.",
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "const": "now"},
            ],
        })
    }
}

impl JsonSchema for EventPattern {
    fn schema_name() -> Cow<'static, str> {
        "EventPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Type of an event; or the beginning of at least one type and a `*`: `session.*`.",
            "anyOf": [
                {"type": "string", "enum": EventType::ALL.map(EventType::name)},
                {"type": "string", "pattern": "^[a-z_.]*\\*$"},
            ],
        })
    }
}

/// Steps of a request: in an answer a step may have further members, in a request it may not.
pub(crate) fn request_steps(generator: &mut SchemaGenerator) -> Schema {
    let mut step = PlanStep::json_schema(generator).to_value();
    let alternatives = step.get_mut("oneOf").and_then(Value::as_array_mut);
    for alternative in alternatives.into_iter().flatten() {
        alternative["additionalProperties"] = json!(false);
    }
    json_schema!({"type": "array", "minItems": 1, "maxItems": PLAN_STEPS_MAX, "items": step})
}

/// Body of a webhook: an event with Sora's names and times.
pub(super) fn webhook(generator: &mut SchemaGenerator) -> Value {
    let kinds = EventKind::json_schema(generator);
    let kinds = finish(generator, kinds);
    let described = |description: &str, mut schema: Value| {
        schema["description"] = description.into();
        schema
    };
    let text = || json!({"type": "string"});
    let count = || json!({"type": "integer", "minimum": 0});
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let mut kinds: Vec<Value> = kinds["oneOf"].as_array().cloned().unwrap_or_default();
    kinds.retain(is_delivered);
    for kind in &mut kinds {
        if let Some(properties) = kind.get_mut("properties").and_then(Value::as_object_mut) {
            write_times(properties);
        }
        if let Some(required) = kind.get_mut("required").and_then(Value::as_array_mut) {
            let also: Vec<Value> = required
                .iter()
                .filter_map(timestamp_of)
                .map(Value::from)
                .collect();
            required.extend(also);
        }
    }
    json!({
        "description": "Body of a webhook: an event with the names and the times of Sora's webhooks. Further members may be added.",
        "type": "object",
        "properties": {
            "id": described("Identifier of the event, the same for each attempt and on every interface.", reference("EventId")),
            "timestamp": described("Time of the event.", reference("Time")),
            "version": described("Version of soramoded.", text()),
            "label": described("Text that the operator set with `--label`; may be empty.", text()),
            "node_name": described("Node on which it happened.", reference("NodeName")),
            "generation": described("Generation of the mode at the time of the event.", count()),
        },
        "required": ["id", "timestamp", "type", "version", "label", "node_name", "generation"],
        "oneOf": kinds,
    })
}

fn is_delivered(kind: &Value) -> bool {
    let name = kind["properties"]["type"]["const"].as_str();
    name.and_then(EventType::from_name)
        .is_some_and(EventType::is_deliverable)
}

/// Name of the text beside a time in seconds.
fn timestamp_of(time: &Value) -> Option<String> {
    let name = time.as_str()?.strip_suffix("_time")?;
    Some(format!("{name}_timestamp"))
}

/// Makes times numbers, with the text beside them.
fn write_times(properties: &mut Map<String, Value>) {
    let names: Vec<Value> = properties.keys().map(|name| name.as_str().into()).collect();
    for name in names {
        let (Some(timestamp), Some(name)) = (timestamp_of(&name), name.as_str()) else {
            continue;
        };
        let text = properties.insert(
            name.to_owned(),
            json!({"type": "integer", "description": "Seconds since 1970-01-01T00:00:00Z."}),
        );
        properties.insert(timestamp, text.unwrap_or_default());
    }
}
