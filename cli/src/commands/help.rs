//! `soramode help [VERB]`

use clap::builder::StyledStr;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::help;

/// Print help for a command or a topic
///
/// Topics: options (the options that every command takes) and exit-codes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Command or topic, such as: drain, webhook test, exit-codes
    #[arg(value_name = "COMMAND", add = ArgValueCandidates::new(commands))]
    command: Vec<String>,
}

fn commands() -> Vec<CompletionCandidate> {
    help::groups()
        .flat_map(|(_, commands)| commands)
        .chain(help::TOPICS)
        .map(CompletionCandidate::new)
        .collect()
}

#[expect(clippy::unused_async, reason = "every verb is run alike")]
pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if let [name] = args.command.as_slice()
        && let Some(text) = help::topic(name)
    {
        context
            .output
            .text(StyledStr::from(text).to_string().trim_end())?;
        return Ok(Exit::Done);
    }
    let mut whole = (context.definition)();
    let command = args.command.iter().try_fold(&mut whole, |command, name| {
        command.find_subcommand_mut(name)
    });
    let Some(command) = command else {
        let message = format!("there is no command or topic {:?}", args.command.join(" "));
        return Err(
            Failure::new(Exit::Usage, message).with_hint("soramode help lists the commands")
        );
    };
    context
        .output
        .text(command.render_long_help().to_string().trim_end())?;
    Ok(Exit::Done)
}
