//! The terminal: its width, and whether lines can be redrawn.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Least width of tables.
const COLUMNS_MIN: usize = 40;

/// Width of a terminal that does not report its own, such as a serial line.
const COLUMNS_DEFAULT: usize = 80;

/// Returns the width of the terminal at this descriptor.
pub(super) fn columns(terminal: impl AsFd) -> usize {
    reported_columns(terminal).map_or(COLUMNS_DEFAULT, |columns| columns.max(COLUMNS_MIN))
}

/// Returns the width that the terminal at this descriptor reports; `None` also for no terminal.
pub(super) fn reported_columns(terminal: impl AsFd) -> Option<usize> {
    let columns = tcgetwinsize(terminal).ok()?.ws_col;
    (columns > 0).then_some(usize::from(columns))
}

/// Number of lines of a terminal that does not report its own.
const LINES_DEFAULT: usize = 24;

/// Returns the columns and lines of the terminal at stderr.
pub(crate) fn size_of_stderr() -> (usize, usize) {
    let stderr = std::io::stderr();
    let lines = tcgetwinsize(&stderr).map_or(0, |size| usize::from(size.ws_row));
    let lines = if lines == 0 { LINES_DEFAULT } else { lines };
    (columns(stderr), lines)
}

/// Returns whether the terminal, by `TERM`, can redraw lines.
pub(crate) fn can_move_cursor() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}
