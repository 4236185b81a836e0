//! Command lines that are suggested: each can be pasted into a shell as it stands.

use std::ffi::OsStr;

use os_display::Quotable;

/// A word of a command line, quoted where the shell would take it for more than one word or for something else.
pub(crate) fn word(word: impl AsRef<OsStr>) -> String {
    word.as_ref().maybe_quote().to_string()
}

/// `--socket '/tmp/my dir/s.sock'`
pub(crate) fn flag(name: &str, value: impl AsRef<OsStr>) -> String {
    format!("--{name} {}", word(value))
}

/// `soramode`, the flags that say whom to ask, and the words of a command.
pub(crate) fn soramode(parts: &[&str]) -> String {
    let parts: Vec<&str> = std::iter::once("soramode").chain(parts.iter().copied()).filter(|part| !part.is_empty()).collect();
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
        ] {
            let quoted = word(OsStr::from_bytes(text));
            let printed = Command::new("bash").arg("-c").arg(format!("printf %s {quoted}")).output().unwrap();
            assert_eq!(printed.stdout, text, "{quoted}");
            assert!(!quoted.chars().any(char::is_control), "{quoted:?}");
        }
    }

    #[test]
    fn empty_parts_leave_no_gap() {
        assert_eq!(soramode(&["", "--api-token-file /t", "get"]), "soramode --api-token-file /t get");
    }
}
