//! `soramode drain`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::time::Duration;

use soramode_protocol::mode::SettableMode;
use soramode_protocol::number::whole_number;
use soramode_protocol::wait::{Wait, WaitFor};

use crate::api::{self, Goal, Start, Watch, needs_socket};
use crate::args::WaitFlags;
use crate::change_words::{empty_words, set_words, until_words};
use crate::cluster::{ClusterFlags, NodeFlag};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::gate::{
    Closed, PutBack, close, give_way, last_contact_words, last_look, put_back, with_message,
};
use crate::output::Format;
use crate::output::times;
use crate::report::{Outcome, Report};
use crate::signals::Signals;
use crate::watch::{self, Plan, Reached, superseded_hint, watch};
use crate::way_back::{Known, Route};

/// Close the node and wait until its last session has ended
///
/// Sets block_new_session, unless the node is already closed, and waits. No client is disconnected: sessions end when their clients leave. The node
/// stays closed afterwards, and also if the wait is interrupted. A timer set with --for is cancelled (--on-timeout undo sets it again). Open the
/// node with: soramode open
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: DrainFlags,
    #[command(flatten)]
    node: NodeFlag,
}

/// How to drain.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainFlags {
    #[command(flatten)]
    wait: WaitFlags,
    /// Set what to do with the mode on timeout
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = OnTimeout::Keep)]
    on_timeout: OnTimeout,
    /// Succeed once at most N sessions remain
    ///
    /// The clients of these sessions are still connected when the wait ends, and when the COMMAND of soramode maintain runs.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = whole_number::<u64>)]
    max_sessions: u64,
    /// Require it to stay drained this long
    ///
    /// Success is reported only after that. A session that begins meanwhile restarts the time.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = times::read_span)]
    settle: Duration,
    /// Block new connections too: block_new_connection
    ///
    /// Then no client can join a channel that still has a session, so it ends sooner.
    #[arg(long)]
    pub(super) connections: bool,
    /// Record REASON in the history of mode changes
    ///
    /// If another user closed the node already, REASON is added to theirs: "CHG-1; CHG-2". A soramode maintain of theirs then does not open it.
    #[arg(short, long, value_name = "REASON")]
    pub(super) message: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnTimeout {
    /// Keep the node closed
    Keep,
    /// Restore the previous mode, its reason and the rest of its time
    Undo,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let far = match args.node.find(context).await {
        Ok(far) => far,
        Err(failure) => return Report::new().finish(&mut context.output, Err(failure)),
    };
    if let Some(api) = far.as_ref().or(context.api) {
        return match args.flags.api_plan() {
            Ok(plan) => api::run_drain(context, api, &plan).await,
            Err(failure) => Report::new().finish(&mut context.output, Err(failure)),
        };
    }
    let mut report = Report::new();
    let ended = drain_and_tell(&args.flags, context, &mut report).await;
    report.finish(&mut context.output, ended)
}

async fn drain_and_tell(
    flags: &DrainFlags,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (closed, reached) = drain(flags, context, &mut signals, report).await?;
    tell_drained(&closed, &reached, context).await?;
    Ok(Exit::Done)
}

/// Says that the node is empty, that it is still closed, and what opens it.
pub(super) async fn tell_drained(
    closed: &Closed,
    reached: &Reached,
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    match context.output.format() {
        Format::Json | Format::Jsonl => Ok(()),
        Format::Plain => show_record(context, reached),
        Format::Table => {
            let now = last_look(context, &reached.mode()).await;
            context.output.confirm(&format!(
                "{}{}",
                reached_words(reached),
                closed.then_words(&now, Route::Socket(context.socket))
            ))
        }
    }
}

/// `reached`, the node, its mode and how many sessions and connections are left.
pub(super) fn show_record(context: &mut Context<'_>, reached: &Reached) -> Result<(), Failure> {
    let status = &reached.ended.status;
    let counts = [status.sessions, status.connections].map(|count| count.to_string());
    let [sessions, connections] = counts.each_ref().map(String::as_str);
    context.output.record(&[
        "reached",
        status.node_name.as_str(),
        status.mode.mode.name(),
        sessions,
        connections,
    ])
}

/// `node-01 is empty after 12 min (30 sessions ended)`
pub(super) fn reached_words(reached: &Reached) -> String {
    let status = &reached.ended.status;
    empty_words(
        status.node_name.as_str(),
        status.sessions,
        (reached.waited, reached.sessions_ended),
    )
}

/// Closes the node and waits. `maintain` goes on from there.
pub(super) async fn drain(
    flags: &DrainFlags,
    context: &mut Context<'_>,
    signals: &mut Signals,
    report: &mut Report,
) -> Result<(Closed, Reached), Failure> {
    flags.check()?;
    let target = if flags.connections {
        SettableMode::BlockNewConnection
    } else {
        SettableMode::BlockNewSession
    };
    flags.cluster.check_others(context, None).await?;
    let closed = close(
        &mut context.socket.connect().await?,
        target,
        flags.message.as_deref(),
    )
    .await?;
    begin(&closed, context, report);
    let undo = closed.undo_drain_words(Route::Socket(context.socket));
    say_closed(&closed, undo.as_deref(), context);
    give_way(context, &closed, (&flags.cluster, flags.message.as_deref())).await?;
    let name = closed.seen.name();
    let told =
        flags
            .cluster
            .check_published(closed.published, (&name, closed.now.mode), &context.output);
    told.map_err(|failure| failure.with_hint(undo.unwrap_or_default()))?;
    let plan = flags.plan(&closed);
    context.output.note(&beginning_words(&closed, &plan));
    match watch(context, signals, &plan, report).await {
        Ok(reached) => Ok((
            Closed {
                seen: reached.seen(),
                ..closed
            },
            reached,
        )),
        Err(failure) if failure.exit == Exit::Superseded => {
            Err(failure.with_hint(superseded_hint(Route::Socket(context.socket))))
        }
        Err(failure)
            if report.outcome == Outcome::Timeout && flags.on_timeout == OnTimeout::Undo =>
        {
            Err(undo_closing(failure, (&closed, flags), context, report).await)
        }
        Err(failure) => Err(stays(failure, &closed, context).await),
    }
}

/// The change is made: whatever fails from here on, the report and the output know.
pub(super) fn begin(closed: &Closed, context: &mut Context<'_>, report: &mut Report) {
    report.change = Some(closed.change());
    report.status = Some(closed.seen.clone());
    if closed.changed {
        context
            .output
            .changed(&format!("{} is {}", closed.seen.name(), closed.now.mode));
    }
}

/// Says what was done to the mode, and how to undo it.
pub(super) fn say_closed(closed: &Closed, undo: Option<&str>, context: &Context<'_>) {
    let undo = undo
        .filter(|_| !closed.is_stricter())
        .map(|undo| format!(". {undo}"))
        .unwrap_or_default();
    context.output.note(&format!("{}{undo}", closed.words()));
    closed.seen.warn(&context.output);
}

impl DrainFlags {
    /// Refuses flags that would have no effect.
    fn check(&self) -> Result<(), Failure> {
        if self.on_timeout == OnTimeout::Undo && self.wait.limit().is_none() {
            return Err(Failure::new(
                Exit::Usage,
                "--on-timeout undo needs a --timeout (0 means never)",
            ));
        }
        Ok(())
    }

    fn api_plan(&self) -> Result<api::Plan<'_>, Failure> {
        self.check()?;
        if self.message.is_some() {
            return Err(needs_socket("--message"));
        }
        let goal = Goal::drained(self.max_sessions);
        Ok(api::Plan {
            cluster: &self.cluster,
            target: if self.connections {
                SettableMode::BlockNewConnection
            } else {
                SettableMode::BlockNewSession
            },
            start: Start::Tighten,
            watch: Watch {
                goal,
                settle: self.settle,
                limit: self.wait.limit(),
                is_closed: true,
                sessions_before: 0,
                assume_complete: self.wait.assume_complete,
            },
            undoes: self.on_timeout == OnTimeout::Undo,
        })
    }

    fn plan(&self, closed: &Closed) -> Plan {
        let wait = Wait {
            generation: closed.now.generation(),
            max_sessions: Some(self.max_sessions).filter(|sessions| *sessions > 0),
            settle_seconds: Some(self.settle.as_secs_f64()).filter(|_| !self.settle.is_zero()),
            assume_complete: self.wait.assume_complete,
            ..Wait::new(WaitFor::Drained)
        };
        Plan {
            wait,
            limit: self.wait.limit(),
        }
    }
}

/// The line before the wait for a drain.
pub(super) fn beginning_words(closed: &Closed, plan: &Plan) -> String {
    watch::beginning_words(
        plan.limit,
        plan.wait.max_sessions.unwrap_or_default(),
        &closed.seen.count_words(),
    )
}

/// The node stays closed; only nobody waits any more.
pub(super) async fn stays(failure: Failure, closed: &Closed, context: &Context<'_>) -> Failure {
    let route = Route::Socket(context.socket);
    let again = format!("Watch again: {}", route.command("wait drained"));
    if failure.exit == Exit::Unreachable {
        let failure = failure.and(last_contact_words(&closed.seen.name(), closed.now.mode));
        return failure
            .with_hint(again)
            .with_hint(closed.undo_drain_words(route).unwrap_or_default());
    }
    let now = last_look(context, &closed.now).await;
    let undo = closed.undo_unless_changed(&now, route).unwrap_or_default();
    failure
        .and(closed.still_words(&now))
        .with_hint(again)
        .with_hint(undo)
}

async fn undo_closing(
    failure: Failure,
    (closed, flags): (&Closed, &DrainFlags),
    context: &Context<'_>,
    report: &mut Report,
) -> Failure {
    let (node, mode) = (closed.seen.name(), closed.now.mode);
    let reason = with_message(flags.message.as_deref(), "drain timed out");
    report.restored = Some(false);
    let failure = match put_back(context, closed, &reason).await {
        Ok(PutBack::Done(mode)) => {
            report.restored = Some(true);
            let until = closed
                .before
                .state
                .as_ref()
                .filter(|_| mode.is_block())
                .map(until_words)
                .unwrap_or_default();
            let again = if closed.before.mode == closed.now.mode {
                "as before this drain"
            } else {
                "again"
            };
            failure.and(format!("{node} is {mode} {again}{until}"))
        }
        Ok(PutBack::Same) => failure.and(format!(
            "{node} was already {mode} before this drain and is still closed"
        )),
        Ok(PutBack::ChangedMeanwhile(now)) => {
            failure.and(format!("NOT undone: {}", set_words(&now)))
        }
        Err(problem) => {
            let failure = failure.and(format!(
                "{node} could not be put back and is STILL CLOSED: {problem}"
            ));
            let undo = closed
                .undo_words(Route::Socket(context.socket))
                .unwrap_or_default();
            failure
                .with_hint(problem.hint.unwrap_or_default())
                .with_hint(undo)
        }
    };
    // The status in the report is of the node as it is left.
    if let Ok(seen) = context.see().await {
        report.status = Some(seen);
    }
    failure
}

impl Reached {
    /// The mode when the wait ended.
    pub(super) fn mode(&self) -> Known {
        Known::of(self.ended.status.mode.clone())
    }
}
