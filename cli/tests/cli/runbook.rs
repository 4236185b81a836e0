//! The runbook as its reader follows it: every block of commands in it, in order, against a real daemon.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;

#[cfg(feature = "cluster")]
use crate::cluster::{Etcd, Node};
use crate::doc_commands::{Machine, blocks, document, signalling_server, write_script};
use crate::fleet::Fleet;
use crate::sora::Sora;
#[cfg(feature = "cluster")]
use crate::support::until;
use crate::support::{Daemon, PROGRAM, Run};

const RUNBOOK: &str = "man/runbook.md";

/// Sections with commands, each with a test here.
pub(crate) const SECTIONS: [&str; 10] = [
    "Maintenance of one node",
    "Emergency stop",
    "A drain that does not end",
    "soramoded is down",
    "Nodes of a cluster",
    "Back up and restore the state",
    "A drain with a deadline",
    "Tell people first",
    "A plan is running",
    "Rolling maintenance of a fleet",
];

/// The blocks of a section, of which there are so many.
pub(crate) fn section<const BLOCKS: usize>(heading: &str) -> [String; BLOCKS] {
    blocks(&document(RUNBOOK), Some(heading), "sh")
        .try_into()
        .unwrap()
}

#[test]
fn every_section_with_commands_has_a_test() {
    let runbook = document(RUNBOOK);
    let expected: usize = SECTIONS
        .iter()
        .map(|heading| blocks(&runbook, Some(heading), "sh").len())
        .sum();
    assert_eq!(blocks(&runbook, None, "sh").len(), expected);
    for line in blocks(&runbook, None, "sh")
        .iter()
        .flat_map(|block| block.lines())
    {
        assert!(
            !line.ends_with('\\') && !line.starts_with(' '),
            "each line is a command of its own: {line}"
        );
    }
}

#[test]
fn the_readmes_have_the_commands_of_the_runbook() {
    for (readme, runbook) in [
        ("README.md", RUNBOOK),
        ("README.ja.md", "man/runbook.ja.md"),
    ] {
        let runbook = blocks(&document(runbook), None, "sh");
        let known: Vec<&str> = runbook.iter().flat_map(|block| block.lines()).collect();
        let readme_blocks = blocks(&document(readme), None, "sh");
        assert!(
            readme_blocks.len() >= 3,
            "{readme} has the runbook's short version"
        );
        for line in readme_blocks.iter().flat_map(|block| block.lines()) {
            assert!(
                known.contains(&line),
                "{readme}: not in the runbook: {line}"
            );
        }
    }
}

#[test]
fn maintenance_of_one_node() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c-1");
    let machine = Machine::new(&daemon.socket());
    let [look, drain, restart, open, one_line] = section(SECTIONS[0]);
    machine.all(&look, &[0, 0]);

    let too_early = machine.paste(&restart);
    assert_eq!(
        (too_early.code, too_early.stdout.as_str()),
        (1, "no: node-01 is open: normal\n"),
        "nothing was restarted"
    );
    let mut draining = machine.begin(&drain);
    draining.until_said("waiting at most 30 min");
    daemon.disconnect("c-1");
    assert_eq!(draining.ended().code, 0);

    assert_eq!(
        machine.with_systemctl(&restart, "restart sora", || {}).code,
        0
    );
    let ended = machine.all(&open, &[0, 0]);
    assert!(
        ended[1].stdout.contains("CHG-123 kernel") && ended[1].stdout.contains("CHG-123 done"),
        "{ended:#?}"
    );

    let closed = || assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    assert_eq!(
        machine
            .with_systemctl(&one_line, "restart sora", closed)
            .code,
        0
    );
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn emergency_stop() {
    let daemon = Daemon::start();
    daemon.connect("eggs", "e-1");
    let machine = Machine::new(&daemon.socket());
    let [close, end, stop, open] = section(SECTIONS[1]);
    machine.all(&close, &[0]);
    assert_eq!(daemon.run(&["connect", "eggs"]).code, 1, "nobody gets in");
    let (end_all, _) = end.split_once('\n').unwrap();
    assert_eq!(
        machine.paste(end_all).code,
        5,
        "no means of ending sessions"
    );
    daemon.disconnect("e-1");

    daemon.ok(&["set", "normal"]);
    signalling_server(&daemon.socket(), &[("spam", "c-1"), ("ham", "h-1")]);
    machine.all(&close, &[0]);
    machine.all(&end, &[0, 0]);
    assert_eq!(daemon.run(&["is", "drained"]).code, 0);

    assert_eq!(machine.with_systemctl(&stop, "stop sora", || {}).code, 0);
    let (start, normal) = open.split_once('\n').unwrap();
    assert_eq!(machine.with_systemctl(start, "start sora", || {}).code, 0);
    machine.all(normal, &[0]);
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn a_drain_that_does_not_end() {
    let daemon = Daemon::start();
    signalling_server(
        &daemon.socket(),
        &[("spam", "c-1"), ("spam", "c-2"), ("ham", "h-1")],
    );
    let machine = Machine::new(&daemon.socket());
    let [look, wait, correct, end, put_off] = section(SECTIONS[2]);
    assert_eq!(daemon.run(&["drain", "--timeout", "50ms", "-q"]).code, 124);
    let ended = machine.all(&look, &[0, 0, 0, 0]);
    assert!(
        ended[2].stdout.contains("c-1") && ended[3].stdout.contains("block_new_session: offer"),
        "{ended:#?}"
    );

    let (longer, content) = wait.split_once('\n').unwrap();
    let mut waiting = machine.begin(&format!("exec {longer}"));
    waiting.until_said("2 sessions");
    waiting.signal(Signal::SIGINT);
    assert_eq!(waiting.ended().code, 130);
    let mut waiting = machine.begin(content);
    waiting.until_said("2 sessions");
    daemon.disconnect("h-1");
    assert_eq!(waiting.ended().code, 0);

    machine.all(&correct, &[0]);
    assert_eq!(
        daemon.ok(&["connections", "-o", "plain"]).lines().count(),
        1
    );
    machine.all(&end, &[0, 0]);
    machine.all(&put_off, &[0]);
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn soramoded_is_down() {
    let mut daemon = Daemon::start_with(|_| {});
    let machine = Machine::new(&daemon.socket());
    let state = machine.path("/var/lib/soramode");
    let settings = format!("state-dir = {state:?}\nsocket = {:?}\n", daemon.socket());
    fs::write(machine.path("/etc/soramode/soramoded.toml"), settings).unwrap();
    let [
        look,
        start,
        full_disk,
        without_state,
        way_round,
        back,
        over_api,
    ] = section(SECTIONS[3]);
    let on_disk = |config: &mut soramoded::config::Config| {
        config.state_dir = Some(machine.path("/var/lib/soramode"));
    };
    daemon.stop();
    daemon.start_again(on_disk);
    daemon.connect("spam", "c-1");
    daemon.ok(&["set", "block_new_session", "-m", "before"]);
    daemon.stop();

    assert_eq!(machine.paste("soramode get").code, 3);
    let ended = machine.all(&look, &[3, 0, 0, 0]);
    assert!(ended[3].stdout.contains("block_new_session"), "{ended:#?}");
    let [restart, doctor] = lines(&start);
    let units = "soramoded.socket soramoded.service";
    assert_eq!(
        machine
            .with_systemctl(
                restart,
                "restart soramoded*.socket soramoded.service",
                || daemon.start_again(on_disk)
            )
            .code,
        0
    );
    machine.all(doctor, &[0]);
    assert_eq!(
        daemon.ok(&["get"]),
        "block_new_session\n",
        "it goes on where it was"
    );
    machine.all(&full_disk, &[0, 0, 0, 0]);
    assert_eq!(daemon.ok(&["get"]), "normal\n");

    let [stop, away, start, status] = lines(&without_state);
    assert_eq!(
        machine
            .with_systemctl(stop, &format!("stop {units}"), || daemon.stop())
            .code,
        0
    );
    machine.all(away, &[0]);
    // systemd makes it: StateDirectory=.
    let start_new = || {
        fs::create_dir(&state).unwrap();
        daemon.start_again(on_disk);
    };
    assert_eq!(
        machine
            .with_systemctl(start, &format!("start {units}"), start_new)
            .code,
        0
    );
    let shown = machine.all(status, &[0]);
    assert!(
        shown[0].stdout.contains("normal") && state.with_extension("old").is_dir(),
        "{shown:?}"
    );
    goes_round_it(&machine, &way_round, &back);
    let sora = Sora::start();
    machine.all(
        &over_api.replace("http://127.0.0.1:3001", &sora.url()),
        &[0],
    );
    assert_eq!(sora.state().mode, "block_new_session");
}

#[test]
fn back_up_and_restore_the_state() {
    let mut daemon = Daemon::start_with(|_| {});
    let machine = Machine::new(&daemon.socket());
    let state = machine.path("/var/lib/soramode");
    let settings = format!("state-dir = {state:?}\nsocket = {:?}\n", daemon.socket());
    fs::write(machine.path("/etc/soramode/soramoded.toml"), settings).unwrap();
    let on_disk = |config: &mut soramoded::config::Config| {
        config.state_dir = Some(machine.path("/var/lib/soramode"));
    };
    daemon.stop();
    daemon.start_again(on_disk);
    daemon.ok(&["set", "block_new_session", "-m", "of the backup"]);
    let [backup, restore, look] = section(SECTIONS[5]);
    let units = "soramoded.socket soramoded.service";

    let [stop, copy, start] = lines(&backup);
    assert_eq!(
        machine
            .with_systemctl(stop, &format!("stop {units}"), || daemon.stop())
            .code,
        0
    );
    machine.all(copy, &[0]);
    assert_eq!(
        machine
            .with_systemctl(start, &format!("start {units}"), || daemon
                .start_again(on_disk))
            .code,
        0
    );
    daemon.ok(&["set", "normal", "-m", "later"]);

    let [stop, away, back, check, start] = lines(&restore);
    assert_eq!(
        machine
            .with_systemctl(stop, &format!("stop {units}"), || daemon.stop())
            .code,
        0
    );
    machine.all(&[away, back].join("\n"), &[0, 0]);
    let checked = machine.all(check, &[0]);
    assert!(
        checked[0].stdout.contains("sound") && checked[0].stdout.contains("block_new_session"),
        "{checked:?}"
    );
    assert_eq!(
        machine
            .with_systemctl(start, &format!("start {units}"), || daemon
                .start_again(on_disk))
            .code,
        0
    );
    let looked = machine.all(&look, &[0, 0]);
    assert!(
        looked[1].stdout.contains("of the backup") && !looked[1].stdout.contains("later"),
        "{looked:?}"
    );
}

/// Sora's configuration, to the application and back.
fn goes_round_it(machine: &Machine, way_round: &str, back: &str) {
    let ours = "port = 5000\nauth_webhook_url    = http://127.0.0.1:3100/sora/auth\nsession_webhook_url = http://127.0.0.1:3100/sora/session\n\
                event_webhook_url   = http://127.0.0.1:3100/sora/event\n";
    let conf = machine.path("/opt/sora/etc/sora.conf");
    fs::write(&conf, ours).unwrap();
    let [auth, session, event, restart] = lines(way_round);
    machine.all(&[auth, session, event].join("\n"), &[0, 0, 0]);
    let theirs = "port = 5000\nauth_webhook_url = http://app.example.com/auth\nsession_webhook_url = http://app.example.com/session\n\
                  event_webhook_url = http://app.example.com/event\n";
    assert_eq!(fs::read_to_string(&conf).unwrap(), theirs);
    assert_eq!(
        machine.with_systemctl(restart, "restart sora", || {}).code,
        0
    );
    let [away, restart, doctor] = lines(back);
    machine.all(away, &[0]);
    assert_eq!(fs::read_to_string(&conf).unwrap(), ours);
    assert_eq!(
        machine.with_systemctl(restart, "restart sora", || {}).code,
        0
    );
    machine.all(doctor, &[0]);
}

fn lines<const LINES: usize>(block: &str) -> [&str; LINES] {
    block.lines().collect::<Vec<_>>().try_into().unwrap()
}

#[test]
fn rolling_maintenance_of_a_fleet() {
    let fleet = Fleet::start(3);
    fleet.write_fleets("tokyo = { hosts = [\"sfu-01\", \"sfu-02\", \"sfu-03\"] }\n");
    let calls = fleet.home.path().join("calls");
    for sshd in &fleet.sshds {
        let programs = sshd.home().join("bin");
        fs::create_dir(&programs).unwrap();
        let log = format!(
            "echo \"$(soramode get) ${{0##*/}} $*\" >>{}",
            calls.display()
        );
        for (name, script) in [
            ("sudo", "shift; exec \"$@\""),
            ("systemctl", &log),
            ("apt-get", &log),
        ] {
            write_script(&programs.join(name), script);
        }
    }
    let [look, restart, upgrade, held] = section(SECTIONS[9]);
    let run = |line: &str| {
        let own = Path::new(PROGRAM).parent().unwrap();
        let path = format!("{}:{}", own.display(), std::env::var("PATH").unwrap());
        let mut shell = fleet.command("sh");
        shell.env("PATH", path).args(["-c", line]);
        shell.ended()
    };
    for line in [&look, &restart, &upgrade, &held]
        .map(|block| block.lines())
        .into_iter()
        .flatten()
    {
        let ended = run(line);
        assert_eq!(ended.code, 0, "{line}: {ended:?}");
    }
    let expected = [
        "systemctl restart sora",
        "apt-get install -y -o Dpkg::Options::=--force-confold ./soramode.deb",
    ]
    .map(|call| format!("block_new_session {call}\n").repeat(3));
    assert_eq!(fs::read_to_string(calls).unwrap(), expected.concat());
    for daemon in &fleet.daemons {
        assert_eq!(daemon.ok(&["get"]), "normal\n");
    }
}

#[cfg(feature = "cluster")]
#[test]
fn nodes_of_a_cluster() {
    let etcd = Etcd::start();
    let names = ["sfu-01", "sfu-02", "sfu-03"];
    let [n1, n2, mut n3] = names.map(|name| Node::start(name, &etcd));
    let all_normal = names.map(|name| format!("{name} normal joined"));
    let until_normal = |node: &Node| until(|| (node.nodes() == all_normal).then_some(()));
    [&n1, &n2, &n3].into_iter().for_each(until_normal);
    let machine = Machine::new(&n1.socket());
    let [look, from_afar, purge] = section(SECTIONS[4]);
    machine.all(&look, &[0, 0]);

    let [close, normal] = lines(&from_afar);
    machine.all(close, &[0]);
    assert_eq!(n2.ok(&["get"]), "block_new_session\n");
    machine.all(normal, &[0]);
    assert_eq!(n2.ok(&["get"]), "normal\n");

    n3.ok(&["connect", "spam"]);
    n3.stop();
    until(|| {
        n1.nodes()
            .contains(&"sfu-03  lost".to_owned())
            .then_some(())
    });
    machine.all(&purge, &[0]);
    assert!(!n1.ok(&["nodes"]).contains("until purged"));
}

#[test]
fn a_pod_drains_before_it_stops() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c-1");
    let machine = Machine::new(&daemon.socket());
    let [pod] = blocks(&document(RUNBOOK), Some("Kubernetes"), "yaml")
        .try_into()
        .unwrap();
    let words = |line: &str| -> Option<Vec<String>> {
        let list = line.trim().strip_prefix("command: [")?.strip_suffix(']')?;
        Some(
            list.split(", ")
                .map(|word| format!("'{}'", word.trim_matches('"')))
                .collect(),
        )
    };
    let [sidecar, hook] = pod
        .lines()
        .filter_map(words)
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let checked = machine.paste(&format!("{} --check-config", sidecar.join(" ")));
    assert_eq!(checked.code, 0, "{checked:?}");
    let mut draining = machine.begin(&hook.join(" "));
    draining.until_said("waiting at most 30 min");
    assert_eq!(
        daemon.run(&["connect", "spam"]).code,
        1,
        "nobody new gets in"
    );
    daemon.disconnect("c-1");
    assert_eq!(draining.ended().code, 0);
    let seconds: u64 = pod
        .lines()
        .find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: "))
        .unwrap()
        .parse()
        .unwrap();
    assert!(seconds > 30 * 60, "longer than the drain");
}
