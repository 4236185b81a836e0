//! `soramode wait drained|joined|mode=M`

use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::NodeName;
use soramode_protocol::number::whole_number;
use soramode_protocol::wait::{Wait, WaitFor};

use super::drain::{reached_words, show_record};
use crate::afar;
use crate::api::{self, Api, Watch, needs_socket};
use crate::args::{Goal, WaitFlags};
use crate::change_words::closed_words;
use crate::cluster::NodeFlag;
use crate::completion;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::gate::last_look;
use crate::output::Format;
use crate::output::escape::escape;
use crate::output::times;
use crate::report::Report;
use crate::signals::Signals;
use crate::watch::{Plan, Reached, limit_words, superseded_hint, watch};
use crate::way_back::Route;

/// Wait until the node is drained, joined or in a mode
///
/// Changes nothing, and may run beside a drain that was started elsewhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Condition to wait for
    ///
    /// drained: the node is closed, and no session is left. joined: the node is in its cluster. mode=MODE: the node is in this mode.
    #[arg(value_name = "drained|joined|mode=MODE", add = ArgValueCandidates::new(completion::goals))]
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
    fn plan(&self) -> Plan {
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
            ..Wait::new(wait_for)
        };
        Plan {
            wait,
            limit: self.wait.limit(),
        }
    }

    fn words(&self) -> String {
        match self.goal {
            Goal::Drained => "drained".to_owned(),
            Goal::Joined => "joined".to_owned(),
            Goal::Mode(mode) => mode.to_string(),
        }
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if args.goal == Goal::Joined && args.generation.is_some() {
        return Report::new().finish(
            &mut context.output,
            Err(Failure::new(
                Exit::Usage,
                "--generation works only with drained and mode=MODE",
            )),
        );
    }
    if let (Goal::Joined, Some(name)) = (args.goal, &args.node.node) {
        let mut report = Report::new();
        let ended = wait_afar(&args, name, context, &mut report).await;
        return report.finish(&mut context.output, ended);
    }
    let far = match args.node.find(context).await {
        Ok(far) => far,
        Err(failure) => return Report::new().finish(&mut context.output, Err(failure)),
    };
    if let Some(api) = far.as_ref().or(context.api) {
        let mut report = Report::new();
        let ended = wait_over_api(&args, api, context, &mut report).await;
        return report.finish(&mut context.output, ended);
    }
    let mut report = Report::new();
    let ended = wait_and_tell(&args, context, &mut report).await;
    report.finish(&mut context.output, ended)
}

/// A node that is not in the cluster tells nobody where it is: whoever is here is asked.
async fn wait_afar(
    args: &Args,
    name: &NodeName,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    args.plan().wait.check()?;
    let mut signals = Signals::listen()?;
    let limit = args.wait.limit();
    let shown = escape(name.as_str()).into_owned();
    context.output.note(&format!(
        "waiting until {shown} is joined, {}",
        limit_words(limit)
    ));
    let waited = afar::joined(context, (name, limit), &mut signals, report).await?;
    match context.output.format() {
        Format::Json | Format::Jsonl => {}
        Format::Plain => context.output.record(&["reached", name.as_str()])?,
        Format::Table => context
            .output
            .confirm(&format!("{shown} is joined after {}", times::span(waited)))?,
    }
    Ok(Exit::Done)
}

async fn wait_over_api(
    args: &Args,
    api: &Api,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    if args.generation.is_some() {
        return Err(needs_socket("--generation"));
    }
    let goal = match args.goal {
        Goal::Drained => api::Goal::drained(args.max_sessions.unwrap_or(0)),
        Goal::Mode(mode) => api::Goal::Mode(mode),
        Goal::Joined => return Err(needs_socket("wait joined")),
    };
    args.plan().wait.check()?;
    let watch = Watch {
        goal,
        settle: args.settle.unwrap_or_default(),
        limit: args.wait.limit(),
        is_closed: false,
        sessions_before: 0,
        assume_complete: args.wait.assume_complete,
    };
    let mut signals = Signals::listen()?;
    context.output.note(&format!(
        "waiting until the node is {}, {}",
        args.words(),
        limit_words(watch.limit)
    ));
    let reached = api::watch(context, &mut signals, (api, watch), report)
        .await
        .map_err(|failure| with_hint(failure, args, Route::Api(api)))?;
    reached.seen.warn(&context.output);
    let closed = if args.goal == Goal::Drained {
        closed_words(&reached.seen.known())
    } else {
        String::new()
    };
    api::tell(&mut context.output, &reached, &closed)?;
    Ok(Exit::Done)
}

async fn wait_and_tell(
    args: &Args,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let plan = args.plan();
    plan.wait.check()?;
    let mut signals = Signals::listen()?;
    context.output.note(&format!(
        "waiting until the node is {}, {}",
        args.words(),
        plan.limit_words()
    ));
    let reached = watch(context, &mut signals, &plan, report).await;
    let reached =
        reached.map_err(|failure| with_hint(failure, args, Route::Socket(context.socket)))?;
    report
        .status
        .iter()
        .for_each(|seen| seen.warn(&context.output));
    match context.output.format() {
        Format::Json | Format::Jsonl => {}
        Format::Plain => show_record(context, &reached)?,
        Format::Table => {
            let words = words(args, &reached, context).await;
            context.output.confirm(&words)?;
        }
    }
    Ok(Exit::Done)
}

async fn words(args: &Args, reached: &Reached, context: &Context<'_>) -> String {
    match args.goal {
        Goal::Drained => {
            // It changes nothing: the closing is that of another command.
            let now = last_look(context, &reached.mode()).await;
            format!("{}{}", reached_words(reached), closed_words(&now))
        }
        Goal::Joined | Goal::Mode(_) => format!(
            "{} is {}",
            escape(reached.ended.status.node_name.as_str()),
            args.words()
        ),
    }
}

/// The remedy. A node that is open does not drain: either it was from the beginning, or another client opened it.
fn with_hint(failure: Failure, args: &Args, route: Route<'_>) -> Failure {
    if args.goal == Goal::Joined && failure.exit == Exit::TimedOut {
        return failure.with_hint(format!("See what is wrong: {}", route.command("doctor")));
    }
    if args.goal != Goal::Drained {
        return failure;
    }
    match (failure.exit, failure.error_type) {
        (Exit::Superseded, _) => failure.with_hint(superseded_hint(route)),
        (_, Some(ErrorType::ConditionImpossible)) => Failure {
            hint: None,
            ..failure
        }
        .with_hint(format!(
            "To close the node and drain it: {}",
            route.command("drain")
        )),
        (_, _) => failure,
    }
}
