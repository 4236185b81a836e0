//! `soramode completions SHELL`

use crate::completion_script::completion_script;
use crate::context::Context;
use crate::error::{Exit, Failure};

/// Print the completion script for a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Shell to complete in
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Elvish,
    Powershell,
}

impl Shell {
    const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Elvish => "elvish",
            Self::Powershell => "powershell",
        }
    }
}

#[expect(clippy::unused_async, reason = "every verb is run alike")]
pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let script = completion_script(args.shell.name());
    let script = script.map_err(|problem| {
        Failure::new(Exit::Failed, format!("cannot write the script: {problem}"))
    })?;
    context
        .output
        .text(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
