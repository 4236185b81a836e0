//! `soramode history`

use soramode_protocol::id::PlanId;
use soramode_protocol::mode::{DatedModeChange, ListModeChanges};
use soramode_protocol::number::whole_number_in;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Column, List};

/// List mode changes: time, actor and reason
///
/// Newest first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List at most N changes (1 to 1000)
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = whole_number_in(1..=1_000))]
    limit: u32,
}

/// Returns the columns of [`show`]. The time of an automatic reopening is never left out.
fn columns(changes: &[DatedModeChange]) -> [Column; 8] {
    let until = Column::word("UNTIL");
    let has_timer = changes
        .iter()
        .any(|dated| dated.change.expires_at.is_some());
    [
        Column::word("TIME"),
        Column::word("GENERATION").optional(4),
        Column::word("FROM").optional(3),
        Column::word("TO"),
        Column::id("BY").optional(1),
        Column::text("REASON"),
        if has_timer { until } else { until.optional(2) },
        Column::id("PLAN").optional(5),
    ]
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let changes = context
        .node
        .connect()
        .await?
        .call(&ListModeChanges {
            limit: Some(args.limit),
        })
        .await?
        .changes;
    let mut list = List::begin(&mut context.output, "changes", &columns(&changes))?;
    changes
        .iter()
        .try_for_each(|change| show(change, &mut list))?;
    list.finish("the mode has not been changed yet")?;
    Ok(Exit::Done)
}

fn show(dated: &DatedModeChange, list: &mut List<'_>) -> Result<(), Failure> {
    let change = &dated.change;
    let actor = match &change.on_behalf_of {
        Some(whom) => format!("{} for {whom}", change.actor),
        None => change.actor.clone(),
    };
    let cells = [
        list.time(dated.timestamp),
        change.generation.into(),
        change.previous_mode.into(),
        change.mode.into(),
        actor.into(),
        change.reason.as_deref().into(),
        change.expires_at.map(|time| list.time_ahead(time)).into(),
        change.plan_id.as_ref().map(PlanId::as_str).into(),
    ];
    list.row(dated, &cells)
}
