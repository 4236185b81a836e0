//! The verbs that work on several hosts at once.

use super::{Command, announce, doctor, get, sessions, set, status};
use crate::error::{Exit, Failure};
use crate::fleet::host_answer::HostAnswer;
use crate::node::Node;
use crate::output::{Column, Output};

/// A verb that works on several hosts at once.
pub(crate) enum HostVerb {
    Get,
    Status(status::Args),
    Sessions(sessions::Args),
    Doctor,
    Set(set::Args),
    Announce(announce::Args),
}

impl Command {
    /// Returns the verb for several hosts; refuses the others.
    pub(crate) fn on_hosts(self) -> Result<HostVerb, Failure> {
        let name = self.name();
        match self {
            Self::Get(_) => Ok(HostVerb::Get),
            Self::Status(args) => Ok(HostVerb::Status(args)),
            Self::Sessions(args) => Ok(HostVerb::Sessions(args)),
            Self::Doctor(_) => Ok(HostVerb::Doctor),
            Self::Set(args) => Ok(HostVerb::Set(args)),
            Self::Announce(args) => Ok(HostVerb::Announce(args)),
            Self::Open(args) => Ok(HostVerb::Set(args.into_set())),
            Self::Close(_) => {
                Err(one_at_a_time(name).with_hint("On several hosts: soramode set MODE. To maintain them, one after the other: soramode roll"))
            }
            Self::Drain(_) | Self::Maintain(_) | Self::Plan(_) | Self::Wait(_) => {
                Err(one_at_a_time(name)
                    .with_hint("To maintain several, one after the other: soramode roll"))
            }
            _ => Err(one_at_a_time(name).with_hint(format!(
                "With several hosts: get, status, sessions, doctor, set, open, announce and roll. With one: soramode -H HOST {name}"
            ))),
        }
    }
}

fn one_at_a_time(name: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{name} works on one host at a time"))
}

impl HostVerb {
    /// Refuses flags that work on one host only, and risks that were not accepted. Nothing was done yet.
    pub(crate) fn check_several(&self) -> Result<(), Failure> {
        match self {
            Self::Set(args) => args.check_several(),
            Self::Get | Self::Status(_) | Self::Sessions(_) | Self::Doctor | Self::Announce(_) => {
                Ok(())
            }
        }
    }

    /// Returns whether the answers are shown until the user quits.
    pub(crate) const fn is_watch(&self) -> bool {
        matches!(self, Self::Status(args) if args.is_watch())
    }

    /// Asks one host.
    pub(crate) async fn ask(&self, node: Node<'_>, output: &Output) -> Result<HostAnswer, Failure> {
        match self {
            Self::Get => get::ask_host(node).await,
            Self::Status(_) => status::ask_host(node, output).await,
            Self::Sessions(args) => sessions::ask_host(args, node, output).await,
            Self::Doctor => doctor::ask_host(node, output).await,
            Self::Set(args) => set::ask_host(args, node, output).await,
            Self::Announce(args) => announce::ask_host(args, node).await,
        }
    }

    /// Returns the columns after the host.
    pub(crate) const fn columns(&self) -> &'static [Column] {
        match self {
            Self::Get => &get::HOST_COLUMNS,
            Self::Status(_) => &status::HOST_COLUMNS,
            Self::Sessions(_) => &sessions::COLUMNS,
            Self::Doctor => &doctor::HOST_COLUMNS,
            Self::Set(_) => &set::HOST_COLUMNS,
            Self::Announce(_) => &announce::HOST_COLUMNS,
        }
    }

    /// Describes a table without rows.
    pub(crate) const fn describe_none(&self) -> &'static str {
        match self {
            Self::Sessions(_) => "no sessions",
            _ => "no answers",
        }
    }
}
