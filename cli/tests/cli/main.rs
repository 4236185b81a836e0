//! The `soramode` program against a daemon: the real one, or a fake one where the daemon must misbehave.

mod completion;
mod drill;
mod exits;
mod faults;
mod lists;
mod maintenance;
mod output;
mod support;
mod tailing;
mod waits;
