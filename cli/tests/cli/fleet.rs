//! `soramode -H` with several hosts: one table, failures a line each, JSON, and the exit code of the first failure.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use soramode_protocol::id::NodeName;
use soramode_testkit::sshd::{Sshd, client_config, command_line};
use soramoded::config::Config;
use tempfile::TempDir;

use crate::support::{Daemon, Ended, PROGRAM, Run, until, with_default_signals};
use crate::terminal::Terminal;

/// Two nodes, each behind an sshd of its own.
pub(crate) struct Fleet {
    pub(crate) daemons: Vec<Daemon>,
    pub(crate) sshds: Vec<Sshd>,
    pub(crate) config: PathBuf,
    pub(crate) home: TempDir,
}

/// Names the node of this number, which keeps its state over a restart.
fn configure(number: usize, config: &mut Config) {
    config.node_name = NodeName::new(&name(number)).unwrap();
    config.state_dir = Some(config.socket.with_file_name("state"));
}

fn name(number: usize) -> String {
    format!("sfu-0{}", number + 1)
}

impl Fleet {
    pub(crate) fn start(nodes: usize) -> Self {
        let daemon = |number| Daemon::start_with(|config| configure(number, config));
        let daemons: Vec<Daemon> = (0..nodes).map(daemon).collect();
        Self::of(daemons)
    }

    /// Puts these nodes behind an sshd each.
    pub(crate) fn of(daemons: Vec<Daemon>) -> Self {
        let names: Vec<String> = (0..daemons.len()).map(name).collect();
        let sshd = |daemon: &Daemon| {
            let socket = daemon.socket();
            let variables = [("SORAMODE_SOCKET", socket.to_str().unwrap())];
            Sshd::start(Path::new(PROGRAM), &variables)
        };
        let sshds: Vec<Sshd> = daemons.iter().map(sshd).collect();
        let servers: Vec<(&str, &Sshd)> = names.iter().map(String::as_str).zip(&sshds).collect();
        Self {
            config: client_config(&servers),
            daemons,
            sshds,
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// The program with this ssh, and with a home of its own.
    pub(crate) fn program(&self) -> Command {
        self.command(PROGRAM)
    }

    /// Another program that runs it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = with_default_signals(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.home.path())
            .env("SORAMODE_SSH", format!("ssh -F {}", self.config.display()))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.program().args(args).ended()
    }

    /// Stops the daemon of a node, and starts it again.
    pub(crate) fn restart(&mut self, number: usize) {
        self.daemons[number].stop();
        self.daemons[number].start_again(|config| configure(number, config));
    }

    /// Writes a program of a host's `PATH`, which comes before those of the system.
    pub(crate) fn write_program(&self, number: usize, name: &str, text: &str) {
        let folder = self.sshds[number].home().join("bin");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A program with the words of ssh as its arguments, which then becomes this fleet's ssh.
    pub(crate) fn ssh_after(&self, script: &str) -> String {
        let path = self.home.path().join("ssh-after");
        let text = format!("{script}\nexec ssh -F {} \"$@\"\n", self.config.display());
        fs::write(&path, text).unwrap();
        format!("sh {}", path.display())
    }

    /// Waits until no command's connection to a daemon is left on the hosts.
    pub(crate) fn until_no_dials(&self) {
        let sessions = || self.sshds.iter().flat_map(Sshd::sessions);
        let is_dial = |pid: &u32| command_line(*pid).contains("dial-stdio");
        until(|| (!sessions().any(|pid| is_dial(&pid))).then_some(()));
    }

    /// Writes the user's `fleet.toml`.
    pub(crate) fn write_fleets(&self, text: &str) -> PathBuf {
        let folder = self.home.path().join(".config/soramode");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("fleet.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }
}

#[test]
fn commands_that_undo_a_change_stand_below_the_table() {
    let fleet = Fleet::start(3);
    let script = format!(
        "SORAMODE_SSH='ssh -F {}' {PROGRAM} -H sfu-01,sfu-02,sfu-03 set block_new_session --accept-risk=closes-several; exec sleep 600",
        fleet.config.display()
    );
    let terminal = Terminal::open(&script, (80, 24));
    let undo = |host: &str| format!("Undo: soramode -H {host} set normal --if-generation 2");
    let screen = terminal.until_shown(&undo("sfu-03"));
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    let header = lines[0].split_whitespace().collect::<Vec<_>>();
    assert_eq!(header, ["HOST", "NODE", "BEFORE", "MODE", "SESSIONS"]);
    for (number, host) in ["sfu-01", "sfu-02", "sfu-03"].into_iter().enumerate() {
        let row = lines[1 + number].split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, [host, host, "normal", "block_new_session", "0"]);
        assert_eq!(lines[4 + number], undo(host));
    }
}

#[test]
fn several_hosts_answer_in_one_table_and_the_first_failure_is_the_exit_code() {
    let mut fleet = Fleet::start(2);
    let both = fleet.run(&["-H", "sfu-01,sfu-02", "get"]);
    assert_eq!(
        (both.code, both.stdout.as_str(), both.stderr.as_str()),
        (0, "HOST    MODE\nsfu-01  normal\nsfu-02  normal\n", "")
    );
    let status = fleet.run(&["-H", "sfu-02", "-H", "sfu-01", "status"]);
    let rows: Vec<Vec<&str>> = status
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["HOST", "NODE", "MODE"], "{status:?}");
    assert_eq!((rows[1][0], rows[2][0]), ("sfu-02", "sfu-01"), "{status:?}");

    fleet.daemons[0].connect("spam", "c1");
    let sessions = fleet.run(&["-H", "sfu-01,sfu-02", "sessions", "-o", "plain"]);
    assert!(
        sessions.stdout.starts_with("sfu-01\tspam\t"),
        "{sessions:?}"
    );
    assert_eq!(sessions.stdout.lines().count(), 1);
    let doctor = fleet.run(&["-H", "sfu-01,sfu-02", "doctor"]);
    assert_eq!(doctor.code, 0, "{doctor:?}");

    // Closing several at once is a risk of its own.
    let refused = fleet.run(&["-H", "sfu-01,sfu-02", "set", "block_new_session"]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("--accept-risk=closes-several"),
        "{refused:?}"
    );
    let closed = fleet.run(&[
        "-H",
        "sfu-01,sfu-02",
        "set",
        "block_new_session",
        "-m",
        "CHG-1",
        "--accept-risk=closes-several",
    ]);
    assert_eq!(closed.code, 0, "{closed:?}");
    assert!(
        closed
            .stdout
            .contains("Undo: soramode -H sfu-02 set normal --if-generation 2"),
        "{closed:?}"
    );
    let opened = fleet.run(&["-H", "sfu-01,sfu-02", "open", "-m", "over"]);
    assert_eq!(opened.code, 0, "{opened:?}");
    let both = fleet.run(&["-H", "sfu-01,sfu-02", "get", "-o", "plain"]);
    assert_eq!(both.stdout, "sfu-01\tnormal\nsfu-02\tnormal\n");

    // A host that fails: the others are shown, and it has a line of its own.
    fleet.sshds[0].kill();
    let rest = fleet.run(&["-H", "sfu-01,sfu-02", "get"]);
    assert_eq!(
        (rest.code, rest.stdout.as_str()),
        (3, "HOST    MODE\nsfu-01  unreachable\nsfu-02  normal\n")
    );
    assert!(
        rest.stderr.starts_with("sfu-01: ssh: ")
            && rest
                .stderr
                .ends_with("soramode: sfu-01: cannot reach sfu-01 over ssh\n"),
        "{rest:?}"
    );
    let json = fleet.run(&["-H", "sfu-01,sfu-02", "--json", "get"]);
    let nodes = &json.json()["nodes"];
    assert_eq!(
        (
            &nodes[0]["host"],
            &nodes[0]["exit"],
            &nodes[0]["problem"]["error_type"]
        ),
        (&"sfu-01".into(), &3.into(), &"Unreachable".into())
    );
    assert_eq!(
        (
            &nodes[1]["node_name"],
            &nodes[1]["exit"],
            &nodes[1]["result"]["mode"]
        ),
        (&"sfu-02".into(), &0.into(), &"normal".into())
    );
}

#[test]
fn a_fleet_names_its_hosts_and_the_verbs_that_take_one_host_name_roll() {
    let fleet = Fleet::start(2);
    let path = fleet.write_fleets(
        "tokyo = { hosts = [\"sfu-01\", \"sfu-02\"], remote = \"env A=b soramode\" }\none = { hosts = [\"sfu-02\"] }\n",
    );
    assert_eq!(
        fleet.run(&["-H", "@tokyo", "get", "-o", "plain"]).stdout,
        "sfu-01\tnormal\nsfu-02\tnormal\n"
    );
    assert_eq!(fleet.run(&["-H", "@one", "get"]).stdout, "normal\n");
    let by_variable = fleet
        .program()
        .env("SORAMODE_HOST", "@tokyo")
        .arg("get")
        .ended();
    assert_eq!(by_variable.stdout.lines().count(), 3, "{by_variable:?}");
    for verb in [&["drain"][..], &["close"], &["maintain", "--", "true"]] {
        let refused = fleet.run(&[&["-H", "@tokyo"], verb].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("soramode roll"), "{refused:?}");
    }
    let tail = fleet.run(&["-H", "@tokyo", "tail"]);
    assert_eq!(tail.code, 2, "{tail:?}");
    let hint = "With one: soramode -H HOST tail\n";
    assert!(tail.stderr.contains(hint), "{tail:?}");
    let unknown = fleet.run(&["-H", "@osaka", "get"]);
    assert_eq!(unknown.code, 2);
    assert!(
        unknown.stderr.contains("fleet.toml names one, tokyo"),
        "{unknown:?}"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    let refused = fleet.run(&["-H", "@one", "get"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("chmod 0644"), "{refused:?}");
}

#[test]
fn a_folder_of_fleets_that_cannot_be_searched_is_named() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("closed");
    fs::create_dir(&folder).unwrap();
    for (path, mode) in [(home.path(), 0o755), (&folder, 0o700)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let run = |home: &Path| {
        let mut command = with_default_signals("setpriv");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home)
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
            .args([PROGRAM, "-H", "@tokyo", "get"])
            .ended()
    };
    let refused = run(&folder);
    assert_eq!(refused.code, 2, "{refused:?}");
    let path = folder.join(".config/soramode/fleet.toml");
    let sentence = format!("{} cannot be read: permission denied", path.display());
    assert!(refused.stderr.contains(&sentence), "{refused:?}");
    let none = run(Path::new("/dev/null"));
    assert!(none.stderr.contains("names any"), "{none:?}");
}

#[test]
fn the_view_of_several_hosts_shows_each_and_ends_with_its_key() {
    let mut fleet = Fleet::start(2);
    let script = format!(
        "SORAMODE_SSH='ssh -F {}' {PROGRAM} -H sfu-01,sfu-02 status --watch; echo ended with $?; exec sleep 600",
        fleet.config.display()
    );
    let terminal = Terminal::open(&script, (80, 24));
    terminal.until("both", |screen| screen.matches("normal").count() == 2);
    fleet.daemons[1].ok(&["close"]);
    terminal.until_shown("block_new_session");
    fleet.sshds[0].kill();
    terminal.until_shown("cannot reach sfu-01 over ssh");
    assert!(!terminal.has_wrapped());
    terminal.press("q");
    terminal.until_shown("ended with 0");
}
