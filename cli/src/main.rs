//! `soramode`: get and set the mode of an SFU node, wait for the drain, list sessions, tail events.

use std::process::ExitCode;

fn main() -> ExitCode {
    soramode::main()
}
