//! The scripts that make a shell ask `soramode` for completions.

use std::io;

use clap_complete::env::Shells;

/// Variable that the shell's script sets.
pub(crate) const VARIABLE: &str = "_SORAMODE_COMPLETE";

/// The script for bash, where `=` and `:` end a word: `mode=normal` comes in three.
const BASH: &str = include_str!("completion.bash");

/// The command that maintain runs is completed as it is on its own.
const ZSH: &str = include_str!("completion.zsh");

/// The command that maintain runs is completed as it is on its own.
const FISH: &str = include_str!("completion.fish");

/// Returns the script for a shell. It is silent if there is no `soramode` in `PATH`.
pub(crate) fn completion_script(shell: &str) -> io::Result<Vec<u8>> {
    if shell == "bash" {
        return Ok(BASH.replace("VARIABLE", VARIABLE).into_bytes());
    }
    let shells = Shells::builtins();
    let shell = shells
        .completer(shell)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such shell"))?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "soramode", "soramode", "soramode", &mut script)?;
    let script = String::from_utf8_lossy(&script);
    let script = match shell.name() {
        "fish" => {
            let condition = "--command soramode --condition \"command -q soramode; and not __soramode_command >/dev/null\" ";
            format!("{FISH}{}", script.replace("--command soramode ", condition))
        }
        "zsh" => {
            // Counting in zsh itself needs no program.
            let script = script.replace("$(expr $CURRENT - 1)", "$((CURRENT - 1))");
            script.replacen(
                "function _clap_dynamic_completer_soramode() {\n",
                &format!("{ZSH}    _soramode_command && return\n"),
                1,
            )
        }
        _ => script.into_owned(),
    };
    Ok(script.into_bytes())
}
