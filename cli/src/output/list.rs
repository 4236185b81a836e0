//! A list of any length: rows go out as they come where the format allows it.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;

use super::{Output, SCHEMA, escape};
use crate::args::Format;
use crate::error::{Exit, Failure};

/// A list that is being written.
pub(crate) struct List<'a> {
    output: &'a mut Output,
    /// Its name in the JSON.
    name: &'static str,
    /// Collected, since a table's columns are as wide as their widest cell.
    table: Table,
    rows: u64,
}

impl<'a> List<'a> {
    /// Begins: `name` in the JSON, `headers` over the table.
    pub(crate) fn begin(output: &'a mut Output, name: &'static str, headers: &[&str]) -> Result<Self, Failure> {
        Self::begin_beside(output, name, headers, None)
    }

    /// The same, with what the rows belong to before them in the JSON.
    pub(crate) fn begin_beside(
        output: &'a mut Output,
        name: &'static str,
        headers: &[&str],
        beside: Option<(&str, &Session)>,
    ) -> Result<Self, Failure> {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(headers.iter().copied());
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        let mut list = Self { output, name, table, rows: 0 };
        if list.output.format() == Format::Json {
            list.open(beside)?;
        }
        Ok(list)
    }

    fn open(&mut self, beside: Option<(&str, &Session)>) -> Result<(), Failure> {
        let (line, indent) = if self.output.is_pretty() { ("\n", "  ") } else { ("", "") };
        let space = if self.output.is_pretty() { " " } else { "" };
        self.output.write(&format!("{{{line}{indent}\"schema\":{space}{SCHEMA},{line}"))?;
        if let Some((name, value)) = beside {
            let value = self.indented(value, indent)?;
            self.output.write(&format!("{indent}\"{name}\":{space}{value},{line}"))?;
        }
        self.output.write(&format!("{indent}\"{}\":{space}[", self.name))
    }

    /// One row: the whole of it for JSON, its cells for people.
    pub(crate) fn row(&mut self, item: &impl Serialize, cells: &[&str]) -> Result<(), Failure> {
        match self.output.format() {
            Format::Table => {
                self.table.add_row(cells.iter().map(|cell| escape::escape(cell)));
            }
            Format::Plain => self.output.record(cells)?,
            Format::Jsonl => self.output.json(item)?,
            Format::Json => {
                let comma = if self.rows == 0 { "" } else { "," };
                let break_line = if self.output.is_pretty() { "\n    " } else { "" };
                let item = self.indented(item, "    ")?;
                self.output.write(&format!("{comma}{break_line}{item}"))?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn indented(&self, value: &impl Serialize, indent: &str) -> Result<String, Failure> {
        let text = if self.output.is_pretty() { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
        let text = text.map_err(|problem| Failure::new(Exit::Failed, format!("cannot write the answer as JSON: {problem}")))?;
        // A string in JSON has no raw line feed in it, so each of these begins a line of the layout.
        Ok(text.replace('\n', &format!("\n{indent}")))
    }

    /// A time for a cell.
    pub(crate) fn time(&self, time: Time) -> String {
        self.output.time(time)
    }

    /// A time that lies ahead, for a cell.
    pub(crate) fn time_ahead(&self, time: Time) -> String {
        self.output.time_ahead(time)
    }

    /// Whether nobody reads any more.
    pub(crate) const fn is_closed(&self) -> bool {
        self.output.is_closed()
    }

    /// Ends. `none` is said beside an empty table.
    pub(crate) fn finish(self, none: &str) -> Result<(), Failure> {
        match self.output.format() {
            Format::Table if self.rows == 0 => {
                self.output.note(none);
                Ok(())
            }
            Format::Table => self.output.text(&self.table.trim_fmt()),
            Format::Plain | Format::Jsonl => Ok(()),
            Format::Json => {
                let before = if self.rows > 0 && self.output.is_pretty() { "\n  " } else { "" };
                let after = if self.output.is_pretty() { "\n" } else { "" };
                self.output.text(&format!("{before}]{after}}}"))
            }
        }
    }
}

/// A name and its value.
pub(crate) type Row = (&'static str, Option<String>);

/// Names and values under one another, without those that have no value.
pub(crate) fn pairs(output: &mut Output, rows: &[Row]) -> Result<(), Failure> {
    let there = rows.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    if output.format() == Format::Plain {
        return there.into_iter().try_for_each(|(name, value)| output.record(&[name, value]));
    }
    let width = there.clone().map(|(name, _)| name.len()).max().unwrap_or_default();
    there.into_iter().try_for_each(|(name, value)| {
        let value = value.parse::<Mode>().map_or_else(|_| escape::escape(value).into_owned(), |mode| output.mode(mode));
        output.text(&format!("{name:<width$}  {value}"))
    })
}
