//! The scripts that make a shell ask `soramode` for completions.

use std::io;

use clap_complete::env::Shells;

/// The variable by which the shell's script asks.
pub(crate) const VARIABLE: &str = "_SORAMODE_COMPLETE";

/// Bash's own: `=` and `:` end a word there, so that what is typed of `mode=normal` comes in three.
const BASH: &str = include_str!("completion.bash");

/// The command that maintain runs is completed as it is on its own.
const ZSH: &str = include_str!("completion.zsh");

/// The command that maintain runs is completed as it is on its own.
const FISH: &str = include_str!("completion.fish");

/// The small script that makes a shell ask `soramode` for completions. Where there is no such program in `PATH` it is quiet.
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
            // Counts without a program.
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
