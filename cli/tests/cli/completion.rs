//! Completion, as a shell's script asks for it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Fake, Reply, Run, program};

fn complete(socket: &Path, words: &[&str]) -> String {
    let mut command = program(socket);
    command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string());
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "false").env("_CLAP_IFS", "\n");
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
    assert_eq!(complete(&socket, &["soramode", "set", "b"]), "block_new_session\nblock_new_connection");
    assert_eq!(complete(&socket, &["soramode", "session", ""]), "spam", "and no option before one is begun");
    assert_eq!(complete(&socket, &["soramode", "set", ""]), "normal\nblock_new_session\nblock_new_connection");
    assert!(complete(&socket, &["soramode", "set", "--i"]).contains("--if-mode"));
    assert!(!complete(&socket, &["soramode", "session", ""]).contains("reboot"), "a shell would run that");
    assert!(complete(&socket, &["soramode", "disconnect", "c"]).contains("c1"));
    assert!(complete(&socket, &["soramode", "dr"]).contains("drain"));
}

#[test]
fn a_daemon_that_says_nothing_holds_up_nobody() {
    let fake = Fake::start(|_| Reply::Nothing);
    let began = Instant::now();
    assert!(!complete(&fake.socket(), &["soramode", "session", ""]).contains("spam"));
    assert!(began.elapsed() < Duration::from_secs(5), "gave up after {:?}", began.elapsed());
}

#[test]
fn the_script_is_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = program(Path::new("/nonexistent")).args(["completions", shell]).ended();
        assert_eq!(ended.code, 0);
        assert!(ended.stdout.contains("COMPLETE"), "{shell}");
    }
}
