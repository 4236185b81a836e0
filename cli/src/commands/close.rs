//! `soramode close`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use soramode_protocol::mode::Mode;

use super::set::{self, SetFlags};
use crate::context::Context;
use crate::error::{Exit, Failure};

/// Close the node to new sessions (set block_new_session)
///
/// Connected clients stay, and clients still join channels that have a session. On a node in block_new_connection this admits new connections
/// to these channels again; soramode drain keeps the stricter mode.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: SetFlags,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    set::set(Mode::BlockNewSession, &args.flags, context).await
}
