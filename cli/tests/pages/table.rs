//! Tables for tbl. The last column takes what room there is; the others as much as they need, up to a limit.

use super::roff::{start_line, width};

/// Limit of the columns before the last, in characters: of 80, the rest is for the last one and the
/// margin.
const COLUMNS_MAX: usize = 44;

/// A table while it is read.
pub(crate) struct Table {
    columns: usize,
    cells: Vec<String>,
}

impl Table {
    pub(crate) const fn new(columns: usize) -> Self {
        Self {
            columns,
            cells: Vec::new(),
        }
    }

    /// The next cell, in roff; the first row has the headings.
    pub(crate) fn cell(&mut self, cell: String) {
        self.cells.push(cell);
    }

    /// The table; its rows may be divided between pages of paper.
    pub(crate) fn roff(&self) -> String {
        let widths: Vec<usize> = (0..self.columns - 1)
            .map(|column| self.width(column))
            .collect();
        let formats: Vec<String> = widths.iter().map(|width| format!("lw({width}n)")).collect();
        let mut lines = vec![
            ".TS\nnokeep;".to_owned(),
            ["lB"].repeat(self.columns).join(" "),
            format!("{} lx.", formats.join(" ")),
        ];
        for (row, cells) in self.cells.chunks(self.columns).enumerate() {
            let is_wide = |column: usize, cell: &String| {
                row > 0 && (widths.get(column).is_none_or(|most| width(cell) > *most))
            };
            let cells: Vec<String> = cells
                .iter()
                .enumerate()
                .map(|(column, cell)| {
                    if is_wide(column, cell) {
                        block(cell)
                    } else {
                        cell.clone()
                    }
                })
                .collect();
            lines.push(cells.join("\t"));
        }
        lines.push(".TE".to_owned());
        lines.join("\n")
    }

    /// Width of a column before the last: of its widest cell, up to its share of the room, but not less than its longest word, which
    /// cannot be broken.
    fn width(&self, column: usize) -> usize {
        let cells = || self.cells.iter().skip(column).step_by(self.columns);
        let widest = cells().map(|cell| width(cell)).max().unwrap_or_default();
        let longest_word = cells()
            .flat_map(|cell| cell.split_whitespace())
            .map(width)
            .max()
            .unwrap_or_default();
        widest
            .min(COLUMNS_MAX / (self.columns - 1))
            .max(longest_word)
    }
}

/// A cell that may take several lines.
fn block(cell: &str) -> String {
    format!("T{{\n{}\nT}}", start_line(cell))
}
