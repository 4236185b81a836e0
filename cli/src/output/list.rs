//! A list of any length: rows are written at once if the format allows it.

use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;

use super::cell::Cell;
use super::color::Emphasis;
use super::column::Column;
use super::streams::{Output, SCHEMA};
use super::table::{Shape, Table};
use super::{Format, cells, escape, times};
use crate::error::Failure;

/// Cells between a name and its value.
const GAP: usize = 2;

/// A list in progress.
pub(crate) struct List<'a> {
    output: &'a mut Output,
    /// Name in the JSON.
    name: &'static str,
    table: Table,
    rows: u64,
}

/// Lays out a table for a terminal of this width, without colours.
pub(crate) fn table_lines(columns: &[Column], rows: &[Vec<Cell<'_>>], width: usize) -> Vec<String> {
    let mut table = Table::new(columns);
    for row in rows {
        table.add(row);
    }
    table.lines(Shape {
        width: Some(width),
        has_header: true,
        uses_color: false,
    })
}

impl<'a> List<'a> {
    /// Begins a list: `name` in the JSON, `columns` in the table.
    pub(crate) fn begin(
        output: &'a mut Output,
        name: &'static str,
        columns: &[Column],
    ) -> Result<Self, Failure> {
        Self::begin_beside(output, name, columns, None)
    }

    /// Begins a list with an object before the rows in the JSON.
    pub(crate) fn begin_beside(
        output: &'a mut Output,
        name: &'static str,
        columns: &[Column],
        beside: Option<(&str, &Session)>,
    ) -> Result<Self, Failure> {
        let mut list = Self {
            output,
            name,
            table: Table::new(columns),
            rows: 0,
        };
        if list.output.format() == Format::Json {
            list.open(beside)?;
        }
        Ok(list)
    }

    fn open(&mut self, beside: Option<(&str, &Session)>) -> Result<(), Failure> {
        let (line, indent) = if self.output.is_pretty() {
            ("\n", "  ")
        } else {
            ("", "")
        };
        let space = if self.output.is_pretty() { " " } else { "" };
        self.output.write(&format!(
            "{{{line}{indent}\"schema\":{space}{SCHEMA},{line}"
        ))?;
        if let Some((name, value)) = beside {
            let value = self.indented(value, indent)?;
            self.output
                .write(&format!("{indent}\"{name}\":{space}{value},{line}"))?;
        }
        self.output
            .write(&format!("{indent}\"{}\":{space}[", self.name))
    }

    /// Adds a row: the whole item in JSON, the cells in tables.
    pub(crate) fn row(&mut self, item: &impl Serialize, cells: &[Cell<'_>]) -> Result<(), Failure> {
        match self.output.format() {
            Format::Table => self.table.add(cells),
            Format::Plain => self.output.record(
                &cells
                    .iter()
                    .map(|cell| cell.text.as_ref())
                    .collect::<Vec<_>>(),
            )?,
            Format::Jsonl => self.output.json(item)?,
            Format::Json => {
                let comma = if self.rows == 0 { "" } else { "," };
                let break_line = if self.output.is_pretty() {
                    "\n    "
                } else {
                    ""
                };
                let item = self.indented(item, "    ")?;
                self.output.write(&format!("{comma}{break_line}{item}"))?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn indented(&self, value: &impl Serialize, indent: &str) -> Result<String, Failure> {
        let text = self.output.json_text(value)?;
        // Strings in JSON have no raw line feed, so each of these begins a line of the layout.
        Ok(text.replace('\n', &format!("\n{indent}")))
    }

    /// Returns a cell with a time; its age alone if there is no space.
    pub(crate) fn time(&self, time: Time) -> Cell<'static> {
        self.output.time_cell(time)
    }

    /// Returns a cell with a time in the future.
    pub(crate) fn time_ahead(&self, time: Time) -> Cell<'static> {
        Cell {
            text: self.output.time_ahead(time).into(),
            short: Some(times::until(time)),
            emphasis: None,
        }
    }

    pub(crate) const fn output(&self) -> &Output {
        self.output
    }

    /// Returns whether stdout is closed.
    pub(crate) const fn is_closed(&self) -> bool {
        self.output.is_closed()
    }

    /// Ends the list. Notes `none` beside an empty table.
    pub(crate) fn finish(self, none: &str) -> Result<(), Failure> {
        match self.output.format() {
            Format::Table if self.rows == 0 => {
                self.output.note(none);
                Ok(())
            }
            Format::Table => self
                .table
                .lines(self.output.shape())
                .iter()
                .try_for_each(|line| self.output.text(line)),
            Format::Plain | Format::Jsonl => Ok(()),
            Format::Json => {
                let before = if self.rows > 0 && self.output.is_pretty() {
                    "\n  "
                } else {
                    ""
                };
                let after = if self.output.is_pretty() { "\n" } else { "" };
                self.output.text(&format!("{before}]{after}}}"))
            }
        }
    }
}

/// A name and its value.
pub(crate) type Row = (&'static str, Option<String>);

/// Prints names and values below each other; rows without a value are left out.
pub(crate) fn pairs(output: &mut Output, rows: &[Row]) -> Result<(), Failure> {
    let names = widest(rows);
    rows.iter()
        .try_for_each(|row| pair(output, row, 0, names, None))
}

/// Prints groups of rows with their headings, each value in the colour of its name. A group without
/// values is left out.
pub(crate) fn colored_groups(
    output: &mut Output,
    groups: &[(&str, Vec<Row>)],
    emphasis: impl Fn(&str) -> Option<Emphasis>,
) -> Result<(), Failure> {
    let names = groups
        .iter()
        .map(|(_, rows)| widest(rows))
        .max()
        .unwrap_or_default();
    for (heading, rows) in groups
        .iter()
        .filter(|(_, rows)| rows.iter().any(|(_, value)| value.is_some()))
    {
        if output.format() == Format::Table {
            let heading = output.colored(Emphasis::Heading, heading);
            output.text(&heading)?;
        }
        rows.iter()
            .try_for_each(|row| pair(output, row, GAP, names, emphasis(row.0)))?;
    }
    Ok(())
}

fn widest(rows: &[Row]) -> usize {
    rows.iter()
        .filter(|(_, value)| value.is_some())
        .map(|(name, _)| cells::width(name))
        .max()
        .unwrap_or_default()
}

/// Prints a name and its value. A longer value continues below itself; a command in it stays whole.
fn pair(
    output: &mut Output,
    (name, value): &Row,
    indent: usize,
    names: usize,
    emphasis: Option<Emphasis>,
) -> Result<(), Failure> {
    let Some(value) = value else { return Ok(()) };
    if output.format() == Format::Plain {
        return output.record(&[name, value]);
    }
    let value = escape::escape(value);
    let lines = match output.width() {
        Some(width) => cells::fit_flush(&value, width.saturating_sub(indent + names + GAP)),
        None => vec![value.into_owned()],
    };
    for (number, line) in lines.iter().enumerate() {
        let name_or_gap = cells::padded(if number == 0 { name } else { "" }, names);
        let line = match (line.parse::<Mode>(), emphasis) {
            (Ok(mode), _) => output.mode(mode),
            (Err(_), Some(emphasis)) => output.colored(emphasis, line),
            (Err(_), None) => line.clone(),
        };
        output.text(&format!("{:indent$}{name_or_gap}{:GAP$}{line}", "", ""))?;
    }
    Ok(())
}
