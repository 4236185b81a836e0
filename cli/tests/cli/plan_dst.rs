//! `drain --at` in nights in which a clock changes, with a daemon and commands that run in such a night (Debian's faketime).

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::drill::soramoded;
use crate::support::{Run, Running, program, with_default_signals};

const LIBFAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// Has a program begin at this time, in UTC.
fn begin_at(command: &mut Command, time: &str) {
    assert!(
        Path::new(LIBFAKETIME).exists(),
        "needs: apt-get install faketime"
    );
    command
        .env("LD_PRELOAD", LIBFAKETIME)
        .env("FAKETIME", format!("@{time}"))
        .env("TZ", "UTC");
}

struct Night {
    folder: TempDir,
    begins: &'static str,
    daemon: Option<Running>,
}

impl Drop for Night {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.stopped();
        }
    }
}

impl Night {
    fn begin(begins: &'static str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut command = with_default_signals(soramoded());
        command
            .env_clear()
            .args(["--ephemeral", "--node-name", "node-01"]);
        command.arg("--socket").arg(folder.path().join("gate.sock"));
        begin_at(&mut command, begins);
        let mut daemon = command.running();
        daemon.until_said(" ready ");
        Self {
            folder,
            begins,
            daemon: Some(daemon),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = program(&self.folder.path().join("gate.sock"));
        begin_at(&mut command, self.begins);
        command.args(args);
        command
    }

    /// Plans a close at this time; returns it in UTC.
    fn close_at(&self, time: &str) -> String {
        let ended = self
            .command(&["--json", "drain", "--at", time, "--replace"])
            .ended();
        assert_eq!(ended.code, 0, "{time}: {ended:?}");
        ended.json()["plan"]["at"].as_str().unwrap().to_owned()
    }

    /// A close at this time is refused; returns why, with the choices.
    fn refused(&self, time: &str) -> String {
        let ended = self.command(&["drain", "--at", time]).ended();
        assert_eq!(ended.code, 2, "{time}: {ended:?}");
        ended.stderr
    }
}

#[test]
fn in_the_night_in_which_a_clock_is_set_back_an_hour_exists_twice() {
    let night = Night::begin("2027-10-30 22:00:00");
    for (time, closes) in [
        (
            "2027-10-31 01:59 Europe/Berlin",
            "2027-10-30T23:59:00.000000Z",
        ),
        ("2027-10-31 02:30 +02:00", "2027-10-31T00:30:00.000000Z"),
        ("2027-10-31 02:30 +01:00", "2027-10-31T01:30:00.000000Z"),
        (
            "2027-10-31 03:00 Europe/Berlin",
            "2027-10-31T02:00:00.000000Z",
        ),
        (
            "2027-11-07 02:00 America/New_York",
            "2027-11-07T07:00:00.000000Z",
        ),
    ] {
        assert_eq!(night.close_at(time), closes, "{time}");
    }
    for (time, choices) in [
        (
            "2027-10-31 02:30 Europe/Berlin",
            ["02:30 +02:00", "02:30 +01:00"],
        ),
        (
            "2027-11-07 01:30 America/New_York",
            ["01:30 -04:00", "01:30 -05:00"],
        ),
    ] {
        let refused = night.refused(time);
        assert!(refused.contains("exists twice"), "{refused}");
        assert!(choices.iter().all(|it| refused.contains(it)), "{refused}");
    }
}

#[test]
fn in_the_night_in_which_a_clock_is_set_forward_an_hour_does_not_exist() {
    let night = Night::begin("2027-03-27 22:00:00");
    assert_eq!(
        night.close_at("2027-03-28 03:00 Europe/Berlin"),
        "2027-03-28T01:00:00.000000Z"
    );
    let refused = night.refused("2027-03-28 02:30 Europe/Berlin");
    assert!(refused.contains("does not exist"), "{refused}");
}
