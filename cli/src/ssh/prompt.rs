//! Prompts of ssh: while it asks for something, it or the ssh to its jump host has the terminal open, apart from its own streams.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// The terminal, as ssh opens it for a prompt.
const TERMINAL: &str = "/dev/tty";

/// Limit of the processes that are looked at.
const PROCESSES_MAX: usize = 64;

/// Returns whether this process or one of its descendants asks for something on the terminal. One that cannot be looked at may ask.
pub(super) fn asks_on_terminal(process: u32) -> bool {
    has_open(process, Path::new(TERMINAL))
}

fn has_open(process: u32, file: &Path) -> bool {
    let mut processes = vec![process];
    let mut next = 0;
    while let Some(&process) = processes.get(next).filter(|_| next < PROCESSES_MAX) {
        if is_open_in(process, file) {
            return true;
        }
        processes.extend(children(process));
        next += 1;
    }
    false
}

fn is_open_in(process: u32, file: &Path) -> bool {
    match fs::read_dir(format!("/proc/{process}/fd")) {
        Ok(descriptors) => descriptors
            .flatten()
            .any(|it| fs::read_link(it.path()).is_ok_and(|target| target == file)),
        Err(problem) => problem.kind() == ErrorKind::PermissionDenied,
    }
}

/// Returns the children of a process with one thread, as ssh is.
fn children(process: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let text = text.unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_file_that_a_descendant_has_open_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tty");
        fs::write(&file, "").unwrap();
        // The inner shell closes the file, and says when.
        let script = "sh -c 'exec 3<\"$1\"; echo open; read line; exec 3<&-; echo closed; read line' x \"$1\"; true";
        let mut shell = Command::new("sh")
            .args(["-c", script, "x"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let mut input = shell.stdin.take().unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "open");
        assert!(has_open(shell.id(), &file));
        assert!(!has_open(shell.id(), Path::new("/nonexistent")));
        std::io::Write::write_all(&mut input, b"\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "closed");
        assert!(!has_open(shell.id(), &file));
        drop(input);
        shell.wait().unwrap();
        assert!(!has_open(shell.id(), &file));
    }
}
