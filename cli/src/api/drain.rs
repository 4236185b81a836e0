//! Closing a node over the API, and waiting until it is drained.

use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::sora_api::ModeSet;

use super::watch::Reached;
use super::{Api, Goal, Look, Watch, watch};
use crate::Context;
use crate::args::Format;
use crate::cluster::ClusterFlags;
use crate::error::{Exit, Failure};
use crate::gate::undoing;
use crate::output::Output;
use crate::report::{Change, Outcome, Report};
use crate::signals::Signals;

/// What to close, and what becomes of it.
pub(crate) struct Plan<'a> {
    pub(crate) cluster: &'a ClusterFlags,
    pub(crate) target: SettableMode,
    pub(crate) start: Start,
    pub(crate) watch: Watch,
    /// Where the drain is not reached in time, the mode from before is set again.
    pub(crate) undoes: bool,
}

/// How the node is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// To exactly the target.
    Set,
    /// At least as far as the target: a mode that is tighter stays.
    Tighten,
}

/// The node, closed.
struct Closed {
    before: Mode,
    mode: Mode,
    /// Whether the other nodes know, where that is told.
    published: Option<bool>,
}

/// Closes the node, waits, and says how that ended.
pub(crate) async fn run_drain(context: &mut Context<'_>, api: &Api, plan: &Plan<'_>) -> Result<Exit, Failure> {
    let mut report = Report::new();
    let ended = drain_and_tell(context, api, plan, &mut report).await;
    report.finish(&mut context.output, ended)
}

async fn drain_and_tell(context: &mut Context<'_>, api: &Api, plan: &Plan<'_>, report: &mut Report) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (closed, reached) = drain(context, &mut signals, (api, plan), report).await?;
    let undo = format!("; it stays {}. {}", reached.seen.mode, closed.undo_words(api));
    tell(&mut context.output, &reached, &undo)?;
    Ok(Exit::Done)
}

/// Says that a wait was reached, with what there is to say after it.
pub(crate) fn tell(output: &mut Output, reached: &Reached, more: &str) -> Result<(), Failure> {
    let seen = &reached.seen;
    match output.format() {
        Format::Json | Format::Jsonl => Ok(()),
        Format::Plain => {
            let counts = seen.look.as_ref().map_or([0, 0], |look| [look.sessions, look.connections]).map(|count| count.to_string());
            let [sessions, connections] = counts.each_ref().map(String::as_str);
            output.record(&["reached", &seen.node_name, seen.mode.name(), sessions, connections])
        }
        Format::Table => output.confirm(&format!("{}{more}", reached_words(reached))),
    }
}

async fn drain(
    context: &mut Context<'_>,
    signals: &mut Signals,
    (api, plan): (&Api, &Plan<'_>),
    report: &mut Report,
) -> Result<(Closed, Reached), Failure> {
    plan.cluster.check_others(context, Some(api)).await?;
    let closed = close(context, api, plan).await?;
    report.change = Some(closed.change());
    let look = Look::at(api).await;
    context.output.note(&set_words(api, (closed.before, closed.mode), &stay_words(&look)));
    let look = look.map_err(|failure| closed.stays(api, failure))?;
    let told = plan.cluster.check_published(closed.published, (api.name(), closed.mode), &context.output);
    told.map_err(|failure| Failure { message: format!("{failure}. {}", closed.undo_words(api)), ..failure })?;
    if closed.mode != Mode::from(plan.target) {
        context.output.note(&format!("{} is tighter than {}: only waiting", closed.mode, Mode::from(plan.target)));
    }
    context.output.note(&plan.watch.beginning_words(&look.words()));
    let watched = Watch { sessions_before: look.sessions, ..plan.watch };
    match watch(context, signals, (api, watched), report).await {
        Ok(reached) => Ok((closed, reached)),
        Err(failure) if failure.exit == Exit::Superseded => Err(failure),
        Err(failure) if report.outcome == Outcome::Timeout && plan.undoes => Err(undo(failure, &closed, api, report).await),
        Err(failure) => Err(closed.stays(api, failure)),
    }
}

async fn close(context: &Context<'_>, api: &Api, plan: &Plan<'_>) -> Result<Closed, Failure> {
    let before = api.mode().await?;
    let is_closed = plan.start == Start::Tighten && before.is_block() && before >= Mode::from(plan.target);
    if is_closed && !plan.cluster.requires_published() {
        return Ok(Closed { before, mode: before, published: None });
    }
    // Where it is closed already this changes nothing, and tells whether the others know.
    let target = if is_closed { SettableMode::try_from(before).unwrap_or(plan.target) } else { plan.target };
    let ModeSet { mode, warning, published } = api.set(target).await?;
    if let Some(warning) = warning {
        context.output.warn(&warning);
    }
    Ok(Closed { before, mode, published })
}

/// Puts the mode from before back, unless somebody changed it since.
async fn undo(failure: Failure, closed: &Closed, api: &Api, report: &mut Report) -> Failure {
    let (name, mode) = (api.name(), closed.mode);
    report.restored = Some(false);
    let before = SettableMode::try_from(closed.before).unwrap_or(SettableMode::Normal);
    let what = match api.mode().await {
        Ok(_) if closed.before == mode => format!("{name} was {mode} before and stays so"),
        Ok(now) if now != mode => format!("somebody else changed the mode meanwhile, so it was left: {name} is {now}"),
        Ok(_) => match api.set(before).await {
            Ok(ModeSet { mode: now, .. }) => {
                report.restored = Some(true);
                format!("{name} is {now} again")
            }
            Err(problem) => format!("{name} stays {mode}, since it could not be undone: {problem}"),
        },
        Err(problem) => format!("{name} stays {mode}, since it could not be undone: {problem}"),
    };
    Failure { message: format!("{failure}. {what}"), ..failure }
}

impl Closed {
    fn change(&self) -> Change {
        Change { previous_mode: self.before, mode: self.mode, changed: self.is_changed(), generation: None }
    }

    fn is_changed(&self) -> bool {
        self.before != self.mode
    }

    fn undo_words(&self, api: &Api) -> String {
        format!("Undo: {}", api.command(&format!("set {}", Mode::from(undoing(self.before, self.mode)))))
    }

    /// The drain goes on, only nobody watches any more.
    fn stays(&self, api: &Api, failure: Failure) -> Failure {
        let (name, mode) = (api.name(), self.mode);
        let still = if failure.exit == Exit::Unreachable {
            format!("{name} was {mode} when it was last heard of")
        } else {
            format!("{name} stays {mode}")
        };
        let message = format!("{failure}. {still}. Watch again: {}. {}", api.command("wait drained"), self.undo_words(api));
        Failure { message, ..failure }
    }
}

/// `sora:3000: normal -> block_new_session (3 sessions, 11 connections stay). Undo: …`
pub(crate) fn set_words(api: &Api, (before, now): (Mode, Mode), stay: &str) -> String {
    let name = api.name();
    if before == now {
        return format!("{name}: already {now}");
    }
    let undo = SettableMode::try_from(before).map(|before| format!(". Undo: {}", api.command(&format!("set {}", Mode::from(before)))));
    format!("{name}: {before} -> {now} ({stay}){}", undo.unwrap_or_default())
}

/// `3 sessions, 11 connections stay`
pub(crate) fn stay_words(look: &Result<Look, Failure>) -> String {
    match look {
        Ok(look) => format!("{} stay", look.words()),
        Err(problem) => format!("who is there cannot be seen: {problem}"),
    }
}

/// `sora:3000: drained after 12 min (30 sessions ended)`
fn reached_words(reached: &Reached) -> String {
    let seen = &reached.seen;
    match seen.look.as_ref().map(|look| look.sessions) {
        None => format!("{}: {}", seen.node_name, seen.mode),
        Some(left) => crate::watch::reached_words(&seen.node_name, left, (reached.waited, reached.sessions_ended)),
    }
}

impl Watch {
    /// What is said before a drain is watched.
    pub(crate) fn beginning_words(&self, counts: &str) -> String {
        let limit = crate::watch::limit_words(self.limit);
        format!("waiting {limit} until no session is left (now {counts}); Ctrl-C ends the watching, not the drain")
    }
}

impl Goal {
    /// For a drain that leaves so many sessions.
    pub(crate) const fn drained(max_sessions: u64) -> Self {
        Self::Drained { max_sessions }
    }
}
