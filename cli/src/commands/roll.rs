//! `soramode roll -- CMD`

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use soramode_protocol::id::RollId;
use soramode_protocol::mode::ChangeMode;
use soramode_protocol::number::whole_number;
use soramode_protocol::plan::StartPlan;
use soramode_roll::{Close, ClosedNodes, Settings, Start, Work};

use super::drain::NodeDrainFlags;
use crate::candidates;
use crate::context::Context;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::expected_end::without_past;
use crate::fleet::hosts::HostWord;
use crate::output::{Output, times};
use crate::plan::flags::PlanFlags;
use crate::plan::request::NewPlan;
use crate::roll::id::{is_of_work, new_roll, random_number};
use crate::roll::request::{DrainPlan, HostWork, RollRequest};
use crate::roll::resume::ResumeCommand;
use crate::ssh::{self, SshHost};

/// Maintain several nodes, one after the other
///
/// For each host of -H in turn: closes the node, waits until its last session has ended, runs the command there, waits until the node is ready, and
/// opens it. At least --keep-open other hosts of -H are open at each moment. While it runs, no other roll can close these nodes. A roll that
/// stops leaves the node as it is, closes no other, and prints the command that goes on.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "soramode -H <HOST> roll [OPTIONS] --keep-open <N> -m <REASON> -- COMMAND",
    mut_arg("message", |arg| arg.help("Required: record REASON in the history"))
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Args {
    /// Required: keep at least N other hosts open
    #[arg(long, value_name = "N", required = true, value_parser = whole_number::<usize>)]
    keep_open: usize,
    /// Maintain these hosts only, of those of -H
    #[arg(long, hide_short_help = true, value_name = "HOST", value_delimiter = ',', add = ArgValueCandidates::new(candidates::hosts))]
    only: Vec<HostWord>,
    /// Wait this long between two nodes
    #[arg(long, hide_short_help = true, value_name = "DURATION", default_value = "0s", value_parser = times::read_span)]
    pause: Duration,
    /// Reboot each machine after the command
    ///
    /// Runs sudo -n systemctl reboot there, and waits until the machine has started again.
    #[arg(long)]
    reboot: bool,
    /// Open the node only once this command ends with 0 there
    #[arg(long, hide_short_help = true, value_name = "COMMAND")]
    ready: Option<String>,
    /// Stop (exit 124) if a node is not ready after this time
    #[arg(long, hide_short_help = true, value_name = "DURATION", default_value = "10m", value_parser = times::read_span)]
    ready_timeout: Duration,
    /// Skip nodes that another user has closed
    #[arg(long, hide_short_help = true)]
    skip_closed: bool,
    /// Print the order and the obstacles; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on with a roll that has stopped
    #[arg(long, hide_short_help = true, value_name = "ID")]
    resume: Option<RollId>,
    /// With --resume: run the command again where it may still run, or has failed
    #[arg(long, hide_short_help = true, requires = "resume")]
    again: bool,
    #[command(flatten)]
    drain: NodeDrainFlags,
    #[command(flatten)]
    plan: PlanFlags,
    /// Command to run on each host, with its arguments
    #[arg(last = true, value_name = "COMMAND", add = ArgValueCompleter::new(candidates::programs))]
    command: Vec<OsString>,
}

#[expect(clippy::unused_async, reason = "every verb is run alike")]
pub(crate) async fn run(_: Args, _: &mut Context<'_>) -> Result<Exit, Failure> {
    Err(
        Failure::new(Exit::Usage, "roll needs the hosts: -H HOST,… or -H @FLEET")
            .with_hint("To maintain this node alone: soramode maintain"),
    )
}

/// Maintains the hosts.
pub(crate) async fn run_on_hosts(
    mut args: Args,
    endpoints: Vec<Endpoint>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    args.leave_out_past_end(output);
    args.check(endpoints.len())?;
    let hosts: Vec<String> = endpoints
        .iter()
        .map(|endpoint| endpoint.host().map(SshHost::typed).unwrap_or_default())
        .collect();
    let plan = NewPlan::read(&args.plan, None, &args.drain.options())?;
    let work = args.work(plan.as_ref());
    let roll = match &args.resume {
        Some(roll) => roll.clone(),
        None => new_roll(&work, args.reboot),
    };
    let by = ssh::local_operator().unwrap_or_else(|| "unknown".to_owned());
    let settings = Settings {
        roll: roll.clone(),
        by: by.clone(),
        keep_open: args.keep_open,
        maintained: args.maintained(&hosts)?,
        close: args.close(plan.as_ref(), &by)?,
        work: Work {
            command: !work.command.is_empty(),
            reboot: args.reboot,
        },
        pause: args.pause,
        closed_nodes: if args.skip_closed {
            ClosedNodes::Skip
        } else {
            ClosedNodes::Refuse
        },
        start: match &args.resume {
            None => Start::New,
            Some(_) if args.again => Start::ResumeAgain,
            Some(_) => Start::Resume,
        },
        salt: random_number(),
        fault: soramode_roll::fault::PlantedFault::NONE,
    };
    let request = RollRequest {
        has_other_work: !is_of_work(&roll, &work, args.reboot),
        resume: ResumeCommand::new(roll, args.drain.closing()?.expected_end_at),
        is_dry_run: args.dry_run,
        work,
        settings,
        hosts,
    };
    request.run(endpoints, output).await
}

impl Args {
    /// Leaves out `--until` of a roll that goes on, once its time is past.
    fn leave_out_past_end(&mut self, output: &mut Output) {
        if self.resume.is_none() {
            return;
        }
        let given = self.drain.until.take();
        self.drain.until = without_past(given.clone());
        if let (Some(given), None) = (given, &self.drain.until) {
            output.warn(&format!(
                "--until {given} is past: the roll goes on without an expected end"
            ));
        }
    }

    fn check(&self, hosts: usize) -> Result<(), Failure> {
        let usage = |message: &str| Err(Failure::new(Exit::Usage, message));
        if self.drain.message.is_none() {
            return usage("roll needs a reason: -m REASON");
        }
        if self.command.is_empty() && !self.reboot {
            return usage("roll needs a command after --, or --reboot");
        }
        if self.keep_open >= hosts {
            let message = format!(
                "--keep-open {} of {hosts} hosts: at least one must be closed",
                self.keep_open
            );
            return usage(&message);
        }
        self.drain.check()
    }

    fn work(&mut self, plan: Option<&NewPlan>) -> HostWork {
        HostWork {
            command: std::mem::take(&mut self.command),
            ready: self.ready.take(),
            ready_timeout: self.ready_timeout,
            drain: DrainPlan {
                wait: self.drain.wait(),
                // A plan has times of its own.
                limit: match plan {
                    Some(_) => self.drain.options().limits.timeout(),
                    None => self.drain.limit(),
                }
                .filter(|limit| !limit.is_zero()),
                after_close: plan.and_then(|plan| plan.after_close().cloned()),
                undoes: self.drain.undoes(),
            },
        }
    }

    /// Returns the numbers of the hosts that are maintained.
    fn maintained(&self, hosts: &[String]) -> Result<BTreeSet<usize>, Failure> {
        if self.only.is_empty() {
            return Ok((0..hosts.len()).collect());
        }
        let only = crate::fleet::hosts::resolve(&self.only)?;
        let number = |it: &crate::fleet::hosts::FleetHost| {
            let typed = it.host.to_string();
            hosts.iter().position(|host| *host == typed).ok_or_else(|| {
                Failure::new(
                    Exit::Usage,
                    format!("--only {typed}: -H does not name this host"),
                )
            })
        };
        only.iter().map(number).collect()
    }

    fn close(&self, plan: Option<&NewPlan>, by: &str) -> Result<Close, Failure> {
        if let Some(plan) = plan {
            return Ok(Close::Plan(Box::new(StartPlan {
                on_behalf_of: Some(by.to_owned()),
                ..plan.request().clone()
            })));
        }
        let closing = self.drain.closing()?;
        let change = ChangeMode {
            reason: closing.reason.map(str::to_owned),
            expected_end_at: closing.expected_end_at,
            on_behalf_of: Some(by.to_owned()),
            ..ChangeMode::to(closing.target)
        };
        change.check()?;
        Ok(Close::Mode(Box::new(change)))
    }
}
