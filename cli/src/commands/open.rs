//! `soramode open`

use soramode_protocol::mode::Mode;

use super::set::{self, SetFlags};
use crate::context::Context;
use crate::error::{Exit, Failure};

/// Open the node (set normal)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    flags: SetFlags,
}

impl Args {
    /// Returns the `set normal` that it stands for.
    pub(super) fn into_set(self) -> set::Args {
        set::Args::of(Mode::Normal, self.flags)
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    set::set(Mode::Normal, &args.flags, context).await
}
