//! A list of any length: rows go out as they come where the format allows it.

use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;

use super::paint::Paint;
use super::table::{Cell, Column, Table};
use super::times;
use super::{Output, SCHEMA, cells, escape};
use crate::args::Format;
use crate::error::Failure;

/// Cells between a name and its value.
const GAP: usize = 2;

/// A list that is being written.
pub(crate) struct List<'a> {
    output: &'a mut Output,
    /// Its name in the JSON.
    name: &'static str,
    table: Table,
    rows: u64,
}

impl<'a> List<'a> {
    /// Begins: `name` in the JSON, `columns` in the table.
    pub(crate) fn begin(output: &'a mut Output, name: &'static str, columns: &[Column]) -> Result<Self, Failure> {
        Self::begin_beside(output, name, columns, None)
    }

    /// The same, with what the rows belong to before them in the JSON.
    pub(crate) fn begin_beside(
        output: &'a mut Output,
        name: &'static str,
        columns: &[Column],
        beside: Option<(&str, &Session)>,
    ) -> Result<Self, Failure> {
        let mut list = Self { output, name, table: Table::new(columns), rows: 0 };
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
    pub(crate) fn row(&mut self, item: &impl Serialize, cells: &[Cell<'_>]) -> Result<(), Failure> {
        match self.output.format() {
            Format::Table => self.table.add(cells),
            Format::Plain => self.output.record(&cells.iter().map(|cell| cell.text.as_ref()).collect::<Vec<_>>())?,
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
        let text = self.output.json_text(value)?;
        // A string in JSON has no raw line feed in it, so each of these begins a line of the layout.
        Ok(text.replace('\n', &format!("\n{indent}")))
    }

    /// A time for a cell; its age alone where there is no room.
    pub(crate) fn time(&self, time: Time) -> Cell<'static> {
        Cell { text: self.output.time(time).into(), short: Some(format!("{} ago", times::age(time))) }
    }

    /// A time that lies ahead, for a cell.
    pub(crate) fn time_ahead(&self, time: Time) -> Cell<'static> {
        Cell { text: self.output.time_ahead(time).into(), short: Some(times::until(time)) }
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
            Format::Table => self.table.lines(self.output.shape()).iter().try_for_each(|line| self.output.text(line)),
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
    painted_pairs(output, rows, |_| None)
}

/// The same, each value in the colour of its name. A value that is wider than the terminal goes on below itself.
pub(crate) fn painted_pairs(output: &mut Output, rows: &[Row], paint: impl Fn(&str) -> Option<Paint>) -> Result<(), Failure> {
    let there = rows.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    if output.format() == Format::Plain {
        return there.into_iter().try_for_each(|(name, value)| output.record(&[name, value]));
    }
    let names = there.clone().map(|(name, _)| cells::width(name)).max().unwrap_or_default();
    for (name, value) in there {
        let value = escape::escape(value);
        let lines = match output.width() {
            Some(width) => cells::wrap(&value, width.saturating_sub(names + GAP)),
            None => vec![value.into_owned()],
        };
        for (number, line) in lines.iter().enumerate() {
            let name_or_gap = cells::padded(if number == 0 { name } else { "" }, names);
            let line = match (line.parse::<Mode>(), paint(name)) {
                (Ok(mode), _) => output.mode(mode),
                (Err(_), Some(paint)) => output.painted(paint, line),
                (Err(_), None) => line.clone(),
            };
            output.text(&format!("{name_or_gap}{:GAP$}{line}", ""))?;
        }
    }
    Ok(())
}
