//! `soramode drain`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

mod flags;
mod next_steps;

use std::time::Duration;

use soramode_protocol::mode::with_message;
use soramode_protocol::wait::{Outcome, Wait};

use super::mode_report::{note_change, report_mode};
use super::wait_report::{describe_reached, note_lists, print_record};
use crate::api::Detail;
use crate::cluster::{ClusterFlags, NodeFlag};
use crate::context::Context;
use crate::describe::{describe_expiry, describe_later_change};
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::mode_result::{Joined, ModeResult};
use crate::node::{Feature, Node};
use crate::output::{Format, Output};
use crate::plan;
use crate::plan::request::{NewPlan, StartFlags};
use crate::report::Report;
use crate::set_mode::{Restored, close, give_way, restore};
use crate::signals::{Signals, unless_interrupted};
use crate::wait::{Reached, Then, WaitRequest, again, describe_wait, wait};
pub(super) use flags::OnTimeout;
pub(crate) use flags::{DrainFlags, NodeDrainFlags};

/// Close the node and wait until its last session has ended
///
/// Sets block_new_session, unless the node is already closed, and waits. No client is disconnected: sessions end when their clients leave. The node
/// stays closed afterwards, and also if the wait is interrupted. A timer set with --for is cancelled (--on-timeout undo sets it again). Open the
/// node with: soramode open
///
/// With a plan option, soramoded does the same by itself, in steps: it closes the node, and then announces and ends the sessions that are left if
/// --end-after and --accept-risk=cuts-clients say so. The plan goes on without soramode: soramode plan shows it, and soramode plan cancel stops
/// it. Opening the node stops it too, except before its first step.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    start: StartFlags,
    #[command(flatten)]
    flags: DrainFlags,
    #[command(flatten)]
    node: NodeFlag,
}

impl Args {
    /// Returns whether the command waits: not with `--no-wait`, and with `--at` only on request.
    const fn waits(&self) -> bool {
        !self.start.no_wait && (self.start.wait || !self.start.has_time())
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if !args.waits() {
        return close_only(&args, context).await;
    }
    let mut report = Report::new();
    let ended = drain_and_confirm(&args, context, &mut report).await;
    report.finish(&mut context.output, ended)
}

/// Closes the node, or starts a plan, and returns.
async fn close_only(args: &Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let Some(plan) = args.flags.new_plan(Some(&args.start))? {
        args.node.check_plan(context.node)?;
        let node = context.node;
        let started = plan::start(&plan, node, None).await?;
        plan::note_started(&started, context);
        plan::confirm_started(&started, &plan, node, &mut context.output)?;
        plan::check_published(&started, &plan)?;
        return Ok(Exit::Done);
    }
    args.flags.options().check_no_wait()?;
    let remote = args.node.find(context).await?;
    let node = context.node.or(remote.as_ref());
    let flags = &args.flags;
    flags.check(node)?;
    flags.cluster.check_others(context, node).await?;
    let closing = flags.own.closing()?;
    let reason = closing.reason;
    let closed = close(node, closing, None).await?;
    report_mode(&closed, node, (&flags.cluster, reason), context).await
}

async fn drain_and_confirm(
    args: &Args,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let plan = args.flags.new_plan(Some(&args.start))?;
    if plan.is_some() {
        args.node.check_plan(context.node)?;
    }
    let remote = args.node.find(context).await?;
    let node = context.node.or(remote.as_ref());
    let mut signals = Signals::listen()?;
    let flags = (&args.flags, Then::Nothing);
    let (closed, reached) = match &plan {
        Some(plan) => drain_by_plan(node, plan, context, &mut signals, report).await?,
        None => drain(node, flags, context, &mut signals, report).await?,
    };
    confirm_drained(node, &closed, &reached, &mut context.output).await?;
    Ok(Exit::Done)
}

/// Prints that the node is empty, that it is still closed, and the command that opens it.
pub(super) async fn confirm_drained(
    node: Node<'_>,
    closed: &ModeResult,
    reached: &Reached,
    output: &mut Output,
) -> Result<(), Failure> {
    note_lists(reached, output);
    match output.format() {
        Format::Json | Format::Jsonl => Ok(()),
        Format::Plain => print_record(reached, output),
        Format::Table => {
            let now = node.last_mode(&reached.status.mode_info()).await;
            let then = closed.describe_next_step(&now, node).await;
            output.confirm(&format!("{}{then}", describe_reached(reached)))
        }
    }
}

/// Starts a plan and waits until it is done. `maintain` goes on from there.
pub(super) async fn drain_by_plan(
    node: Node<'_>,
    plan: &NewPlan,
    context: &mut Context<'_>,
    signals: &mut Signals,
    report: &mut Report,
) -> Result<(ModeResult, Reached), Failure> {
    let started = plan::start(plan, node, Some(&mut *signals)).await?;
    plan::note_started(&started, context);
    plan::check_published(&started, plan)?;
    plan::watch(plan, started, node, (context, signals, report)).await
}

/// Closes the node and waits. `maintain` goes on from there.
pub(super) async fn drain(
    node: Node<'_>,
    (flags, then): (&DrainFlags, Then),
    context: &mut Context<'_>,
    signals: &mut Signals,
    report: &mut Report,
) -> Result<(ModeResult, Reached), Failure> {
    flags.check(node)?;
    let others = flags.cluster.check_others(context, node);
    unless_interrupted(Some(&mut *signals), others).await?;
    let closing = flags.own.closing()?;
    let reason = closing.reason;
    let closed = close(node, closing, Some(&mut *signals)).await?;
    let drain = Drain {
        closed,
        wait: flags.own.wait(),
        limit: flags.own.limit(),
        cluster: &flags.cluster,
        reason,
        on_timeout: flags.own.on_timeout,
        then,
    };
    drain.wait(node, context, signals, report).await
}

/// A node that was just closed, and how to wait until it is drained.
pub(super) struct Drain<'a> {
    pub(super) closed: ModeResult,
    /// The wait, without the generation.
    pub(super) wait: Wait,
    pub(super) limit: Option<Duration>,
    pub(super) cluster: &'a ClusterFlags,
    pub(super) reason: Option<&'a str>,
    pub(super) on_timeout: OnTimeout,
    pub(super) then: Then,
}

impl Drain<'_> {
    /// Prints the change of the mode, and waits until the node is drained.
    pub(super) async fn wait(
        mut self,
        node: Node<'_>,
        context: &mut Context<'_>,
        signals: &mut Signals,
        report: &mut Report,
    ) -> Result<(ModeResult, Reached), Failure> {
        let closed = &mut self.closed;
        report.change = Some(closed.change());
        report.status = Some(closed.status.clone());
        report_change(closed, node, &mut context.output)?;
        give_way(context, node, closed, self.cluster, self.reason).await?;
        let mode = closed.now.mode;
        self.cluster
            .check_published(closed.published, &closed.status, mode, &context.output)
            .map_err(|failure| {
                failure.with_hint(closed.undo_drain_hint(node).unwrap_or_default())
            })?;
        let request = WaitRequest {
            wait: Wait {
                generation: closed.now.generation(),
                ..self.wait.clone()
            },
            limit: self.limit,
            is_closed: true,
            until_closed: false,
            sessions_before: closed.status.counts().unwrap_or_default().0,
            then: self.then,
        };
        let counts = closed.status.describe_counts();
        context.output.note(&describe_wait(&request, &counts));
        match wait(node, &request, context, signals, report).await {
            Ok(reached) => {
                closed.status = reached.status.clone();
                Ok((self.closed, reached))
            }
            Err(failure) if failure.exit == Exit::Superseded => Err(failure),
            Err(failure)
                if report.outcome == Some(Outcome::Timeout)
                    && self.on_timeout == OnTimeout::Undo =>
            {
                Err(self.undo_after(failure, node, report).await)
            }
            Err(failure) => Err(self.add_state(failure, report.status.as_ref(), node).await),
        }
    }

    /// Adds the mode in which the node stays to the failure, and the next steps.
    async fn add_state(
        &self,
        failure: Failure,
        status: Option<&LastStatus>,
        node: Node<'_>,
    ) -> Failure {
        let closed = &self.closed;
        let (fact, open) = if failure.exit == Exit::Unreachable {
            let name = closed.status.name();
            let fact = format!("{name} was {} at the last contact", closed.now.mode);
            (fact, closed.undo_drain_hint(node))
        } else {
            let now = node.last_mode(&closed.now).await;
            (
                closed.describe_state(&now),
                next_steps::open(closed, &now, node).await,
            )
        };
        let again = again(&self.wait, self.then, node);
        next_steps::with_sessions(failure.exit, status, node)
            .into_iter()
            .chain(open)
            .fold(failure.and(fact).with_hint(again), Failure::with_hint)
    }

    /// Restores the mode from before, and adds the result to the failure.
    async fn undo_after(&self, failure: Failure, node: Node<'_>, report: &mut Report) -> Failure {
        let closed = &self.closed;
        let name = closed.status.name();
        let reason = with_message(self.reason, "drain timed out");
        let restored = restore(node, closed, &reason).await;
        report.restored = Some(matches!(restored, Ok(Restored::Done(_))));
        let failure = match restored {
            Ok(Restored::Done(mode)) => failure.and(format!(
                "{name} is {mode} {}",
                describe_restored(closed, node)
            )),
            Ok(Restored::Same) => failure.and(format!(
                "{name} was already {} before this drain and is still closed",
                closed.now.mode
            )),
            Ok(Restored::ChangedMeanwhile(now)) => {
                failure.and(format!("NOT undone: {}", describe_later_change(&now)))
            }
            Err(problem) => failure
                .and(format!(
                    "{name} could not be put back and is STILL CLOSED: {problem}"
                ))
                .with_hint(problem.hint.unwrap_or_default())
                .with_hint(closed.undo_hint(node).unwrap_or_default()),
        };
        // The report has the status after that.
        if let Ok(status) = node.status(Detail::Counts).await {
            report.status = Some(status);
        }
        failure
    }
}

/// Records and prints the change of the mode, its limits, and the command that undoes it.
fn report_change(
    closed: &mut ModeResult,
    node: Node<'_>,
    output: &mut Output,
) -> Result<(), Failure> {
    let name = closed.status.name();
    let mode = closed.now.mode;
    note_change(closed, node, output);
    if let Some(failure) = closed.status_failure.take() {
        let undo = closed.undo_hint(node).unwrap_or_default();
        return Err(failure
            .and(format!("{name} is still closed ({mode})"))
            .with_hint(undo));
    }
    let undo = closed
        .undo_drain_hint(node)
        .filter(|_| !closed.is_stricter())
        .map(|undo| format!(". {undo}"))
        .unwrap_or_default();
    output.note(&format!("{}{undo}", closed.describe()));
    closed.status.warn(output);
    let is_joined = closed.joined == Joined::Theirs && closed.before.state.is_some();
    if is_joined && !node.supports(Feature::ControlSocket) {
        // A maintenance notices a drain by its reason.
        output.note("If a maintenance closed it, that opens it again when its command ends");
    }
    if let Some(left) = closed
        .status
        .opens_in()
        .filter(|_| !node.supports(Feature::Timer))
    {
        output.warn(&format!(
            "{name} reopens in {left}; that cannot be cancelled over HTTP. \
             On that node: soramode set {mode} --for never"
        ));
    }
    Ok(())
}

/// `again; it reopens in 3 min`, with a note about lost reasons and timers.
fn describe_restored(closed: &ModeResult, node: Node<'_>) -> String {
    let before = &closed.before;
    let again = if before.mode == closed.now.mode {
        "as before this drain"
    } else {
        "again"
    };
    let rest = match &before.state {
        Some(state) if before.mode.is_block() && node.supports(Feature::Timer) => {
            describe_expiry(state)
        }
        Some(state) if before.mode.is_block() && node.supports(Feature::Reason) => {
            state.expires_at.map_or_else(String::new, |_| {
                ", without its timer, which cannot be set over HTTP".to_owned()
            })
        }
        Some(state)
            if before.mode.is_block() && (state.reason.is_some() || state.expires_at.is_some()) =>
        {
            ", without its reason and timer, which cannot be set over HTTP".to_owned()
        }
        Some(_) | None => String::new(),
    };
    format!("{again}{rest}")
}
