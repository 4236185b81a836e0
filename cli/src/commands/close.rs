//! `soramode close`

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use soramode_protocol::mode::Mode;

use super::set::{self, SetFlags};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::set_mode::Stricter;

/// Close the node to new sessions (set block_new_session)
///
/// Connected clients stay, and clients still join channels that have a session. No client is admitted that the node rejects now:
/// block_new_connection stays, and an isolated node becomes block_new_connection. soramode set block_new_session loosens it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: SetFlags,
}

pub(crate) async fn run(mut args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    args.flags.stricter = Stricter::Keep;
    set::set(Mode::BlockNewSession, &args.flags, context).await
}
