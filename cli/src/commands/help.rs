//! `soramode help [VERB]`

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::Context;
use crate::args;
use crate::error::{Exit, Failure};

/// Print help for soramode, or for one of its commands
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command, and one of its own where it has some: webhook test
    #[arg(value_name = "COMMAND", add = ArgValueCandidates::new(commands))]
    command: Vec<String>,
}

fn commands() -> Vec<CompletionCandidate> {
    args::Args::whole_command().get_subcommands().map(|command| CompletionCandidate::new(command.get_name())).collect()
}

#[expect(clippy::unused_async, reason = "every verb is run alike")]
pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut whole = args::Args::whole_command();
    let command = args.command.iter().try_fold(&mut whole, |command, name| command.find_subcommand_mut(name));
    let Some(command) = command else {
        let message = format!("there is no command {:?}", args.command.join(" "));
        return Err(Failure::new(Exit::Usage, message).with_hint("soramode help lists the commands"));
    };
    context.output.text(command.render_long_help().to_string().trim_end())?;
    Ok(Exit::Done)
}
