//! Each exit code, with the sentence that goes with it.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde_json::json;

use crate::support::{Daemon, Fake, PROGRAM, Reply, Run, program};

/// A user without rights, where the tests run as root.
const NOBODY: u32 = 65_534;

/// Text from outside that would be two lines.
const EVIL: &str = "x\nsoramode: node-01: drained after 0 s\r\u{1b}[2K";

#[test]
fn zero_for_success_and_one_for_false() {
    let daemon = Daemon::start();
    assert_eq!(daemon.ok(&["get"]), "normal\n");
    assert_eq!(daemon.ok(&["is", "normal"]), "yes: node-01 is normal\n");
    let open = daemon.run(&["is", "drained"]);
    assert_eq!(
        (open.code, open.stdout.as_str()),
        (1, "no: node-01 is open: normal\n")
    );
    assert_eq!(
        daemon.ok(&["set", "block-new-session", "-m", "kernel CHG-123"]),
        "node-01: normal -> block_new_session (0 sessions, 0 connections stay). Undo: soramode set normal --if-generation 2\n"
    );
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    assert_eq!(
        daemon.ok(&["is", "drained"]),
        "yes: node-01 is block_new_session and has 0 sessions\n"
    );
    assert_eq!(daemon.run(&["is", "normal"]).code, 1);
    assert_eq!(daemon.run(&["is", "joined"]).code, 1);
    let quiet = daemon.run(&["is", "normal", "-q"]);
    assert_eq!(
        (quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()),
        (1, "", "")
    );
    let rejected = daemon.run(&["connect", "spam"]);
    assert_eq!(
        (rejected.code, rejected.stdout.as_str()),
        (
            1,
            "reject: BLOCK-NEW-SESSION (the mode is block_new_session)\n"
        )
    );
}

#[test]
fn two_for_a_wrong_command_line_with_a_suggestion() {
    let nowhere = Path::new("/nonexistent");
    for (args, words) in [
        (&["set", "nromal"][..], "did you mean normal?"),
        (
            &["set", "block_new_sesion"],
            "did you mean block_new_session?",
        ),
        (&["set", "normal", "--wait"], "does not drain"),
        (
            &["set", "normal", "--for", "45m"],
            "--for: normal has no expiry",
        ),
        (
            &["set", "normal", "--timeout", "5m"],
            "work only with --wait",
        ),
        (
            &["set", "block_new_session", "--assume-complete"],
            "work only with --wait",
        ),
        (
            &["open", "--keep-open", "1"],
            "--keep-open works only with block_new_session",
        ),
        (&["open", "--for", "5m"], "--for: normal has no expiry"),
        (
            &["close", "--keep-normal", "1"],
            "a similar argument exists: '--keep-open'",
        ),
        (
            &["drain", "--assume-complet"],
            "a similar argument exists: '--assume-complete'",
        ),
        (
            &["wait", "joined", "--generation", "3"],
            "--generation works only with drained",
        ),
        (
            &["drain", "--on-timeout", "undo", "--timeout", "0"],
            "--on-timeout undo needs a --timeout",
        ),
        (
            &["drain", "30m"],
            "to give up after that time, use '--timeout 30m'",
        ),
        (&["wait", "drained", "30m"], "use '--timeout 30m'"),
        (
            &["drain", "--timeout", "30"],
            "has no unit; takes 30s, 30m or 30h",
        ),
        (
            &["drain", "--timeout", "5M"],
            "M is months, which are too long; takes 5m for minutes",
        ),
        (&["help", "drian"], "there is no command or topic \"drian\""),
        (
            &["is", "normal", "--assume-complete"],
            "works only with drained",
        ),
        (&["set", "normal", "--for", "soon"], "takes a time such as"),
        (
            &["wait", "joined", "--max-sessions", "3"],
            "--max-sessions: is only for `drained`",
        ),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["undrain"], "use: soramode open"),
        (&["uncordon"], "use: soramode open"),
        (&["cordon"], "use: soramode close"),
        (
            &["get", "--node", "n2"],
            "only set, open, close, drain and wait take '--node'; run this one on that node",
        ),
        (&["tail", "--type", "nothing.*"], "no type of event matches"),
        (&["maintain"], "<COMMAND>"),
    ] {
        let ended = program(nowhere).args(args).ended();
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(words), "{args:?}: {ended:?}");
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn three_without_a_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("soramode.sock");
    let ended = program(&socket).arg("get").ended();
    let sentence = format!(
        "soramode: cannot reach soramoded at {}: no such file\nhint: Start soramoded, or name its socket with --socket or SORAMODE_SOCKET. See the runbook (man soramode-runbook): soramoded is down\n",
        socket.display()
    );
    assert_eq!((ended.code, ended.stderr), (3, sentence));
    drop(UnixListener::bind(&socket).unwrap());
    let ended = program(&socket).arg("get").ended();
    assert_eq!(ended.code, 3);
    assert!(
        ended
            .stderr
            .contains("the socket exists, but soramoded is not running"),
        "{ended:?}"
    );
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.as_path(), folder.path()] {
        let ended = program(path).arg("get").ended();
        assert_eq!(
            (
                ended.code,
                ended
                    .stderr
                    .contains(": it is not a socket\nhint: Check --socket")
            ),
            (3, true),
            "{ended:?}"
        );
    }
    let ended = program(&folder.path().join("x".repeat(120)))
        .arg("get")
        .ended();
    assert_eq!(ended.code, 3, "{ended:?}");
}

/// The client retries for a while first.
#[test]
fn three_where_too_many_clients_wait_in_front_of_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("soramode.sock");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    for verb in [&["get"][..], &["wait", "mode=normal", "--timeout", "1s"]] {
        let ended = program(&path).args(verb).ended();
        assert_eq!(ended.code, 3, "{ended:?}");
        assert!(
            ended
                .stderr
                .contains("too many clients are waiting to connect"),
            "{ended:?}"
        );
    }
}

#[test]
fn a_command_that_was_stopped_and_goes_on_still_waits_for_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("soramode.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let command = Command::new(PROGRAM)
        .arg("--socket")
        .arg(&path)
        .arg("get")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (client, _) = listener.accept().unwrap();
    BufReader::new(&client)
        .read_line(&mut String::new())
        .unwrap();
    let process = Pid::from_child(&command);
    kill_process(process, Signal::STOP).unwrap();
    let (_, status) = waitpid(Some(process), WaitOptions::UNTRACED)
        .unwrap()
        .unwrap();
    assert!(status.stopped());
    kill_process(process, Signal::CONT).unwrap();
    let state =
        r#"{"mode":"normal","generation":1,"since":"2026-01-01T00:00:00Z","actor":"system:start"}"#;
    writeln!(&client, r#"{{"jsonrpc":"2.0","id":1,"result":{state}}}"#).unwrap();
    let ended = command.wait_with_output().unwrap();
    assert_eq!(
        (
            ended.status.code(),
            String::from_utf8_lossy(&ended.stdout).as_ref()
        ),
        (Some(0), "normal\n")
    );
}

#[test]
fn four_for_users_with_view_access() {
    let fake = Fake::start(|_| Reply::Error(-32_015, "PermissionDenied"));
    assert_eq!(fake.run(&["set", "normal"]).code, 4);
}

#[test]
fn four_for_a_socket_that_may_not_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let _listener = UnixListener::bind(closed.join("s")).unwrap();
    // Root may open everything, so another user runs a copy of the program. Another process makes
    // the copy: children of this one would hold it open for writing.
    let copy = folder.path().join("soramode");
    assert!(
        Command::new("cp")
            .arg(PROGRAM)
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    let mut command = Command::new(&copy);
    command
        .env_clear()
        .args(["get", "--socket"])
        .arg(closed.join("s"));
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let ended = command.ended();
    fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("permission denied"), "{ended:?}");
}

#[test]
fn five_for_requests_that_the_state_forbids() {
    let daemon = Daemon::start();
    let initial = program(Path::new("/nonexistent"))
        .args(["set", "initial"])
        .ended();
    assert_eq!(initial.code, 5);
    assert!(
        initial
            .stderr
            .contains("a cluster node enters it at its start or when isolated"),
        "{initial:?}"
    );
    let drained = daemon.run(&["wait", "drained"]);
    assert_eq!(drained.code, 5);
    assert!(
        drained
            .stderr
            .contains("hint: To close the node and drain it: soramode drain\n"),
        "{drained:?}"
    );
    assert_eq!(daemon.run(&["wait", "joined"]).code, 5);
}

#[test]
fn six_for_a_condition_that_does_not_hold() {
    let daemon = Daemon::start();
    daemon.ok(&["set", "block_new_session"]);
    for condition in [["--if-generation", "1"], ["--if-mode", "normal"]] {
        let ended = daemon.run(&[&["set", "block_new_connection"][..], &condition].concat());
        assert_eq!(ended.code, 6, "{ended:?}");
        assert!(
            ended.stderr.contains("block_new_session (generation 2"),
            "{ended:?}"
        );
    }
    assert_eq!(
        daemon
            .run(&[
                "set",
                "normal",
                "--if-generation",
                "2",
                "--if-mode",
                "block-new-session"
            ])
            .code,
        0
    );
}

#[test]
fn seven_for_versions_that_do_not_match() {
    let newer = |method: &str| match method {
        "GetInfo" => Reply::Result(json!({"version": "9.0.0", "protocol": 9, "methods": []})),
        _ => Reply::Result(json!({"moods": ["sunny"]})),
    };
    let ended = Fake::start(newer).run(&["get"]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("soramoded 9.0.0 speaks protocol 9, this soramode"),
        "{ended:?}"
    );
    let older = |method: &str| match method {
        "GetInfo" => {
            Reply::Result(json!({"version": "0.0.1", "protocol": 1, "methods": ["GetMode"]}))
        }
        _ => Reply::Error(-32_601, "MethodNotFound"),
    };
    let ended = Fake::start(older).run(&["status"]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert!(
        ended.stderr.contains("soramoded 0.0.1 cannot do this yet"),
        "{ended:?}"
    );
}

#[test]
fn eight_for_an_incomplete_session_list() {
    let daemon = Daemon::start_with(|config| config.assume_complete = false);
    assert_eq!(daemon.run(&["is", "drained"]).code, 1, "it is open");
    daemon.ok(&["set", "block_new_session"]);
    let is = daemon.run(&["is", "drained"]);
    assert_eq!(is.code, 8, "{is:?}");
    assert!(is.stderr.contains("--assume-complete"), "{is:?}");
    assert_eq!(daemon.run(&["is", "drained", "--assume-complete"]).code, 0);
    let drain = daemon.run(&["drain"]);
    assert_eq!(drain.code, 8, "{drain:?}");
    assert!(
        drain
            .stderr
            .contains("node-01 is still closed (block_new_session)"),
        "{drain:?}"
    );
    assert_eq!(daemon.run(&["wait", "drained"]).code, 8);
    assert_eq!(daemon.run(&["drain", "--assume-complete"]).code, 0);
}

#[test]
fn nine_for_missing_items() {
    let daemon = Daemon::start();
    for args in [
        &["session", "spam"][..],
        &["disconnect", "c-9"],
        &["end", "spam", "--accept-risk=cuts-clients"],
        &["deliveries", "resend", "7"],
        &["get"],
    ] {
        let ended = daemon.run(args);
        assert_eq!(
            ended.code,
            if args == ["get"] { 0 } else { 9 },
            "{args:?}: {ended:?}"
        );
    }
    let absent = daemon.run(&["session", "spam"]);
    assert_eq!(
        absent.stderr,
        "soramode: no session on channel \"spam\"\nhint: List those that are there: soramode sessions\n"
    );
    let node = daemon.run(&["drain", "--node", "nope"]);
    assert_eq!(
        (
            node.code,
            node.stderr.contains("the cluster has no node nope")
        ),
        (9, true),
        "{node:?}"
    );
}

#[test]
fn a_failure_is_an_object_where_json_is_asked_for() {
    let daemon = Daemon::start_with(|config| config.assume_complete = false);
    daemon.ok(&["set", "block_new_session"]);
    for (args, exit, error_type) in [
        (&["session", "spam"][..], 9, "NotFound"),
        (&["is", "drained"], 8, "SessionsIncomplete"),
        (&["set", "initial"], 5, "Refused"),
        (&["set", "normal", "--if-mode", "normal"], 6, "Superseded"),
        (&["drain", "--node", "nope"], 9, "NotFound"),
        (&["set", "normal", "--timeout", "5m"], 2, "Usage"),
        (&["set", "nromal"], 2, "Usage"),
        (&["frobnicate"], 2, "Usage"),
        (&["disconnect"], 2, "Usage"),
    ] {
        for format in ["json", "jsonl"] {
            let ended = daemon.run(&[args, &["-o", format]].concat());
            let failed = ended.json();
            assert_eq!(
                (ended.code, &failed["exit_code"]),
                (exit, &json!(exit)),
                "{args:?}: {failed}"
            );
            assert_eq!(
                failed["error"]["error_type"], error_type,
                "{args:?}: {failed}"
            );
            assert!(failed["error"]["message"].is_string(), "{args:?}: {failed}");
        }
    }
    let unknown = daemon.run(&["is", "drained", "--json"]).json();
    assert!(
        unknown["error"]["hint"]
            .as_str()
            .unwrap()
            .contains("--assume-complete"),
        "{unknown}"
    );
    let nowhere = program(Path::new("/nonexistent"))
        .args(["sessions", "--json"])
        .ended();
    assert_eq!(
        (nowhere.code, &nowhere.json()["error"]["error_type"]),
        (3, &json!("Unreachable"))
    );
    // The answer comes before the failure.
    let doctor = daemon.run(&["doctor", "--json"]);
    assert_eq!(
        (doctor.code, &doctor.json()["is_well"]),
        (1, &json!(false)),
        "{doctor:?}"
    );
}

#[test]
fn text_from_outside_begins_no_line() {
    let fake = Fake::start(|_| {
        Reply::Line(
            json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32_602, "message": EVIL,
        "data": {"error_type": "InvalidParams", "hint": EVIL}}})
            .to_string(),
        )
    });
    let ended = fake.run(&["set", "normal"]);
    assert_eq!(
        ended.stderr.lines().count(),
        2,
        "a line for the failure, one for its hint: {ended:?}"
    );
    assert!(
        ended
            .stderr
            .lines()
            .all(|line| line.starts_with("soramode: x\\n") || line.starts_with("hint: x\\n")),
        "{ended:?}"
    );
}

#[test]
fn seventy_for_everything_else() {
    let daemon = Daemon::start();
    let full = fs::File::create("/dev/full").unwrap();
    let mut command = program(&daemon.socket());
    let status = command.arg("get").stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(70));
}

#[test]
fn open_and_close_are_names_of_the_modes_and_help_and_version_are_commands() {
    let daemon = Daemon::start();
    assert!(
        daemon
            .ok(&["close", "-m", "CHG-1"])
            .starts_with("node-01: normal -> block_new_session")
    );
    assert_eq!(daemon.json(&["status"]).1["reason"], "CHG-1");
    assert!(
        daemon
            .ok(&["open"])
            .starts_with("node-01: block_new_session -> normal")
    );
    let nowhere = |args: &[&str]| program(Path::new("/nonexistent")).args(args).ended();
    assert_eq!(nowhere(&["version"]).stdout, nowhere(&["--version"]).stdout);
    let help = nowhere(&["help", "drain"]);
    assert_eq!(
        (help.code, help.stdout.as_str()),
        (0, nowhere(&["drain", "--help"]).stdout.as_str())
    );
    assert_eq!(nowhere(&["help"]).stdout, nowhere(&["--help"]).stdout);
    assert!(
        nowhere(&["help", "options"])
            .stdout
            .contains("--api-token-file <PATH>")
    );
    assert!(
        nowhere(&["help", "webhook", "test"])
            .stdout
            .contains("Usage: soramode webhook test")
    );
}

#[test]
fn the_note_says_that_a_connection_made_by_hand_stays() {
    let daemon = Daemon::start();
    let made = daemon.run(&["connect", "spam", "--connection-id", "my id"]);
    assert!(
        made.stderr
            .contains("a drain waits for it. To remove it: soramode disconnect 'my id'"),
        "{made:?}"
    );
    assert_eq!(daemon.run(&["connect", "spam", "-q"]).stderr, "");
}

/// A socket that another user has put where root would look.
#[test]
fn root_trusts_no_socket_in_tmp_and_no_user_a_folder_of_another() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = Path::new("/tmp/soramode-65533");
    fs::create_dir_all(folder).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o777)).unwrap();
    let socket = folder.join("soramode.sock");
    drop(fs::remove_file(&socket));
    let _listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
    let copies = tempfile::tempdir().unwrap();
    let copy = copies.path().join("soramode");
    assert!(
        Command::new("cp")
            .arg(PROGRAM)
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    fs::set_permissions(copies.path(), Permissions::from_mode(0o755)).unwrap();
    let ended = Command::new(&copy)
        .env_clear()
        .arg("get")
        .uid(65_533)
        .gid(65_533)
        .ended();
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(
        (
            ended.code,
            ended
                .stderr
                .contains("is not a folder that only this user can write to: not trusted")
        ),
        (3, true),
        "{ended:?}"
    );
}

#[test]
fn the_help_lists_the_exit_codes() {
    let help = program(Path::new("/nonexistent"))
        .args(["help", "exit-codes"])
        .ended();
    assert_eq!(help.code, 0);
    for code in [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "70", "124", "129", "130", "143",
    ] {
        assert!(
            help.stdout
                .lines()
                .any(|line| line.trim_start().starts_with(&format!("{code}  "))),
            "{code}"
        );
    }
}
