//! Closing a node over the API, and waiting until it is drained.

use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::sora_api::ModeSet;

use super::watch::Reached;
use super::{Api, Goal, Want, Watch, watch};
use crate::Context;
use crate::args::Format;
use crate::cluster::ClusterFlags;
use crate::error::{Exit, Failure};
use crate::gate::{self, undoing};
use crate::output::Output;
use crate::report::{Change, Outcome, Report};
use crate::seen::{LISTS_WORDS, Seen};
use crate::signals::Signals;
use crate::watch::{stays_words, until_words};

/// The node to close, and the mode to restore.
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
    /// The node after that.
    seen: Seen,
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
    let stays = reached.seen.mode_state().map_or_else(|| format!("it stays {}", reached.seen.mode()), stays_words);
    tell(&mut context.output, &reached, &format!("; {stays}. {}", closed.undo_words(api)))?;
    Ok(Exit::Done)
}

/// Says that a wait was reached, with what there is to say after it.
pub(crate) fn tell(output: &mut Output, reached: &Reached, more: &str) -> Result<(), Failure> {
    let seen = &reached.seen;
    if seen.status().is_none() && seen.counts().is_some() {
        output.note(&format!("{}: {LISTS_WORDS}", seen.name()));
    }
    match output.format() {
        Format::Json | Format::Jsonl => Ok(()),
        Format::Plain => {
            let (sessions, connections) = seen.counts().unwrap_or_default();
            output.record(&["reached", &seen.name(), seen.mode().name(), &sessions.to_string(), &connections.to_string()])
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
    report.status = Some(closed.seen.clone());
    closed.say(context, api, plan);
    let told = plan.cluster.check_published(closed.published, (api.name(), closed.mode), &context.output);
    told.map_err(|failure| failure.with_hint(closed.undo_words(api)))?;
    context.output.note(&plan.watch.beginning_words(&closed.seen.count_words()));
    let watched = Watch { sessions_before: closed.seen.counts().unwrap_or_default().0, ..plan.watch };
    match watch(context, signals, (api, watched), report).await {
        Ok(reached) => Ok((Closed { seen: reached.seen.clone(), ..closed }, reached)),
        Err(failure) if failure.exit == Exit::Superseded => Err(failure),
        Err(failure) if report.outcome == Outcome::Timeout && plan.undoes => Err(undo(failure, &closed, api, report).await),
        Err(failure) => Err(closed.stays(api, failure)),
    }
}

async fn close(context: &Context<'_>, api: &Api, plan: &Plan<'_>) -> Result<Closed, Failure> {
    let seen = api.see(Want::Counts).await?;
    let before = seen.mode();
    let is_closed = plan.start == Start::Tighten && before.is_block() && before >= Mode::from(plan.target);
    if is_closed && !plan.cluster.requires_published() {
        return Ok(Closed { before, mode: before, published: None, seen });
    }
    // Where it is closed already this changes nothing, and tells whether the others know.
    let target = if is_closed { SettableMode::try_from(before).unwrap_or(plan.target) } else { plan.target };
    let ModeSet { mode, warning, published } = api.set(target).await?;
    if let Some(warning) = warning {
        context.output.warn(&warning);
    }
    let stays = |failure: Failure| failure.and(format!("{} stays {mode}", api.name())).with_hint(undo_words(api, (before, mode), &seen));
    let seen = api.see(Want::Counts).await.map_err(stays)?;
    Ok(Closed { before, mode, published, seen })
}

/// Puts the mode from before back, unless somebody changed it since.
async fn undo(failure: Failure, closed: &Closed, api: &Api, report: &mut Report) -> Failure {
    let (name, mode) = (closed.seen.name(), closed.mode);
    report.restored = Some(false);
    let before = SettableMode::try_from(closed.before).unwrap_or(SettableMode::Normal);
    let what = match api.see(Want::Mode).await {
        Ok(now) if now.mode() != mode || now.generation() != closed.seen.generation() => {
            format!("the mode was not restored, because another client changed it: {name} is {}", now.mode_words())
        }
        Ok(_) if closed.before == mode => format!("{name} was {mode} before and stays so"),
        Ok(_) => match api.set(before).await {
            Ok(ModeSet { mode: now, .. }) => {
                report.restored = Some(true);
                format!("{name} is {now} again")
            }
            Err(problem) => format!("{name} stays {mode}, since it could not be undone: {problem}"),
        },
        Err(problem) => format!("{name} stays {mode}, since it could not be undone: {problem}"),
    };
    if let Ok(seen) = api.see(Want::Counts).await {
        report.status = Some(seen);
    }
    failure.and(what)
}

impl Closed {
    fn change(&self) -> Change {
        let changed = self.before != self.mode;
        Change { previous_mode: self.before, mode: self.mode, changed, generation: self.seen.generation() }
    }

    /// Says what was done to the mode, and what that does not do.
    fn say(&self, context: &Context<'_>, api: &Api, plan: &Plan<'_>) {
        context.output.note(&set_words(api, (self.before, self.mode), &self.seen));
        self.seen.warn(&context.output);
        if self.mode != Mode::from(plan.target) {
            context.output.note(&format!("{} is tighter than {}: only waiting", self.mode, Mode::from(plan.target)));
        }
        if let Some(left) = self.seen.opens_in() {
            let words = format!("{} becomes normal by itself in {left}; that cannot be cancelled over the API", self.seen.name());
            context.output.warn(&format!("{words}. On that node: soramode set {} --for never", self.mode));
        }
    }

    fn undo_words(&self, api: &Api) -> String {
        undo_words(api, (self.before, self.mode), &self.seen)
    }

    /// The drain goes on, only nobody watches any more.
    fn stays(&self, api: &Api, failure: Failure) -> Failure {
        let (name, mode) = (self.seen.name(), self.mode);
        let still = if failure.exit == Exit::Unreachable {
            format!("{name} was {mode} at the last contact")
        } else {
            format!("{name} stays {mode}{}", self.seen.mode_state().map(until_words).unwrap_or_default())
        };
        failure.and(still).with_hint(format!("Watch again: {}. {}", api.command("wait drained"), self.undo_words(api)))
    }
}

fn undo_words(api: &Api, (before, now): (Mode, Mode), seen: &Seen) -> String {
    gate::undo_words(&api.command(&format!("set {}", Mode::from(undoing(before, now)))), seen.storage())
}

/// `sora:3000: normal -> block_new_session (3 sessions, 11 connections stay). Undo: …`
pub(crate) fn set_words(api: &Api, (before, now): (Mode, Mode), seen: &Seen) -> String {
    let name = seen.name();
    if before == now {
        return format!("{name}: already {}", seen.mode_words());
    }
    let undo = SettableMode::try_from(before).map(|before| {
        let undo = api.command(&format!("set {}", Mode::from(before)));
        format!(". {}", gate::undo_words(&undo, seen.storage()))
    });
    format!("{name}: {before} -> {now} ({} stay){}", seen.count_words(), undo.unwrap_or_default())
}

/// `sora:3000: drained after 12 min (30 sessions ended)`
fn reached_words(reached: &Reached) -> String {
    let seen = &reached.seen;
    match (reached.drained_to, seen.counts()) {
        (Some(_), Some((left, _))) => crate::watch::reached_words(&seen.name(), left, (reached.waited, reached.sessions_ended)),
        (_, _) => format!("{}: {}", seen.name(), seen.mode()),
    }
}

impl Watch {
    /// The line before the wait for a drain.
    pub(crate) fn beginning_words(&self, counts: &str) -> String {
        let allowed = match self.goal {
            Goal::Drained { max_sessions } => max_sessions,
            Goal::Mode(_) => 0,
        };
        crate::watch::beginning_words(self.limit, allowed, counts)
    }
}

impl Goal {
    /// For a drain that leaves so many sessions.
    pub(crate) const fn drained(max_sessions: u64) -> Self {
        Self::Drained { max_sessions }
    }
}
