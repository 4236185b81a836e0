//! Completion, as a shell's script asks for it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Fake, Reply, Run, program};
use crate::terminal::Terminal;

fn complete(socket: &Path, words: &[&str]) -> String {
    let mut command = program(socket);
    command
        .env("_SORAMODE_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    command
        .env("_CLAP_COMPLETE_COMP_TYPE", "9")
        .env("_CLAP_COMPLETE_SPACE", "false")
        .env("_CLAP_IFS", "\n");
    let ended = command.arg("--").args(words).ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout
}

#[test]
fn modes_channels_and_connections_are_offered() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    daemon.connect("$(reboot)", "c2");
    let socket = daemon.socket();
    daemon.connect("a b", "c3");
    assert!(complete(&socket, &["soramode", "session", "a"]).contains("a\\ b"));
    daemon.disconnect("c3");
    assert_eq!(
        complete(&socket, &["soramode", "set", "b"]),
        "block_new_session\nblock_new_connection"
    );
    assert_eq!(
        complete(&socket, &["soramode", "session", ""]),
        "spam",
        "and no option before one is begun"
    );
    assert_eq!(
        complete(&socket, &["soramode", "set", ""]),
        "normal\nblock_new_session\nblock_new_connection"
    );
    assert!(complete(&socket, &["soramode", "set", "--i"]).contains("--if-mode"));
    assert!(
        !complete(&socket, &["soramode", "session", ""]).contains("reboot"),
        "a shell would run that"
    );
    assert!(complete(&socket, &["soramode", "disconnect", "c"]).contains("c1"));
    assert!(complete(&socket, &["soramode", "dr"]).contains("drain"));
}

#[test]
fn a_silent_daemon_does_not_delay_completion() {
    let fake = Fake::start(|_| Reply::Nothing);
    let began = Instant::now();
    assert!(!complete(&fake.socket(), &["soramode", "session", ""]).contains("spam"));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "gave up after {:?}",
        began.elapsed()
    );
}

#[test]
fn sockets_types_states_and_programs_are_offered() {
    let daemon = Daemon::start();
    let folder = daemon.socket().parent().unwrap().to_owned();
    std::fs::write(folder.join("soramode.sock.lock"), "").unwrap();
    let begun = folder.join("sora").display().to_string();
    assert_eq!(
        complete(&daemon.socket(), &["soramode", "--socket", &begun]),
        daemon.socket().display().to_string()
    );
    let types = complete(
        &daemon.socket(),
        &["soramode", "tail", "--type", "session."],
    );
    assert!(
        types.contains("session.destroyed") && types.contains("session.*"),
        "{types}"
    );
    assert_eq!(
        complete(
            &daemon.socket(),
            &["soramode", "deliveries", "--state", "p"]
        ),
        "pending"
    );
    assert!(
        complete(&daemon.socket(), &["soramode", "maintain", "--", "bas"])
            .lines()
            .any(|program| program == "bash")
    );
    let verbs = complete(&daemon.socket(), &["soramode", ""]);
    assert!(
        verbs.lines().any(|verb| verb == "sessions") && !verbs.lines().any(|verb| verb == "list"),
        "{verbs}"
    );
    assert!(complete(&daemon.socket(), &["soramode", "list", "--s"]).contains("--sort"));
}

#[test]
fn the_completion_variable_disables_no_command() {
    let daemon = Daemon::start();
    for (name, value) in [
        ("COMPLETE", "yes"),
        ("COMPLETE", "bash"),
        ("_SORAMODE_COMPLETE", "yes"),
        ("_SORAMODE_COMPLETE", "bash"),
    ] {
        let ended = program(&daemon.socket())
            .env(name, value)
            .args(["set", "block_new_session"])
            .ended();
        assert_eq!(
            (ended.code, daemon.ok(&["get"]).as_str()),
            (0, "block_new_session\n"),
            "{name}={value}: {ended:?}"
        );
        daemon.ok(&["set", "normal"]);
    }
    let ended = program(&daemon.socket())
        .env("_SORAMODE_COMPLETE", "nosuchshell")
        .args(["--", "soramode", ""])
        .ended();
    assert_eq!(ended.code, 70);
    assert!(ended.stderr.contains("unknown shell"), "{ended:?}");
}

/// Types in a real shell, and reads the line that comes of it.
#[test]
fn real_shells_complete_a_word_and_are_quiet_without_the_program() {
    let daemon = Daemon::start();
    daemon.connect("a b", "c1");
    let socket = daemon.socket().display().to_string();
    // Each shell knows how to complete the command `true`; bash by what bash-completion has for that.
    for (shell, begin) in [
        (
            "bash --norc -i",
            "source <(soramode completions bash); _command_offset() { COMPREPLY=(restart-all); }; PS1='ready> '",
        ),
        (
            "zsh -f -i",
            "autoload -U compinit; compinit -u -D; source <(soramode completions zsh); _t() { compadd restart-all }; compdef _t true; PS1='ready> '",
        ),
        (
            "fish --no-config -i",
            "soramode completions fish | source; complete -c true -xa restart-all; function fish_prompt; echo 'ready> '; end",
        ),
    ] {
        let terminal = Terminal::open(
            &format!("HOME=$PWD SORAMODE_SOCKET={socket} exec {shell}"),
            (120, 40),
        );
        let enter = |line: &str| {
            terminal.tmux(&["send-keys", "-l", line]);
            terminal.press("Enter");
        };
        let until_ready =
            || terminal.until("ready", |screen| screen.trim_end().ends_with("ready>"));
        enter(begin);
        until_ready();
        for (typed, wanted) in [
            (
                "soramode wait mode=block_new_c",
                "soramode wait mode=block_new_connection",
            ),
            ("soramode --socket ", ""),
            (
                "soramode deliveries --state p",
                "soramode deliveries --state pending",
            ),
            ("soramode session a", r"soramode session a\ b"),
            (
                "soramode maintain -- true rest",
                "soramode maintain -- true restart-all",
            ),
        ] {
            terminal.tmux(&["send-keys", "-l", typed]);
            if wanted.is_empty() {
                terminal.tmux(&["send-keys", "-l", socket.strip_suffix(".sock").unwrap()]);
            }
            terminal.press_until_shown("Tab", if wanted.is_empty() { &socket } else { wanted });
            assert!(!terminal.screen().contains(".lock"), "{shell}");
            terminal.press("C-u");
            until_ready();
        }
        enter(if shell.starts_with("fish") {
            "set -e PATH; set PATH /nonexistent"
        } else {
            "PATH=/nonexistent"
        });
        terminal.tmux(&["send-keys", "-l", "soramode se"]);
        terminal.press("Tab");
        enter(
            "ssions; echo still $((40 + 2)) here"
                .replace(
                    "$((40 + 2))",
                    if shell.starts_with("fish") {
                        "(math 40 + 2)"
                    } else {
                        "$((40 + 2))"
                    },
                )
                .as_str(),
        );
        let screen = terminal.until_shown("still 42 here");
        let complaints = screen.to_lowercase().matches("not found").count()
            + screen.to_lowercase().matches("unknown command").count();
        assert!(
            complaints <= 1,
            "{shell}: the command alone complains:\n{screen}"
        );
    }
}

#[test]
fn the_script_is_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = program(Path::new("/nonexistent"))
            .args(["completions", shell])
            .ended();
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains("COMPLETE"), "{shell}");
    }
}
