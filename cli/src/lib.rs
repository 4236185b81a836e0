//! The command-line client of soramode. [`main`] is the program; [`generated_files`] is what is generated from its command line.

mod afar;
mod api;
mod args;
mod change_words;
mod closing;
mod cluster;
mod cluster_status;
mod command_line;
mod commands;
mod completion;
mod daemon;
mod error;
mod gate;
mod generated;
mod help;
mod live;
mod manual;
mod output;
mod report;
mod seen;
mod signals;
mod start_hint;
mod trust;
mod watch;
mod way_back;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use soramode_protocol::node::GetStatus;

use crate::api::{Api, Want};
use crate::args::Args;
use crate::daemon::Socket;
use crate::error::{Exit, Failure};
use crate::output::Output;
use crate::seen::Seen;

pub use generated::{GeneratedFile, generated_files};
pub use help::{Example, examples};
pub use manual::{MANUAL_DATE, daemon_page};

/// What a command works with.
pub(crate) struct Context<'a> {
    /// Where the daemon is.
    pub(crate) socket: &'a Socket,
    /// A node that is asked over Sora's API instead.
    pub(crate) api: Option<&'a Api>,
    /// The file that has the token for it, and for any other node's API.
    pub(crate) token_file: Option<&'a Path>,
    /// The token may be sent in the clear to a URL that the cluster's etcd names.
    pub(crate) token_in_clear: bool,
    /// Where the answer goes.
    pub(crate) output: Output,
}

impl Context<'_> {
    /// The node that this command asks, with its sessions.
    pub(crate) async fn see(&self) -> Result<Seen, Failure> {
        match self.api {
            Some(api) => api.see(Want::Counts).await,
            None => self
                .socket
                .connect()
                .await?
                .call(&GetStatus {})
                .await
                .map(|status| Seen::Daemon(Box::new(status))),
        }
    }

    /// This command as it is typed for whoever is asked here.
    pub(crate) fn command(&self, words: &str) -> String {
        self.api
            .map_or_else(|| self.socket.command(words), |api| api.command(words))
    }

    /// The flags that say whom this command asks, but for the token's file.
    pub(crate) fn flags(&self) -> String {
        self.api.map_or_else(|| self.socket.flags(), Api::flags)
    }
}

/// The program: reads the command line, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    if let Some(exit) = completion::answer() {
        return exit.code().into();
    }
    let words: Vec<OsString> = std::env::args_os().collect();
    let exit = match Args::read(&words) {
        Ok(args) => run(args),
        Err(error) => output::say_usage(&error, &words),
    };
    exit.code().into()
}

fn run(args: Args) -> Exit {
    let Args { global, command } = args;
    let api = match global
        .api
        .node(global.socket.as_ref())
        .and_then(|api| command.check_way(api.as_ref()).map(|()| api))
    {
        Ok(api) => api,
        Err(failure) => return fail(&failure, &mut Output::new(&global.output)),
    };
    let socket = Socket::find(global.socket);
    let token_file = global.api.api_token_file.as_deref();
    let mut context = Context {
        socket: &socket,
        api: api.as_ref(),
        token_file,
        token_in_clear: global.api.token_in_clear,
        output: Output::new(&global.output),
    };
    let ended = match command.run_at_once(&mut context) {
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
