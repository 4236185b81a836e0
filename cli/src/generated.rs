//! The files that are generated from the command line's one definition: man pages and completion scripts.

use std::io;

use clap_complete::env::Shells;

use crate::args::Args;
use crate::completion_script::completion_script;
use crate::manual::{GeneratedFile, command_page};

/// Returns the verbs that the help lists.
pub fn verbs() -> Vec<String> {
    let root = Args::whole_command();
    let shown = root.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown.map(|verb| verb.get_name().to_owned()).collect()
}

/// Generates `man/soramode.1`, a page for each command, and a completion script for each shell.
pub fn generated_files() -> io::Result<Vec<GeneratedFile>> {
    let root = Args::whole_command();
    let mut files = vec![command_page(&root)?];
    for command in root
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
    {
        files.push(command_page(command)?);
        for part in command.get_subcommands() {
            files.push(command_page(part)?);
        }
    }
    for shell in Shells::builtins().iter() {
        let content = completion_script(shell.name())?;
        files.push(GeneratedFile {
            path: format!("completions/soramode.{}", shell.name()),
            content,
        });
    }
    Ok(files)
}
