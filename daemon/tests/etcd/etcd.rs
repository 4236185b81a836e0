//! An etcd of one member or of several, on loopback.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use etcd_client::{Certificate, Client, ConnectOptions, TlsOptions};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::node::PATIENCE;

/// The members, which end with the test.
pub(crate) struct Etcd {
    folder: TempDir,
    members: Vec<Member>,
    scheme: Scheme,
    /// Cluster token, from which etcd derives its id, together with the members' addresses.
    token: &'static str,
}

struct Member {
    name: String,
    client: String,
    peer: String,
    child: Option<Child>,
}

/// Protocol of its clients.
#[derive(Clone, Debug)]
pub(crate) enum Scheme {
    Http,
    /// With this folder's `ca.pem`, `etcd.pem` and `etcd-key.pem`; clients must have a certificate of the same.
    Https(std::path::PathBuf),
}

impl Etcd {
    /// One member, which need not answer yet.
    pub(crate) fn start() -> Self {
        Self::of(1, Scheme::Http)
    }

    pub(crate) fn of(members: usize, scheme: Scheme) -> Self {
        let mut etcd = Self::stopped(members, scheme);
        for member in 0..members {
            etcd.start_member(member, "new");
        }
        etcd
    }

    /// None of its members runs yet.
    pub(crate) fn stopped(members: usize, scheme: Scheme) -> Self {
        let member = |number| Member {
            name: format!("e{number}"),
            client: free_address(),
            peer: free_address(),
            child: None,
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            members: (1..=members).map(member).collect(),
            scheme,
            token: "soramode",
        }
    }

    pub(crate) fn start_member(&mut self, place: usize, state: &str) {
        let all: Vec<String> = self
            .members
            .iter()
            .map(|it| format!("{}=http://{}", it.name, it.peer))
            .collect();
        let data = self.data(place);
        let (client, scheme) = (self.endpoint(place), self.scheme.clone());
        let member = &mut self.members[place];
        let peer = format!("http://{}", member.peer);
        let mut command = Command::new("etcd");
        command
            .args(["--name", &member.name, "--log-level", "error", "--data-dir"])
            .arg(data);
        command.args([
            "--initial-cluster",
            &all.join(","),
            "--initial-cluster-state",
            state,
            "--initial-cluster-token",
            self.token,
        ]);
        for (flag, value) in [
            ("listen-client", &client),
            ("listen-peer", &peer),
            ("advertise-client", &client),
        ] {
            command.args([&format!("--{flag}-urls"), value]);
        }
        command.args(["--initial-advertise-peer-urls", &peer]);
        if let Scheme::Https(folder) = &scheme {
            for (flag, file) in [
                ("trusted-ca-file", "ca.pem"),
                ("cert-file", "etcd.pem"),
                ("key-file", "etcd-key.pem"),
            ] {
                command.arg(format!("--{flag}")).arg(folder.join(file));
            }
            command.arg("--client-cert-auth");
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        member.child =
            Some(child.unwrap_or_else(|error| panic!("{error}: apt-get install etcd-server")));
    }

    /// Returns the folder of a member's data.
    pub(crate) fn data(&self, place: usize) -> std::path::PathBuf {
        self.folder.path().join(&self.members[place].name)
    }

    pub(crate) fn endpoint(&self, place: usize) -> String {
        let scheme = match &self.scheme {
            Scheme::Http => "http",
            Scheme::Https(_) => "https",
        };
        format!("{scheme}://{}", self.members[place].client)
    }

    pub(crate) fn endpoints(&self) -> String {
        (0..self.members.len())
            .map(|place| self.endpoint(place))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Returns the address of a member for its peers.
    pub(crate) fn peer(&self, place: usize) -> String {
        format!("http://{}", self.members[place].peer)
    }

    pub(crate) fn signal(&self, place: usize, signal: Signal) {
        let child = self.members[place].child.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Stops all members with a signal.
    pub(crate) fn freeze(&self) {
        (0..self.members.len()).for_each(|place| self.signal(place, Signal::STOP));
    }

    pub(crate) fn thaw(&self) {
        (0..self.members.len()).for_each(|place| self.signal(place, Signal::CONT));
    }

    pub(crate) fn kill(&mut self, place: usize) {
        if let Some(mut child) = self.members[place].child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Puts the data of its one member aside, to be found again by this name.
    pub(crate) fn put_aside(&mut self, name: &str) {
        self.kill(0);
        std::fs::rename(self.data(0), self.folder.path().join(name)).unwrap();
    }

    /// Copies it, and goes on.
    pub(crate) async fn copy_aside(&mut self, name: &str) {
        self.kill(0);
        run_in(self.folder.path(), "cp", &["-a", "e1", name]);
        self.start_again().await;
    }

    /// Goes on with data that was put aside, and throws away what is there now.
    pub(crate) async fn bring_back(&mut self, name: &str) {
        self.kill(0);
        std::fs::remove_dir_all(self.data(0)).unwrap_or_default();
        std::fs::rename(self.folder.path().join(name), self.data(0)).unwrap();
        self.start_again().await;
    }

    /// Begins with nothing, under the same id or another one.
    pub(crate) async fn start_empty(&mut self, token: &'static str) {
        self.token = token;
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        self.start_member(0, "new");
        self.client(0).await;
    }

    /// etcd's own tool; it must succeed.
    pub(crate) fn ctl(&self, words: &[&str]) -> String {
        ctl(&["--endpoints", &self.endpoint(0)], words)
    }

    /// A client of one member, once that answers.
    pub(crate) async fn client(&self, place: usize) -> Client {
        let mut options = ConnectOptions::new().with_require_leader(true);
        if let Scheme::Https(folder) = &self.scheme {
            let read = |file: &str| std::fs::read(folder.join(file)).unwrap();
            let tls = TlsOptions::new().ca_certificate(Certificate::from_pem(read("ca.pem")));
            options = options.with_tls(tls.identity(etcd_client::Identity::from_pem(
                read("node.pem"),
                read("node-key.pem"),
            )));
        }
        let began = std::time::Instant::now();
        loop {
            let mut client = Client::connect([self.endpoint(place)], Some(options.clone()))
                .await
                .unwrap();
            if client.get("x", None).await.is_ok() {
                return client;
            }
            assert!(began.elapsed() < PATIENCE, "etcd does not answer");
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|place| self.kill(place));
    }
}

/// Runs etcdctl; it must succeed.
pub(crate) fn ctl(flags: &[&str], words: &[&str]) -> String {
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(flags)
        .args(words)
        .output();
    let output = output.unwrap_or_else(|error| panic!("{error}: apt-get install etcd-client"));
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// An address that nobody listens at.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

/// Runs a program in a folder; it must succeed.
pub(crate) fn run_in(folder: &Path, program: &str, words: &[&str]) {
    let output = Command::new(program)
        .current_dir(folder)
        .args(words)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
