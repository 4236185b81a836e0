//! The flags of a drain, and what they ask for.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::time::Duration;

use soramode_protocol::mode::SettableMode;
use soramode_protocol::number::whole_number;
use soramode_protocol::wait::{Wait, WaitFor};

use crate::cluster::ClusterFlags;
use crate::error::{Exit, Failure};
use crate::expected_end::read_until;
use crate::flags::WaitFlags;
use crate::node::{Feature, Node};
use crate::output::times;
use crate::plan::flags::PlanFlags;
use crate::plan::request::{DrainOptions, NewPlan, StartFlags};
use crate::set_mode::Closing;

/// Flags of a drain that concern its node alone.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeDrainFlags {
    #[command(flatten)]
    wait: WaitFlags,
    /// Set what to do with the mode on timeout
    #[arg(long, value_enum, value_name = "ACTION", default_value_t = OnTimeout::Keep)]
    pub(super) on_timeout: OnTimeout,
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
    connections: bool,
    /// Record REASON in the history of mode changes
    ///
    /// If another user closed the node already, REASON is added to theirs: "CHG-1; CHG-2". A soramode maintain of theirs then does not open it.
    #[arg(short, long, value_name = "REASON")]
    pub(crate) message: Option<String>,
    /// Record when the maintenance is expected to be over
    ///
    /// A time such as '2026-12-01 02:00' or 02:00 for today, or a duration from now such as 2h. soramode status, the status page, metrics and events
    /// show it. The node does not open by itself then.
    #[arg(long, value_name = "TIME|DURATION", hide_short_help = true)]
    pub(crate) until: Option<String>,
}

/// Flags of a drain.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainFlags {
    #[command(flatten)]
    pub(in crate::commands) own: NodeDrainFlags,
    #[command(flatten)]
    pub(super) cluster: ClusterFlags,
    #[command(flatten)]
    plan: PlanFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::commands) enum OnTimeout {
    /// Keep the node closed
    Keep,
    /// Restore the previous mode, its reason and the rest of its time
    Undo,
}

impl NodeDrainFlags {
    /// Returns the mode that closes the node.
    pub(crate) const fn target(&self) -> SettableMode {
        if self.connections {
            SettableMode::BlockNewConnection
        } else {
            SettableMode::BlockNewSession
        }
    }

    /// Returns the closing that the flags ask for.
    pub(crate) fn closing(&self) -> Result<Closing<'_>, Failure> {
        Ok(Closing {
            target: self.target(),
            reason: self.message.as_deref(),
            expected_end_at: read_until(self.until.as_deref())?,
        })
    }

    /// Returns the options that a plan goes by.
    pub(crate) const fn options(&self) -> DrainOptions<'_> {
        DrainOptions {
            mode: self.target(),
            reason: match &self.message {
                Some(message) => Some(message.as_str()),
                None => None,
            },
            until: match &self.until {
                Some(until) => Some(until.as_str()),
                None => None,
            },
            keep_open: None,
            requires_published: false,
            limits: &self.wait,
            max_sessions: self.max_sessions,
            settle: self.settle,
            undoes: self.undoes(),
        }
    }

    /// Returns whether the mode is restored on a timeout.
    pub(crate) const fn undoes(&self) -> bool {
        matches!(self.on_timeout, OnTimeout::Undo)
    }

    /// Returns the time after which to give up; `None` is never.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.wait.limit()
    }

    /// Refuses flags that would have no effect.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.undoes() && self.limit().is_none() {
            return Err(Failure::new(
                Exit::Usage,
                "--on-timeout undo needs a --timeout (0 means never)",
            ));
        }
        Ok(())
    }

    /// Returns the request to wait, without the generation.
    pub(crate) fn wait(&self) -> Wait {
        Wait {
            max_sessions: Some(self.max_sessions).filter(|sessions| *sessions > 0),
            settle_seconds: Some(self.settle.as_secs_f64()).filter(|_| !self.settle.is_zero()),
            assume_complete: self.wait.assume_complete,
            assume_in_force: self.wait.assume_in_force,
            ..Wait::new(WaitFor::Drained)
        }
    }
}

impl DrainFlags {
    /// Returns the plan that the flags ask for.
    pub(in crate::commands) fn new_plan(
        &self,
        start: Option<&StartFlags>,
    ) -> Result<Option<NewPlan>, Failure> {
        NewPlan::read(&self.plan, start, &self.options())
    }

    pub(super) fn options(&self) -> DrainOptions<'_> {
        DrainOptions {
            keep_open: self.cluster.keep_open(),
            requires_published: self.cluster.requires_published(),
            ..self.own.options()
        }
    }

    /// Refuses flags that would have no effect, or that the node lacks the feature for.
    pub(super) fn check(&self, node: Node<'_>) -> Result<(), Failure> {
        self.own.check()?;
        if self.own.message.is_some() {
            node.require(Feature::Reason, "--message")?;
        }
        if self.own.until.is_some() {
            node.require(Feature::ExpectedEnd, "--until")?;
        }
        Ok(())
    }
}
