//! Everything that a command prints goes through here.

pub(crate) mod cells;
pub(crate) mod escape;
pub(crate) mod event;
mod flags;
mod list;
mod meter;
mod pace;
pub(crate) mod paint;
mod reader;
mod streams;
pub(crate) mod table;
mod terminal;
pub(crate) mod times;

pub(crate) use flags::{Color, Format, OutputFlags};
pub(crate) use list::{List, Row, painted_groups, pairs};
pub(crate) use meter::{Going, Meter, counted};
pub(crate) use reader::Reader;
pub(crate) use streams::{Output, failure_json, report_failure};
pub(crate) use table::{Cell, Column};
pub(crate) use terminal::can_move_cursor;
