//! `drill`: every step passes with the real soramoded, failures are reported, and nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ended, Fake, PROGRAM, Reply, Run, Running, program, with_default_signals};

/// Limit of the time for processes and folders to disappear.
const GONE_MAX: Duration = Duration::from_secs(10);

/// The daemon that was built with the program under test.
pub(crate) fn soramoded() -> PathBuf {
    let path = Path::new(PROGRAM).with_file_name("soramoded");
    assert!(
        path.exists(),
        "these tests need {}: build it with cargo build -p soramoded, or run cargo test --workspace",
        path.display()
    );
    path
}

/// A folder with the program, perhaps with a daemon beside it, and with the folder that drills make theirs in.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    /// A folder with the program alone.
    fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        // Another process writes the executable: a thread that forks while this one has it open would keep it busy.
        shell(
            r#"ln "$1" "$2" 2>/dev/null || cp "$1" "$2""#,
            &[Path::new(PROGRAM), &folder.path().join("soramode")],
        );
        Self { folder }
    }

    /// A folder with the program and the real daemon.
    pub(crate) fn real() -> Self {
        let place = Self::bare();
        symlink(soramoded(), place.path("soramoded")).unwrap();
        place
    }

    /// A folder with the program and a script as the daemon, which gets `--socket PATH --ephemeral …`. It writes its process id to a file.
    fn script(script: &str) -> Self {
        let place = Self::bare();
        let pid = place.path("pid");
        let script = format!(
            "#!/bin/sh\necho $$ > {}.new; mv {0}.new {0}\n{script}\n",
            pid.display()
        );
        shell(
            r#"printf %s "$1" > "$2"; chmod 755 "$2""#,
            &[Path::new(&script), &place.path("soramoded")],
        );
        place
    }

    /// A folder with a daemon that notifies its readiness, while the fake one answers.
    fn answering(fake: &Fake) -> Self {
        let real = soramoded();
        Self::script(&format!(
            "ln -s {} \"$2\"\nexec {} --socket \"$2.real\" --ephemeral",
            fake.socket().display(),
            real.display()
        ))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn drill(&self) -> Command {
        let mut command = with_default_signals(self.path("soramode"));
        command
            .arg("drill")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TMPDIR", self.path("tmp"));
        command
    }

    pub(crate) fn is_clean(&self) -> bool {
        let is_gone = || kill(self.pid(), None).is_err();
        fs::read_dir(self.path("tmp")).unwrap().next().is_none()
            && (!self.path("pid").exists() || is_gone())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(
            fs::read_to_string(self.path("pid"))
                .unwrap()
                .trim()
                .parse()
                .unwrap(),
        )
    }
}

fn shell(script: &str, arguments: &[&Path]) {
    assert!(
        Command::new("sh")
            .args(["-c", script, "sh"])
            .args(arguments)
            .status()
            .unwrap()
            .success(),
        "{script}"
    );
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(
            began.elapsed() < GONE_MAX,
            "{what} has not come in {} s",
            GONE_MAX.as_secs()
        );
        sleep(Duration::from_millis(10));
    }
}

/// A gate that answers the first step and then nothing more, or closes.
fn gate_until_connect(then: fn() -> Reply) -> Fake {
    Fake::start(move |method| match method {
        "GetMode" => Reply::Result(
            json!({"mode": "normal", "generation": 1, "since": "2025-06-01T03:04:05.000000Z", "actor": "system:start"}),
        ),
        _ => then(),
    })
}

/// A drill that waits for the answer to its second step.
fn in_the_middle(place: &Place) -> Running {
    let mut drill = place.drill().running();
    drill.until_answered(" 1  ok  soramode get");
    drill
}

#[test]
fn every_step_passes() {
    let place = Place::real();
    let Ended {
        code,
        stdout,
        stderr,
    } = place.drill().ended();
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains("All 20 steps passed"), "{stdout}");
    assert!(stdout.contains("soramode set normal"), "{stdout}");
    assert!(
        stdout.contains("reject BLOCK-NEW-CONNECTION")
            && stdout.contains("reject BLOCK-NEW-SESSION"),
        "{stdout}"
    );
    assert!(!stdout.contains('\u{1b}'), "painted in a pipe: {stdout}");
    let path = format!("Using {}", place.path("soramoded").display());
    let too_long: Vec<_> = stdout
        .lines()
        .filter(|line| line.len() > 80 && *line != path)
        .collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
    assert!(place.is_clean());
}

#[test]
fn variables_of_the_environment_are_ignored() {
    let place = Place::real();
    let mut drill = place.drill();
    drill
        .args(["--socket", "/nowhere/soramode.sock", "-q"])
        .env("SORAMODE_SOCKET", "/nowhere/soramode.sock");
    drill
        .env("SORAMODED_MODE", "block_new_session")
        .env("SORAMODED_CONFIG", "/nowhere/soramoded.toml")
        .env("LISTEN_FDS", "1");
    let ended = drill.ended();
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "", "")
    );
}

#[test]
fn a_long_or_missing_temporary_folder_is_replaced() {
    let place = Place::real();
    let long = place.path("tmp").join("x".repeat(100));
    fs::create_dir(&long).unwrap();
    for folder in [long.clone(), place.path("missing")] {
        assert_eq!(
            place.drill().arg("-q").env("TMPDIR", &folder).ended().code,
            0,
            "{}",
            folder.display()
        );
    }
    assert!(fs::read_dir(long).unwrap().next().is_none());
}

#[test]
fn scripts_get_one_object_or_one_a_step() {
    let place = Place::real();
    let ended = place.drill().arg("--json").ended();
    let whole = ended.json();
    assert_eq!(
        (ended.code, &whole["held"], &whole["exit_code"]),
        (0, &json!(true), &json!(0))
    );
    assert_eq!(whole["steps"].as_array().unwrap().len(), 20);
    let fourth = json!({
        "step": 4, "part": "block_new_connection", "asked": "Connect ham-2 to channel ham", "said": "reject BLOCK-NEW-CONNECTION",
        "expected": "reject BLOCK-NEW-CONNECTION", "because": "every new connection fails", "held": true,
    });
    assert_eq!(whole["steps"][3], fourth);

    let lines = place.drill().args(["-o", "jsonl"]).ended().stdout;
    let steps: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(steps.len(), 20);
    assert!(
        steps
            .iter()
            .all(|step| step["schema"] == 1 && step["held"] == true),
        "{lines}"
    );

    let plain = place.drill().args(["-o", "plain"]).ended().stdout;
    assert_eq!(plain.lines().count(), 20);
    assert!(
        plain.starts_with("1\tok\tblock_new_connection\tsoramode get\tnormal\tnormal\t"),
        "{plain}"
    );
}

#[test]
fn colours_are_there_where_they_are_asked_for() {
    let stdout = Place::real()
        .drill()
        .args(["--color", "always"])
        .ended()
        .stdout;
    assert!(stdout.contains("\u{1b}[32mok\u{1b}[0m"), "{stdout}");
}

#[test]
fn an_answer_that_is_not_expected_is_shown_and_ends_with_70() {
    let real = soramoded();
    let place = Place::script(&format!(
        "exec {} \"$@\" --mode block_new_connection",
        real.display()
    ));
    let Ended {
        code,
        stdout,
        stderr,
    } = place.drill().ended();
    assert_eq!(code, 70, "{stdout}{stderr}");
    assert!(stdout.contains(" 1  NOT AS EXPECTED  soramode get\n        said: block_new_connection\n    expected: normal\n"), "{stdout}");
    assert!(stdout.contains("\n20  ok  "), "it goes on: {stdout}");
    assert!(
        stderr.contains("not all held: ") && !stdout.contains("steps passed"),
        "{stdout}{stderr}"
    );
    assert!(place.is_clean());

    let ended = place.drill().arg("--json").ended();
    assert_eq!(
        (
            ended.code,
            &ended.json()["held"],
            &ended.json()["steps"][0]["held"]
        ),
        (70, &json!(false), &json!(false))
    );
    let quiet = place.drill().arg("-q").ended();
    assert!(
        quiet.stdout.contains("NOT AS EXPECTED") && !quiet.stdout.contains("  ok  "),
        "{quiet:?}"
    );
}

#[test]
fn a_daemon_that_stops_answering_or_closes_is_reported() {
    for (then, why) in [
        ((|| Reply::Nothing) as fn() -> Reply, "no answer within 3 s"),
        (
            (|| Reply::Close) as fn() -> Reply,
            "soramoded closed the connection",
        ),
    ] {
        let fake = gate_until_connect(then);
        let place = Place::answering(&fake);
        let ended = place.drill().ended();
        assert_eq!(ended.code, 70, "{ended:?}");
        assert!(
            ended.stderr.contains(why) && ended.stderr.contains("at step 2 of 20"),
            "{ended:?}"
        );
        assert!(place.is_clean());
    }
}

#[test]
fn a_missing_daemon_is_reported_with_a_remedy() {
    let place = Place::bare();
    let ended = place.drill().ended();
    assert_eq!((ended.code, ended.stdout.as_str()), (70, ""), "{ended:?}");
    let there_is_no = format!(
        "soramode: there is no {}, ",
        place.path("soramoded").display()
    );
    assert!(
        ended.stderr.starts_with(&there_is_no) && ended.stderr.contains("beside soramode"),
        "{ended:?}"
    );
    assert!(place.is_clean());
}

#[test]
fn a_daemon_that_does_not_start_is_quoted() {
    let place = Place::script("echo 'soramoded: the moon is wrong' >&2; exit 3");
    let ended = place.drill().ended();
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("ended with exit status: 3 before it listened"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.contains(
            "\n  soramoded: the moon is wrong\nhint: Check that it is of the same version: "
        ),
        "{ended:?}"
    );
    assert!(place.is_clean());
}

#[test]
fn a_signal_in_the_middle_cleans_up() {
    let fake = gate_until_connect(|| Reply::Nothing);
    for (signal, code) in [
        (Signal::SIGINT, 130),
        (Signal::SIGTERM, 143),
        (Signal::SIGHUP, 129),
    ] {
        let place = Place::answering(&fake);
        let drill = in_the_middle(&place);
        drill.signal(signal);
        let ended = drill.ended();
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(
            ended.stderr.contains("stopped after step 1 of 20"),
            "{ended:?}"
        );
        assert!(place.is_clean(), "{signal}");
    }
}

#[test]
fn a_daemon_that_will_not_stop_is_killed() {
    let place = Place::script("trap '' TERM INT HUP; exec sleep 60");
    let drill = place.drill().arg("--json").running();
    until("the daemon", || place.path("pid").exists());
    drill.signal(Signal::SIGINT);
    let ended = drill.ended();
    assert_eq!((ended.code, &ended.json()["exit_code"]), (130, &json!(130)));
    assert!(place.is_clean());
}

#[test]
fn the_daemon_and_its_folder_go_even_if_the_drill_is_killed() {
    let fake = gate_until_connect(|| Reply::Nothing);
    let place = Place::answering(&fake);
    in_the_middle(&place).stopped();
    until("a clean place", || place.is_clean());
}

#[test]
fn a_closed_stdout_leaves_nothing_behind() {
    let place = Place::real();
    assert_eq!(place.drill().running().close_stdout(), 0);
    assert!(place.is_clean());
}

#[test]
fn stdout_that_cannot_be_written_is_a_failure() {
    let place = Place::real();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = place
        .drill()
        .stdout(full)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(70));
    assert!(place.is_clean());
}

#[test]
fn the_drill_needs_no_running_daemon() {
    assert_eq!(
        program(Path::new("/nowhere/soramode.sock"))
            .args(["drill", "-q"])
            .ended()
            .code,
        0
    );
}

#[test]
#[cfg(feature = "cluster")]
fn a_cluster_is_rehearsed_and_nothing_is_left_behind() {
    let place = Place::real();
    let Ended {
        code,
        stdout,
        stderr,
    } = place.drill().arg("--cluster").ended();
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(
        stdout.contains("All 17 steps passed") && stdout.contains("n1, n2, n3: isolated, initial"),
        "{stdout}"
    );
    let path = format!("Using {}", place.path("soramoded").display());
    let too_long: Vec<_> = stdout
        .lines()
        .filter(|line| line.len() > 80 && *line != path)
        .collect();
    assert!(too_long.is_empty(), "{too_long:#?}");
    assert!(place.is_clean());
    let whole = place.drill().args(["--cluster", "--json"]).ended().json();
    assert_eq!(
        (&whole["held"], &whole["steps"][5]["said"]),
        (&json!(true), &json!("redirect to n1"))
    );
}

#[test]
#[cfg(feature = "cluster")]
fn a_cluster_that_is_interrupted_or_killed_is_removed() {
    let place = Place::real();
    let mut drill = place.drill().arg("--cluster").running();
    drill.until_answered(" 1  ok  n1: soramode nodes init");
    drill.signal(Signal::SIGINT);
    let ended = drill.ended();
    assert_eq!(ended.code, 130, "{ended:?}");
    assert!(
        ended.stderr.contains("of 17; nothing is left behind") && place.is_clean(),
        "{ended:?}"
    );
    let mut drill = place.drill().arg("--cluster").running();
    drill.until_answered(" 1  ok  n1: soramode nodes init");
    drill.stopped();
    until("a clean place", || place.is_clean());
}

#[test]
#[cfg(feature = "cluster")]
fn without_etcd_the_package_is_named() {
    let place = Place::real();
    let ended = place
        .drill()
        .arg("--cluster")
        .env("PATH", place.path("tmp"))
        .ended();
    let words = "there is no etcd in the search path, and a cluster needs one\nhint: Install it: apt-get install etcd-server\n";
    assert_eq!(
        (ended.code, ended.stderr.contains(words)),
        (70, true),
        "{ended:?}"
    );
    assert!(place.is_clean());
}

#[test]
fn a_daemon_that_was_built_without_its_cluster_is_quoted() {
    let place = Place::script("echo 'soramoded: cluster: built without it' >&2; exit 2");
    let ended = place.drill().arg("--cluster").ended();
    assert_eq!(ended.code, 70, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("does not take --cluster, so there is no cluster to rehearse. It says\n"),
        "{ended:?}"
    );
    assert!(
        ended
            .stderr
            .ends_with("\n  soramoded: cluster: built without it\n")
            && place.is_clean(),
        "{ended:?}"
    );
    let ended = Place::bare().drill().arg("--cluster").ended();
    assert!(
        ended.code == 70 && ended.stderr.contains("the drill starts no other soramoded"),
        "{ended:?}"
    );
}
