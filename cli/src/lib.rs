//! The command-line client of soramode. [`main`] is the program; [`generated_files`] is what is generated from its command line.

mod api;
mod args;
mod change_words;
mod closed;
mod closing;
mod cluster;
mod cluster_status;
mod command_line;
mod commands;
mod completion;
mod context;
mod daemon;
mod error;
mod fast_path;
mod gate;
mod generated;
mod help;
mod lists;
mod live;
mod manual;
mod mode_info;
mod node;
mod output;
mod report;
mod seen;
mod session_info;
mod signals;
mod start_hint;
mod trust;
mod wait;
mod way_back;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::Args;
use crate::context::Context;
use crate::daemon::Socket;
use crate::error::{Exit, Failure};
use crate::node::Node;
use crate::output::Output;

pub use generated::{GeneratedFile, generated_files};
pub use help::{Example, examples};
pub use manual::{MANUAL_DATE, daemon_page};

/// The program: reads the command line, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    if let Some(exit) = completion::answer() {
        return exit.code().into();
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    let exit = match fast_path::read_args(&words).map_or_else(|| Args::read(&words), Ok) {
        Ok(args) => run(args),
        Err(error) => output::say_usage(&error, &words),
    };
    exit.code().into()
}

fn run(args: Args) -> Exit {
    let Args { global, command } = args;
    let api = match global.api.node(global.socket.as_ref()) {
        Ok(api) => api,
        Err(failure) => return fail(&failure, &mut Output::new(&global.output)),
    };
    let socket = Socket::find(global.socket);
    let mut context = Context {
        node: Node::Daemon(&socket).or(api.as_ref()),
        token_file: global.api.api_token_file.as_deref(),
        token_in_clear: global.api.token_in_clear,
        output: Output::new(&global.output),
    };
    if let Err(failure) = command.check_supported(context.node) {
        return fail(&failure, &mut context.output);
    }
    let ended = match fast_path::run_blocking(&command, &mut context) {
        Some(ended) => ended,
        None => runtime().and_then(|runtime| runtime.block_on(command.run(&mut context))),
    };
    // What was written before a failure is part of the answer too; the failure itself weighs more than one to write.
    let flushed = context.output.flush();
    match ended.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => fail(&failure, &mut context.output),
    }
}

fn fail(failure: &Failure, output: &mut Output) -> Exit {
    output.failure(failure);
    output::say_failure(failure);
    failure.exit
}

/// One thread: starting more would take longer than most commands do.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|problem| Failure::new(Exit::Failed, format!("cannot start: {problem}")))
}
