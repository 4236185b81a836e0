//! Hosts on which a roll cannot work, and machines that it may not reboot any more.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;

use crate::fleet::Fleet;
use crate::support::{Ended, PROGRAM, Run, program};

/// The problem of a key that is for `dial-stdio` alone.
const RESTRICTED: &str = "its key for ssh allows soramode dial-stdio only";

impl Fleet {
    /// The record of a roll on a node, if one has reserved it.
    fn record(&self, number: usize) -> Value {
        let status = self.daemons[number].json(&["status"]).1;
        status["reservation"].clone()
    }
}

#[test]
fn a_host_that_runs_no_commands_is_found_before_anything_is_changed() {
    let fleet = Fleet::start(2);
    let roll = |more: &[&str]| -> Ended {
        let words = ["-H", "sfu-01,sfu-02", "roll", "--keep-open", "1", "-m", "X"];
        fleet.run(&[&words[..], more].concat())
    };
    let maintain = || fleet.run(&["-H", "sfu-02", "maintain", "-m", "X", "--", "true"]);
    let is_refused = |code: i32, words: &str| {
        for ended in [
            roll(&["--", "true"]),
            roll(&["--reboot"]),
            roll(&["--dry-run", "--", "true"]),
            maintain(),
        ] {
            assert_eq!(ended.code, code, "{ended:?}");
            assert!(
                ended.stderr.contains(&format!("sfu-02: {words}")),
                "{ended:?}"
            );
        }
        assert_eq!(fleet.modes(), ["normal"; 2]);
        assert_eq!(fleet.record(0), Value::Null);
    };
    let key = &fleet.sshds[1];
    key.set_key_options(&format!("restrict,command=\"{PROGRAM} dial-stdio\""));
    is_refused(4, RESTRICTED);
    key.set_key_options("");
    // One of before the check, and a sudo that allows dial-stdio alone.
    let older = format!("#!/bin/sh\ntest $1 = exec-stdio && exit 2\nexec {PROGRAM} \"$@\"\n");
    fleet.write_program(1, "soramode", &older);
    is_refused(7, "its soramode is too old");
    let denied = older.replace(
        "exit 2",
        "{ echo sudo: a password is required >&2; exit 1; }",
    );
    fleet.write_program(1, "soramode", &denied);
    is_refused(
        4,
        "cannot run soramode exec-stdio (exit code 1): sudo: a password is required",
    );
    // A host that is only counted runs nothing.
    let counted = roll(&["--only", "sfu-01", "--", "true"]);
    assert_eq!(counted.code, 0, "{counted:?}");
}

#[test]
fn a_command_that_a_host_does_not_have_is_found_before_anything_is_changed() {
    let fleet = Fleet::start(2);
    fleet.write_program(0, "of-one-host", "#!/bin/sh\n");
    let roll = ["-H", "sfu-01,sfu-02", "roll", "--keep-open", "1", "-m", "X"];
    let maintain = ["-H", "sfu-02", "maintain", "-m", "X"];
    let refused = |more: &[&str], code: i32, words: &str| {
        for before in [&roll[..], &[&roll[..], &["--dry-run"]].concat(), &maintain] {
            let ended = fleet.run(&[before, &["--"], more].concat());
            assert_eq!(ended.code, code, "{ended:?}");
            assert!(ended.stderr.contains(words), "{ended:?}");
        }
        assert_eq!(fleet.modes(), ["normal"; 2]);
        assert_eq!(fleet.record(0), Value::Null);
    };
    refused(
        &["of-one-host", "it's"],
        127,
        "sfu-02: of-one-host \"it's\" could not be started: no such command",
    );
    refused(
        &["/etc/passwd"],
        126,
        "\"/etc/passwd\" could not be started: it is not executable",
    );
}

/// A node, and the file that its `sudo` writes in place of a reboot.
fn with_sudo() -> (Fleet, PathBuf) {
    let fleet = Fleet::start(1);
    let rebooted = fleet.home.path().join("rebooted");
    let sudo = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$*\" >> {}\n",
        rebooted.display()
    );
    fleet.write_program(0, "sudo", &sudo);
    (fleet, rebooted)
}

#[test]
fn exec_stdio_reboots_only_for_the_roll_that_has_closed_the_node() {
    let (fleet, rebooted) = with_sudo();
    let socket = fleet.daemons[0].socket();
    let programs = fleet.sshds[0].home().join("bin");
    let reboot = |roll: &str| {
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{path}", programs.display());
        let args = ["exec-stdio", "--roll", roll, "--reboot"];
        program(&socket).env("PATH", path).args(args).ended()
    };
    let mut client = TestClient::to(&socket);
    let reserve =
        json!({"roll": "R1", "by": "alice", "seconds": 600, "round": 1, "step": "command"});
    client.get("Reserve", &reserve);
    let other = reboot("OTHER000");
    assert_eq!(other.code, 5, "{other:?}");
    assert!(
        other.stderr.contains("the machine was not rebooted"),
        "{other:?}"
    );
    let open = reboot("R1");
    assert_eq!(open.code, 6, "{open:?}");
    assert!(!rebooted.exists());
    let close = json!({"mode": "block_new_session", "roll": "R1", "round": 1});
    client.get("ChangeMode", &close);
    let own = reboot("R1");
    assert_eq!(own.code, 0, "{own:?}");
    let asked = fs::read_to_string(&rebooted).unwrap();
    assert_eq!(asked, "-n systemctl reboot\n");
    let record = fleet.record(0);
    assert_eq!(
        record["step"], "command",
        "a reboot is no command: {record}"
    );
    assert_eq!(record["command_exit"], Value::Null);
    client.get("Reserve", &json!({"roll": "R1", "step": "ready"}));
    assert_eq!(reboot("R1").code, 5, "it was rebooted");
}

#[test]
fn a_node_that_is_opened_just_before_its_reboot_is_not_rebooted() {
    let (fleet, rebooted) = with_sudo();
    let socket = fleet.daemons[0].socket();
    let opens = format!(
        "case \"$*\" in *' --reboot'*) {PROGRAM} --socket {} set normal >/dev/null;; esac",
        socket.display()
    );
    let words = [
        "-H",
        "sfu-01",
        "roll",
        "--keep-open",
        "0",
        "-m",
        "X",
        "--reboot",
    ];
    let ended = fleet
        .program()
        .env("SORAMODE_SSH", fleet.ssh_after(&opens))
        .args(words)
        .ended();
    assert_eq!(ended.code, 6, "{ended:?}");
    let words = "the machine was not rebooted: another user changed the mode meanwhile";
    assert!(ended.stderr.contains(words), "{ended:?}");
    assert!(!rebooted.exists());
}
