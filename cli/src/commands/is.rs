//! `soramode is MODE|drained|joined`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::error::Error;
use soramode_protocol::node::{GetStatus, Standing, Status};

use crate::Context;
use crate::args::{Format, Predicate};
use crate::completion;
use crate::error::{Exit, Failure};
use crate::output::counted;
use crate::output::escape::escape;

/// Tell by the exit code whether the node is in a mode, drained or joined: 0 yes, 1 no
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A mode, drained (no session is left, and the node knows it) or joined (it is in its cluster)
    #[arg(value_name = "MODE|drained|joined", add = ArgValueCandidates::new(completion::predicates))]
    predicate: Predicate,
    /// Believe that the sessions are known, though no source has told all of them
    #[arg(long)]
    assume_known: bool,
}

#[derive(Serialize)]
struct View<'a> {
    is: bool,
    #[serde(flatten)]
    status: &'a Status,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let status = context.socket.connect().await?.call(&GetStatus {}).await?;
    let is = match args.predicate {
        Predicate::Mode(mode) => status.mode.mode == mode,
        Predicate::Joined => status.standing == Standing::Joined,
        Predicate::Drained if status.sessions_known || args.assume_known => status.sessions == 0,
        Predicate::Drained => return Err(sessions_unknown(&status).into()),
    };
    let view = View { is, status: &status };
    if !context.output.is_quiet() {
        show(&view, args.predicate, context)?;
    }
    Ok(if is { Exit::Done } else { Exit::No })
}

fn show(view: &View<'_>, predicate: Predicate, context: &mut Context<'_>) -> Result<(), Failure> {
    let yes_or_no = if view.is { "yes" } else { "no" };
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(view),
        Format::Plain => context.output.text(yes_or_no),
        Format::Table => {
            let status = view.status;
            let how = match predicate {
                Predicate::Mode(_) => format!("is {}", status.mode.mode),
                Predicate::Joined => format!("is {}", status.standing),
                Predicate::Drained => format!("has {}", counted(status.sessions, "session")),
            };
            context.output.text(&format!("{yes_or_no}: {} {how}", escape(status.node_name.as_str())))
        }
    }
}

/// The error that the daemon has for a wait in the same case.
fn sessions_unknown(status: &Status) -> Error {
    let missing: Vec<&str> = status.sources.iter().filter_map(|source| source.missing.as_deref()).collect();
    let missing = if missing.is_empty() { "no source has told all of them".to_owned() } else { missing.join("; ") };
    Error::sessions_unknown(&missing)
}
