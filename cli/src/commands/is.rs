//! `soramode is MODE|drained|joined`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::error::Error;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{Membership, Status};

use crate::api::{Detail, needs_soramoded};
use crate::candidates;
use crate::conditions::Predicate;
use crate::context::Context;
use crate::describe::describe_expiry;
use crate::error::{Exit, Failure};
use crate::last_status::{DrainCondition, Drained, LISTS_NOTE, LastStatus};
use crate::output::{Format, Output, counted};
use crate::sfu::describe_not_in_force;

/// Test a condition: exit 0 if true, 1 if false
///
/// Exit code 8 if drained cannot be decided, because the session list is incomplete. In scripts, go on only after exit code 0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Condition to test
    ///
    /// drained: the node is closed, its mode is in force, its session list is complete, and no session is left. joined: the node is in its cluster. A mode:
    /// the node is in this mode.
    #[arg(value_name = "MODE|drained|joined", add = ArgValueCandidates::new(candidates::predicates))]
    predicate: Predicate,
    /// With drained: proceed even if the session list is incomplete
    ///
    /// Clients may still be connected.
    #[arg(long)]
    assume_complete: bool,
    /// With drained: proceed even if the mode is not in force, because some rooms of Janus cannot be locked
    ///
    /// Clients may join these rooms.
    #[arg(long)]
    assume_in_force: bool,
}

#[derive(Serialize)]
struct IsView<'a, S> {
    is: bool,
    #[serde(flatten)]
    status: &'a S,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    for (flag, is_given) in [
        ("--assume-complete", args.assume_complete),
        ("--assume-in-force", args.assume_in_force),
    ] {
        if is_given && args.predicate != Predicate::Drained {
            let message = format!("{flag} works only with drained");
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    let want = match args.predicate {
        Predicate::Mode(_) => Detail::Mode,
        Predicate::Drained | Predicate::Joined => Detail::Counts,
    };
    let status = context.node.status(want).await?;
    let node = status.name();
    let (is, words) = match args.predicate {
        Predicate::Mode(mode) => (
            status.mode() == mode,
            format!("{node} is {}", status.mode()),
        ),
        Predicate::Joined => {
            let status = status
                .of_daemon()
                .ok_or_else(|| needs_soramoded("is joined"))?;
            (
                status.membership == Membership::Joined,
                format!("{node} is {}", status.membership_words()),
            )
        }
        Predicate::Drained => is_drained(
            &status,
            DrainCondition {
                max_sessions: 0,
                assume_complete: args.assume_complete,
                assume_in_force: args.assume_in_force,
            },
        )?,
    };
    if args.predicate != Predicate::Joined {
        status.warn(&context.output);
    }
    if is && args.predicate == Predicate::Drained && status.of_daemon().is_none() {
        context.output.note(&format!("{node}: {LISTS_NOTE}"));
    }
    show(
        &IsView {
            is,
            status: &status,
        },
        &words,
        &mut context.output,
    )
}

fn is_drained(status: &LastStatus, enough: DrainCondition) -> Result<(bool, String), Failure> {
    let node = status.name();
    let mode = status.mode();
    let until = status.mode_state().map(describe_expiry).unwrap_or_default();
    let left = |sessions: u64| {
        format!(
            "{node} is {mode} and has {}{until}",
            counted(sessions, "session")
        )
    };
    match (status.drained(enough), mode) {
        (Drained::Yes, _) => Ok((true, left(0))),
        (Drained::Left(sessions), _) => Ok((false, left(sessions))),
        (Drained::NotInForce(in_force), _) => {
            let rooms = status.of_daemon().and_then(|status| status.rooms);
            let why = describe_not_in_force(in_force, rooms).unwrap_or_default();
            let words = format!("{node} is {mode}, but that is not in force: {why}");
            Ok((false, words))
        }
        (Drained::Open, Mode::Normal) => Ok((false, format!("{node} is open: {mode}"))),
        (Drained::Open, _) => Ok((
            false,
            format!("{node} is {mode}, not drained: it becomes normal when it joins its cluster"),
        )),
        (Drained::Incomplete, _) => {
            let not_asked = || Error::sessions_incomplete("its lists were not asked for", None);
            Err(status
                .of_daemon()
                .map_or_else(not_asked, Status::sessions_incomplete)
                .into())
        }
    }
}

fn show(
    view: &IsView<'_, impl Serialize>,
    words: &str,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let yes_or_no = if view.is { "yes" } else { "no" };
    if !output.is_quiet() {
        match output.format() {
            Format::Json | Format::Jsonl => output.json(view)?,
            Format::Plain => output.text(yes_or_no)?,
            Format::Table => output.text(&format!("{yes_or_no}: {words}"))?,
        }
    }
    Ok(if view.is { Exit::Done } else { Exit::False })
}
