//! The verbs: a file each, with its arguments, its action and its output. `mode_report`, `wait_report` and `host_verb` are no verbs: several
//! verbs share them.

mod announce;
mod close;
mod completions;
mod connect;
mod connections;
mod deliveries;
mod dial_stdio;
mod disconnect;
mod doctor;
mod drain;
mod drill;
mod end;
pub(crate) mod exec_stdio;
mod explain;
pub(crate) mod get;
mod help;
mod history;
mod host_verb;
mod info;
mod is;
mod maintain;
mod mode_report;
mod nodes;
mod open;
mod plan;
pub(crate) mod roll;
mod session;
mod sessions;
mod set;
pub(crate) mod status;
mod tail;
mod version;
mod wait;
mod wait_report;
mod webhook;

use clap::Args as _;
pub(crate) use host_verb::HostVerb;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::node::{Feature, Node};

/// Defines the verbs. A new one needs its `mod` above and a line here.
macro_rules! verbs {
    ($($(#[$attribute:meta])* $verb:ident => $module:ident,)*) => {
        /// A verb with its arguments.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Command {
            $($(#[$attribute])* $verb($module::Args),)*
        }

        impl Command {
            /// The verbs' names.
            #[cfg(test)]
            const NAMES: &[&str] = &[$(stringify!($module),)*];

            /// Returns the definition of one verb.
            pub(crate) fn definition(name: &str) -> Option<clap::Command> {
                match name {
                    $(stringify!($module) => Some($module::Args::augment_args(clap::Command::new(stringify!($module)))),)*
                    _ => None,
                }
            }

            pub(crate) const fn name(&self) -> &'static str {
                match self {
                    $(Self::$verb(_) => stringify!($module),)*
                }
            }

            pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<Exit, Failure> {
                match self {
                    // Boxed, so that no verb has the stack frame of the largest.
                    $(Self::$verb(args) => Box::pin($module::run(args, context)).await,)*
                }
            }
        }
    };
}

verbs! {
    Get => get,
    Set => set,
    Open => open,
    Close => close,
    Drain => drain,
    Maintain => maintain,
    Plan => plan,
    Wait => wait,
    Is => is,
    Status => status,
    Sessions => sessions,
    Session => session,
    Connections => connections,
    Connect => connect,
    Disconnect => disconnect,
    End => end,
    Announce => announce,
    Explain => explain,
    Tail => tail,
    History => history,
    Deliveries => deliveries,
    Webhook => webhook,
    Nodes => nodes,
    Doctor => doctor,
    Info => info,
    Drill => drill,
    Completions => completions,
    Help => help,
    Version => version,
    DialStdio => dial_stdio,
    ExecStdio => exec_stdio,
    #[command(name = "roll")]
    RollHosts => roll,
}

impl Command {
    /// Returns whether the verb concerns this machine alone, and no daemon of another one.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(
            self,
            Self::Drill(_)
                | Self::Completions(_)
                | Self::Webhook(_)
                | Self::Help(_)
                | Self::Version(_)
                | Self::DialStdio(_)
                | Self::ExecStdio(_)
        )
    }

    /// Returns whether the verb changes something on the node.
    pub(crate) const fn changes_node(&self) -> bool {
        match self {
            Self::Set(_)
            | Self::Open(_)
            | Self::Close(_)
            | Self::Drain(_)
            | Self::Maintain(_)
            | Self::Connect(_)
            | Self::Disconnect(_)
            | Self::End(_)
            | Self::Announce(_)
            | Self::RollHosts(_) => true,
            Self::Plan(args) => args.changes_node(),
            Self::Deliveries(args) => args.changes_node(),
            Self::Nodes(args) => args.changes_node(),
            _ => false,
        }
    }

    /// Refuses a verb that needs the control socket, where the node is reached over HTTP.
    pub(crate) fn check_supported(&self, node: Node<'_>) -> Result<(), Failure> {
        let needs_socket = matches!(
            self,
            Self::Maintain(_)
                | Self::Plan(_)
                | Self::Announce(_)
                | Self::Session(_)
                | Self::Connect(_)
                | Self::Disconnect(_)
                | Self::End(_)
                | Self::Explain(_)
                | Self::Tail(_)
                | Self::History(_)
                | Self::Deliveries(_)
                | Self::Doctor(_)
                | Self::Info(_)
        );
        if needs_socket {
            node.require(Feature::ControlSocket, self.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Command;
    use crate::suggestions::VERBS;

    /// Verbs that concern no single node, and one that is a word of each sentence.
    const NEVER_COMPLETED: [&str; 9] = [
        "completions",
        "dial_stdio",
        "drill",
        "exec_stdio",
        "help",
        "is",
        "roll",
        "version",
        "webhook",
    ];

    #[test]
    fn each_verb_is_completed_in_the_words_of_soramoded_or_never() {
        let mut listed = [&VERBS[..], &NEVER_COMPLETED].concat();
        listed.sort_unstable();
        let mut all = Command::NAMES.to_vec();
        all.sort_unstable();
        assert_eq!(listed, all);
    }
}
