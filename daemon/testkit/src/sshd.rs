//! An sshd of a test's own on loopback, with keys and a home of its own, and the configuration that makes `ssh NAME` reach it.

use std::fmt::Write as _;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::PATIENCE;

const SSHD: &str = "/usr/sbin/sshd";

/// Number of attempts to start on a port that another program may take first.
const ATTEMPTS_MAX: u32 = 10;

/// An sshd in which the user of the tests logs in with a key. Its home is a folder of its own.
pub struct Sshd {
    folder: TempDir,
    port: u16,
    child: Child,
    /// Words before the command that starts it.
    launcher: Vec<String>,
    variables: String,
}

impl Sshd {
    /// Starts one. Sessions get these variables; `PATH` begins with `bin` of their home and the folder of `program`.
    pub fn start(program: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_behind(&[], program, variables)
    }

    /// Starts one by another program with these words: `unshare` gives it a machine of its own.
    pub fn start_behind(launcher: &[String], program: &Path, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A folder that the package creates when the system starts.
        if !Path::new("/run/sshd").exists() {
            fs::create_dir("/run/sshd").unwrap();
        }
        fs::create_dir(folder.path().join("home")).unwrap();
        for key in ["host_key", "user_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status()
                .unwrap();
            assert!(made.success(), "{key}");
        }
        let mut sshd = Self {
            port: 0,
            child: Command::new("true").spawn().unwrap(),
            folder,
            launcher: launcher.to_vec(),
            variables: String::new(),
        };
        sshd.set_key_options("");
        let home = sshd.home();
        let path = format!(
            "{}/bin:{}:/usr/local/bin:/usr/bin:/bin",
            home.display(),
            program.parent().unwrap().display()
        );
        let mut set = format!("HOME=\"{}\" PATH=\"{path}\"", home.display());
        for (name, value) in variables {
            write!(set, " {name}=\"{value}\"").unwrap();
        }
        sshd.variables = set;
        for _ in 0..ATTEMPTS_MAX {
            sshd.port = TcpListener::bind(("127.0.0.1", 0))
                .unwrap()
                .local_addr()
                .unwrap()
                .port();
            if sshd.try_serve() {
                return sshd;
            }
        }
        panic!("sshd does not start: {}", sshd.log());
    }

    /// After [`kill`](Self::kill): starts it again on its port.
    pub fn start_again(&mut self) {
        assert!(self.try_serve(), "sshd does not start: {}", self.log());
    }

    /// Starts it; false if it ends before it listens.
    fn try_serve(&mut self) -> bool {
        self.write_config();
        let words = [SSHD, "-D", "-e", "-f"].map(str::to_owned);
        let words: Vec<&String> = self.launcher.iter().chain(&words).collect();
        self.child = Command::new(words[0])
            .args(&words[1..])
            .arg(self.path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "sshd does not listen");
            std::thread::yield_now();
        }
        false
    }

    fn write_config(&self) {
        let config = format!(
            "ListenAddress 127.0.0.1:{}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nMaxStartups 100\nSetEnv {variables}\n",
            self.port,
            self.path("host_key").display(),
            self.path("authorized_keys").display(),
            variables = self.variables,
        );
        fs::write(self.path("sshd_config"), config).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The home of each session: the shell reads `.bashrc` there.
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Writes the startup file of the shell.
    pub fn write_profile(&self, text: &str) {
        fs::write(self.home().join(".bashrc"), text).unwrap();
    }

    /// Lets all users of this machine log in with the key.
    pub fn allow_other_users(&self) {
        for (path, mode) in [
            (self.folder.path().to_owned(), 0o711),
            (self.home(), 0o755),
            (self.path("authorized_keys"), 0o644),
        ] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Writes options before the user's key, such as `restrict,command="…"`.
    pub fn set_key_options(&self, options: &str) {
        let key = fs::read_to_string(self.path("user_key.pub")).unwrap();
        fs::write(self.path("authorized_keys"), format!("{options} {key}")).unwrap();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The messages of sshd.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// The processes of its sessions: sshd's own, and those that run in them.
    pub fn sessions(&self) -> Vec<u32> {
        descendants(self.child.id())
    }

    /// Ends sshd and its sessions at once.
    pub fn kill(&mut self) {
        let sessions = self.sessions();
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in sessions {
            let _ = Command::new("kill")
                .args(["-9", &pid.to_string()])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Configuration of the ssh that reaches these servers by these names; the file is in the first one's folder.
pub fn client_config(servers: &[(&str, &Sshd)]) -> PathBuf {
    client_config_in(servers[0].1.folder.path(), servers)
}

/// Writes it into this folder, with keys: another user becomes the owner of all.
pub fn client_config_in(folder: &Path, servers: &[(&str, &Sshd)]) -> PathBuf {
    let mut config = String::new();
    for (name, sshd) in servers {
        let known = folder.join(format!("{name}.known_hosts"));
        let key = fs::read_to_string(sshd.path("host_key.pub")).unwrap();
        fs::write(&known, format!("{name} {key}")).unwrap();
        let user_key = folder.join(format!("{name}.key"));
        fs::copy(sshd.path("user_key"), &user_key).unwrap();
        fs::set_permissions(&user_key, fs::Permissions::from_mode(0o600)).unwrap();
        write!(
            config,
            "Host {name}\n HostName 127.0.0.1\n HostKeyAlias {name}\n Port {}\n IdentityFile {}\n UserKnownHostsFile {}\n",
            sshd.port,
            user_key.display(),
            known.display()
        )
        .unwrap();
    }
    config.push_str("Host *\n StrictHostKeyChecking yes\n IdentitiesOnly yes\n");
    let path = folder.join("ssh_config");
    fs::write(&path, config).unwrap();
    path
}

/// All processes of the system.
pub fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The processes below this one, parents first.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let parents: Vec<(u32, u32)> = processes()
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut next = 0;
    while let Some(&of) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == of)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.remove(0);
    found
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may have spaces and brackets.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// The command line of a process, its words apart.
pub fn command_line(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}
