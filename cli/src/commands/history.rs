//! `soramode history`

use soramode_protocol::mode::{DatedModeChange, ListModeChanges};

use crate::Context;
use crate::error::{Exit, Failure};
use crate::output::List;

/// List who changed the mode, when and why, newest first
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many changes at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let changes = context.socket.connect().await?.call(&ListModeChanges { limit: Some(args.limit) }).await?.changes;
    let headers = ["TIME", "GENERATION", "FROM", "TO", "BY", "REASON", "UNTIL"];
    let mut list = List::begin(&mut context.output, "changes", &headers)?;
    changes.iter().try_for_each(|change| show(change, &mut list))?;
    list.finish("the mode has not been changed yet")?;
    Ok(Exit::Done)
}

fn show(dated: &DatedModeChange, list: &mut List<'_>) -> Result<(), Failure> {
    let change = &dated.change;
    let actor = match &change.on_behalf_of {
        Some(whom) => format!("{} for {whom}", change.actor),
        None => change.actor.clone(),
    };
    let (time, generation) = (list.time(dated.timestamp), change.generation.to_string());
    let until = change.expires_at.map(|time| list.time_ahead(time)).unwrap_or_default();
    let reason = change.reason.as_deref().unwrap_or_default();
    list.row(dated, &[&time, &generation, change.previous_mode.name(), change.mode.name(), &actor, reason, &until])
}
