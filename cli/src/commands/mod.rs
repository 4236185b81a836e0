//! The verbs, one file each: its arguments, what it does, and how it shows the answer.

mod completions;
mod connect;
mod connections;
mod disconnect;
mod drain;
mod drill;
mod explain;
mod get;
mod history;
mod info;
mod is;
mod maintain;
mod session;
mod sessions;
mod set;
mod status;
mod tail;
mod wait;

use crate::Context;
use crate::error::{Exit, Failure};

/// The list of the verbs. A new one is its `mod` above and its line here.
macro_rules! verbs {
    ($($verb:ident => $module:ident,)*) => {
        /// The verbs.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Command {
            $($verb($module::Args),)*
        }

        impl Command {
            /// Runs it.
            pub(crate) async fn run(self, context: &mut Context<'_>) -> Result<Exit, Failure> {
                match self {
                    // On the heap, so that no verb pays for the largest of them.
                    $(Self::$verb(args) => Box::pin($module::run(args, context)).await,)*
                }
            }
        }
    };
}

verbs! {
    Get => get,
    Set => set,
    Drain => drain,
    Maintain => maintain,
    Wait => wait,
    Is => is,
    Status => status,
    Sessions => sessions,
    Session => session,
    Connections => connections,
    Connect => connect,
    Disconnect => disconnect,
    Explain => explain,
    Tail => tail,
    History => history,
    Info => info,
    Drill => drill,
    Completions => completions,
}
