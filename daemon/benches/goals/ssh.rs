//! ssh: `soramode -H HOST get`, beside `ssh HOST true` over the same shared connection.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use soramode_benches::{build_soramode, program};

use super::harness::Profile;
use super::harness::baselines;
use super::harness::load::micros;
use super::harness::row::{Bound, Rounds, Row, Unit, median};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::Sheet;

/// Number of runs per round.
const RUNS: usize = 20;

/// sshd listens there.
const ADDRESS: &str = "127.0.0.1:19581";

pub(crate) const SSHD: &str = "/usr/sbin/sshd";

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    build_soramode();
    pin_load(Core::Second);
    let daemon = baselines::volatile(profile.folder.join("gate"), &[]);
    let folder = profile.folder.join("ssh");
    let _sshd = start_sshd(&folder, &daemon.path);
    let config = folder.join("config");
    let ssh = format!("ssh -F {}", config.display());
    let mut ours = Command::new(program("soramode"));
    ours.args(["-H", "node", "get"]).env("SORAMODE_SSH", &ssh);
    let mut bare = Command::new("ssh");
    bare.arg("-F").arg(&config).args(["node", "true"]);
    // The first call logs in, and leaves the connection to the others.
    run(&mut ours);
    let rounds = (0..profile.rounds).map(|_| round(&mut ours, &mut bare));
    let rounds = Rounds::of(rounds.collect());
    sheet.add(Row {
        goal: "ssh",
        what: "soramode -H host get, connection shared".to_owned(),
        unit: Unit::Micros,
        yardstick: "ssh host true",
        rounds,
        bound: Bound::AtMost(1.3),
    });
    let mut close = Command::new("ssh");
    close.arg("-F").arg(&config).args(["-O", "exit", "node"]);
    run(&mut close);
}

/// Starts sshd with its files in this folder; its sessions find the command and the daemon.
fn start_sshd(folder: &Path, socket: &Path) -> Server {
    fs::create_dir_all("/run/sshd").unwrap();
    fs::create_dir(folder).unwrap();
    for key in ["host_key", "user_key"] {
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
        run(make.arg(folder.join(key)));
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    let (host, port) = ADDRESS.split_once(':').unwrap();
    write("authorized_keys", read("user_key.pub"));
    write("known_hosts", format!("node {}", read("host_key.pub")));
    write(
        "sshd_config",
        format!(
            "ListenAddress {ADDRESS}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             SetEnv SORAMODE_SOCKET={} PATH={}:/usr/bin:/bin\n",
            path("host_key"),
            path("authorized_keys"),
            socket.display(),
            program("").display(),
        ),
    );
    write(
        "config",
        format!(
            "Host node\n HostName {host}\n Port {port}\n HostKeyAlias node\n IdentityFile {}\n IdentitiesOnly yes\n UserKnownHostsFile {}\n \
             ControlMaster auto\n ControlPath {}\n ControlPersist 60s\n",
            path("user_key"),
            path("known_hosts"),
            path("%C"),
        ),
    );
    let mut sshd = Command::new(SSHD);
    sshd.args(["-D", "-f"]).arg(folder.join("sshd_config"));
    Server::start_at(&mut sshd, ADDRESS.parse().unwrap())
}

/// The medians, in microseconds, of both by turns.
fn round(ours: &mut Command, bare: &mut Command) -> (f64, f64) {
    let (times, others): (Vec<f64>, Vec<f64>) = (0..RUNS).map(|_| (run(ours), run(bare))).unzip();
    (median(times.into_iter()), median(others.into_iter()))
}

/// Runs a command; returns how long it took, in microseconds.
fn run(command: &mut Command) -> f64 {
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .env_remove("SORAMODE_SOCKET")
        .output()
        .unwrap();
    let time = micros(began.elapsed());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    time
}
