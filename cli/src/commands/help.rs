//! `soramode help [VERB]`

use crate::Context;
use crate::args;
use crate::error::{Exit, Failure};

/// Print help for soramode, or for one of its commands
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

#[expect(clippy::unused_async, reason = "every verb is run alike")]
pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut whole = args::Args::whole_command();
    let command = match &args.command {
        None => Some(&mut whole),
        Some(name) => whole.find_subcommand_mut(name),
    };
    let Some(command) = command else {
        let name = args.command.unwrap_or_default();
        return Err(Failure::new(Exit::Usage, format!("there is no command {name:?}")).with_hint("soramode help lists the commands"));
    };
    context.output.text(command.render_long_help().to_string().trim_end())?;
    Ok(Exit::Done)
}
