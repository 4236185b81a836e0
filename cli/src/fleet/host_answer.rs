//! The answer of one host to a verb.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{Exit, Failure};
use crate::output::Cell;

/// The answer of one host to a verb.
pub(crate) struct HostAnswer {
    pub(crate) node_name: String,
    /// The exit code of the verb.
    pub(crate) exit: Exit,
    /// The JSON of the verb.
    pub(crate) result: Box<RawValue>,
    /// The cells after the host.
    pub(crate) rows: Vec<Vec<Cell<'static>>>,
    /// A sentence below the table.
    pub(crate) note: Option<String>,
}

impl HostAnswer {
    /// Makes an answer of one row with success.
    pub(crate) fn one_row(
        node_name: &str,
        result: &impl Serialize,
        row: Vec<Cell<'static>>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            node_name: node_name.to_owned(),
            exit: Exit::Done,
            result: raw_json(result)?,
            rows: vec![row],
            note: None,
        })
    }

    /// Adds a sentence below the table.
    pub(crate) fn with_note(self, note: Option<String>) -> Self {
        Self { note, ..self }
    }
}

/// Writes a value as JSON that is put into the whole.
pub(crate) fn raw_json(value: &impl Serialize) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(value).map_err(|problem| {
        Failure::new(
            Exit::Failed,
            format!("cannot write the answer as JSON: {problem}"),
        )
    })
}
