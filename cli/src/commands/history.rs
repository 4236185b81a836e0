//! `soramode history`

use serde::Serialize;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::{ChannelId, PlanId};
use soramode_protocol::mode::{DatedModeChange, ListModeChanges};
use soramode_protocol::number::whole_number_in;
use soramode_protocol::time::Time;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Cell, Column, Format, List, counted};
use crate::past_events::past_events;

/// Number of newest events to look through for plans, announcements and ends.
const EVENTS_MAX: u64 = 20_000;

/// List mode changes: time, actor and reason
///
/// Newest first, with the plans, announcements and ended sessions among the last 20000 events; -o plain lists the mode changes alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List at most N changes (1 to 1000)
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = whole_number_in(1..=1_000))]
    limit: u32,
}

/// Cells of an actor, at least where the reason is shown too.
const ACTOR_CELLS: usize = 16;

/// Returns the columns of [`show`]. The actor and the time of an automatic reopening are never left out.
fn columns(changes: &[DatedModeChange]) -> [Column; 8] {
    let reopens = Column::word("REOPENS");
    let has_timer = changes
        .iter()
        .any(|dated| dated.change.expires_at.is_some());
    [
        Column::word("TIME"),
        Column::word("GENERATION").optional(4),
        Column::word("FROM").optional(3),
        Column::word("TO"),
        Column::id("BY").comfortable(ACTOR_CELLS),
        Column::text("REASON").optional(1),
        if has_timer {
            reopens
        } else {
            reopens.optional(2)
        },
        Column::id("PLAN").optional(5),
    ]
}

/// The JSON of a history.
#[derive(Serialize)]
struct HistoryView<'a> {
    changes: &'a [DatedModeChange],
    /// Plans, announcements and requests to end sessions.
    events: &'a [Event],
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let list = ListModeChanges {
        limit: Some(args.limit),
    };
    let mut daemon = context.node.connect().await?;
    let changes = daemon.call(&list).await?.changes;
    let events = match context.output.format() {
        Format::Plain => Vec::new(),
        Format::Table | Format::Json | Format::Jsonl => {
            let is_operation = |event: &Event| Operation::of(event).is_some();
            let mut events = past_events(&mut daemon, EVENTS_MAX, is_operation).await?;
            events.reverse();
            events.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
            events
        }
    };
    if context.output.format() == Format::Json {
        let view = HistoryView {
            changes: &changes,
            events: &events,
        };
        return context.output.json(&view).map(|()| Exit::Done);
    }
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut rows: Vec<Row<'_>> = changes
        .iter()
        .map(Row::Change)
        .chain(
            events
                .iter()
                .filter_map(|event| Some(Row::Operation(event, Operation::of(event)?))),
        )
        .collect();
    // Stable: a step of a plan stands beside its change of the mode.
    rows.sort_by_key(|row| std::cmp::Reverse(row.time()));
    rows.truncate(limit);
    let mut list = List::begin(&mut context.output, "changes", &columns(&changes))?;
    rows.iter().try_for_each(|row| show(row, &mut list))?;
    list.finish("the mode has not been changed yet")?;
    Ok(Exit::Done)
}

/// A row of the history.
enum Row<'a> {
    Change(&'a DatedModeChange),
    Operation(&'a Event, Operation<'a>),
}

impl Row<'_> {
    const fn time(&self) -> Time {
        match self {
            Self::Change(dated) => dated.timestamp,
            Self::Operation(event, _) => event.timestamp,
        }
    }
}

/// An event that an operator caused, beside the changes of the mode.
struct Operation<'a> {
    name: &'static str,
    actor: &'a str,
    details: String,
    plan_id: Option<&'a PlanId>,
}

impl<'a> Operation<'a> {
    /// Returns the operation of an event; `None` for events of clients, the SFU and the daemon.
    fn of(event: &'a Event) -> Option<Self> {
        let name = event.kind.event_type()?.name();
        let operation = |actor, parts: &[Option<&str>], plan_id| Self {
            name,
            actor,
            details: parts
                .iter()
                .copied()
                .flatten()
                .collect::<Vec<_>>()
                .join("; "),
            plan_id,
        };
        match &event.kind {
            EventKind::PlanCreated(it) => Some(operation(
                &it.actor,
                &[it.reason.as_deref()],
                Some(&it.plan_id),
            )),
            EventKind::PlanOver(it) => Some(operation(
                &it.actor,
                &[
                    Some(it.outcome.name()),
                    it.why.as_deref(),
                    it.reason.as_deref(),
                ],
                Some(&it.plan_id),
            )),
            EventKind::MaintenanceAnnounced(it) => Some(operation(
                &it.actor,
                &[
                    Some(&counted(it.channels, "channel")),
                    it.text.as_deref(),
                    it.reason.as_deref(),
                ],
                it.plan_id.as_ref(),
            )),
            EventKind::EndRequested(it) => Some(operation(
                &it.actor,
                &[
                    Some(&counted(it.sessions, "session")),
                    it.channel_id.as_ref().map(ChannelId::as_str),
                    it.reason.as_deref(),
                ],
                it.plan_id.as_ref(),
            )),
            _ => None,
        }
    }
}

fn show(row: &Row<'_>, list: &mut List<'_>) -> Result<(), Failure> {
    match row {
        Row::Change(dated) => show_change(dated, list),
        Row::Operation(event, operation) => show_operation(event, operation, list),
    }
}

fn show_change(dated: &DatedModeChange, list: &mut List<'_>) -> Result<(), Failure> {
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

fn show_operation(
    event: &Event,
    operation: &Operation<'_>,
    list: &mut List<'_>,
) -> Result<(), Failure> {
    let none = || Cell::from("");
    let cells = [
        list.time(event.timestamp),
        none(),
        none(),
        operation.name.into(),
        operation.actor.into(),
        operation.details.as_str().into(),
        none(),
        operation.plan_id.map(PlanId::as_str).into(),
    ];
    list.row(event, &cells)
}
