//! Closing a node over the API, and waiting until it is drained.

use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::sora_api::ModeSet;

use super::watch::Reached;
use super::{Api, Goal, Want, Watch, watch};
use crate::change_words::{empty_words, is_changed_since, meanwhile_words};
use crate::cluster::ClusterFlags;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::gate::{Closed, GAVE_WAY, Joined, last_contact_words};
use crate::output::Format;
use crate::output::Output;
use crate::report::{Outcome, Report};
use crate::seen::{LISTS_WORDS, Seen};
use crate::signals::Signals;
use crate::watch::superseded_hint;
use crate::way_back::{Known, Route, undo_words};

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

/// Closes the node, waits, and says how that ended.
pub(crate) async fn run_drain(
    context: &mut Context<'_>,
    api: &Api,
    plan: &Plan<'_>,
) -> Result<Exit, Failure> {
    let mut report = Report::new();
    let ended = drain_and_tell(context, api, plan, &mut report).await;
    report.finish(&mut context.output, ended)
}

async fn drain_and_tell(
    context: &mut Context<'_>,
    api: &Api,
    plan: &Plan<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let mut signals = Signals::listen()?;
    let (closed, reached) = drain(context, &mut signals, (api, plan), report).await?;
    tell(
        &mut context.output,
        &reached,
        &closed.then_words(&reached.seen.known(), Route::Api(api)),
    )?;
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
            output.record(&[
                "reached",
                &seen.name(),
                seen.mode().name(),
                &sessions.to_string(),
                &connections.to_string(),
            ])
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
    say_closed(&closed, context, api);
    give_way(context, api, (plan.cluster, &closed)).await?;
    let told = plan.cluster.check_published(
        closed.published,
        (api.name(), closed.now.mode),
        &context.output,
    );
    told.map_err(|failure| {
        failure.with_hint(closed.undo_words(Route::Api(api)).unwrap_or_default())
    })?;
    context
        .output
        .note(&plan.watch.beginning_words(&closed.seen.count_words()));
    let watched = Watch {
        sessions_before: closed.seen.counts().unwrap_or_default().0,
        ..plan.watch
    };
    match watch(context, signals, (api, watched), report).await {
        Ok(reached) => Ok((
            Closed {
                seen: reached.seen.clone(),
                ..closed
            },
            reached,
        )),
        Err(failure) if failure.exit == Exit::Superseded => {
            Err(failure.with_hint(superseded_hint(Route::Api(api))))
        }
        Err(failure) if report.outcome == Outcome::Timeout && plan.undoes => {
            Err(undo(failure, &closed, api, report).await)
        }
        Err(failure) => Err(stays(failure, &closed, api, report)),
    }
}

async fn close(context: &mut Context<'_>, api: &Api, plan: &Plan<'_>) -> Result<Closed, Failure> {
    let before = api.see(Want::Counts).await?;
    let mode = before.mode();
    let is_closed =
        plan.start == Start::Tighten && mode.is_block() && mode >= Mode::from(plan.target);
    if is_closed && !plan.cluster.requires_published() {
        return Ok(Closed {
            joined: Joined::Theirs,
            ..closed((&before, mode, None), plan.target, &before)
        });
    }
    // Where it is closed already this changes nothing, and tells whether the others know.
    let target = if is_closed {
        SettableMode::try_from(mode).unwrap_or(plan.target)
    } else {
        plan.target
    };
    let ModeSet {
        mode: now,
        warning,
        published,
    } = api.set(target).await?;
    if mode != now {
        context.output.changed(&format!("{} is {now}", api.name()));
    }
    if let Some(warning) = warning {
        context.output.warn(&warning);
    }
    let stays = |failure: Failure| {
        let undo = undo_words(
            &before.known(),
            &Known {
                mode: now,
                state: None,
            },
            (Route::Api(api), before.storage()),
        );
        failure
            .and(format!("{} is still closed ({now})", api.name()))
            .with_hint(undo.unwrap_or_default())
    };
    let seen = api.see(Want::Counts).await.map_err(stays)?;
    let joined = if is_closed {
        Joined::Theirs
    } else {
        Joined::No
    };
    Ok(Closed {
        joined,
        ..closed((&before, now, published), plan.target, &seen)
    })
}

/// Describes a closing over the API, which has no generation.
pub(crate) fn closed(
    (before, now, published): (&Seen, Mode, Option<bool>),
    target: SettableMode,
    seen: &Seen,
) -> Closed {
    // Another client may have changed it after that.
    let state = seen.mode_state().filter(|state| state.mode == now).cloned();
    Closed {
        before: before.known(),
        now: Known { mode: now, state },
        target: target.into(),
        seen: seen.clone(),
        published,
        changed: before.mode() != now,
        joined: Joined::No,
    }
}

/// Says what was done to the mode, and what that does not do.
fn say_closed(closed: &Closed, context: &Context<'_>, api: &Api) {
    let undo = closed
        .undo_words(Route::Api(api))
        .map(|undo| format!(". {undo}"))
        .unwrap_or_default();
    context.output.note(&format!("{}{undo}", closed.words()));
    closed.seen.warn(&context.output);
    if closed.joined == Joined::Theirs && closed.before.state.is_some() {
        // Over the socket a drain adds its reason, by which a maintenance sees it.
        context
            .output
            .note("If a soramode maintain closed it, that opens it again when its command ends");
    }
    if let Some(left) = closed.seen.opens_in() {
        let words = format!(
            "{} reopens in {left}; that cannot be cancelled over HTTP",
            closed.seen.name()
        );
        context.output.warn(&format!(
            "{words}. On that node: soramode set {} --for never",
            closed.now.mode
        ));
    }
}

/// Opens the node again where another closed at the same moment, so that too few are open.
pub(crate) async fn give_way(
    context: &Context<'_>,
    api: &Api,
    (flags, closed): (&ClusterFlags, &Closed),
) -> Result<(), Failure> {
    if closed.before.mode.is_block() || !closed.now.mode.is_block() {
        return Ok(());
    }
    let Some(why) = flags.too_few_others(context, Some(api)).await else {
        return Ok(());
    };
    let name = closed.seen.name();
    let what = match api
        .set(SettableMode::try_from(closed.before.mode).unwrap_or(SettableMode::Normal))
        .await
    {
        Ok(ModeSet { mode, .. }) => format!("{name} is {mode} again"),
        Err(problem) => format!("{name} could not be reopened and is STILL CLOSED: {problem}"),
    };
    Err(Failure::new(Exit::Refused, format!("{why}. {what}")).with_hint(GAVE_WAY))
}

/// Puts the mode from before back, unless another client changed it since.
async fn undo(failure: Failure, closed: &Closed, api: &Api, report: &mut Report) -> Failure {
    let (name, mode) = (closed.seen.name(), closed.now.mode);
    report.restored = Some(false);
    let could_not = |failure: Failure, problem: Failure| {
        let undo = closed.undo_words(Route::Api(api)).unwrap_or_default();
        let failure = failure.and(format!(
            "{name} could not be put back and is STILL CLOSED: {problem}"
        ));
        failure
            .with_hint(problem.hint.unwrap_or_default())
            .with_hint(undo)
    };
    let failure = match api.see(Want::Mode).await {
        Ok(now) if is_changed_since(closed, &now.known()) => {
            failure.and(format!("NOT undone: {}", meanwhile_words(&now.known())))
        }
        Ok(_) if !closed.changed => failure.and(format!(
            "{name} was already {mode} before this drain and is still closed"
        )),
        Ok(_) => match api
            .set(SettableMode::try_from(closed.before.mode).unwrap_or(SettableMode::Normal))
            .await
        {
            Ok(ModeSet { mode: now, .. }) => {
                report.restored = Some(true);
                let lost = closed.before.mode.is_block()
                    && (closed.before.reason().is_some() || closed.before.expires_at().is_some());
                let lost = if lost {
                    ", without its reason and timer, which cannot be set over HTTP"
                } else {
                    ""
                };
                failure.and(format!("{name} is {now} again{lost}"))
            }
            Err(problem) => could_not(failure, problem),
        },
        Err(problem) => could_not(failure, problem),
    };
    if let Ok(seen) = api.see(Want::Counts).await {
        report.status = Some(seen);
    }
    failure
}

/// The node stays closed; only nobody waits any more.
fn stays(failure: Failure, closed: &Closed, api: &Api, report: &Report) -> Failure {
    let route = Route::Api(api);
    let again = format!("Watch again: {}", route.command("wait drained"));
    if failure.exit == Exit::Unreachable {
        let failure = failure.and(last_contact_words(&closed.seen.name(), closed.now.mode));
        return failure
            .with_hint(again)
            .with_hint(closed.undo_drain_words(route).unwrap_or_default());
    }
    let now = report
        .status
        .as_ref()
        .map_or_else(|| closed.now.clone(), Seen::known);
    let undo = closed.undo_unless_changed(&now, route).unwrap_or_default();
    failure
        .and(closed.still_words(&now))
        .with_hint(again)
        .with_hint(undo)
}

/// `sora:3000 is empty after 12 min (30 sessions ended)`
fn reached_words(reached: &Reached) -> String {
    let seen = &reached.seen;
    match (reached.drained_to, seen.counts()) {
        (Some(_), Some((left, _))) => {
            empty_words(&seen.name(), left, (reached.waited, reached.sessions_ended))
        }
        (_, _) => format!("{} is {}", seen.name(), seen.mode()),
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
