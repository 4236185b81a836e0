//! `soramode drain`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::time::Duration;

use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::Status;
use soramode_protocol::wait::{Wait, WaitFor};

use crate::Context;
use crate::api::{self, Goal, Start, Watch, needs_socket};
use crate::args::{Format, WaitFlags};
use crate::cluster::{ClusterFlags, NodeFlag};
use crate::error::{Exit, Failure};
use crate::gate::{Closed, PutBack, close, put_back, still_words};
use crate::output::escape::escape;
use crate::output::{counted, times};
use crate::report::{Outcome, Report};
use crate::seen::Seen;
use crate::signals::Signals;
use crate::watch::{self, Plan, Reached, mode_words, stays_words, watch};

/// Close the node and wait until its last session has ended
///
/// Sets block_new_session, unless the node is already closed, and waits. No client is disconnected: sessions end when their clients leave. The node
/// stays closed afterwards, and also if the wait is interrupted. Open it with: soramode open
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
    #[arg(long, value_name = "N", default_value_t = 0)]
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
    /// A node that is already closed keeps its reason.
    #[arg(short, long, value_name = "REASON")]
    pub(super) message: Option<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum OnTimeout {
    /// Keep the node closed
    Keep,
    /// Restore the previous mode
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

async fn drain_and_tell(flags: &DrainFlags, context: &mut Context<'_>, report: &mut Report) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (closed, reached) = drain(flags, context, &mut signals, report).await?;
    let status = &reached.ended.status;
    match context.output.format() {
        Format::Json | Format::Jsonl => {}
        Format::Plain => show_record(context, &reached)?,
        Format::Table => {
            let text = format!("{}; {}. {}", reached_words(&reached), stays_words(&status.mode), closed.undo_words(context.socket));
            context.output.confirm(&text)?;
        }
    }
    Ok(Exit::Done)
}

/// `reached`, the node, its mode and how many sessions and connections are left.
pub(super) fn show_record(context: &mut Context<'_>, reached: &Reached) -> Result<(), Failure> {
    let status = &reached.ended.status;
    let counts = [status.sessions, status.connections].map(|count| count.to_string());
    let [sessions, connections] = counts.each_ref().map(String::as_str);
    context.output.record(&["reached", status.node_name.as_str(), status.mode.mode.name(), sessions, connections])
}

/// `node-01: drained after 12 min (30 sessions ended)`
pub(super) fn reached_words(reached: &Reached) -> String {
    let status = &reached.ended.status;
    watch::reached_words(status.node_name.as_str(), status.sessions, (reached.waited, reached.sessions_ended))
}

/// Closes the node and waits. `maintain` goes on from there.
pub(super) async fn drain(
    flags: &DrainFlags,
    context: &mut Context<'_>,
    signals: &mut Signals,
    report: &mut Report,
) -> Result<(Closed, Reached), Failure> {
    flags.check()?;
    let target = if flags.connections { SettableMode::BlockNewConnection } else { SettableMode::BlockNewSession };
    flags.cluster.check_others(context, None).await?;
    let closed = close(&mut context.socket.connect().await?, target, flags.message.as_deref()).await?;
    report.change = Some(closed.change());
    let seen = Seen::Daemon(Box::new(closed.status.clone()));
    context.output.note(&closed.words(context.socket, flags.message.as_deref()));
    seen.warn(&context.output);
    report.status = Some(seen);
    if closed.mode != Mode::from(target) {
        context.output.note(&format!("{} is tighter than {}: only waiting", closed.mode, Mode::from(target)));
    }
    let node = closed.status.node_name.as_str();
    let told = flags.cluster.check_published(closed.published, (node, closed.mode), &context.output);
    told.map_err(|failure| failure.with_hint(closed.undo_words(context.socket)))?;
    let plan = flags.plan(&closed);
    context.output.note(&beginning_words(&closed.status, &plan));
    match watch(context, signals, &plan, report).await {
        Ok(reached) => Ok((Closed { status: reached.ended.status.clone(), ..closed }, reached)),
        Err(failure) if failure.exit == Exit::Superseded => Err(failure),
        Err(failure) if report.outcome == Outcome::Timeout && flags.on_timeout == OnTimeout::Undo => {
            Err(undo(failure, &closed, context, report).await)
        }
        Err(failure) => Err(stays(failure, &closed, context)),
    }
}

impl DrainFlags {
    /// Refuses flags that would have no effect.
    fn check(&self) -> Result<(), Failure> {
        if self.on_timeout == OnTimeout::Undo && self.wait.limit().is_none() {
            return Err(Failure::new(Exit::Usage, "--on-timeout undo needs a --timeout (0 means never)"));
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
            target: if self.connections { SettableMode::BlockNewConnection } else { SettableMode::BlockNewSession },
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
            generation: Some(closed.generation),
            max_sessions: Some(self.max_sessions).filter(|sessions| *sessions > 0),
            settle_seconds: Some(self.settle.as_secs_f64()).filter(|_| !self.settle.is_zero()),
            assume_complete: self.wait.assume_complete,
            ..Wait::new(WaitFor::Drained)
        };
        Plan { wait, limit: self.wait.limit() }
    }
}

/// The line before the wait for a drain.
pub(super) fn beginning_words(status: &Status, plan: &Plan) -> String {
    let counts = format!("{}, {}", counted(status.sessions, "session"), counted(status.connections, "connection"));
    watch::beginning_words(plan.limit, plan.wait.max_sessions.unwrap_or_default(), &counts)
}

/// The drain goes on, only nobody watches any more.
fn stays(failure: Failure, closed: &Closed, context: &Context<'_>) -> Failure {
    let again = context.socket.command("wait drained");
    let still = still_words(&failure, &closed.status, closed.mode);
    failure.and(still).with_hint(format!("Watch again: {again}. {}", closed.undo_words(context.socket)))
}

async fn undo(failure: Failure, closed: &Closed, context: &Context<'_>, report: &mut Report) -> Failure {
    let node = escape(closed.status.node_name.as_str());
    let what = match put_back(context, closed, "drain timed out").await {
        Ok(PutBack::Done(mode)) => {
            report.restored = Some(true);
            format!("{node} is {mode} again")
        }
        Ok(PutBack::Same) => format!("{node} was {} before and stays so", closed.mode),
        Ok(PutBack::ChangedMeanwhile(now)) => {
            format!("the mode was not restored, because another client changed it: {node} is {}", mode_words(&now))
        }
        Err(problem) => format!("{node} stays {}, since it could not be undone: {problem}", closed.mode),
    };
    report.restored.get_or_insert(false);
    // The status in the report is of the node as it is left.
    if let Ok(seen) = context.see().await {
        report.status = Some(seen);
    }
    failure.and(what)
}
