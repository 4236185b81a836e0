//! Completion: the shell's script runs `soramode` again, which offers modes, and channels and connections live from the daemon.

use clap::{Arg, Command};
use clap_complete::env::CompleteEnv;

use crate::args::Args;
use crate::candidates;
use crate::completion_script::VARIABLE;
use crate::error::{Exit, Failure};
use crate::output::report_failure;

/// Prints completions for a shell that asks for them; `None` where none asks: its script sets the variable and begins with `--`, which no command
/// does.
pub(crate) fn complete() -> Option<Exit> {
    // The engine unsets the variable before it asks for candidates.
    candidates::remember_shell(std::env::var(VARIABLE).unwrap_or_default());
    std::env::var_os(VARIABLE)?;
    if std::env::args_os().nth(1)? != "--" {
        return None;
    }
    let directory = std::env::current_dir().ok();
    match CompleteEnv::with_factory(values_first)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), directory.as_deref())
    {
        Ok(true) => Some(Exit::Done),
        Ok(false) => None,
        Err(problem) => {
            let failure = Failure::new(Exit::Failed, format!("{VARIABLE}: {problem}"));
            report_failure(&failure);
            Some(failure.exit)
        }
    }
}

/// Returns the commands with their options hidden: the engine then offers options only after modes
/// and channels.
fn values_first() -> Command {
    let hidden = |option: Arg| {
        if option.is_positional() {
            option
        } else {
            option.hide(true)
        }
    };
    Args::whole_command()
        .mut_args(hidden)
        .mut_subcommands(|verb| by_name_alone(verb.mut_args(hidden)))
}

/// Hides the other names of a command, which the engine would offer in place of its name.
fn by_name_alone(verb: Command) -> Command {
    // The definition needs names that live as long as the program, which ends after this answer.
    let names: Vec<&'static str> = verb
        .get_visible_aliases()
        .map(|name| &*name.to_owned().leak())
        .collect();
    verb.visible_alias(None::<&str>).aliases(names)
}
