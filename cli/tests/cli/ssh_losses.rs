//! `soramode -H` while connections are reset, processes hang and are killed, and the operator interrupts: as on the node itself.

use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use soramode_testkit::sshd::{Sshd, command_line, descendants};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

use crate::machines::{Account, TestGroup};
use crate::ssh::{HOST, Remote, signal};
use crate::support::{Daemon, PROGRAM, Run, Running, until, until_file};
use crate::terminal::Terminal;

/// A way to an sshd, with connections that a test resets.
struct Proxy {
    port: u16,
    resets: broadcast::Sender<()>,
}

impl Proxy {
    fn start(to: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let resets = broadcast::Sender::new(1);
        let of_thread = resets.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let tasks = TaskTracker::new();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    tasks.spawn(pass(client, to, of_thread.subscribe()));
                }
            });
        });
        Self { port, resets }
    }

    /// Resets all connections.
    fn reset(&self) {
        self.resets.send(()).unwrap();
    }

    /// Options of ssh for the way over it.
    fn option(&self) -> String {
        format!("-o Port={}", self.port)
    }
}

async fn pass(mut client: TcpStream, to: u16, mut resets: broadcast::Receiver<()>) {
    let mut server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
    tokio::select! {
        // An end in order, or an error of either side.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        reset = resets.recv() => {
            reset.unwrap();
            for stream in [client, server] {
                stream.set_zero_linger().unwrap();
            }
        }
    }
}

/// A command that prints a word, and runs until this file is there.
fn begun_until(file: &Path) -> String {
    format!("echo begun; {}", until_file(file))
}

/// The ssh of a command.
fn ssh_of(running: &Running) -> u32 {
    until(|| {
        let all = descendants(running.pid());
        all.into_iter()
            .find(|pid| command_line(*pid).starts_with("ssh "))
    })
}

#[test]
fn a_reset_connection_is_looked_for_again() {
    let remote = Remote::start();
    remote.daemon.connect("spam", "c1");
    let proxy = Proxy::start(remote.sshd.port());
    let ssh = format!("{} {}", remote.ssh(), proxy.option());
    let start = |args: &[&str]| remote.command(args).env("SORAMODE_SSH", &ssh).running();
    let mut tail = start(&["tail", "--since", "all"]);
    tail.until_answered("channel_id=spam");
    let mut drain = start(&["drain"]);
    drain.until_said("session left");
    let script = format!("SORAMODE_SSH='{ssh}' {PROGRAM} -H {HOST} status --watch; exec sleep 600");
    let terminal = Terminal::open(&script, (80, 24));
    terminal.until_shown("spam");
    proxy.reset();
    tail.until_said("soramoded is back");
    drain.until_said("soramoded is back");
    remote.daemon.connect("spam", "c2");
    tail.until_answered("connection_id=c2");
    terminal.until("two connections", |screen| screen.contains("2 connections"));
    for connection in ["c1", "c2"] {
        remote.daemon.disconnect(connection);
    }
    let drained = drain.ended();
    assert_eq!(drained.code, 0, "{drained:?}");
    remote.daemon.ok(&["open"]);

    let file = remote.runtime.path().join("go-on");
    let mut maintain = start(&["maintain", "--", "sh", "-c", &begun_until(&file)]);
    maintain.until_answered("begun");
    proxy.reset();
    maintain.until_said("connection lost while the command runs");
    std::fs::write(&file, "").unwrap();
    let maintained = maintain.ended();
    assert_eq!(maintained.code, 0, "{maintained:?}");
    assert_eq!(remote.daemon.ok(&["get"]), "normal\n");
}

#[test]
fn a_drain_and_a_view_go_on_whichever_process_is_lost() {
    let remote = Remote::start();
    remote.daemon.connect("spam", "c1");
    let script = format!(
        "SORAMODE_SSH='{}' {PROGRAM} -H {HOST} status --watch; exec sleep 600",
        remote.ssh()
    );
    let terminal = Terminal::open(&script, (80, 24));
    terminal.until_shown("spam");
    let mut drain = remote.command(&["drain"]).running();
    drain.until_said("session left");
    let mut connections = 1;
    let mut is_back = |drain: &mut Running| {
        drain.until_said("soramoded is back");
        connections += 1;
        remote.daemon.connect("spam", &format!("c{connections}"));
        let shown = format!("{connections} connections");
        terminal.until_shown(&shown);
    };
    let all = |words: &str| {
        let sessions = remote.sshd.sessions();
        let is_it = |pid: &u32| command_line(*pid).contains(words);
        sessions.into_iter().filter(is_it).collect::<Vec<_>>()
    };
    for words in ["dial-stdio", "@notty"] {
        for pid in all(words) {
            signal(pid, Signal::SIGKILL);
        }
        is_back(&mut drain);
    }
    signal(ssh_of(&drain), Signal::SIGKILL);
    is_back(&mut drain);
    let hanging = all("@notty");
    for pid in &hanging {
        signal(*pid, Signal::SIGSTOP);
    }
    is_back(&mut drain);
    for pid in hanging {
        signal(pid, Signal::SIGKILL);
    }
    for number in 1..=connections {
        remote.daemon.disconnect(&format!("c{number}"));
    }
    let drained = drain.ended();
    assert_eq!(drained.code, 0, "{drained:?}");
}

#[test]
fn an_interrupt_ends_each_verb_as_on_the_node() {
    let remote = Remote::start();
    remote.daemon.connect("spam", "c1");
    let mut tail = remote.command(&["tail", "--since", "all"]).running();
    tail.until_answered("channel_id=spam");
    tail.signal(Signal::SIGINT);
    let mut local = remote.daemon.spawn(&["tail", "--since", "all"]);
    local.until_answered("channel_id=spam");
    local.signal(Signal::SIGINT);
    assert_eq!(tail.ended().code, local.ended().code);
    let mut drain = remote.command(&["drain"]).running();
    drain.until_said("waiting");
    drain.signal(Signal::SIGINT);
    let drained = drain.ended();
    assert_eq!(drained.code, 130, "{drained:?}");
    for words in [
        "stopped waiting. node-01 is still closed",
        "Watch again: soramode -H sfu-02 wait drained",
    ] {
        assert!(drained.stderr.contains(words), "{drained:?}");
    }
    remote.daemon.disconnect("c1");
    remote.daemon.ok(&["open"]);

    // The first Ctrl-C is left to the command, the second leaves at once; the end is recorded all the same.
    let file = remote.runtime.path().join("go-on");
    let maintain = || {
        let command = begun_until(&file);
        let mut maintain = remote
            .command(&["maintain", "--", "sh", "-c", &command])
            .running();
        maintain.until_answered("begun");
        maintain.signal(Signal::SIGINT);
        maintain.until_said("interrupted: the command is waited for");
        maintain
    };
    let waited = maintain();
    std::fs::write(&file, "").unwrap();
    let waited = waited.ended();
    assert_eq!(waited.code, 0, "{waited:?}");
    assert_eq!(remote.daemon.ok(&["get"]), "normal\n");
    std::fs::remove_file(&file).unwrap();
    let left = maintain();
    left.signal(Signal::SIGINT);
    let left = left.ended();
    assert_eq!(left.code, 130, "{left:?}");
    assert!(
        left.stderr.contains("The command goes on there"),
        "{left:?}"
    );
    std::fs::write(&file, "").unwrap();
    until(|| {
        let (_, status) = remote.daemon.json(&["status"]);
        (status["reservation"]["command_exit"] == 0).then_some(())
    });
}

#[test]
fn a_new_member_of_the_group_is_let_in_over_a_new_login() {
    let (group, user) = (TestGroup::create(), Account::create());
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o711),
    )
    .unwrap();
    let socket = folder.path().join("soramode.sock");
    let daemon = Daemon::start_with(|config| {
        config.socket.clone_from(&socket);
        config.operator_group = Some(group.0.clone());
    });
    let sshd = Sshd::start(
        Path::new(PROGRAM),
        &[("SORAMODE_SOCKET", socket.to_str().unwrap())],
    );
    sshd.allow_other_users();
    let runtime = user.home.path().join("run");
    std::fs::create_dir(&runtime).unwrap();
    let get = || -> Command {
        let mut command = user.program(&[(HOST, &sshd)]);
        command
            .env("XDG_RUNTIME_DIR", &runtime)
            .args(["-H", HOST, "get"]);
        command
    };
    let refused = get().ended();
    assert_eq!(refused.code, 4, "{refused:?}");
    user.join(&group);
    // The shared connection has the groups of its login.
    let logins = || sshd.log().matches("Accepted publickey").count();
    let before = logins();
    let allowed = get().ended();
    assert_eq!(
        (allowed.code, allowed.stdout.as_str()),
        (0, "normal\n"),
        "{allowed:?}"
    );
    assert_eq!(logins(), before + 1);
    drop(daemon);
}
