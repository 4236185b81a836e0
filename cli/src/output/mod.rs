//! The output of commands: nothing else prints.

mod cell;
pub(crate) mod cells;
pub(crate) mod color;
mod column;
pub(crate) mod command_lines;
mod count;
pub(crate) mod escape;
pub(crate) mod event;
mod flags;
mod list;
mod live_lines;
mod progress;
mod rate;
mod stdout_closed;
mod streams;
pub(crate) mod table;
mod terminal;
pub(crate) mod times;

pub(crate) use cell::Cell;
pub(crate) use column::Column;
pub(crate) use count::{counted, counted_connections, with_pending};
pub(crate) use flags::{Color, Format, OutputFlags};
pub(crate) use list::{List, Row, colored_groups, pairs, table_lines};
pub(crate) use live_lines::LiveLines;
pub(crate) use progress::{ProgressDisplay, ProgressSnapshot};
pub(crate) use stdout_closed::StdoutClosed;
pub(crate) use streams::{Output, begin_line, failure_json, relay, report_failure};
pub(crate) use terminal::{can_move_cursor, size_of_stderr};
