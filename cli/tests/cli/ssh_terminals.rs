//! The command of `maintain -H` on a terminal: it has one of its own on the host, which outlives the connection.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use soramode_testkit::sshd::{command_line, processes};

use crate::ssh::{HOST, Remote, signal};
use crate::support::{PROGRAM, until, until_file};
use crate::terminal::Terminal;

impl Remote {
    /// Runs a script on the host as the command of a maintenance, on a terminal. It has begun.
    fn maintain_on_terminal(&self, script: &str) -> Terminal {
        let file = self.file("command");
        fs::write(&file, format!("echo begun $((40 + 2))\n{script}\n")).unwrap();
        let script = format!(
            "SORAMODE_SSH='{}' {PROGRAM} -H {HOST} maintain -m X -- sh {}; echo ended with $?; stty -a; exec sleep 600",
            self.ssh(),
            file.display()
        );
        let terminal = Terminal::open(&script, (100, 24));
        terminal.until_shown("begun 42");
        terminal
    }

    fn file(&self, name: &str) -> PathBuf {
        self.runtime.path().join(name)
    }

    /// Returns once the script has made this file.
    fn until_made(&self, name: &str) {
        until(|| self.file(name).exists().then_some(()));
    }

    /// A line of a script that makes this file.
    fn make(&self, name: &str) -> String {
        format!(": > {}", self.file(name).display())
    }

    /// Kills the ssh of the command, and waits until its terminal on the host has hung up.
    fn kill_ssh_of_command(&self) {
        let with_terminal = format!("{} ", self.ssh());
        let is_it = |pid: &u32| {
            let line = command_line(*pid);
            line.starts_with(&with_terminal) && line.contains(" -t ")
        };
        let ssh = until(|| processes().into_iter().find(is_it));
        signal(ssh, Signal::SIGKILL);
        until(|| {
            let terminal = self.session_process("@pts");
            terminal.is_none().then_some(())
        });
    }

    /// Returns the exit code of the command in the node's record, and the mode.
    fn recorded(&self) -> (serde_json::Value, serde_json::Value) {
        let (_, status) = self.daemon.json(&["status"]);
        (
            status["reservation"]["command_exit"].clone(),
            status["mode"].clone(),
        )
    }
}

#[test]
fn a_command_goes_on_to_its_end_when_its_ssh_is_killed() {
    let remote = Remote::start();
    let terminal = remote.maintain_on_terminal(&format!(
        "set -e\n{}\nseq 100000\nseq 100000 >&2\necho more > /dev/tty\n{}",
        until_file(&remote.file("go-on")),
        remote.make("ended")
    ));
    remote.kill_ssh_of_command();
    terminal.until_shown("connection lost while the command runs");
    fs::write(remote.file("go-on"), "").unwrap();
    remote.until_made("ended");
    terminal.until_shown("ended with 0");
    // The terminal is as it was before.
    terminal.until("the settings of a shell", |screen| {
        screen.contains(" icanon") && screen.contains(" echo ") && !screen.contains("-icanon")
    });
    assert_eq!(remote.daemon.ok(&["get"]), "normal\n");
}

#[test]
fn the_end_of_a_command_is_recorded_when_its_terminal_is_closed() {
    let remote = Remote::start();
    let terminal = remote.maintain_on_terminal(&format!(
        "set -e\n{}\nseq 100000\nexit 3",
        until_file(&remote.file("go-on"))
    ));
    drop(terminal);
    until(|| remote.session_process("@pts").is_none().then_some(()));
    fs::write(remote.file("go-on"), "").unwrap();
    until(|| (remote.recorded().0 == 3).then_some(()));
    assert_eq!(remote.recorded().1, "block_new_session");
}

#[test]
fn output_that_was_stopped_goes_on_when_the_connection_is_lost() {
    let remote = Remote::start();
    let terminal = remote.maintain_on_terminal(&format!(
        "set -e\nread line\n{}\n{}\nseq 100000",
        remote.make("read"),
        until_file(&remote.file("go-on"))
    ));
    terminal.press("C-s");
    terminal.press("Enter");
    remote.until_made("read");
    remote.kill_ssh_of_command();
    fs::write(remote.file("go-on"), "").unwrap();
    terminal.until_shown("ended with 0");
}

#[test]
fn a_question_gets_no_answer_when_the_connection_is_lost() {
    let remote = Remote::start();
    let terminal = remote.maintain_on_terminal(
        "for number in 1 2 3; do read -r line < /dev/tty && exit 9; test -z \"$line\" || exit 8; done; exit 7",
    );
    terminal.press("half");
    terminal.until_shown("half");
    remote.kill_ssh_of_command();
    terminal.until_shown("ended with 7");
}

#[test]
fn a_command_is_asked_resized_and_interrupted_as_on_the_host() {
    let remote = Remote::start();
    let terminal = remote.maintain_on_terminal(&format!(
        "trap 'echo size $(stty size)' WINCH\ntrap 'echo interrupted; exit 7' INT\necho size $(stty size)\n\
         stty -echo < /dev/tty; printf 'Password: ' > /dev/tty; read -r word < /dev/tty; stty echo < /dev/tty\n\
         echo; echo read ${{#word}}\n{}",
        until_file(&remote.file("go-on"))
    ));
    terminal.until_shown("size 24 100");
    terminal.until_shown("Password:");
    terminal.press("secret");
    terminal.press("Enter");
    let screen = terminal.until_shown("read 6");
    assert!(!screen.contains("secret"), "{screen}");
    terminal.tmux(&["resize-window", "-x", "90", "-y", "20"]);
    terminal.until_shown("size 20 90");
    terminal.press("C-c");
    terminal.until_shown("interrupted");
    terminal.until_shown("ended with 7");
}

#[test]
fn a_sentence_after_the_command_begins_a_line_of_its_own() {
    let remote = Remote::start();
    let terminal = remote.maintain_on_terminal("printf 'no line feed'; exit 3");
    let screen = terminal.until_shown("ended with 3");
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let last = lines.iter().position(|line| *line == "no line feed");
    let next = lines[last.unwrap() + 1];
    // On a busy machine it is "soramoded on sfu-02 does not answer".
    assert!(next.starts_with("soramode"), "{screen}");
    remote.daemon.ok(&["open"]);
    let script = format!(
        "{PROGRAM} --socket {} maintain -- printf 'no line feed'; exec sleep 600",
        remote.daemon.socket().display()
    );
    let terminal = Terminal::open(&script, (100, 24));
    let screen = terminal.until_shown("it was closed for");
    let mut lines = screen.lines().map(str::trim_end);
    assert!(lines.any(|line| line == "no line feed"), "{screen}");
}
