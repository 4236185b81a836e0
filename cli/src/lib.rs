//! The command-line client of soramode. [`main`] is the program; [`generated_files`] returns the
//! files that are generated from its command line, and [`verbs`] its verbs.

mod api;
mod api_flags;
mod args;
mod ask;
mod at_least;
mod beside_others;
mod caller;
mod candidates;
mod closing_owner;
mod cluster;
mod cluster_status;
mod command_line;
mod command_lock;
mod commands;
mod completion;
mod completion_script;
mod conditions;
mod context;
mod daemon;
mod describe;
mod endpoint;
mod error;
mod expected_end;
mod fast_path;
mod flags;
mod fleet;
mod generated;
mod help;
mod last_status;
mod lists;
mod live;
mod long_call;
mod manual;
mod mode_info;
mod mode_result;
mod node;
mod opening;
mod output;
mod past_events;
mod plan;
mod report;
mod reservation;
mod roll;
mod runtime;
mod session_info;
mod set_mode;
mod sfu;
mod signals;
mod socket;
mod ssh;
mod start_hint;
mod suggestions;
mod target;
mod trust;
mod typed_time;
mod undo;
mod usage;
mod wait;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::Args;
use crate::commands::Command;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::node::Node;
use crate::output::{Output, report_failure};
use crate::runtime::runtime;
use crate::target::{NodeTarget, Target};

pub use generated::{generated_files, verbs};
pub use help::{Example, examples};
pub use manual::{GeneratedFile, MANUAL_DATE, daemon_page};

/// Reads the command line, runs the command, and returns its exit code.
pub fn main() -> ExitCode {
    if let Some(exit) = completion::complete() {
        return exit.code().into();
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    let exit = match fast_path::read_args(&words).map_or_else(|| Args::read(&words), Ok) {
        Ok(args) => run(args),
        Err(error) => usage::report(&error, &words),
    };
    exit.code().into()
}

fn run(args: Args) -> Exit {
    let Args { global, command } = args;
    let target = match target::find(&global, &command) {
        Ok(Target::Node(target)) => target,
        Ok(Target::Hosts(hosts)) => {
            return run_on_hosts(command, hosts, Output::new(&global.output));
        }
        Err(failure) => return fail(&failure, &mut Output::new(&global.output)),
    };
    let mut context = Context {
        node: match &target {
            NodeTarget::Endpoint(endpoint) => Node::Daemon(endpoint),
            NodeTarget::Api(api) => Node::Api(api),
        },
        token_file: global.api.api_token_file.as_deref(),
        token_in_clear: global.api.token_in_clear,
        output: Output::new(&global.output),
        definition: Args::whole_command,
    };
    if let Err(failure) = command.check_supported(context.node) {
        return fail(&failure, &mut context.output);
    }
    let ended = match fast_path::run_blocking(&command, &mut context) {
        Some(ended) => ended,
        None => runtime().and_then(|runtime| runtime.block_on(command.run(&mut context))),
    };
    let ended = ended.map_err(|failure| Failure {
        hint: failure.hint.map(|hint| context.node.completed(&hint)),
        ..failure
    });
    finish(ended, context.output)
}

fn run_on_hosts(command: Command, hosts: Vec<Endpoint>, mut output: Output) -> Exit {
    let run = async {
        match command {
            Command::RollHosts(args) => {
                commands::roll::run_on_hosts(args, hosts, &mut output).await
            }
            command => fleet::run(command, &hosts, &mut output).await,
        }
    };
    let ended = runtime().and_then(|runtime| runtime.block_on(run));
    finish(ended, output)
}

fn finish(ended: Result<Exit, Failure>, mut output: Output) -> Exit {
    // Output before a failure is part of the answer; the failure takes precedence over a failed
    // write.
    let flushed = output.flush();
    match ended.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => fail(&failure, &mut output),
    }
}

fn fail(failure: &Failure, output: &mut Output) -> Exit {
    output.failure(failure);
    report_failure(failure);
    failure.exit
}
