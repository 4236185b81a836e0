//! Every example of the help and of the manual, typed into a shell as it stands: each must succeed.

use std::fs;
use std::process::Command;

use soramode::examples;
use soramode_testkit::receiver::{Receiver, ReceiverBehaviour};
#[cfg(feature = "cluster")]
use soramoded::{args::Args, config::Config};

#[cfg(feature = "cluster")]
use crate::cluster::{Etcd, Node, free_url};
use crate::doc_commands::{Machine, signalling_server};
#[cfg(feature = "cluster")]
use crate::doc_commands::{blocks, document};
use crate::drill::soramoded as soramoded_program;
use crate::fleet::Fleet;
#[cfg(feature = "cluster")]
use crate::support::until;
use crate::support::{Daemon, Run, program};
use crate::terminal::Terminal;
use crate::webhooks::{SECRET, drained, with_receiver, write_secret};

/// Words of the examples that need more than one node.
const CLUSTER: [&str; 4] = ["--node ", "--cluster", "nodes init", "nodes purge"];

/// Examples on a node that is closed and empty.
const ON_A_CLOSED_NODE: [&str; 3] = ["wait drained", "is drained", "--if-mode block_new_session"];

/// The receiver that examples name.
const RECEIVER: &str = "http://127.0.0.1:9000/hook";

fn is_about_a_cluster(line: &str) -> bool {
    CLUSTER.iter().any(|words| line.contains(words))
}

fn lines() -> impl Iterator<Item = &'static str> {
    examples()
        .flat_map(|(_, examples)| examples)
        .map(|example| example.line)
}

/// A node, a receiver of its webhooks, and files of an operator.
struct Place {
    daemon: Daemon,
    machine: Machine,
    receiver: Receiver,
    folder: tempfile::TempDir,
}

impl Place {
    /// Prepares the sessions, deliveries and files for an example.
    fn of(line: &str) -> Self {
        let receiver = Receiver::start(|_| ReceiverBehaviour::ok());
        let daemon = with_receiver(&receiver);
        let folder = tempfile::tempdir().unwrap();
        if line.contains(" deliveries ") || line.contains(" webhook ") {
            drained(&daemon);
            let delivery = receiver.recv();
            fs::write(
                folder.path().join("request"),
                format!("{}{}", delivery.head, delivery.text),
            )
            .unwrap();
            write_secret(&folder.path().join("webhook-secrets"), SECRET);
            write_secret(&folder.path().join("chat-url"), &receiver.url());
        } else if ON_A_CLOSED_NODE.iter().any(|words| line.contains(words)) {
            daemon.ok(&["set", "block_new_session"]);
        } else if line.contains(" --end-after ") {
            signalling_server(&daemon.socket(), &[]);
        } else if !line.contains(" drain ") && !line.contains(" maintain ") {
            signalling_server(
                &daemon.socket(),
                &[("spam", "c-1"), ("spam", "c-2"), ("ham", "h-1")],
            );
        }
        let machine = Machine::new(&daemon.socket());
        Self {
            daemon,
            machine,
            receiver,
            folder,
        }
    }

    /// The exit code, and what was printed.
    fn run(&self, line: &str) -> (i32, String) {
        let typed = format!(
            "cd {} && {}",
            self.folder.path().display(),
            line.replace(RECEIVER, &self.receiver.url())
        );
        if line.contains("systemctl restart sora") {
            let ended = self.machine.with_systemctl(&typed, "restart sora", || {});
            return (ended.code, ended.stdout + &ended.stderr);
        }
        if line.contains(" tail ") {
            let mut running = self
                .machine
                .begin(&typed.replace("soramode tail", "exec soramode tail"));
            let event = running.until_answered("");
            return (0, event + &running.stopped().stderr);
        }
        let ended = self.machine.paste(&typed);
        (ended.code, ended.stdout + &ended.stderr)
    }
}

#[test]
fn each_example_of_one_node_succeeds() {
    assert!(soramoded_program().exists());
    let own = |line: &&str| {
        !is_about_a_cluster(line)
            && !line.contains("completions")
            && !line.contains("--watch")
            && !line.contains(" -H ")
    };
    for line in lines().filter(own) {
        let (code, said) = Place::of(line).run(line);
        assert_eq!(code, 0, "{line}: {said}");
        assert!(!said.is_empty(), "{line} says nothing");
    }
}

#[test]
fn each_example_of_other_hosts_succeeds() {
    let fleet = Fleet::start(3);
    fleet.write_fleets("tokyo = { hosts = [\"sfu-01\", \"sfu-02\", \"sfu-03\"] }\n");
    for sshd in &fleet.sshds {
        let programs = sshd.home().join("bin");
        fs::create_dir(&programs).unwrap();
        std::os::unix::fs::symlink("/bin/true", programs.join("systemctl")).unwrap();
    }
    let mut examples = 0;
    for line in lines().filter(|line| line.contains(" -H ")) {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        let ended = fleet.run(&words);
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
        examples += 1;
    }
    assert!(examples > 0);
}

#[test]
fn the_example_of_a_view_that_is_followed_ends_with_its_key() {
    let [line] = lines()
        .filter(|line| line.contains("--watch"))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let place = Place::of(line);
    let terminal = Terminal::open(
        &format!(
            "SORAMODE_SOCKET={} {line}; echo ended with $?; exec sleep 600",
            place.daemon.socket().display()
        ),
        (100, 30),
    );
    terminal.until_shown("normal");
    terminal.press("q");
    terminal.until_shown("ended with 0");
}

#[test]
fn the_examples_of_completions_are_read_by_their_shells() {
    let mut shells = 0;
    for line in lines().filter(|line| line.contains(" completions ")) {
        let shell = ["bash", "zsh", "fish"]
            .into_iter()
            .find(|shell| line.contains(shell))
            .unwrap();
        let before = if shell == "zsh" {
            "autoload -U compinit; compinit -u -D; "
        } else {
            ""
        };
        let after = if shell == "fish" {
            "; and complete --do-complete 'soramode dra'"
        } else {
            ""
        };
        let folder = tempfile::tempdir().unwrap();
        let path = format!(
            "{}:{}",
            std::path::Path::new(crate::support::PROGRAM)
                .parent()
                .unwrap()
                .display(),
            std::env::var("PATH").unwrap()
        );
        let mut command = Command::new(shell);
        command
            .env("PATH", path)
            .env("HOME", folder.path())
            .args(["-c", &format!("{before}{line}{after}")]);
        let ended = command.ended();
        assert_eq!((ended.code, &*ended.stderr), (0, ""), "{line}: {ended:?}");
        shells += 1;
    }
    assert_eq!(shells, 3);
}

#[cfg(feature = "cluster")]
#[test]
fn each_example_of_a_cluster_succeeds() {
    let etcd = Etcd::start();
    let n1 = Node::start_before_init("sfu-01", &etcd);
    let machine = Machine::new(&n1.socket());
    // Waits until etcd answers.
    until(|| (machine.paste(line_with("nodes init")).code == 0).then_some(()));
    let [n2, mut n3] = ["sfu-02", "sfu-03"].map(|name| Node::start(name, &etcd));
    let normal = [
        "sfu-01 normal joined",
        "sfu-02 normal joined",
        "sfu-03 normal joined",
    ];
    until(|| (n1.nodes() == normal).then_some(()));
    machine.all(line_with("--node "), &[0]);
    assert_eq!(n2.ok(&["get"]), "block_new_session\n");

    n3.ok(&["connect", "spam"]);
    n3.stop();
    until(|| {
        n1.nodes()
            .contains(&"sfu-03  lost".to_owned())
            .then_some(())
    });
    machine.all(line_with("nodes purge"), &[0]);

    etcd.empty();
    until(|| (machine.paste(line_with("lost-claims")).code == 0).then_some(()));
    machine.all(line_with("drill --cluster"), &[0]);
    let tried = [
        "nodes init",
        "--node ",
        "nodes purge",
        "lost-claims",
        "drill --cluster",
    ]
    .map(line_with);
    let untried: Vec<&str> = lines()
        .filter(|line| is_about_a_cluster(line) && !tried.contains(line))
        .collect();
    assert!(untried.is_empty(), "{untried:?}");
}

/// The first example with these words.
#[cfg(feature = "cluster")]
fn line_with(words: &str) -> &'static str {
    lines().find(|line| line.contains(words)).unwrap()
}

#[test]
fn each_example_of_soramoded_succeeds() {
    assert!(soramoded_program().exists());
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("soramode.sock");
    let machine = Machine::new(&socket);
    let settings = format!(
        "state-dir = {:?}\nsocket = {socket:?}\n",
        machine.path("/var/lib/soramode")
    );
    fs::write(machine.path("/etc/soramode/soramoded.toml"), settings).unwrap();
    let [run, checks @ ..] = soramoded::args::EXAMPLES.map(|(line, _)| line);
    let running = machine.begin(&format!("exec {run}"));
    until(|| (machine.paste("soramode get").code == 0).then_some(()));
    running.stopped();
    for check in checks {
        machine.all(check, &[0]);
    }
}

/// The examples in the help are those that the tests run.
#[test]
fn the_help_has_the_examples() {
    for (command, examples) in examples() {
        let words: Vec<&str> = ["help"]
            .into_iter()
            .chain(command.split(' '))
            .filter(|word| *word != "soramode")
            .collect();
        let help = program(std::path::Path::new("/nonexistent"))
            .args(words)
            .ended();
        for example in examples {
            assert!(
                help.stdout.contains(example.line) && help.stdout.contains(example.what),
                "{command}: {}",
                example.line
            );
        }
    }
}

#[cfg(feature = "cluster")]
#[test]
fn the_configuration_of_the_guide_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::write(&tokens, format!("ops {}\n", "x".repeat(32))).unwrap();
    fs::set_permissions(&tokens, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for guide in ["cluster.md", "cluster.ja.md"] {
        let text = fs::read_to_string(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../man")
                .join(guide),
        )
        .unwrap();
        let (_, rest) = text.split_once("```toml\n").unwrap();
        let (toml, _) = rest.split_once("```").unwrap();
        let file = folder.path().join(guide);
        fs::write(
            &file,
            toml.replace("/etc/soramode/http-tokens", tokens.to_str().unwrap()),
        )
        .unwrap();
        let words = [
            "soramoded".into(),
            "--ephemeral".into(),
            "--config".into(),
            file.into_os_string(),
        ];
        let config = Config::load(Args::read_from(words).unwrap()).unwrap();
        assert_eq!(
            (
                config.node_name.as_str(),
                config.cluster.unwrap().endpoints.len()
            ),
            ("sfu-01", 3),
            "{guide}"
        );
    }
}

/// A member with the settings of the guide, on free addresses, is ready, and knows each variable.
#[cfg(feature = "cluster")]
#[test]
fn the_settings_of_etcd_in_the_guide_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let (client, peer) = (free_url(), free_url());
    let settings = blocks(&document("man/cluster.md"), None, "sh").remove(0);
    let settings = settings
        .replace("http://10.0.0.11:2379", &client)
        .replace("http://10.0.0.11:2380", &peer)
        .replace("/var/lib/etcd/soramode", folder.path().to_str().unwrap());
    let variables: Vec<(&str, &str)> = settings
        .lines()
        .map(|line| line.split_once('=').unwrap())
        // The other members are not there.
        .map(|(name, value)| (name, value.split(",etcd-2=").next().unwrap()))
        .collect();
    let mut member = Command::new("etcd")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .envs(variables.iter().copied())
        .running();
    member.until_said("ready to serve client requests");
    let ended = member.stopped();
    for (name, _) in variables {
        let is_used =
            |line: &str| line.contains("recognized and used environment") && line.contains(name);
        assert!(ended.stderr.lines().any(is_used), "{name}: {ended:?}");
    }
}
