//! `soramode -H`: a node over a real ssh. Each failure before the first line, what a shell prints and reads, and each process that is lost.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::json;
use soramode_testkit::sshd::{Sshd, client_config, command_line, descendants, processes};
use tempfile::TempDir;

use crate::support::{Daemon, Ended, PROGRAM, Run, Running, until, with_default_signals};
use crate::terminal::Terminal;

/// The name of the host for ssh.
pub(crate) const HOST: &str = "sfu-02";

/// A daemon behind an sshd.
pub(crate) struct Remote {
    pub(crate) daemon: Daemon,
    pub(crate) sshd: Sshd,
    config: PathBuf,
    /// `$XDG_RUNTIME_DIR` of the operator.
    pub(crate) runtime: TempDir,
}

impl Remote {
    pub(crate) fn start() -> Self {
        let daemon = Daemon::start();
        let socket = daemon.socket();
        let variables = [("SORAMODE_SOCKET", socket.to_str().unwrap())];
        let sshd = Sshd::start(Path::new(PROGRAM), &variables);
        Self {
            config: client_config(&[(HOST, &sshd)]),
            daemon,
            sshd,
            runtime: tempfile::tempdir().unwrap(),
        }
    }

    /// The words of `SORAMODE_SSH`.
    pub(crate) fn ssh(&self) -> String {
        format!("ssh -F {}", self.config.display())
    }

    /// The program with this ssh, and without the tests' environment.
    pub(crate) fn program(&self) -> Command {
        let mut command = with_default_signals(PROGRAM);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("SORAMODE_SSH", self.ssh())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program();
        command.args(["-H", HOST]).args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.command(args).ended()
    }

    fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
        ended.stdout
    }

    /// A process of a session with these words in its command line.
    pub(crate) fn session_process(&self, words: &str) -> Option<u32> {
        let processes = self.sshd.sessions();
        processes
            .into_iter()
            .find(|pid| command_line(*pid).contains(words))
    }
}

/// The first line of stderr and of the hint.
fn failure(ended: &Ended) -> (i32, &str) {
    let sentence = ended
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("soramode: "));
    (ended.code, sentence.unwrap_or(&ended.stderr))
}

#[test]
fn a_node_over_ssh_is_as_the_node_itself_and_commands_repeat_the_host() {
    let remote = Remote::start();
    assert_eq!(remote.ok(&["get"]), "normal\n");
    assert_eq!(
        remote.ok(&["set", "block_new_session", "-m", "CHG-1"]),
        "node-01: normal -> block_new_session (0 sessions, 0 connections stay). Undo: soramode -H sfu-02 set normal --if-generation 2\n"
    );
    let (_, history) = remote.daemon.json(&["history"]);
    let operator = history["changes"][0]["on_behalf_of"].as_str().unwrap();
    let host = nix::unistd::gethostname().unwrap();
    assert!(
        operator.ends_with(&format!("@{}", host.to_string_lossy())),
        "{history}"
    );
    let drained = remote.run(&["drain"]);
    assert_eq!(drained.code, 0, "{drained:?}");
    let hint = " s and still closed. When you are done: soramode -H sfu-02 set normal\n";
    assert!(drained.stdout.ends_with(hint), "{drained:?}");
    let info = remote.run(&["info", "--json"]).json();
    assert_eq!(info["node_name"], "node-01");
    assert_eq!(remote.run(&["is", "normal"]).code, 1);
    let socket = remote.daemon.socket();
    let status = remote.run(&["--socket", socket.to_str().unwrap(), "doctor"]);
    assert!(
        status.stdout.contains(&format!(
            "soramode -H sfu-02 --socket {} set normal",
            socket.display()
        )),
        "{status:?}"
    );
    // The variable: a change says first where it is made.
    let of_variable = |args: &[&str]| {
        let mut command = remote.program();
        command.env("SORAMODE_HOST", HOST).args(args).ended()
    };
    assert_eq!(of_variable(&["get"]).stderr, "");
    let opened = of_variable(&["open"]);
    assert_eq!(
        (opened.code, opened.stderr.as_str()),
        (0, "on sfu-02 (SORAMODE_HOST)\n")
    );
    let local = remote.daemon.socket();
    let local = of_variable(&["--socket", local.to_str().unwrap(), "close"]);
    assert_eq!((local.code, local.stderr.as_str()), (0, ""), "{local:?}");
    assert!(
        local.stdout.contains("Undo: soramode --socket"),
        "{local:?}"
    );
}

#[test]
fn each_failure_before_the_first_line_has_its_exit_code_and_sentence() {
    let mut remote = Remote::start();
    let with_remote = |remote: &Remote, command: &str| {
        remote
            .command(&["get"])
            .env("SORAMODE_REMOTE", command)
            .ended()
    };
    for (command, code, sentence) in [
        (
            "nosuchcommand",
            3,
            "sfu-02 has no nosuchcommand in its PATH for ssh",
        ),
        ("/etc", 3, "sfu-02 has no /etc in its PATH for ssh"),
        (
            "sh -c 'exit 2' x",
            7,
            "soramode on sfu-02 is older than dial-stdio",
        ),
        (
            "sh -c 'echo no account; exit 1' x",
            3,
            "sh -c 'echo no account; exit 1' x on sfu-02 ended with exit code 1 before it answered",
        ),
        (
            "yes welcome; true",
            3,
            "sfu-02 prints more than 64 KiB before soramode answers there",
        ),
    ] {
        let ended = with_remote(&remote, command);
        assert_eq!(failure(&ended), (code, sentence), "{ended:?}");
    }
    let ended = with_remote(&remote, "sh -c 'echo no account; exit 1' x");
    assert!(ended.stderr.contains("\n  no account\n"), "{ended:?}");

    let ended = remote
        .command(&["get"])
        .env("SORAMODE_SSH", format!("{} -o Port=1", remote.ssh()))
        .ended();
    assert_eq!(
        failure(&ended),
        (3, "cannot reach sfu-02 over ssh"),
        "{ended:?}"
    );
    let (words, _) = ended.stderr.split_once("\nsoramode: ").unwrap();
    assert!(words.contains("Connection refused"), "{ended:?}");
    let ended = remote
        .command(&["get"])
        .env("SORAMODE_SSH", "/nonexistent/ssh")
        .ended();
    assert_eq!(
        failure(&ended),
        (70, "cannot start /nonexistent/ssh: no such command"),
        "{ended:?}"
    );

    let other = remote.run(&["--socket", "/nonexistent/s", "get"]);
    assert_eq!(
        failure(&other),
        (
            3,
            "cannot reach soramoded at /nonexistent/s on sfu-02: no such file"
        ),
    );
    if nix::unistd::geteuid().is_root() {
        let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups soramode";
        let ended = with_remote(&remote, nobody);
        let socket = remote.daemon.socket();
        let sentence = format!(
            "may not open {} on sfu-02: permission denied",
            socket.display()
        );
        assert_eq!(failure(&ended), (4, sentence.as_str()), "{ended:?}");
    }
    remote.daemon.stop();
    let (code, sentence) = {
        let ended = remote.run(&["get"]);
        let (code, sentence) = failure(&ended);
        (code, sentence.to_owned())
    };
    assert_eq!(code, 3);
    assert!(
        sentence.ends_with(" on sfu-02: no such file")
            || sentence.ends_with(" on sfu-02: the socket exists, but soramoded is not running"),
        "{sentence}"
    );
}

#[test]
fn a_host_that_says_nothing_is_given_up_after_30_s_and_a_profile_may_print_and_read() {
    let remote = Remote::start();
    let silent = Remote::start();
    let reading = Remote::start();
    remote
        .sshd
        .write_profile("echo Welcome; seq 2000; echo -n '$ '; read -t 1 line\n");
    reading.sshd.write_profile("echo Your name?; read name\n");
    let waits = [
        silent
            .command(&["get"])
            .env("SORAMODE_REMOTE", "sh -c 'echo hello; exec sleep 600' x")
            .running(),
        reading.command(&["get"]).running(),
    ];
    // On a terminal ssh may ask for something, which this one does not.
    let terminal = reading.on_terminal("get");
    assert_eq!(remote.ok(&["get"]), "normal\n");
    for (running, printed) in waits.into_iter().zip(["hello", "Your name?"]) {
        let ended = running.ended();
        assert_eq!(failure(&ended), (3, "sfu-02 does not answer"), "{ended:?}");
        assert!(
            ended.stderr.contains(&format!("\n  {printed}\n")),
            "{ended:?}"
        );
    }
    let screen = terminal.until_shown("ended with 3");
    assert!(screen.contains("sfu-02 does not answer"), "{screen}");
}

#[test]
fn an_interrupt_while_it_connects_leaves_the_node_as_it_is() {
    let remote = Remote::start();
    let begun = remote.runtime.path().join("begun");
    remote
        .sshd
        .write_profile(&format!("touch {}; read name\n", begun.display()));
    for (args, signal, code) in [
        (&["drain"][..], Signal::SIGINT, 130),
        (
            &["drain", "--end-after", "1h", "--accept-risk=cuts-clients"],
            Signal::SIGTERM,
            143,
        ),
        (&["set", "block_new_session", "--wait"], Signal::SIGHUP, 129),
        (
            &["end", "--all", "--accept-risk=cuts-clients"],
            Signal::SIGINT,
            130,
        ),
    ] {
        let running = remote.command(args).running();
        until(|| begun.exists().then_some(()));
        running.signal(signal);
        let ended = running.ended();
        assert_eq!(ended.code, code, "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(". Nothing was changed"), "{ended:?}");
        // Its processes on the host end too, before they could send anything.
        until(|| remote.sshd.sessions().is_empty().then_some(()));
        std::fs::remove_file(&begun).unwrap();
    }
    assert_eq!(remote.daemon.ok(&["get"]), "normal\n");
    let (_, status) = remote.daemon.json(&["status"]);
    assert_eq!(status["plan"], json!(null), "{status}");
}

#[test]
fn a_key_that_may_only_dial_is_enough_and_its_socket_is_its_own() {
    let remote = Remote::start();
    let forced = format!("restrict,command=\"{PROGRAM} dial-stdio\"");
    remote.sshd.set_key_options(&forced);
    assert_eq!(remote.ok(&["get"]), "normal\n");
    let other = remote.run(&["--socket", "/run/other.sock", "get"]);
    let (code, sentence) = failure(&other);
    assert_eq!(code, 2, "{other:?}");
    assert!(sentence.ends_with(", not to /run/other.sock"), "{sentence}");
}

#[test]
fn hosts_and_flags_that_contradict_each_other_are_wrong_usage() {
    let remote = Remote::start();
    for args in [
        &["-H", HOST, "--api-url", "http://127.0.0.1:1", "get"][..],
        &["-H", HOST, "open", "--node", "sfu-01"],
        &["-H", HOST, "completions", "bash"],
        &["-H", HOST, "drill"],
        &["-H", HOST, "dial-stdio"],
        &["-H", "-oProxyCommand=reboot", "get"],
        &["-H", "ops@-l", "get"],
        &["-H", "fd00::1", "get"],
        &["-H", "", "get"],
    ] {
        let ended = remote.program().args(args).ended();
        assert_eq!(ended.code, 2, "{args:?}: {ended:?}");
    }
    let both = remote
        .program()
        .env("SORAMODE_HOST", HOST)
        .env("SORAMODE_API_URL", "http://127.0.0.1:1")
        .arg("get")
        .ended();
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn a_lost_connection_is_looked_for_again_whichever_process_is_lost() {
    let remote = Remote::start();
    remote.daemon.connect("spam", "c0");
    let mut tail = remote.command(&["tail", "--since", "all"]).running();
    tail.until_answered("channel_id=spam");
    let on_host = |words| until(|| remote.session_process(words));
    let ssh = |tail: &Running| {
        let of_tail = descendants(tail.pid());
        of_tail
            .into_iter()
            .find(|pid| command_line(*pid).starts_with("ssh "))
    };
    let mut connections = 0;
    let mut is_back = |tail: &mut Running| {
        tail.until_said("soramoded is back");
        connections += 1;
        let channel = format!("eggs-{connections}");
        remote.daemon.connect(&channel, &channel);
        tail.until_answered(&channel);
    };
    signal(on_host("dial-stdio"), Signal::SIGKILL);
    is_back(&mut tail);
    signal(on_host("@notty"), Signal::SIGKILL);
    is_back(&mut tail);
    signal(ssh(&tail).unwrap(), Signal::SIGKILL);
    is_back(&mut tail);
    // A host that hangs is noticed by ssh.
    let hanging = on_host("@notty");
    signal(hanging, Signal::SIGSTOP);
    is_back(&mut tail);
    signal(hanging, Signal::SIGKILL);
    // The end of the command ends its ssh, and the processes on the host.
    tail.signal(Signal::SIGKILL);
    until(|| remote.sshd.sessions().is_empty().then_some(()));
}

#[test]
fn commands_share_a_connection_and_do_without_one_that_hangs() {
    let remote = Remote::start();
    let socket_folder = remote.runtime.path().join("soramode-ssh");
    let sockets = || std::fs::read_dir(&socket_folder).map_or(0, Iterator::count);
    let shared = |args: &[&str]| {
        let mut command = remote.command(args);
        command.env("XDG_RUNTIME_DIR", remote.runtime.path());
        let ended = command.ended();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{ended:?}");
        ended.stdout
    };
    let logins = || remote.sshd.log().matches("Accepted publickey").count();
    assert_eq!(shared(&["get"]), "normal\n");
    assert_eq!((sockets(), logins()), (1, 1));
    assert_eq!(shared(&["get"]), "normal\n");
    assert_eq!(logins(), 1, "the second command does not log in");
    let master = until(|| {
        let folder = socket_folder.display().to_string();
        processes()
            .into_iter()
            .find(|pid| command_line(*pid).starts_with(&format!("ssh: {folder}")))
    });
    signal(master, Signal::SIGSTOP);
    assert_eq!(shared(&["get"]), "normal\n");
    assert_eq!((sockets(), logins()), (0, 2));
    signal(master, Signal::SIGKILL);
    // A host that hangs once: those that use the connection keep it.
    let mut tail = remote.command(&["tail"]);
    let mut tail = tail.env("XDG_RUNTIME_DIR", remote.runtime.path()).running();
    until(|| (sockets() == 1).then_some(()));
    let hangs_once = format!(
        "sh -c 'test -e {0} || {{ touch {0}; exec sleep 600; }}; exec soramode \"$@\"' x",
        remote.runtime.path().join("hung").display()
    );
    let mut command = remote.command(&["get"]);
    command
        .env("XDG_RUNTIME_DIR", remote.runtime.path())
        .env("SORAMODE_REMOTE", hangs_once);
    assert_eq!(command.ended().code, 0);
    assert_eq!(sockets(), 0, "no further command waits for it");
    remote.daemon.connect("spam", "c0");
    tail.until_answered("channel_id=spam");
    let tail = tail.stopped();
    assert_eq!(tail.stderr, "", "it was not connected again");
    // The user's own sharing wins.
    let own = remote.runtime.path().join("own");
    let mut command = remote.command(&["get"]);
    command.env("XDG_RUNTIME_DIR", remote.runtime.path()).env(
        "SORAMODE_SSH",
        format!("{} -o ControlPath={}", remote.ssh(), own.display()),
    );
    assert_eq!(command.ended().code, 0);
    assert_eq!(sockets(), 0);
}

#[test]
fn dial_stdio_ends_with_its_reader_and_half_closes_with_its_writer() {
    use std::io::{BufRead, BufReader, Write};
    let daemon = Daemon::start();
    let start = || {
        let mut command = crate::support::program(&daemon.socket());
        command
            .arg("dial-stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = start();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    let mut requests = child.stdin.take().unwrap();
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    assert!(
        line.starts_with("soramode-stdio {\"protocol\":1,\"version\":\""),
        "{line}"
    );
    // A request, and the end of stdin: the answer still comes.
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "GetMode", "params": {}});
    writeln!(requests, "{request}").unwrap();
    drop(requests);
    line.clear();
    answers.read_line(&mut line).unwrap();
    assert!(line.contains("\"mode\":\"normal\""), "{line}");
    assert!(child.wait().unwrap().success());
    // Without a reader it ends, though nothing is written and stdin stays open.
    let mut child = start();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    answers.read_line(&mut line).unwrap();
    drop(answers);
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_live_view_over_ssh_is_that_of_the_node_and_ctrl_c_ends_it_alone() {
    let remote = Remote::start();
    remote.daemon.connect("spam", "c1");
    let script = format!(
        "SORAMODE_SSH='{}' {PROGRAM} -H {HOST} status --watch; echo ended with $?; exec sleep 600",
        remote.ssh()
    );
    let terminal = Terminal::open(&script, (80, 24));
    terminal.until_shown("spam");
    terminal.press("C-c");
    terminal.until_shown("ended with 130");
    until(|| remote.sshd.sessions().is_empty().then_some(()));
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}
