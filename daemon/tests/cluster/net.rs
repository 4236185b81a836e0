//! Network of the test: a bridge, and a namespace for each machine. All of it is removed at the
//! end.

use std::net::Ipv4Addr;
use std::process::{Command, Output};

/// The test's own address, on the bridge.
const SELF_HOST: u8 = 1;

/// Direction of packet loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Out,
    In,
}

impl Way {
    const fn hook(self) -> &'static str {
        match self {
            Self::Out => "output",
            Self::In => "input",
        }
    }

    const fn interface(self) -> &'static str {
        match self {
            Self::Out => "oifname",
            Self::In => "iifname",
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::Out => "loss_out",
            Self::In => "loss_in",
        }
    }
}

/// Required commands, and their Debian packages.
const NEEDED: [(&str, &str); 4] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("etcd", "etcd-server"),
    ("faketime", "faketime"),
];

/// Says loudly what is missing: a suite that skips itself would prove nothing.
pub(crate) fn require() {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(command, _)| !is_there(command))
        .map(|(_, package)| *package)
        .collect();
    assert!(
        missing.is_empty(),
        "the fault suite needs: apt-get install {}",
        missing.join(" ")
    );
    assert!(
        rustix::process::geteuid().is_root(),
        "the fault suite makes network namespaces: it needs root"
    );
}

fn is_there(command: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(command).is_file())
}

/// The bridge, and the machines on it.
pub(crate) struct Net {
    tag: String,
    subnet: u8,
    machines: Vec<String>,
}

impl Net {
    /// Names carry this process's id, so that nothing of another run is touched; a killed run with the same id may have left its own.
    pub(crate) fn new() -> Self {
        let id = std::process::id();
        let net = Self {
            tag: format!("smx{}", id % 1_000_000),
            subnet: u8::try_from(id % 250).unwrap_or(0),
            machines: Vec::new(),
        };
        try_run(Command::new("ip").args(["link", "del", &net.bridge()]));
        ip(&["link", "add", &net.bridge(), "type", "bridge"]);
        ip(&[
            "addr",
            "add",
            &format!("{}/24", net.address(SELF_HOST)),
            "dev",
            &net.bridge(),
        ]);
        ip(&["link", "set", &net.bridge(), "up"]);
        net
    }

    pub(crate) fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, host)
    }

    /// A namespace with one interface, on the bridge.
    pub(crate) fn add(&mut self, machine: &str, host: u8) {
        let (space, outside) = (self.read_buf(machine), self.outside(machine));
        try_run(Command::new("ip").args(["link", "del", &outside]));
        try_run(Command::new("ip").args(["netns", "del", &space]));
        ip(&["netns", "add", &space]);
        self.machines.push(machine.to_owned());
        ip(&[
            "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &space,
        ]);
        ip(&["link", "set", &outside, "master", &self.bridge(), "up"]);
        ip(&[
            "-n",
            &space,
            "addr",
            "add",
            &format!("{}/24", self.address(host)),
            "dev",
            "eth0",
        ]);
        ip(&["-n", &space, "link", "set", "eth0", "up"]);
        ip(&["-n", &space, "link", "set", "lo", "up"]);
    }

    /// A command that runs on a machine: `ip` becomes it, so that its process id is the command's.
    pub(crate) fn on(&self, machine: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.read_buf(machine), program]);
        command
    }

    /// Disconnects a machine from the bridge: its packets are dropped silently.
    pub(crate) fn cut(&self, machine: &str) {
        ip(&["link", "set", &self.outside(machine), "nomaster"]);
    }

    pub(crate) fn join(&self, machine: &str) {
        ip(&[
            "link",
            "set",
            &self.outside(machine),
            "master",
            &self.bridge(),
        ]);
    }

    /// Loses this share of a machine's packets, in percent.
    pub(crate) fn lose(&self, machine: &str, way: Way, percent: u8) {
        let (space, table) = (self.read_buf(machine), way.table());
        let (hook, interface) = (way.hook(), way.interface());
        let chance = if percent < 100 {
            format!("numgen random mod 100 < {percent}")
        } else {
            String::new()
        };
        let rules = format!(
            "table ip {table} {{ chain losses {{ type filter hook {hook} priority 0; {interface} != \"lo\" {chance} drop; }}; }}"
        );
        run(Command::new("ip").args(["netns", "exec", &space, "nft", &rules]));
    }

    pub(crate) fn lose_nothing(&self, machine: &str, way: Way) {
        run(Command::new("ip").args([
            "netns",
            "exec",
            &self.read_buf(machine),
            "nft",
            "delete",
            "table",
            "ip",
            way.table(),
        ]));
    }

    fn bridge(&self) -> String {
        format!("{}-b", self.tag)
    }

    fn read_buf(&self, machine: &str) -> String {
        format!("{}-{machine}", self.tag)
    }

    fn outside(&self, machine: &str) -> String {
        format!("{}-{machine}", self.tag)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for machine in &self.machines {
            // Sockets that nobody answers any more keep the namespace, and its interface, for minutes.
            try_run(Command::new("ip").args(["link", "del", &self.outside(machine)]));
            try_run(Command::new("ip").args(["netns", "del", &self.read_buf(machine)]));
        }
        try_run(Command::new("ip").args(["link", "del", &self.bridge()]));
    }
}

fn ip(args: &[&str]) {
    run(Command::new("ip").args(args));
}

fn run(command: &mut Command) {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(
        status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
}

/// On the way out of a test that may have failed already.
fn try_run(command: &mut Command) {
    if let Err(error) = command.output() {
        eprintln!("{command:?}: {error}");
    }
}
