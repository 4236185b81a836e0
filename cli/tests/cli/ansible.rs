//! The role for Ansible, which a real Ansible runs over a real ssh on three nodes, by the play of the runbook.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::doc_commands::{blocks, document};
use crate::fleet::Fleet;
use crate::support::{Daemon, Ended, Run, with_default_signals};

const PACKAGED: &str = "daemon/packaging/ansible";

/// Three nodes, an inventory, and the packaged play with tasks of the test.
struct Playbook {
    fleet: Fleet,
    folder: PathBuf,
}

impl Playbook {
    fn new() -> Self {
        let fleet = Fleet::start(3);
        let folder = fleet.home.path().join("ansible");
        fs::create_dir(&folder).unwrap();
        let inventory = format!(
            "[sfu]\nsfu-01\nsfu-02\nsfu-03\n[sfu:vars]\nansible_ssh_common_args='-F {}'\nansible_python_interpreter=/usr/bin/python3\n",
            fleet.config.display()
        );
        fs::write(folder.join("hosts"), inventory).unwrap();
        let play = document(&format!("{PACKAGED}/maintenance.yml"));
        fs::write(folder.join("maintenance.yml"), play).unwrap();
        let playbook = Self { fleet, folder };
        playbook.write_task("soramode is drained");
        playbook
    }

    /// Replaces the tasks of the maintenance.
    fn write_task(&self, command: &str) {
        let task = format!("- name: Work\n  ansible.builtin.command: {command}\n");
        fs::write(self.folder.join("restart_sora.yml"), task).unwrap();
    }

    fn run(&self, more: &[&str]) -> Ended {
        let roles = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .join(PACKAGED)
            .join("roles");
        with_default_signals("ansible-playbook")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.fleet.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env("ANSIBLE_NOCOLOR", "1")
            .env("ANSIBLE_PIPELINING", "1")
            .env("ANSIBLE_SSH_TRANSFER_METHOD", "piped")
            .env("ANSIBLE_ROLES_PATH", roles)
            .args(["-i", "hosts", "maintenance.yml"])
            .args(more)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .ended()
    }

    fn modes(&self) -> Vec<String> {
        let mode = |daemon: &Daemon| daemon.ok(&["get"]).trim().to_owned();
        self.fleet.daemons.iter().map(mode).collect()
    }
}

/// Returns `changed` and `failed` of each host that Ansible came to.
fn recap(ended: &Ended) -> Vec<(u32, u32)> {
    let (_, recap) = ended
        .stdout
        .split_once("PLAY RECAP")
        .unwrap_or_else(|| panic!("{ended:?}"));
    let field = |line: &str, name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.parse().ok())
            .unwrap()
    };
    recap
        .lines()
        .filter(|line| line.starts_with("sfu-"))
        .map(|line| (field(line, "changed="), field(line, "failed=")))
        .collect()
}

fn is_installed() -> bool {
    let version = Command::new("ansible-playbook")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let installed = version.is_ok_and(|status| status.success());
    assert!(
        installed || std::env::var_os("CI").is_none(),
        "ansible-playbook is not installed"
    );
    installed
}

#[test]
fn the_runbook_shows_the_packaged_play() {
    let [play, tasks] = blocks(&document("man/runbook.md"), Some("Ansible"), "yaml")
        .try_into()
        .unwrap();
    for (shown, file) in [(play, "maintenance.yml"), (tasks, "restart_sora.yml")] {
        assert_eq!(document(&format!("{PACKAGED}/{file}")), shown, "{file}");
    }
}

#[test]
fn a_play_maintains_each_node_once() {
    if !is_installed() {
        return;
    }
    let playbook = Playbook::new();
    let checked = playbook.run(&["--check"]);
    assert_eq!(recap(&checked), [(1, 0); 3], "{checked:?}");
    assert!(
        checked
            .stdout
            .contains("sfu-02 would be drained: normal, 0 sessions"),
        "{checked:?}"
    );
    let (_, mode) = playbook.fleet.daemons[0].json(&["get"]);
    assert_eq!(mode["generation"], 1, "check mode changes nothing");

    let first = playbook.run(&[]);
    assert_eq!(
        (first.code, recap(&first)),
        (0, vec![(3, 0); 3]),
        "{first:?}"
    );
    let mut opened_before = String::new();
    for daemon in &playbook.fleet.daemons {
        let (_, history) = daemon.json(&["history"]);
        let [opened, closed]: [Value; 2] =
            serde_json::from_value(history["changes"].clone()).unwrap();
        assert_eq!(closed["reason"], "CHG-123 kernel");
        assert_eq!(opened["reason"], "CHG-123 kernel: maintenance done");
        let closed_at = closed["timestamp"].as_str().unwrap();
        assert!(opened_before.as_str() < closed_at, "one after the other");
        opened["timestamp"]
            .as_str()
            .unwrap()
            .clone_into(&mut opened_before);
    }

    let second = playbook.run(&[]);
    assert_eq!(
        (second.code, recap(&second)),
        (0, vec![(0, 0); 3]),
        "{second:?}"
    );
}

#[test]
fn a_play_that_failed_goes_on_where_it_was() {
    if !is_installed() {
        return;
    }
    let playbook = Playbook::new();
    let [_, second, third] = &playbook.fleet.daemons[..] else {
        unreachable!()
    };
    second.connect("spam", "c-1");
    let put_off = playbook.run(&["-e", "soramode_maintain_timeout=1"]);
    assert_eq!(
        (put_off.code, recap(&put_off)),
        (2, vec![(3, 0), (0, 1)]),
        "{put_off:?}"
    );
    assert!(
        put_off
            .stdout
            .contains("timed out after 1 s: 1 session is left on sfu-02. sfu-02 is normal again. The tasks were not run"),
        "{put_off:?}"
    );
    assert_eq!(playbook.modes(), ["normal"; 3]);
    second.disconnect("c-1");

    playbook.write_task("/bin/false");
    let failed = playbook.run(&[]);
    assert_eq!(
        (failed.code, recap(&failed)),
        (2, vec![(0, 0), (1, 1)]),
        "{failed:?}"
    );
    assert_eq!(playbook.modes(), ["normal", "block_new_session", "normal"]);

    playbook.write_task("soramode is drained");
    third.ok(&["close", "-m", "disk"]);
    let refused = playbook.run(&[]);
    assert_eq!(
        (refused.code, recap(&refused)),
        (2, vec![(0, 0), (2, 0), (0, 1)]),
        "{refused:?}"
    );
    assert!(
        refused.stdout.contains("(disk). Nothing was changed"),
        "{refused:?}"
    );
    assert_eq!(playbook.modes(), ["normal", "normal", "block_new_session"]);

    // Another user acts while the tasks run.
    third.ok(&["open"]);
    playbook.write_task("soramode set block_new_connection -m INC-7");
    let superseded = playbook.run(&[]);
    assert_eq!(
        (superseded.code, recap(&superseded)),
        (2, vec![(0, 0), (0, 0), (2, 1)]),
        "{superseded:?}"
    );
    assert_eq!(
        playbook.modes(),
        ["normal", "normal", "block_new_connection"]
    );
}
