//! `soramode is MODE|drained|joined`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::error::Error;
use soramode_protocol::node::{GetStatus, Standing, Status};

use crate::Context;
use crate::api::{Api, Look, NodeSeen, needs_socket};
use crate::args::{Format, Predicate};
use crate::completion;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::output::{Output, counted};

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
struct View<'a, S> {
    is: bool,
    #[serde(flatten)]
    status: &'a S,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let Some(api) = context.api {
        return ask_api(&args, api, context).await;
    }
    let status = context.socket.connect().await?.call(&GetStatus {}).await?;
    let is = match args.predicate {
        Predicate::Mode(mode) => status.mode.mode == mode,
        Predicate::Joined => status.standing == Standing::Joined,
        Predicate::Drained if status.sessions_known || args.assume_known => status.sessions == 0,
        Predicate::Drained => return Err(sessions_unknown(&status).into()),
    };
    let node = escape(status.node_name.as_str());
    let words = match args.predicate {
        Predicate::Mode(_) => format!("{node} is {}", status.mode.mode),
        Predicate::Joined => format!("{node} is {}", status.standing),
        Predicate::Drained => format!("{node} has {}", counted(status.sessions, "session")),
    };
    show(&View { is, status: &status }, &words, &mut context.output)
}

/// The connections at one moment: whoever is on the way in is not among them.
async fn ask_api(args: &Args, api: &Api, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let look = match args.predicate {
        Predicate::Mode(_) => None,
        Predicate::Drained => Some(Look::at(api).await?),
        Predicate::Joined => return Err(needs_socket("is joined")),
    };
    let seen = NodeSeen { node_name: api.name().to_owned(), mode: api.mode().await?, look };
    let (is, words) = match (&seen.look, args.predicate) {
        (Some(look), _) => (look.sessions == 0, format!("{} has {}", seen.node_name, counted(look.sessions, "session"))),
        (None, Predicate::Mode(mode)) => (seen.mode == mode, format!("{} is {}", seen.node_name, seen.mode)),
        (None, Predicate::Drained | Predicate::Joined) => (false, seen.node_name.clone()),
    };
    show(&View { is, status: &seen }, &words, &mut context.output)
}

fn show(view: &View<'_, impl Serialize>, words: &str, output: &mut Output) -> Result<Exit, Failure> {
    let yes_or_no = if view.is { "yes" } else { "no" };
    if !output.is_quiet() {
        match output.format() {
            Format::Json | Format::Jsonl => output.json(view)?,
            Format::Plain => output.text(yes_or_no)?,
            Format::Table => output.text(&format!("{yes_or_no}: {words}"))?,
        }
    }
    Ok(if view.is { Exit::Done } else { Exit::No })
}

/// The error that the daemon has for a wait in the same case.
fn sessions_unknown(status: &Status) -> Error {
    let missing: Vec<&str> = status.sources.iter().filter_map(|source| source.missing.as_deref()).collect();
    let missing = if missing.is_empty() { "no source has told all of them".to_owned() } else { missing.join("; ") };
    Error::sessions_unknown(&missing)
}
