//! Rolls over the nodes of a cluster: under constant load, killed in each step and resumed by another user, with reboots, and with an
//! upgrade of soramode itself. An outside checker judges by the daemons' events.
//!
//! `SORAMODE_ROLL_ROUNDS` sets the number of rolls under load (1); `SORAMODE_ROLL_KILLS=all` kills everything in each step.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use soramode_testkit::control_client::TestClient;
use soramode_testkit::sshd::{command_line, descendants};
use tempfile::TempDir;

use crate::cluster::Etcd;
use crate::machines::{Account, Machine, TestGroup, operator, servers};
use crate::roll_checker::{Checker, Promise, Verdict};
use crate::roll_load::Load;
use crate::support::{Ended, Run, Running, program, until, until_file};

const NAMES: [&str; 3] = ["sfu-01", "sfu-02", "sfu-03"];

/// Nodes that stay open.
const KEEP_OPEN: usize = 2;

/// Three machines in a cluster, and two users with the right to operate them.
struct Cluster {
    machines: Vec<Machine>,
    checker: Checker,
    home: TempDir,
    bob: Account,
    _group: TestGroup,
    _etcd: Etcd,
}

impl Cluster {
    fn start() -> Self {
        let group = TestGroup::create();
        let bob = Account::create();
        bob.join(&group);
        let etcd = Etcd::start();
        let machine = |name: &&str| Machine::start(name, &etcd, &group.0);
        let machines: Vec<Machine> = NAMES.iter().map(machine).collect();
        until(|| {
            program(&machines[0].socket())
                .args(["nodes", "init"])
                .ended()
                .code
                .eq(&0)
                .then_some(())
        });
        let sockets: Vec<PathBuf> = machines.iter().map(Machine::socket).collect();
        let cluster = Self {
            machines,
            checker: Checker::new(sockets),
            home: tempfile::tempdir().unwrap(),
            bob,
            _group: group,
            _etcd: etcd,
        };
        cluster.until_open();
        cluster
    }

    /// Waits until all nodes are in the cluster, and open.
    fn until_open(&self) {
        for machine in &self.machines {
            let is_open =
                |status: &Value| status["membership"] == "joined" && status["mode"] == "normal";
            until(|| machine.status().filter(is_open));
        }
    }

    fn start_roll(&self, more: &[&str]) -> Running {
        roll(&mut operator(&self.machines, self.home.path()), more)
    }

    /// Resumes a roll from the other user's account.
    fn resume(&self, id: &str, more: &[&str]) -> Ended {
        let more = [&["--resume", id][..], more].concat();
        roll(&mut self.bob.program(&servers(&self.machines)), &more).ended()
    }

    /// Notes that this roll belongs to the test.
    fn note_roll(&mut self, id: &str) {
        let promise = Promise {
            nodes: (0..NAMES.len()).collect(),
            keep_open: KEEP_OPEN,
        };
        self.checker.promises.insert(id.to_owned(), promise);
    }

    /// Judges all rolls so far. Each must have closed each node once.
    fn judge(&mut self) -> Verdict {
        self.checker.read();
        let losses: u32 = self.machines.iter().map(|it| it.boots - 1).sum();
        assert!(self.checker.gaps <= losses, "{}", self.checker.gaps);
        let verdict = self.checker.judge();
        assert_eq!(verdict.violations, Vec::<String>::new());
        assert_eq!(verdict.least_open, KEEP_OPEN, "{verdict:?}");
        verdict
    }

    fn nodes(&self) -> Vec<(String, PathBuf)> {
        let node = |machine: &Machine| (machine.name.clone(), machine.socket());
        self.machines.iter().map(node).collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        // Other users read it.
        self.bob.home.path().join(name)
    }
}

/// Starts a roll over all machines.
fn roll(command: &mut Command, more: &[&str]) -> Running {
    let hosts = NAMES.join(",");
    let keep_open = KEEP_OPEN.to_string();
    let args = [
        "--json",
        "-H",
        &hosts,
        "roll",
        "--keep-open",
        &keep_open,
        "-m",
        "CHG-1",
    ];
    command.args(args).args(more).running()
}

fn say(line: &str) {
    std::io::stderr()
        .write_all(format!("{line}\n").as_bytes())
        .unwrap();
}

/// The id of a roll that is done.
fn id_of_done(ended: &Ended) -> String {
    assert_eq!(ended.code, 0, "{ended:?}");
    let json = ended.json();
    assert_eq!(json["outcome"], "done", "{json}");
    json["roll"].as_str().unwrap().to_owned()
}

#[test]
fn no_client_is_refused_while_a_cluster_is_rolled() {
    let rounds = std::env::var("SORAMODE_ROLL_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let mut cluster = Cluster::start();
    let load = Load::start(cluster.nodes());
    until(|| (load.offers() > 20).then_some(()));
    for _ in 0..rounds {
        let ended = cluster.start_roll(&["--", "true"]).ended();
        let id = id_of_done(&ended);
        assert_eq!(ended.json()["least_open"], KEEP_OPEN, "{ended:?}");
        cluster.note_roll(&id);
        say(&ended.stdout);
    }
    let offers = load.offers();
    until(|| (load.offers() > offers + 20).then_some(()));
    let outcome = load.stop();
    let verdict = cluster.judge();
    say(&format!("{outcome:?}; {verdict:?}"));
    assert!(
        outcome.offers > 0 && outcome.refused.is_empty() && outcome.unanswered == 0,
        "{outcome:?}"
    );
    assert!(outcome.redirects > 0, "{outcome:?}");
    assert_eq!(verdict.closes, NAMES.len() * rounds);
}

/// Victim of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Command,
    Ssh,
    Daemon,
    Machine,
}

/// Step of the first node at the kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Draining,
    Command,
    Ready,
}

const FEW: [(Victim, Step); 4] = [
    (Victim::Command, Step::Ready),
    (Victim::Ssh, Step::Draining),
    (Victim::Daemon, Step::Command),
    (Victim::Machine, Step::Command),
];

fn all() -> Vec<(Victim, Step)> {
    let victims = [
        Victim::Command,
        Victim::Ssh,
        Victim::Daemon,
        Victim::Machine,
    ];
    let steps = [Step::Draining, Step::Command, Step::Ready];
    let of_victim = |victim| steps.map(move |step| (victim, step));
    victims.into_iter().flat_map(of_victim).collect()
}

#[test]
fn a_roll_goes_on_whatever_is_killed_in_whichever_step() {
    let is_all = std::env::var("SORAMODE_ROLL_KILLS").is_ok_and(|which| which == "all");
    let kills = if is_all { all() } else { FEW.to_vec() };
    let mut cluster = Cluster::start();
    for (number, (victim, step)) in kills.into_iter().enumerate() {
        cluster.kill_in(victim, step, number);
        cluster.until_open();
        let verdict = cluster.judge();
        say(&format!("{victim:?} killed in {step:?}: {verdict:?}"));
    }
}

impl Cluster {
    /// Kills something while the first node is at this step, and brings the roll to its end.
    fn kill_in(&mut self, victim: Victim, step: Step, number: usize) {
        let (run, ready) = (
            self.file(&format!("run-{number}")),
            self.file(&format!("ready-{number}")),
        );
        let channel = format!("held-{number}");
        let command = until_file(&run);
        let is_ready = format!("test -e {}", ready.display());
        let words = ["--ready", &*is_ready, "--", "sh", "-c", &command];
        TestClient::to(&self.machines[0].socket()).connect(&channel, &channel);
        let roll = self.start_roll(&words);
        self.machines[0].until_step("draining");
        let id = until(|| {
            let status = self.machines[0].status()?;
            let is_closed = status["mode"] == "block_new_session";
            let roll = status["reservation"]["roll"].as_str()?;
            is_closed.then(|| roll.to_owned())
        });
        self.note_roll(&id);
        let release = |cluster: &Self| {
            TestClient::to(&cluster.machines[0].socket()).disconnect(&channel);
        };
        if step != Step::Draining {
            release(self);
            self.machines[0].until_step("command");
            self.until_command_runs();
        }
        if step == Step::Ready {
            fs::write(&run, "").unwrap();
            self.machines[0].until_step("ready");
        }
        let is_killed = victim == Victim::Command;
        self.kill(victim, &roll);
        if is_killed {
            self.until_no_dials();
            self.checker.note_end(&id);
        }
        // The held processes go on.
        until(|| self.machines[0].status());
        let blocked = self.checker.check_reservations();
        assert_eq!(blocked, if is_killed { NAMES.len() } else { 0 });
        if step == Step::Draining {
            release(self);
        }
        let ended = if is_killed {
            None
        } else {
            if victim == Victim::Daemon && step == Step::Command {
                self.until_command_runs();
            }
            fs::write(&run, "").unwrap();
            fs::write(&ready, "").unwrap();
            Some(roll.ended())
        };
        fs::write(&run, "").unwrap();
        fs::write(&ready, "").unwrap();
        let code = ended.as_ref().map(|ended| ended.code);
        say(&format!(
            "{victim:?} killed in {step:?}: the roll ends with {code:?}"
        ));
        if code == Some(0) {
            return;
        }
        self.checker.note_resumed(&id);
        self.finish(&id, &words);
    }

    /// Resumes a roll as the other user until it is done.
    fn finish(&self, id: &str, words: &[&str]) {
        let mut resumed = self.resume(id, words);
        say(&format!("resumed: exit {}", resumed.code));
        if resumed.code == 5 {
            // The machine has lost its command.
            resumed = self.resume(id, &[&["--again"][..], words].concat());
        }
        id_of_done(&resumed);
    }

    /// Waits until no connection of a roll to a daemon is left.
    fn until_no_dials(&self) {
        let sessions = || self.machines.iter().flat_map(|it| it.sshd.sessions());
        let is_dial = |pid: u32| command_line(pid).contains("dial-stdio");
        until(|| (!sessions().any(is_dial)).then_some(()));
    }

    fn until_command_runs(&self) {
        until(|| {
            let sessions = self.machines[0].sshd.sessions();
            let runs = |pid: &u32| command_line(*pid).starts_with("sh -c until test");
            sessions.iter().any(runs).then_some(())
        });
    }

    fn kill(&mut self, victim: Victim, roll: &Running) {
        let kill_pid = |pid: u32| {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL);
        };
        match victim {
            Victim::Command => kill_pid(roll.pid()),
            Victim::Ssh => {
                let is_ssh = |pid: &u32| command_line(*pid).starts_with("ssh ");
                let all = descendants(roll.pid());
                all.into_iter().filter(is_ssh).for_each(kill_pid);
            }
            Victim::Daemon => self.machines[0].kill_daemon(),
            Victim::Machine => {
                self.machines[0].lose_power();
                self.machines[0].boot();
            }
        }
    }
}

#[test]
fn a_machine_is_rebooted_once_also_when_the_roll_is_resumed() {
    let mut cluster = Cluster::start();
    let asked = cluster.file("asked");
    // The machine goes down when the test lets it.
    let sudo = format!("#!/bin/sh\necho x >> {}\n", asked.display());
    fs::write(&asked, "").unwrap();
    fs::set_permissions(&asked, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    for machine in &cluster.machines {
        machine.write_program("sudo", &sudo);
    }
    let reboots = |asked: &Path| fs::read_to_string(asked).unwrap().lines().count();
    let words = ["--only", "sfu-01", "--reboot", "--", "true"];
    let roll = cluster.start_roll(&words);
    until(|| (reboots(&asked) == 1).then_some(()));
    cluster.machines[0].lose_power();
    cluster.machines[0].boot();
    let id = id_of_done(&roll.ended());
    cluster.note_roll(&id);
    // Killed while the machine is down: the resumed roll sees that it has rebooted.
    let roll = cluster.start_roll(&words);
    until(|| (reboots(&asked) == 2).then_some(()));
    let record = until(|| cluster.machines[0].status())["reservation"].clone();
    assert_eq!(
        (&record["step"], &record["command_exit"]),
        (&"command_ended".into(), &0.into())
    );
    let id = record["roll"].as_str().unwrap().to_owned();
    cluster.note_roll(&id);
    roll.stopped();
    cluster.machines[0].lose_power();
    cluster.machines[0].boot();
    until(|| (cluster.machines[0].status()?["reservation"]["rebooted"] == true).then_some(()));
    id_of_done(&cluster.resume(&id, &words));
    assert_eq!(reboots(&asked), 2, "it is not rebooted again");
    cluster.until_open();
    cluster.judge();
}

#[test]
fn a_roll_upgrades_soramode_itself() {
    let mut cluster = Cluster::start();
    let program = fs::read_link(cluster.machines[0].program()).unwrap();
    let newer = program.with_extension("upgraded");
    // Another file of the same version. One of an earlier run may be there.
    let _ = fs::remove_file(&newer);
    fs::hard_link(&program, &newer).unwrap();
    let words = ["--", "sh", "-c", UPGRADE, "sh", newer.to_str().unwrap()];
    let ended = cluster.start_roll(&words).ended();
    let id = id_of_done(&ended);
    cluster.note_roll(&id);
    for machine in &cluster.machines {
        let running = machine.running_program().unwrap();
        assert_eq!(running, newer, "{}", machine.log());
    }
    fs::remove_file(&newer).unwrap();
    cluster.until_open();
    cluster.judge();
    let command = [
        "-H", "sfu-01", "maintain", "-m", "CHG-2", "--", "sh", "-c", UPGRADE, "sh",
    ];
    let back = program.to_str().unwrap();
    let maintained = operator(&cluster.machines, cluster.home.path())
        .args(command)
        .arg(back)
        .ended();
    assert_eq!(maintained.code, 0, "{maintained:?}");
    assert_eq!(cluster.machines[0].running_program(), Some(program));
    cluster.until_open();
}

/// Puts another program in the daemon's place, and has it started again, as a package does.
const UPGRADE: &str = "ln -sfn \"$1\" \"$SORAMODE_TEST_MACHINE/soramoded\" && kill \"$(cat \"$SORAMODE_TEST_MACHINE/pid\")\"";
