//! `soramode deliveries [list|show ID|resend ID]`

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::delivery::{Delivery, DeliveryState, ListDeliveries, ResendDelivery};
use soramode_protocol::error::Error;
use soramode_protocol::number::whole_number;
use soramode_protocol::session::LIST_LIMIT_MAX;

use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::color::Emphasis;
use crate::output::{Cell, Column, Format, List, pairs};

/// List webhook deliveries and resend them
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List deliveries, newest first (the default)
    List(ListArgs),
    /// Show one delivery
    Show {
        /// Number of the delivery: ID in the list
        #[arg(value_parser = whole_number::<u64>)]
        id: u64,
    },
    /// Resend a delivery
    ///
    /// It is sent after those already queued for its receiver. A pending one is retried now.
    Resend {
        /// Number of the delivery: ID in the list
        #[arg(value_parser = whole_number::<u64>)]
        id: u64,
    },
}

#[derive(Debug, Default, clap::Args)]
struct ListArgs {
    /// List only pending, succeeded, failed or obsolete ones
    ///
    /// obsolete: a session.vanished that was not delivered before the node was opened again.
    #[arg(long, add = ArgValueCandidates::new(candidates::delivery_states))]
    state: Option<DeliveryState>,
}

/// The columns of [`row`].
const COLUMNS: [Column; 8] = [
    Column::word("ID"),
    Column::word("STATE"),
    Column::word("TYPE").optional(1),
    Column::word("SEQ").optional(5),
    Column::id("TO").optional(2),
    Column::word("TRIES").optional(4),
    Column::word("SINCE").optional(3),
    Column::text("PROBLEM"),
];

impl Args {
    /// Returns whether it sends a delivery again.
    pub(crate) const fn changes_node(&self) -> bool {
        matches!(self.what, Some(What::Resend { .. }))
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match args.what {
        None => list(args.list, context).await,
        Some(What::List(args)) => list(args, context).await,
        Some(What::Show { id }) => print(id, context).await,
        Some(What::Resend { id }) => resend(id, context).await,
    }
}

async fn list(args: ListArgs, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut daemon = context.node.connect().await?;
    let mut list = List::begin(&mut context.output, "deliveries", &COLUMNS)?;
    let mut page = ListDeliveries {
        state: args.state,
        limit: Some(LIST_LIMIT_MAX),
        cursor: None,
    };
    loop {
        let answer = daemon.call(&page).await?;
        answer
            .deliveries
            .iter()
            .try_for_each(|delivery| row(delivery, &mut list))?;
        page.cursor = answer.cursor;
        if page.cursor.is_none() || list.is_closed() {
            break;
        }
    }
    list.finish("no deliveries")?;
    Ok(Exit::Done)
}

const fn emphasis(state: DeliveryState) -> Emphasis {
    match state {
        DeliveryState::Pending => Emphasis::Careful,
        DeliveryState::Succeeded => Emphasis::Good,
        DeliveryState::Failed => Emphasis::Bad,
        DeliveryState::Obsolete => Emphasis::Aside,
    }
}

fn row(delivery: &Delivery, list: &mut List<'_>) -> Result<(), Failure> {
    let cells = [
        delivery.id.into(),
        Cell::from(delivery.state.name()).colored(Some(emphasis(delivery.state))),
        delivery.event_type.name().into(),
        delivery.seq.into(),
        delivery.endpoint.as_str().into(),
        u64::from(delivery.attempts).into(),
        list.time(delivery.created_at),
        delivery.problem.as_deref().into(),
    ];
    list.row(delivery, &cells)
}

async fn print(id: u64, context: &mut Context<'_>) -> Result<Exit, Failure> {
    // The page begins with the delivery, if it exists.
    let page = ListDeliveries {
        state: None,
        limit: Some(1),
        cursor: Some(id.saturating_add(1).to_string()),
    };
    let found = context
        .node
        .connect()
        .await?
        .call(&page)
        .await?
        .deliveries
        .into_iter()
        .find(|delivery| delivery.id == id);
    let delivery = found.ok_or_else(|| Failure::from(Error::no_delivery(id)))?;
    show(&delivery, context)?;
    Ok(Exit::Done)
}

fn show(delivery: &Delivery, context: &mut Context<'_>) -> Result<(), Failure> {
    let output = &mut context.output;
    if matches!(output.format(), Format::Json | Format::Jsonl) {
        return output.json(delivery);
    }
    let rows = [
        ("id", Some(delivery.id.to_string())),
        ("state", Some(delivery.state.to_string())),
        ("type", Some(delivery.event_type.name().to_owned())),
        ("event", Some(delivery.event_id.to_string())),
        ("seq", Some(delivery.seq.to_string())),
        ("to", Some(delivery.endpoint.clone())),
        ("tries", Some(delivery.attempts.to_string())),
        ("since", Some(output.time(delivery.created_at))),
        (
            "again",
            delivery.next_attempt_at.map(|time| output.time_ahead(time)),
        ),
        ("ended", delivery.finished_at.map(|time| output.time(time))),
        ("status", delivery.status.map(|status| status.to_string())),
        ("problem", delivery.problem.clone()),
    ];
    pairs(output, &rows)
}

async fn resend(id: u64, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let delivery = context
        .node
        .connect()
        .await?
        .call(&ResendDelivery { id })
        .await?;
    context
        .output
        .changed(&format!("delivery {id} is queued again"));
    match context.output.format() {
        Format::Table => {
            let Delivery {
                event_type,
                endpoint,
                ..
            } = &delivery;
            let look = context.node.command(&format!("deliveries show {id}"));
            context.output.confirm(&format!(
                "delivery {id} ({}) is queued for {endpoint} again. Check it with: {look}",
                event_type.name()
            ))?;
        }
        Format::Plain | Format::Json | Format::Jsonl => show(&delivery, context)?,
    }
    Ok(Exit::Done)
}
