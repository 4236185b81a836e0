//! `soramode wait drained|joined|mode=M`

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::NodeName;
use soramode_protocol::number::whole_number;
use soramode_protocol::wait::{Wait, WaitFor};

use super::wait_report::{describe_reached, note_lists, print_record};
use crate::candidates;
use crate::cluster::NodeFlag;
use crate::conditions::Goal;
use crate::context::Context;
use crate::describe::describe_still_closed;
use crate::error::{Exit, Failure};
use crate::flags::WaitFlags;
use crate::node::{Feature, Node};
use crate::output::escape::escape;
use crate::output::{Format, times};
use crate::report::Report;
use crate::signals::Signals;
use crate::wait::{Then, WaitRequest, describe_limit, remote, wait};

/// Wait until the node is drained, joined or in a mode
///
/// Changes nothing, and may run beside a drain that was started elsewhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Condition to wait for
    ///
    /// drained: the node is closed, and no session is left. joined: the node is in its cluster. mode=MODE: the node is in this mode.
    #[arg(value_name = "drained|joined|mode=MODE", add = ArgValueCandidates::new(candidates::goals))]
    goal: Goal,
    #[command(flatten)]
    wait: WaitFlags,
    /// Exit with 6 if the mode is changed after generation N
    ///
    /// The generation counts changes of the mode (a revision number): soramode get -o json shows it. Not with joined.
    #[arg(long, value_name = "N", value_parser = whole_number::<u64>)]
    generation: Option<u64>,
    /// With drained: succeed once at most N sessions remain
    #[arg(long, value_name = "N", value_parser = whole_number::<u64>)]
    max_sessions: Option<u64>,
    /// With drained: require it to stay so this long
    #[arg(long, value_name = "DURATION", value_parser = times::read_span)]
    settle: Option<Duration>,
    #[command(flatten)]
    node: NodeFlag,
}

impl Args {
    fn request(&self) -> WaitRequest {
        let (wait_for, mode) = match self.goal {
            Goal::Drained => (WaitFor::Drained, None),
            Goal::Joined => (WaitFor::Joined, None),
            Goal::Mode(mode) => (WaitFor::Mode, Some(mode)),
        };
        let wait = Wait {
            mode,
            generation: self.generation,
            max_sessions: self.max_sessions,
            settle_seconds: self.settle.map(|settle| settle.as_secs_f64()),
            assume_complete: self.wait.assume_complete,
            assume_in_force: self.wait.assume_in_force,
            ..Wait::new(wait_for)
        };
        WaitRequest {
            wait,
            limit: self.wait.limit(),
            is_closed: false,
            until_closed: false,
            sessions_before: 0,
            then: Then::Nothing,
        }
    }

    fn describe_goal(&self) -> String {
        match self.goal {
            Goal::Drained => "drained".to_owned(),
            Goal::Joined => "joined".to_owned(),
            Goal::Mode(mode) => mode.to_string(),
        }
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut report = Report::new();
    let ended = match (args.goal, &args.node.node) {
        (Goal::Joined, _) if args.generation.is_some() => Err(Failure::new(
            Exit::Usage,
            "--generation works only with drained and mode=MODE",
        )),
        (Goal::Joined, Some(name)) => wait_joined(&args, name, context, &mut report).await,
        (_, _) => wait_and_confirm(&args, context, &mut report).await,
    };
    report.finish(&mut context.output, ended)
}

/// Waits for another node, of which the API is unknown until it has joined: the context's node is asked.
async fn wait_joined(
    args: &Args,
    name: &NodeName,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    args.request().wait.check()?;
    let mut signals = Signals::listen()?;
    let limit = args.wait.limit();
    let shown = escape(name.as_str()).into_owned();
    context.output.note(&format!(
        "waiting until {shown} is joined, {}",
        describe_limit(limit)
    ));
    let waited = remote::joined(context, name, limit, &mut signals, report).await?;
    match context.output.format() {
        Format::Json | Format::Jsonl => {}
        Format::Plain => context.output.record(&["reached", name.as_str()])?,
        Format::Table => context
            .output
            .confirm(&format!("{shown} is joined after {}", times::span(waited)))?,
    }
    Ok(Exit::Done)
}

async fn wait_and_confirm(
    args: &Args,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let remote = args.node.find(context).await?;
    let node = context.node.or(remote.as_ref());
    if args.generation.is_some() {
        node.require(Feature::Condition, "--generation")?;
    }
    if args.goal == Goal::Joined {
        node.require(Feature::WaitJoined, "wait joined")?;
    }
    let request = args.request();
    request.wait.check()?;
    let mut signals = Signals::listen()?;
    context.output.note(&format!(
        "waiting until the node is {}, {}",
        args.describe_goal(),
        describe_limit(request.limit)
    ));
    let reached = wait(node, &request, context, &mut signals, report)
        .await
        .map_err(|failure| with_hint(failure, args.goal, node))?;
    let output = &mut context.output;
    reached.status.warn(output);
    if args.goal == Goal::Drained {
        note_lists(&reached, output);
    }
    match (output.format(), args.goal) {
        (Format::Json | Format::Jsonl, _) => {}
        (Format::Plain, _) => print_record(&reached, output)?,
        (Format::Table, Goal::Drained) => {
            // A wait changes nothing: the closing is that of another command.
            let now = node.last_mode(&reached.status.mode_info()).await;
            output.confirm(&format!(
                "{}{}",
                describe_reached(&reached),
                describe_still_closed(&now)
            ))?;
        }
        (Format::Table, Goal::Joined | Goal::Mode(_)) => {
            output.confirm(&format!(
                "{} is {}",
                reached.status.name(),
                args.describe_goal()
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// Adds the remedy. A node that was open from the beginning does not drain.
fn with_hint(failure: Failure, goal: Goal, node: Node<'_>) -> Failure {
    match (goal, failure.exit, failure.error_type) {
        (Goal::Joined, Exit::TimedOut, _) => {
            failure.with_hint(format!("See what is wrong: {}", node.command("doctor")))
        }
        (Goal::Drained, exit, Some(ErrorType::ConditionImpossible)) if exit != Exit::Superseded => {
            let hint = format!("To close the node and drain it: {}", node.command("drain"));
            Failure {
                hint: Some(hint),
                ..failure
            }
        }
        (_, _, _) => failure,
    }
}
