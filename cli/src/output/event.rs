//! Events and gaps of the event log, in each format.

use serde::Serialize;
use serde_json::Value;
use soramode_protocol::event::{Event, EventType};
use soramode_protocol::subscribe::Gap;

use super::escape::escape;
use super::{Format, Output};
use crate::error::Failure;

/// Prints an event.
pub(crate) fn show(event: &Event, output: &mut Output) -> Result<(), Failure> {
    let name = event.kind.event_type().map_or("unknown", EventType::name);
    match output.format() {
        Format::Json | Format::Jsonl => output.json(event),
        Format::Plain => {
            let head = [
                event.seq.to_string(),
                event.timestamp.to_string(),
                name.to_owned(),
            ];
            let cells = [&head[..], &fields(event)].concat();
            output.record(&cells.iter().map(String::as_str).collect::<Vec<_>>())
        }
        Format::Table => {
            let time = output.moment(event.timestamp);
            let fields: Vec<String> = fields(event)
                .iter()
                .map(|field| escape(field).into_owned())
                .collect();
            output.message(
                format!(
                    "{time}  {:>6}  {name:<20}  {}",
                    event.seq,
                    fields.join("  ")
                )
                .trim_end(),
            )
        }
    }
}

/// Returns the event's fields as `name=value`.
pub(crate) fn fields(event: &Event) -> Vec<String> {
    let Ok(Value::Object(fields)) = serde_json::to_value(&event.kind) else {
        return Vec::new();
    };
    let field = |(name, value): (String, Value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => format!("{name}={other}"),
    };
    fields
        .into_iter()
        .filter(|(name, _)| name != "type")
        .map(field)
        .collect()
}

/// The JSON object of a gap.
#[derive(Serialize)]
struct GapView<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    gap: &'a Gap,
}

/// Prints a gap.
pub(crate) fn show_gap(gap: &Gap, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&GapView { r#type: "gap", gap }),
        Format::Plain => {
            output.record(&[&gap.from.to_string(), "", "gap", &format!("to={}", gap.to)])
        }
        Format::Table => output.text(&format!(
            "-- events {} to {} are no longer kept --",
            gap.from, gap.to
        )),
    }
}
