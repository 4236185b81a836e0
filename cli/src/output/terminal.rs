//! The terminal: how wide it is, and whether lines on it can be drawn over.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// The least that tables are laid out for.
const COLUMNS_MIN: usize = 40;

/// The width of a terminal that does not tell its own, as a serial line.
const COLUMNS_DEFAULT: usize = 80;

/// The cells in a line of the terminal at this descriptor.
pub(super) fn columns(terminal: impl AsFd) -> usize {
    match tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col).max(COLUMNS_MIN),
        Ok(_) | Err(_) => COLUMNS_DEFAULT,
    }
}

/// Whether a terminal of this process' takes more than lines: TERM names one that does.
pub(crate) fn can_move_cursor() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}
