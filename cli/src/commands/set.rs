//! `soramode set MODE`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::str::FromStr;
use std::time::Duration;

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::number::whole_number;
use soramode_protocol::wait::{Wait, WaitFor};

use super::drain::{Drain, OnTimeout, confirm_drained};
use super::mode_report::{ChangeView, report_mode};
use crate::beside_others::{Hosts, set_beside_others};
use crate::candidates;
use crate::cluster::{ClusterFlags, NodeFlag};
use crate::conditions::{read_mode, read_mode_to_set};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::expected_end::read_until;
use crate::flags::WaitFlags;
use crate::fleet::host_answer::HostAnswer;
use crate::mode_result::ModeResult;
use crate::node::{Feature, Node};
use crate::output::{Column, Output, times};
use crate::report::Report;
use crate::set_mode::Stricter;
use crate::signals::{Signals, unless_interrupted};
use crate::wait::Then;

/// Set the mode
///
/// No client is disconnected: connected clients stay in every mode. In block_new_session clients still join channels that have a session; in
/// block_new_connection no client joins. Setting the mode that the node already has succeeds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Mode: normal, block_new_session or block_new_connection
    #[arg(value_parser = read_mode_to_set, add = ArgValueCandidates::new(candidates::settable_modes))]
    mode: Mode,
    #[command(flatten)]
    flags: SetFlags,
    /// Required to close several hosts (-H): accept that they close at once
    #[arg(long, value_enum, value_name = "RISK", hide_short_help = true)]
    accept_risk: Option<Risk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Risk {
    /// No node may be left open for new sessions
    ClosesSeveral,
}

/// Flags of a mode change.
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
    /// Record when the maintenance is expected to be over
    ///
    /// A time such as '2026-12-01 02:00' or 02:00 for today, or a duration from now such as 2h. soramode status, the status page, metrics and events
    /// show it. The node does not open by itself then: --for opens it. A mode that stays the same keeps it.
    #[arg(long, value_name = "TIME|DURATION", hide_short_help = true)]
    until: Option<String>,
    /// Change nothing (exit 6) unless the mode is this
    #[arg(long, value_name = "MODE", value_parser = read_mode, add = ArgValueCandidates::new(candidates::modes))]
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
    #[arg(skip)]
    pub(super) stricter: Stricter,
}

/// Time until the mode expires, in whole seconds; 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Expiry(u64);

impl FromStr for Expiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(0));
        }
        let span = times::read_span(text)?;
        if span < Duration::from_secs(1) {
            return Err("takes a time from 1s on, or never".to_owned());
        }
        // Rounded up: for 1500ms the node must not open after one second.
        Ok(Self(
            span.as_secs() + u64::from(span > Duration::from_secs(span.as_secs())),
        ))
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    set(args.mode, &args.flags, context).await
}

/// Sets the mode.
pub(super) async fn set(
    mode: Mode,
    flags: &SetFlags,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    if flags.wait {
        let mut report = Report::new();
        let ended = set_and_wait(mode, flags, context, &mut report).await;
        return report.finish(&mut context.output, ended);
    }
    let remote = flags.node.find(context).await?;
    let node = context.node.or(remote.as_ref());
    let result = change_mode(mode, flags, (node, None), context).await?;
    let reason = flags.message.as_deref();
    report_mode(&result, node, (&flags.cluster, reason), context).await
}

async fn set_and_wait(
    mode: Mode,
    flags: &SetFlags,
    context: &mut Context<'_>,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let remote = flags.node.find(context).await?;
    let node = context.node.or(remote.as_ref());
    let mut signals = Signals::listen()?;
    let drain = Drain {
        closed: change_mode(mode, flags, (node, Some(&mut signals)), context).await?,
        wait: Wait {
            assume_complete: flags.limits.assume_complete,
            assume_in_force: flags.limits.assume_in_force,
            ..Wait::new(WaitFor::Drained)
        },
        limit: flags.limits.limit(),
        cluster: &flags.cluster,
        reason: flags.message.as_deref(),
        on_timeout: OnTimeout::Keep,
        then: Then::Nothing,
    };
    let (closed, reached) = drain.wait(node, context, &mut signals, report).await?;
    confirm_drained(node, &closed, &reached, &mut context.output).await?;
    Ok(Exit::Done)
}

/// The columns on several hosts.
pub(super) const HOST_COLUMNS: [Column; 4] = [
    Column::id("NODE").optional(2),
    Column::word("BEFORE").optional(1),
    Column::word("MODE").answer(),
    Column::word("SESSIONS"),
];

impl Args {
    /// Returns `set` with this mode, without an accepted risk.
    pub(super) const fn of(mode: Mode, flags: SetFlags) -> Self {
        Self {
            mode,
            flags,
            accept_risk: None,
        }
    }

    /// Refuses flags that work on one host only, and the closing of several that was not accepted.
    pub(super) fn check_several(&self) -> Result<(), Failure> {
        let usage = |message: &str| Failure::new(Exit::Usage, message);
        let flags = &self.flags;
        if flags.wait || flags.node.node.is_some() || flags.cluster.is_given() {
            return Err(usage(
                "--wait, --node and --keep-open work on one host at a time. Nothing was changed",
            )
            .with_hint("To maintain several, one after the other: soramode roll"));
        }
        flags.change(self.mode)?;
        if self.mode.is_block() && self.accept_risk.is_none() {
            return Err(
                usage("this closes several nodes at once. Nothing was changed")
                    .with_hint("To go on, add --accept-risk=closes-several"),
            );
        }
        Ok(())
    }
}

/// Sets the mode of one of several hosts.
pub(super) async fn ask_host(
    args: &Args,
    node: Node<'_>,
    output: &Output,
) -> Result<HostAnswer, Failure> {
    let change = ChangeMode {
        on_behalf_of: node.on_behalf_of(),
        ..args.flags.change(args.mode)?
    };
    let how = (Hosts::Several, args.flags.stricter);
    let result = set_beside_others(node, &change, how, None, output).await?;
    if let Some(warning) = &result.warning {
        output.warn(&format!("{}: {warning}", result.status.name()));
    }
    let cluster = &args.flags.cluster;
    let mode = result.now.mode;
    cluster.check_published(result.published, &result.status, mode, output)?;
    let row = vec![
        result.status.node_name().to_owned().into(),
        result.before.mode.into(),
        mode.into(),
        result.status.counts().map(|(sessions, _)| sessions).into(),
    ];
    let answer = HostAnswer::one_row(result.status.node_name(), &ChangeView::of(&result), row)?;
    Ok(answer.with_note(result.undo_hint(node)))
}

/// Checks the flags and the other nodes, and sets the mode.
async fn change_mode(
    mode: Mode,
    flags: &SetFlags,
    (node, mut signals): (Node<'_>, Option<&mut Signals>),
    context: &Context<'_>,
) -> Result<ModeResult, Failure> {
    flags.check_supported(node)?;
    let change = ChangeMode {
        on_behalf_of: node.on_behalf_of(),
        ..flags.change(mode)?
    };
    // Only a closed node reduces the number of open ones.
    if mode.is_block() {
        let others = flags.cluster.check_others(context, node);
        unless_interrupted(signals.as_deref_mut(), others).await?;
    }
    let how = (Hosts::One, flags.stricter);
    set_beside_others(node, &change, how, signals, &context.output).await
}

impl SetFlags {
    /// Refuses flags that the node lacks the feature for.
    fn check_supported(&self, node: Node<'_>) -> Result<(), Failure> {
        let flags = [
            ("--message", self.message.is_some(), Feature::Reason),
            ("--for", self.expiry.is_some(), Feature::Timer),
            ("--until", self.until.is_some(), Feature::ExpectedEnd),
            ("--if-mode", self.if_mode.is_some(), Feature::Condition),
            (
                "--if-generation",
                self.if_generation.is_some(),
                Feature::Condition,
            ),
        ];
        flags
            .into_iter()
            .filter(|(_, is_given, _)| *is_given)
            .try_for_each(|(flag, _, feature)| node.require(feature, flag))
    }

    fn change(&self, mode: Mode) -> Result<ChangeMode, Failure> {
        let settable = SettableMode::try_from(mode)
            .map_err(|refused| Failure::new(Exit::Refused, refused.to_string()))?;
        let usage = |problem: &str| Err(Failure::new(Exit::Usage, problem));
        if self.wait && settable == SettableMode::Normal {
            return usage(
                "--wait works only with block_new_session and block_new_connection: a node that is normal does not drain",
            );
        }
        if !mode.is_block() && self.cluster.is_given() {
            return usage("--keep-open works only with block_new_session and block_new_connection");
        }
        if !self.wait && self.limits.is_given() {
            return usage("--timeout and --assume-complete work only with --wait");
        }
        let change = ChangeMode {
            reason: self.message.clone(),
            expires_in_seconds: self.expiry.map(|Expiry(seconds)| seconds),
            expected_end_at: read_until(self.until.as_deref())?,
            if_mode: self.if_mode,
            if_generation: self.if_generation,
            ..ChangeMode::to(settable)
        };
        change.check()?;
        Ok(change)
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
        assert!("0.5s".parse::<Expiry>().is_err(), "less than the least");
        assert!("soon".parse::<Expiry>().is_err());
    }
}
