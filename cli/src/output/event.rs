//! Events and gaps of the event log, in each format.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use soramode_protocol::event::{Event, EventKind, EventType};
use soramode_protocol::plan::PlanStep;
use soramode_protocol::subscribe::Gap;

use super::escape::escape;
use super::{Format, Output, times};
use crate::error::Failure;
use crate::plan::steps::step_name;

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
            let fields: Vec<String> = fields_for_people(event)
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

/// Returns the fields as [`fields`] does, but the steps of a plan in words: `steps=close +0 s, end +40 min`.
pub(crate) fn fields_for_people(event: &Event) -> Vec<String> {
    let EventKind::PlanCreated(created) = &event.kind else {
        return fields(event);
    };
    let steps: Vec<String> = created.steps.iter().map(describe_time_of).collect();
    fields(event)
        .into_iter()
        .map(|field| {
            if field.starts_with("steps=") {
                format!("steps={}", steps.join(", "))
            } else {
                field
            }
        })
        .collect()
}

/// `end +40 min`: a step and its time from the close.
fn describe_time_of(step: &PlanStep) -> String {
    let at = step.at_seconds();
    let span = times::span(Duration::from_secs(at.unsigned_abs()));
    let sign = if at < 0 { '-' } else { '+' };
    format!("{} {sign}{span}", step_name(step))
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
