//! Suggested command lines, which can be pasted into a shell.

use std::ffi::OsStr;

use os_display::Quotable;

/// Quotes a word of a command line if a shell would split or expand it, or a reader could take its end for that of a sentence.
pub(crate) fn word(word: impl AsRef<OsStr>) -> String {
    let word = word.as_ref();
    if word.as_encoded_bytes().ends_with(b".") {
        word.quote().to_string()
    } else {
        word.maybe_quote().to_string()
    }
}

/// `--socket '/tmp/my dir/s.sock'`
pub(crate) fn flag(name: &str, value: impl AsRef<OsStr>) -> String {
    format!("--{name} {}", word(value))
}

/// Joins `soramode`, the flags that select the node, and the words of a command.
pub(crate) fn soramode(parts: &[&str]) -> String {
    let parts: Vec<&str> = std::iter::once("soramode")
        .chain(parts.iter().copied())
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_a_word_as_it_was() {
        for text in [
            &b"/run/s.sock"[..],
            b"/tmp/my dir/s",
            b"it's",
            b"a\"b",
            b"$(reboot)",
            b"*",
            b"",
            b"~",
            "会議室".as_bytes(),
            b"a\nb\x1b[31m",
            b"\xff",
            b"#x",
            b".",
        ] {
            let quoted = word(OsStr::from_bytes(text));
            let printed = Command::new("bash")
                .arg("-c")
                .arg(format!("printf %s {quoted}"))
                .output()
                .unwrap();
            assert_eq!(printed.stdout, text, "{quoted}");
            assert!(!quoted.chars().any(char::is_control), "{quoted:?}");
        }
    }

    #[test]
    fn empty_parts_leave_no_gap() {
        assert_eq!(
            soramode(&["", "--api-token-file /t", "get"]),
            "soramode --api-token-file /t get"
        );
    }

    #[test]
    fn a_flag_that_takes_a_number_says_so() {
        let numbers = [
            std::any::TypeId::of::<u64>(),
            std::any::TypeId::of::<u32>(),
            std::any::TypeId::of::<usize>(),
            std::any::TypeId::of::<u16>(),
            std::any::TypeId::of::<u8>(),
        ];
        let mut checked = 0;
        let mut commands = vec![crate::args::Args::whole_command()];
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands().cloned());
            let takes_number = |arg: &&clap::Arg| {
                numbers
                    .iter()
                    .any(|number| arg.get_value_parser().type_id() == *number)
            };
            for arg in command
                .get_arguments()
                .filter(takes_number)
                .filter(|arg| arg.get_action().takes_values())
            {
                let flag = arg.get_long().map(|long| format!("--{long}"));
                let words = std::iter::once("soramode".to_owned())
                    .chain(flag)
                    .chain(["x".to_owned()]);
                let error = command
                    .clone()
                    .subcommand_required(false)
                    .try_get_matches_from(words)
                    .unwrap_err()
                    .to_string();
                assert!(
                    error.contains("expected a whole number"),
                    "{} {}: {error}",
                    command.get_name(),
                    arg.get_id()
                );
                checked += 1;
            }
        }
        assert!(checked >= 9, "{checked}");
    }
}
