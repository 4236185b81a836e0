//! The rows as they come, and the table at the end.

use std::path::PathBuf;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use super::row::Row;

const HEAD: [&str; 7] = [
    "goal",
    "soramode",
    "yardstick",
    "ratio",
    "spread",
    "bound",
    "verdict",
];

/// Widths of the columns while rows are added, in characters.
const WIDTHS: [usize; 7] = [56, 12, 30, 6, 12, 11, 8];

/// Results so far.
#[derive(Debug, Default)]
pub(crate) struct Sheet(Vec<Row>);

impl Sheet {
    /// Shown at once, so that a long run shows that it goes on.
    pub(crate) fn add(&mut self, row: Row) {
        let cells = row
            .cells()
            .into_iter()
            .zip(WIDTHS)
            .map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join(" ").trim_end());
        self.0.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All in one, by their goals.
    pub(crate) fn table(&self) -> Table {
        let mut rows: Vec<&Row> = self.0.iter().collect();
        rows.sort_by_cached_key(|row| position(row.goal));
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_header(HEAD)
            .add_rows(rows.into_iter().map(Row::cells));
        table
    }

    /// Writes every round down. What was measured in an earlier run stays, if this one did not measure the same goals.
    pub(crate) fn write(&self, name: &str) -> PathBuf {
        let file = results().join(name);
        let before: Vec<Value> = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let is_anew = |row: &Value| self.0.iter().any(|new| row["goal"] == new.goal);
        let mut rows: Vec<Value> = before.into_iter().filter(|row| !is_anew(row)).collect();
        rows.extend(self.0.iter().map(Row::json));
        rows.sort_by_cached_key(|row| position(row["goal"].as_str().unwrap_or_default()));
        std::fs::write(&file, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
        file
    }
}

/// Returns the folder of the results.
pub(crate) fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Goals by name, in the order of the table, and the numbers that some documents use for them.
const GOALS: [(&str, &str); 21] = [
    ("decisions", "P1"),
    ("pipelined", "P2"),
    ("round-trip", "P3"),
    ("filling", "P3b"),
    ("durable", "P4"),
    ("modes", "P5"),
    ("command", "P6"),
    ("http", "P7"),
    ("memory", "P8"),
    ("lists", "P9"),
    ("webhooks", "P10"),
    ("subscribers", "P11"),
    ("start", "P12"),
    ("idle", "P13"),
    ("claims", "P14"),
    ("build", "P15"),
    ("ssh", "P16"),
    ("announce", "P17"),
    ("ends", ""),
    ("soak", "S6"),
    ("growth", ""),
];

/// Returns a goal's name; other words stay.
pub(crate) fn name_of(word: &str) -> &str {
    GOALS
        .iter()
        .find(|(_, number)| *number == word)
        .map_or(word, |(name, _)| name)
}

fn position(goal: &str) -> usize {
    GOALS
        .iter()
        .position(|(name, _)| *name == goal)
        .unwrap_or(GOALS.len())
}
