//! `soramode maintain -- CMD`

mod command_state;
mod earlier;
pub(super) mod here;
mod on_host;

use std::ffi::OsString;

use clap_complete::engine::ArgValueCompleter;
use soramode_protocol::mode::{
    ChangeMode, DatedModeChange, InForce, ListModeChanges, Mode, ModeState, SettableMode,
    with_message,
};
use soramode_protocol::node::{GetInfo, GetStatus};
use soramode_protocol::time::Time;

use here::{check_command, quoted_command};

use super::drain::{DrainFlags, drain, drain_by_plan};
use super::wait_report::describe_reached;
use crate::api::Detail;
use crate::ask;
use crate::candidates;
use crate::closing_owner::{self, OwnChanges, Owner, RestoreTo};
use crate::context::Context;
use crate::describe::{describe_change, describe_expiry, describe_later_change, describe_origin};
use crate::error::{Exit, Failure};
use crate::mode_info::{ModeInfo, with_operator};
use crate::mode_result::ModeResult;
use crate::node::mode_now;
use crate::opening::{Opening, opening};
use crate::output::{Format, times};
use crate::report::Report;
use crate::signals::Signals;
use crate::undo::{restore_change, restore_hint};
use crate::wait::Then;

/// Number of mode changes to read to find the owner of the closing.
const HISTORY_MAX: u32 = 100;

/// Drain the node, run a command, and open the node again
///
/// Exit code 0 means that the command succeeded and the node is open. A command that cannot be found changes nothing. If the drain times out,
/// or the command fails, the node stays closed: run the same again, as the same user and with the same --message, to finish and open the node.
/// A node that another user closed or drains too, or that was closed for another reason, is not opened: exit code 6. Exit code 10: it is open,
/// but rooms of Janus are still locked.
///
/// With a plan option, soramoded drains the node in steps by itself, as with soramode drain. The command runs only if the plan is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: DrainFlags,
    /// Command to run, with its arguments
    ///
    /// With -o json its standard output goes to standard error.
    #[arg(last = true, required = true, value_name = "COMMAND", add = ArgValueCompleter::new(candidates::programs))]
    command: Vec<OsString>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut report = Report::new();
    report.ran = Some(false);
    let ended = maintain(&args, context, &mut report).await;
    report.finish(&mut context.output, ended)
}

async fn maintain(
    args: &Args,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let plan = args.flags.new_plan(None)?;
    let node = context.node;
    match node.host() {
        Some(host) => {
            on_host::check_supported(host, &args.command, node).await?;
            earlier::check_earlier(host, node).await?;
        }
        None => check_command(&args.command).map_err(|it| it.and("Nothing was changed"))?,
    }
    let mut signals = Signals::listen()?;
    let flags = (&args.flags, Then::Command);
    let (mut closed, reached) = match &plan {
        Some(plan) => drain_by_plan(node, plan, context, &mut signals, report).await?,
        None => drain(node, flags, context, &mut signals, report).await?,
    };
    let command = quoted_command(&args.command);
    check_still_ours(&closed, &command, context).await?;
    context.output.note(&format!(
        "{}. Running {command}",
        describe_reached(&reached)
    ));
    let code = match node.host() {
        Some(host) => on_host::run(host, &args.command, context, &mut signals).await,
        None => here::run(&args.command, context, &mut signals).await,
    };
    let code = match code {
        Ok(code) => code,
        Err(failure) => {
            let stays = stays_closed(failure.exit, &failure.message, &closed, context).await;
            return Err(with_hint_before(failure.hint, stays));
        }
    };
    report.ran = Some(true);
    report.command_exit = Some(code);
    if code != 0 {
        return Err(stays_closed(
            Exit::Command(code),
            &format!("{command} failed (exit code {code})"),
            &closed,
            context,
        )
        .await);
    }
    let left = reopen(&closed, args.flags.own.message.as_deref(), context).await;
    report.restored = Some(matches!(left, Ok(Reopened::Opened(_))));
    if let Ok(status) = node.status(Detail::Counts).await {
        closed.status = status.clone();
        report.status = Some(status);
    }
    confirm(left, &closed, context).await
}

/// Prints the result. Exit code 0 means that the command succeeded and the node is open.
async fn confirm(
    left: Result<Reopened, Failure>,
    closed: &ModeResult,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let node = closed.status.name();
    let (words, word) = match left {
        Ok(Reopened::Opened(words)) => (words, "restored"),
        Ok(Reopened::OpenedByAnother(by)) => {
            context.output.warn(&format!("{node} was opened during the maintenance: {by}. Clients may have come in while the command ran"));
            (format!("{node} is open again, not by this run"), "left")
        }
        Ok(Reopened::NotInForce(why)) => {
            let message =
                format!("the command succeeded, and {node} is open, but some rooms are not: {why}");
            return Err(Failure::new(Exit::NotInForce, message).with_hint(format!(
                "soramoded goes on until they are. To see which, run: {}",
                context.node.command("status")
            )));
        }
        Ok(Reopened::StillClosed(words, hint)) => {
            return Err(
                Failure::new(Exit::Superseded, format!("the command succeeded. {words}"))
                    .with_hint(hint),
            );
        }
        Err(problem) => {
            let why = format!("the command succeeded, but {node} could not be reopened: {problem}");
            let failure = stays_closed(problem.exit, &why, closed, context).await;
            return Err(Failure {
                error_type: problem.error_type,
                ..with_hint_before(problem.hint, failure)
            });
        }
    };
    match context.output.format() {
        Format::Json | Format::Jsonl => {}
        Format::Plain => context.output.record(&["done", &node, word])?,
        Format::Table => context.output.confirm(&words)?,
    }
    Ok(Exit::Done)
}

/// Puts another hint before that of the failure.
fn with_hint_before(hint: Option<String>, failure: Failure) -> Failure {
    let hint = [hint, failure.hint]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(". ");
    Failure {
        hint: Some(hint).filter(|hint| !hint.is_empty()),
        ..failure
    }
}

/// Describes a failure that leaves the node closed without anyone working on it.
async fn stays_closed(
    exit: Exit,
    why: &str,
    closed: &ModeResult,
    context: &Context<'_>,
) -> Failure {
    let node = closed.status.name();
    let now = context.node.last_mode(&closed.now).await;
    if closed.is_changed(&now) && now.mode == Mode::Normal {
        return Failure::new(
            exit,
            format!("{why}. {node} is open: {}", describe_later_change(&now)),
        );
    }
    if closed.is_changed(&now) || closed.is_stricter() {
        return Failure::new(
            exit,
            format!(
                "{why}. {node} is STILL CLOSED: {}",
                describe_later_change(&now)
            ),
        )
        .with_hint(ask::before_opening(&now, context.node).await);
    }
    let label = "Run it again, or put the mode back";
    let storage = closed.status.storage();
    let back = restore_hint(label, &closed.before, &closed.now, context.node, storage);
    let hint = match opening(context.node).await {
        Opening::Runs(words) | Opening::Others(words) => words,
        Opening::Own => back
            .filter(|_| closed.before.mode != closed.now.mode)
            .unwrap_or_else(|| open_hint(context)),
    };
    Failure::new(
        exit,
        format!("{why}. {node} is STILL CLOSED ({})", closed.now.mode),
    )
    .with_hint(hint)
}

fn open_hint(context: &Context<'_>) -> String {
    format!("Open it: {}", context.node.command("set normal"))
}

/// Refuses to run the command where another user set a stricter mode, or opened the node, during the drain.
async fn check_still_ours(
    closed: &ModeResult,
    command: &str,
    context: &Context<'_>,
) -> Result<(), Failure> {
    let now = context.node.last_mode(&closed.now).await;
    if !closed.is_changed(&now) || (now.mode.is_block() && now.mode <= closed.now.mode) {
        return Ok(());
    }
    let hint = if now.mode.is_block() {
        ask::before_repeating(&now, context.node).await
    } else {
        "Run the same command again to close and drain the node".to_owned()
    };
    Err(Failure::new(
        Exit::Superseded,
        format!("{command} was not run: {}", describe_later_change(&now)),
    )
    .with_hint(hint))
}

/// The node after a command that succeeded.
enum Reopened {
    /// Opened by this run.
    Opened(String),
    /// The node was open already, for this reason.
    OpenedByAnother(String),
    /// The mode is `normal`, and some rooms of the SFU are still locked: the reason.
    NotInForce(String),
    /// The closing belongs to another owner: the reason and the remedy.
    StillClosed(String, String),
}

/// Opens the node if this run, or an earlier one of the same user and reason, closed it.
async fn reopen(
    closed: &ModeResult,
    reason: Option<&str>,
    context: &Context<'_>,
) -> Result<Reopened, Failure> {
    let node = closed.status.name();
    let mut daemon = context.node.connect_again().await?;
    let (now, history) = daemon
        .call_both(
            &GetStatus {},
            &ListModeChanges {
                limit: Some(HISTORY_MAX),
            },
        )
        .await?;
    let now = with_operator(now.mode, &history.changes);
    if now.mode == Mode::Normal {
        return Ok(Reopened::OpenedByAnother(describe_change(&now)));
    }
    if closed.is_changed(&ModeInfo::of(now.clone())) {
        return Ok(changed_meanwhile(&ModeInfo::of(now), closed, context).await);
    }
    let owner = Owner {
        actor: daemon.call(&GetInfo {}).await?.actor.unwrap_or_default(),
        on_behalf_of: daemon.on_behalf_of(),
        reason: reason.map(str::to_owned),
    };
    let theirs = match closing_owner::restore_to(
        &history.changes,
        &owner,
        match &closed.plan_id {
            Some(plan) => OwnChanges::Plan(plan),
            None => OwnChanges::Generation(closed.changed.then_some(now.generation)),
        },
    ) {
        // A stricter mode than the maintenance's own is another operator's emergency stop.
        _ if closed.is_stricter() => closed.before.state.clone().map(Box::new),
        RestoreTo::Open => None,
        RestoreTo::ClosedBy(theirs) => Some(theirs),
        RestoreTo::Stays => Some(Box::new(now.clone())),
    };
    let change = match &theirs {
        None => ChangeMode::to(SettableMode::Normal),
        Some(theirs) => restore_change(&ModeInfo::of((**theirs).clone()), times::now()),
    };
    let opens = change.mode == SettableMode::Normal;
    let restored = if opens {
        Some(with_message(reason, "maintenance done"))
    } else {
        change.reason.clone()
    };
    let is_there = theirs
        .as_ref()
        .is_some_and(|theirs| theirs.generation == now.generation);
    let change = ChangeMode {
        reason: restored,
        if_generation: Some(now.generation).filter(|_| closed.plan_id.is_none()),
        if_plan: closed.plan_id.clone(),
        on_behalf_of: daemon.on_behalf_of(),
        ..change
    };
    let ended = if is_there {
        Ok(None)
    } else {
        daemon.call(&change).await.map(Some)
    };
    match (ended, theirs) {
        (Ok(_), Some(theirs)) if !opens => {
            let theirs = with_operator(*theirs, &history.changes);
            let is_own = theirs.actor == owner.name() && !closed.is_stricter();
            let hint = if is_own && theirs.reason.as_deref() != reason {
                // Another run of this user, or one that added its reason.
                let open = context.node.command("set normal");
                format!(
                    "Its reason is not this run's --message, so another run may need it closed. Once that is over, open it: {open}"
                )
            } else if is_own {
                open_hint(context)
            } else {
                ask::before_opening(&ModeInfo::of(theirs.clone()), context.node).await
            };
            Ok(Reopened::StillClosed(
                describe_other_closing(&theirs, &node),
                hint,
            ))
        }
        (Ok(Some(changed)), _) if changed.in_force.is_some_and(|it| it != InForce::Yes) => {
            Ok(Reopened::NotInForce(changed.warning.unwrap_or_default()))
        }
        (Ok(_), _) => {
            let closed_for = times::age(closed_since(&now, &history.changes));
            Ok(Reopened::Opened(format!(
                "{node}: {} -> normal; it was closed for {closed_for}",
                now.mode
            )))
        }
        (Err(failure), _) if failure.exit == Exit::Superseded => match mode_now(&mut daemon).await?
        {
            now if now.mode == Mode::Normal => {
                Ok(Reopened::OpenedByAnother(describe_later_change(&now)))
            }
            now => Ok(changed_meanwhile(&now, closed, context).await),
        },
        (Err(failure), _) => Err(failure),
    }
}

/// Returns when the node was closed: its mode may have changed since, without opening it.
fn closed_since(now: &ModeState, changes: &[DatedModeChange]) -> Time {
    let closings = changes
        .iter()
        .skip_while(|it| it.change.generation > now.generation);
    let first = closings.take_while(|it| it.change.mode.is_block()).last();
    first.map_or(now.since, |it| it.timestamp)
}

/// Describes a change during the maintenance: opening is left to that client.
async fn changed_meanwhile(now: &ModeInfo, closed: &ModeResult, context: &Context<'_>) -> Reopened {
    let words = format!(
        "{} was NOT reopened: during the maintenance, {}",
        closed.status.name(),
        describe_later_change(now)
    );
    Reopened::StillClosed(words, ask::before_opening(now, context.node).await)
}

/// Describes a closing that belongs to another owner.
fn describe_other_closing(theirs: &ModeState, node: &str) -> String {
    format!(
        "{node} was already closed before this run and is STILL CLOSED ({}), by {}{}",
        theirs.mode,
        describe_origin(theirs),
        describe_expiry(theirs)
    )
}
