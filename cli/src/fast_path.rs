//! The fast path of commands that scripts run in loops: without it `soramode get` takes twice the instructions.
//!
//! - It makes clap's definition of the typed verb alone. That saves 0.8 million instructions of 1.7, and 40 page faults of 210.
//! - `get` does without an async runtime. That saves 0.05 million instructions, 10 page faults and 27 system calls.
//!
//! The results are the same without it: [`read_args`] and [`run_blocking`] return `None` for everything else.

use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _};
use soramode_protocol::mode::GetMode;

use crate::args::Args;
use crate::commands::{Command, get};
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::flags::Global;
use crate::node::Node;

/// Reads a command line by the definition of the typed verb. `None` if that does not read it: an error or a help may be about every verb.
pub(crate) fn read_args(words: &[OsString]) -> Option<Args> {
    let verb = words
        .iter()
        .skip(1)
        .find_map(|word| Command::definition(word.to_str()?))?;
    let command = Global::augment_args(clap::Command::new("soramode"))
        .disable_help_subcommand(true)
        .subcommand(verb)
        .subcommand_required(true);
    Args::from_arg_matches_mut(&mut command.try_get_matches_from(words).ok()?).ok()
}

/// Runs a command that is one request to the daemon, without a runtime. `None` for all others.
pub(crate) fn run_blocking(
    command: &Command,
    context: &mut Context<'_>,
) -> Option<Result<Exit, Failure>> {
    match (command, context.node) {
        (Command::Get(_), Node::Daemon(endpoint)) => {
            let answer = endpoint.ask(&GetMode {})?;
            Some(answer.and_then(|state| get::show(state.mode, &state, &mut context.output)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_one_verb_reads_the_same_as_that_of_all() {
        let read = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            (
                read_args(&words).map(|args| format!("{args:?}")),
                Args::read(&words).map(|args| format!("{args:?}")).ok(),
            )
        };
        for line in [
            "get",
            "--socket /s get",
            "get --json -q",
            "-o plain sessions --channel get",
            "maintain -m get -- soramode set normal",
            "webhook verify --secret-file get",
        ] {
            let (of_typed, of_any) = read(&format!("soramode {line}"));
            assert_eq!(of_typed, of_any, "{line}");
            assert!(of_typed.is_some(), "{line}");
        }
        // The verb is not the first word that looks like one; or there is none; or the line needs
        // help or an error.
        for line in ["--socket get set normal", "--socket get list"] {
            let (of_typed, of_any) = read(&format!("soramode {line}"));
            assert_eq!((of_typed, of_any.is_some()), (None, true), "{line}");
        }
        for line in [
            "",
            "gte",
            "get --help",
            "help --help",
            "--version get",
            "get get",
        ] {
            assert_eq!(read(&format!("soramode {line}")), (None, None), "{line}");
        }
    }
}
