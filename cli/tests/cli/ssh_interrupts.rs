//! Ctrl-C on the terminal of `soramode -H`: it is for soramode alone, never for its ssh, and it is never without effect.

use std::fs;

use nix::sys::signal::Signal;

use crate::ssh::{HOST, Remote, signal};
use crate::support::{Fake, PROGRAM, Reply, until, until_file};
use crate::terminal::Terminal;

impl Remote {
    /// Runs the program on a terminal, over a shared connection.
    pub(crate) fn on_terminal(&self, words: &str) -> Terminal {
        let script = format!(
            "trap : INT; export XDG_RUNTIME_DIR={}; SORAMODE_SSH='{}' {PROGRAM} -H {HOST} {words}; echo ended with $?; exec sleep 600",
            self.runtime.path().display(),
            self.ssh()
        );
        Terminal::open(&script, (100, 24))
    }

    /// A command that prints two words, the second once the file `go-on` is there.
    fn begun_and_ended(&self) -> String {
        let file = self.runtime.path().join("go-on");
        format!(
            "sh -c 'echo begun $((40 + 2)); {}; echo ended'",
            until_file(&file)
        )
    }

    fn go_on(&self) {
        fs::write(self.runtime.path().join("go-on"), "").unwrap();
    }

    /// Lets the command end, and waits until its end is recorded on the closed node.
    fn until_recorded_closed(&self) {
        self.go_on();
        until(|| {
            let (_, status) = self.daemon.json(&["status"]);
            (status["reservation"]["command_exit"] == 0).then_some(())
        });
        assert_eq!(self.daemon.ok(&["get"]), "block_new_session\n");
    }
}

fn assert_left_closed(screen: &str, words: &[&str]) {
    let open = ["STILL CLOSED", "soramode -H sfu-02 set normal"];
    for words in open.iter().chain(words) {
        assert!(screen.contains(words), "{words}: {screen}");
    }
}

/// Words for a command that has not ended yet.
const GOES_ON: [&str; 2] = ["The command goes on there", "soramode -H sfu-02 status"];

#[test]
fn an_interrupt_leaves_a_command_whose_connection_is_lost() {
    let remote = Remote::start();
    let terminal = remote.on_terminal(&format!("maintain -m X -- {}", remote.begun_and_ended()));
    terminal.until_shown("begun 42");
    let session = until(|| remote.session_process("@pts"));
    signal(session, Signal::SIGKILL);
    terminal.until_shown("looking for its end");
    terminal.press("C-c");
    assert_left_closed(&terminal.until_shown("ended with 130"), &GOES_ON);
    remote.until_recorded_closed();
}

#[test]
fn an_interrupt_does_not_reach_the_ssh_of_a_command_without_a_terminal() {
    let remote = Remote::start();
    let out = remote.runtime.path().join("out");
    let words = format!(
        "maintain -m X -- {} > {}",
        remote.begun_and_ended(),
        out.display()
    );
    let begin_and_interrupt = || {
        let terminal = remote.on_terminal(&words);
        let has_begun = || fs::read_to_string(&out).is_ok_and(|it| it.contains("begun 42"));
        until(|| has_begun().then_some(()));
        terminal.press("C-c");
        terminal.until_shown("interrupted: the command is waited for");
        terminal
    };
    let waited = begin_and_interrupt();
    remote.go_on();
    let screen = waited.until_shown("ended with 0");
    assert!(!screen.contains("connection lost"), "{screen}");
    let printed = fs::read_to_string(&out).unwrap();
    assert!(printed.contains("ended"), "{printed}");
    assert_eq!(remote.daemon.ok(&["get"]), "normal\n");
    fs::remove_file(remote.runtime.path().join("go-on")).unwrap();
    fs::remove_file(&out).unwrap();
    let left = begin_and_interrupt();
    left.press("C-c");
    assert_left_closed(&left.until_shown("ended with 130"), &GOES_ON);
    remote.until_recorded_closed();
}

#[test]
fn after_a_signal_ctrl_c_leaves_a_command_that_has_the_terminal() {
    let remote = Remote::start();
    let terminal = remote.on_terminal(&format!("maintain -m X -- {}", remote.begun_and_ended()));
    terminal.until_shown("begun 42");
    let pid = until(|| {
        let with_verb = format!("{PROGRAM} -H {HOST} maintain");
        let all = soramode_testkit::sshd::processes();
        let is_it = |pid: &u32| {
            let line = soramode_testkit::sshd::command_line(*pid);
            line.starts_with(&with_verb) && line.contains(&*remote.runtime.path().to_string_lossy())
        };
        all.into_iter().find(is_it)
    });
    signal(pid, Signal::SIGTERM);
    terminal.until_shown("Ctrl-C again leaves at once");
    terminal.press("C-c");
    assert_left_closed(&terminal.until_shown("ended with 130"), &GOES_ON);
    remote.until_recorded_closed();
}

#[test]
fn an_interrupt_leaves_a_command_that_has_ended_while_soramoded_is_down() {
    let mut remote = Remote::start();
    let terminal = remote.on_terminal(&format!("maintain -m X -- {}", remote.begun_and_ended()));
    terminal.until_shown("begun 42");
    remote.daemon.stop();
    remote.go_on();
    terminal.until_shown("soramoded does not answer");
    terminal.press("C-c");
    let screen = terminal.until_shown("ended with 130");
    assert_left_closed(&screen, &["is not recorded"]);
}

#[test]
fn an_interrupt_of_a_drain_is_not_a_lost_connection() {
    let remote = Remote::start();
    remote.daemon.connect("spam", "c1");
    for words in ["drain", "maintain -- true"].repeat(3) {
        let terminal = remote.on_terminal(words);
        terminal.until_shown("of 1 session left");
        terminal.press("C-c");
        let screen = terminal.until_shown("ended with 130");
        assert!(screen.contains("interrupted after"), "{screen}");
        assert!(!screen.contains("lost"), "{screen}");
    }
}

#[test]
fn an_interrupt_of_a_drain_that_is_not_answered_is_an_interrupt() {
    let remote = Remote::start();
    let asked = remote.runtime.path().join("asked");
    let fake = Fake::start({
        let asked = asked.clone();
        move |_| {
            fs::write(&asked, "").unwrap();
            Reply::Nothing
        }
    });
    let terminal = remote.on_terminal(&format!("--socket {} drain", fake.socket().display()));
    until(|| asked.exists().then_some(()));
    terminal.press("C-c");
    let screen = terminal.until_shown("ended with 130");
    assert!(
        screen.contains("interrupted. Nothing was changed"),
        "{screen}"
    );
}
