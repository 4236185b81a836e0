//! `soramode set MODE`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::str::FromStr;
use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::mode::{ChangeMode, Mode, ModeChanged, SettableMode};
use soramode_protocol::number::whole_number;
use soramode_protocol::sora_api::ModeSet;
use soramode_protocol::wait::{Wait, WaitFor};

use super::drain::{begin, beginning_words, say_closed, stays, tell_drained};
use crate::api::{self, Api, Goal, Start, Want, Watch, needs_socket};
use crate::args::{WaitFlags, read_mode, read_mode_to_set};
use crate::cluster::{ClusterFlags, NodeFlag};
use crate::completion;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::gate::{self, Closed, give_way, on_behalf_of};
use crate::output::Format;
use crate::output::times;
use crate::report::Report;
use crate::seen::Seen;
use crate::signals::Signals;
use crate::watch::{Plan, superseded_hint, watch};
use crate::way_back::Route;

/// Set the mode
///
/// No client is disconnected: connected clients stay in every mode. In block_new_session clients still join channels that have a session; in
/// block_new_connection no client joins. Setting the mode that the node already has succeeds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Mode: normal, block_new_session or block_new_connection
    #[arg(value_parser = read_mode_to_set, add = ArgValueCandidates::new(completion::settable_modes))]
    mode: Mode,
    #[command(flatten)]
    flags: SetFlags,
}

/// How to set it.
#[derive(Debug, clap::Args)]
pub(crate) struct SetFlags {
    /// Record REASON in the history of mode changes
    #[arg(short, long, value_name = "REASON")]
    message: Option<String>,
    /// Reopen (normal) automatically after this time
    ///
    /// At least 1s; rounded up to whole seconds. never cancels a running timer. Without --for, a mode that stays
    /// the same keeps its timer.
    #[arg(long = "for", value_name = "DURATION|never")]
    expiry: Option<Expiry>,
    /// Change nothing (exit 6) unless the mode is this
    #[arg(long, value_name = "MODE", value_parser = read_mode, add = ArgValueCandidates::new(completion::modes))]
    if_mode: Option<Mode>,
    /// Change nothing (exit 6) unless it is generation N
    ///
    /// The generation counts changes of the mode (a revision number): soramode get -o json shows it.
    #[arg(long, value_name = "N", value_parser = whole_number::<u64>)]
    if_generation: Option<u64>,
    /// Then wait until the node is drained
    ///
    /// Only with block_new_session and block_new_connection. --timeout and --assume-complete belong to this wait.
    #[arg(short, long)]
    wait: bool,
    #[command(flatten)]
    limits: WaitFlags,
    #[command(flatten)]
    node: NodeFlag,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// When the mode ends by itself, in whole seconds; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expiry(u64);

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(0));
        }
        let span = times::read_span(text)?;
        if span.is_zero() {
            return Err("takes a time from 1s on, or never".to_owned());
        }
        // Rounded up: an operator who says 1500ms does not want the node open after one second.
        Ok(Self(
            span.as_secs() + u64::from(span > Duration::from_secs(span.as_secs())),
        ))
    }
}

#[derive(Serialize)]
struct View<'a> {
    #[serde(flatten)]
    changed: &'a ModeChanged,
    node_name: &'a str,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    set(args.mode, args.flags, context).await
}

/// A mode to set.
struct Wanted {
    mode: Mode,
    flags: SetFlags,
}

/// Sets it.
pub(super) async fn set(
    mode: Mode,
    flags: SetFlags,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let args = Wanted { mode, flags };
    let far = args.flags.node.find(context).await?;
    if let Some(api) = far.as_ref().or(context.api) {
        return set_over_api(&args, api, context).await;
    }
    if args.flags.wait {
        let mut report = Report::new();
        let ended = set_and_wait(&args, context, &mut report).await;
        return report.finish(&mut context.output, ended);
    }
    let change = change(&args)?;
    check_others(&args, None, context).await?;
    let (closed, changed) = gate::set(&mut context.socket.connect().await?, &change).await?;
    if closed.changed {
        context
            .output
            .changed(&format!("{} is {}", closed.seen.name(), changed.mode));
    }
    give_way(
        context,
        &closed,
        (&args.flags.cluster, args.flags.message.as_deref()),
    )
    .await?;
    show(&closed, &changed, context)?;
    args.flags.cluster.check_published(
        changed.published,
        (&closed.seen.name(), changed.mode),
        &context.output,
    )?;
    Ok(Exit::Done)
}

/// Only a node that is closed takes itself away from the others.
async fn check_others(
    args: &Wanted,
    api: Option<&Api>,
    context: &Context<'_>,
) -> Result<(), Failure> {
    if args.mode.is_block() {
        args.flags.cluster.check_others(context, api).await
    } else {
        Ok(())
    }
}

fn change(args: &Wanted) -> Result<ChangeMode, Failure> {
    let mode = SettableMode::try_from(args.mode)
        .map_err(|refused| Failure::new(Exit::Refused, refused.to_string()))?;
    if args.flags.wait && mode == SettableMode::Normal {
        return Err(Failure::new(
            Exit::Usage,
            "--wait works only with block_new_session and block_new_connection: a node that is normal does not drain",
        ));
    }
    if !args.mode.is_block() && args.flags.cluster.is_said() {
        return Err(Failure::new(
            Exit::Usage,
            "--keep-open works only with block_new_session and block_new_connection",
        ));
    }
    if !args.flags.wait && args.flags.limits.is_said() {
        return Err(Failure::new(
            Exit::Usage,
            "--timeout and --assume-complete work only with --wait",
        ));
    }
    let change = ChangeMode {
        mode,
        reason: args.flags.message.clone(),
        expires_in_seconds: args.flags.expiry.map(|Expiry(seconds)| seconds),
        if_mode: args.flags.if_mode,
        if_generation: args.flags.if_generation,
        on_behalf_of: on_behalf_of(),
    };
    change.check()?;
    Ok(change)
}

/// The API takes a mode and nothing else.
fn check_for_api(args: &Wanted) -> Result<SettableMode, Failure> {
    let socket_only = [
        ("--message", args.flags.message.is_some()),
        ("--for", args.flags.expiry.is_some()),
        ("--if-mode", args.flags.if_mode.is_some()),
        ("--if-generation", args.flags.if_generation.is_some()),
    ];
    match socket_only.into_iter().find(|(_, is_said)| *is_said) {
        Some((flag, _)) => Err(needs_socket(flag)),
        None => change(args).map(|change| change.mode),
    }
}

async fn set_over_api(
    args: &Wanted,
    api: &Api,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let mode = check_for_api(args)?;
    if args.flags.wait {
        let watch = Watch {
            goal: Goal::drained(0),
            settle: Duration::ZERO,
            limit: args.flags.limits.limit(),
            is_closed: true,
            sessions_before: 0,
            assume_complete: args.flags.limits.assume_complete,
        };
        let plan = api::Plan {
            cluster: &args.flags.cluster,
            target: mode,
            start: Start::Set,
            watch,
            undoes: false,
        };
        return api::run_drain(context, api, &plan).await;
    }
    check_others(args, Some(api), context).await?;
    let before = api.see(Want::Mode).await?;
    let ModeSet {
        mode: now,
        warning,
        published,
    } = api.set(mode).await?;
    if before.mode() != now {
        context.output.changed(&format!("{} is {now}", api.name()));
    }
    if let Some(warning) = warning {
        context.output.warn(&warning);
    }
    // The mode is set, whether or not the node can be seen after that.
    let seen = api.see(Want::Counts).await;
    if let Ok(seen) = &seen {
        api::give_way(
            context,
            api,
            (
                &args.flags.cluster,
                &api::closed((&before, now, published), mode, seen),
            ),
        )
        .await?;
        seen.warn(&context.output);
    }
    show_over_api((&before, now, published), &seen, (api, context))?;
    args.flags
        .cluster
        .check_published(published, (api.name(), now), &context.output)?;
    Ok(Exit::Done)
}

fn show_over_api(
    (before, now, published): (&Seen, Mode, Option<bool>),
    seen: &Result<Seen, Failure>,
    (api, context): (&Api, &mut Context<'_>),
) -> Result<(), Failure> {
    let (output, previous_mode) = (&mut context.output, before.mode());
    let changed = previous_mode != now;
    match output.format() {
        Format::Json | Format::Jsonl => {
            let (sessions, connections) = seen.as_ref().ok().and_then(Seen::counts).unzip();
            output.json(&ApiView {
                mode: now,
                previous_mode,
                changed,
                node_name: api.name(),
                published,
                sessions,
                connections,
            })
        }
        Format::Plain => {
            let word = if changed { "changed" } else { "unchanged" };
            output.record(&[word, api.name(), previous_mode.name(), now.name()])
        }
        Format::Table => match seen {
            Ok(seen) => {
                let closed = api::closed(
                    (before, now, published),
                    SettableMode::try_from(now).unwrap_or(SettableMode::Normal),
                    seen,
                );
                let undo = closed
                    .undo_words(Route::Api(api))
                    .filter(|_| previous_mode != Mode::Initial);
                let undo = undo.map(|undo| format!(". {undo}")).unwrap_or_default();
                output.confirm(&format!("{}{undo}", closed.words()))
            }
            Err(problem) => output.confirm(&format!(
                "{} is {now} now, but its sessions cannot be read: {problem}",
                api.name()
            )),
        },
    }
}

/// What the API tells of a change.
#[derive(Serialize)]
struct ApiView<'a> {
    mode: Mode,
    previous_mode: Mode,
    changed: bool,
    node_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
}

async fn set_and_wait(
    args: &Wanted,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let change = change(args)?;
    check_others(args, None, context).await?;
    let mut signals = Signals::listen()?;
    let (closed, changed) = gate::set(&mut context.socket.connect().await?, &change).await?;
    begin(&closed, context, report);
    warn(&changed, context);
    let undo = closed.undo_words(Route::Socket(context.socket));
    say_closed(&closed, undo.as_deref(), context);
    give_way(
        context,
        &closed,
        (&args.flags.cluster, args.flags.message.as_deref()),
    )
    .await?;
    let told = args.flags.cluster.check_published(
        changed.published,
        (&closed.seen.name(), changed.mode),
        &context.output,
    );
    told.map_err(|failure| failure.with_hint(undo.unwrap_or_default()))?;
    let generation = Some(changed.generation);
    let wait = Wait {
        generation,
        assume_complete: args.flags.limits.assume_complete,
        ..Wait::new(WaitFor::Drained)
    };
    let plan = Plan {
        wait,
        limit: args.flags.limits.limit(),
    };
    context.output.note(&beginning_words(&closed, &plan));
    match watch(context, &mut signals, &plan, report).await {
        Ok(reached) => tell_drained(&closed, &reached, context)
            .await
            .map(|()| Exit::Done),
        Err(failure) if failure.exit == Exit::Superseded => {
            Err(failure.with_hint(superseded_hint(Route::Socket(context.socket))))
        }
        Err(failure) => Err(stays(failure, &closed, context).await),
    }
}

fn show(closed: &Closed, changed: &ModeChanged, context: &mut Context<'_>) -> Result<(), Failure> {
    warn(changed, context);
    closed.seen.warn(&context.output);
    let node_name = closed
        .seen
        .status()
        .map(|status| status.node_name.to_string())
        .unwrap_or_default();
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(&View {
            changed,
            node_name: &node_name,
        }),
        Format::Plain => {
            let word = if changed.changed {
                "changed"
            } else {
                "unchanged"
            };
            let generation = changed.generation.to_string();
            context.output.record(&[
                word,
                &node_name,
                changed.previous_mode.name(),
                changed.mode.name(),
                &generation,
            ])
        }
        Format::Table => {
            let undo = closed
                .undo_words(Route::Socket(context.socket))
                .filter(|_| changed.previous_mode != Mode::Initial);
            let undo = undo.map(|undo| format!(". {undo}")).unwrap_or_default();
            context.output.confirm(&format!("{}{undo}", closed.words()))
        }
    }
}

/// What did not go with it is said whatever the format.
fn warn(changed: &ModeChanged, context: &Context<'_>) {
    if let Some(warning) = &changed.warning {
        context.output.warn(warning);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_in_whole_seconds_and_never_is_zero() {
        assert_eq!("45m".parse(), Ok(Expiry(2_700)));
        assert_eq!("1500ms".parse(), Ok(Expiry(2)));
        assert_eq!("never".parse(), Ok(Expiry(0)));
        assert!(
            "0".parse::<Expiry>().is_err(),
            "zero would mean never on the wire"
        );
        assert!("soon".parse::<Expiry>().is_err());
    }
}
