//! The rows as they come, and the table at the end.

use std::path::PathBuf;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use super::row::Row;

const HEAD: [&str; 7] = [
    "bar",
    "soramode",
    "yardstick",
    "ratio",
    "spread",
    "bound",
    "verdict",
];

/// How wide the columns are while rows still come, in characters.
const WIDTHS: [usize; 7] = [56, 12, 30, 6, 12, 11, 8];

/// What came out so far.
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

    /// All in one, by their bars.
    pub(crate) fn table(&self) -> Table {
        let mut rows: Vec<&Row> = self.0.iter().collect();
        rows.sort_by_cached_key(|row| number(row.bar));
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_header(HEAD)
            .add_rows(rows.into_iter().map(Row::cells));
        table
    }

    /// Writes every round down. What was measured in an earlier run stays, if this one did not measure the same bars.
    pub(crate) fn write(&self, name: &str) -> PathBuf {
        let file = results().join(name);
        let before: Vec<Value> = std::fs::read(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let is_anew = |row: &Value| self.0.iter().any(|new| row["bar"] == new.bar);
        let mut rows: Vec<Value> = before.into_iter().filter(|row| !is_anew(row)).collect();
        rows.extend(self.0.iter().map(Row::json));
        rows.sort_by_cached_key(|row| number(row["bar"].as_str().unwrap_or_default()));
        std::fs::write(&file, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
        file
    }
}

/// Where results go.
pub(crate) fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// `P3b` comes after `P3` and before `P4`.
fn number(bar: &str) -> (u32, String) {
    let rest = bar.trim_start_matches('P');
    let digits = rest.trim_end_matches(char::is_alphabetic);
    (digits.parse().unwrap_or(u32::MAX), bar.to_owned())
}
