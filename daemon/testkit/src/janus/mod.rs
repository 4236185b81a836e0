//! A real Janus with a configuration and ports of its own, on the loopback.

pub mod client;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use soramoded::args::janus::{JanusEnd, JanusWay};
use soramoded::config::{Config, JanusConfig, RoomSecrets, Secret};
use tempfile::TempDir;

use self::client::{JanusClient, post, try_post};
use crate::PATIENCE;
use crate::daemon::Daemon;

const PLUGINS: &str = "/usr/lib/x86_64-linux-gnu/janus";
pub const ADMIN_SECRET: &str = "of-this-test";
pub const ADMIN_KEY: &str = "key-of-this-test";

/// Error code of a join that a lock refuses.
pub const REFUSED: u64 = 433;

/// Id of the first of many rooms.
pub const FIRST_NUMBERED: u64 = 10_000;

/// Settings of a Janus.
pub struct Setup {
    pub has_admin_key: bool,
    pub string_ids: bool,
    /// Rooms in its configuration: the lines of each.
    pub rooms: Vec<(&'static str, &'static str)>,
    /// Number of rooms in addition, with the ids from [`FIRST_NUMBERED`] on.
    pub numbered_rooms: u64,
    /// Receiver of its events.
    pub events_to: Option<SocketAddr>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            has_admin_key: true,
            string_ids: false,
            rooms: vec![("room-1", ""), ("room-2", "")],
            numbered_rooms: 0,
            events_to: None,
        }
    }
}

impl Setup {
    /// Settings of a Janus that sends events to a soramoded.
    pub fn with_events() -> Self {
        Self {
            events_to: Some(free_address()),
            ..Self::default()
        }
    }
}

/// A Janus. Dropping it kills it.
pub struct Janus {
    process: Child,
    folder: TempDir,
    pub api: SocketAddr,
    pub admin: SocketAddr,
    /// Receiver of its events.
    pub events_to: Option<SocketAddr>,
}

impl Janus {
    pub fn start(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (api, admin) = (free_address(), free_address());
        write_config(folder.path(), setup, api, admin);
        let mut janus = Self::in_folder(folder, api, admin);
        janus.events_to = setup.events_to;
        janus
    }

    /// Starts one with the configuration that Debian's comes with, changed by the guide, with ports of its own and VideoRoom alone.
    pub fn of_stock(configs: &Path, admin: SocketAddr) -> Self {
        let (folder, api) = (tempfile::tempdir().unwrap(), free_address());
        for entry in fs::read_dir(configs).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let change = |name: &str, old: &str, new: &str| {
            let path = folder.path().join(name);
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(old), "{name}: {text}");
            fs::write(path, text.replacen(old, new, 1)).unwrap();
        };
        let disable = |section: &str, kind: &str, kept: &str| {
            let others = disabled(kind, &[kept]);
            let new = format!("\n{section}: {{\n\tdisable = \"{others}\"");
            change("janus.jcfg", &format!("\n{section}: {{"), &new);
        };
        disable("plugins", "plugins", "libjanus_videoroom.so");
        disable("transports", "transports", "libjanus_http.so");
        let own = format!("configs_folder = \"{}\"", folder.path().display());
        change("janus.jcfg", "configs_folder = \"/etc/janus\"", &own);
        let http = "janus.transport.http.jcfg";
        let port = format!("port = {}\n\tip = \"127.0.0.1\"", api.port());
        change(http, "port = 8088", &port);
        change(
            http,
            "admin_port = 7088",
            &format!("admin_port = {}", admin.port()),
        );
        Self::in_folder(folder, api, admin)
    }

    fn in_folder(folder: TempDir, api: SocketAddr, admin: SocketAddr) -> Self {
        let process = spawn(folder.path());
        let janus = Self {
            process,
            folder,
            api,
            admin,
            events_to: None,
        };
        janus.wait_until_ready();
        janus
    }

    fn wait_until_ready(&self) {
        let until = Instant::now() + PATIENCE;
        let ping = json!({"janus": "ping", "transaction": "p"});
        let answers = |address, path| try_post(address, path, &ping).is_some();
        while !(answers(self.api, "/janus") && answers(self.admin, "/admin")) {
            assert!(Instant::now() < until, "Janus does not answer");
            std::thread::yield_now();
        }
    }

    pub fn kill(&mut self) {
        // It may have ended already.
        self.process.kill().unwrap_or_default();
        self.process.wait().unwrap();
    }

    /// Kills it and starts it again, with nobody in it.
    pub fn restart(&mut self) {
        self.kill();
        self.process = spawn(self.folder.path());
        self.wait_until_ready();
    }

    pub fn client(&self) -> JanusClient {
        JanusClient::to(self.api)
    }

    /// Sends a request to VideoRoom over the Admin API, and returns its response.
    pub fn videoroom(&self, request: &Value) -> Value {
        let message = json!({
            "janus": "message_plugin", "plugin": "janus.plugin.videoroom", "transaction": "t",
            "admin_secret": ADMIN_SECRET, "request": request
        });
        post(self.admin, "/admin", &message)["response"].clone()
    }

    /// Settings of a daemon for this Janus.
    pub fn settings(&self) -> JanusConfig {
        JanusConfig {
            admin: format!("http://{}/admin", self.admin).parse().unwrap(),
            way: JanusWay::Ask,
            admin_secret: Secret::new(ADMIN_SECRET),
            admin_key: Some(Secret::new(ADMIN_KEY)),
            listen: None,
            room_secrets: None,
            end: JanusEnd::Kick,
            refuse_sessions: false,
        }
    }

    /// Starts a daemon for this Janus, with changed settings.
    pub fn daemon(&self, change: impl FnOnce(&mut JanusConfig)) -> Daemon {
        self.daemon_with(|config| change(config.http.janus.as_mut().unwrap()))
    }

    pub fn daemon_with(&self, change: impl FnOnce(&mut Config)) -> Daemon {
        Daemon::with(|config| {
            config.http.janus = Some(self.settings());
            config.assume_complete = false;
            change(config);
        })
    }

    /// Starts a daemon that applies the mode by locks, and receives the events that there are.
    pub fn locking(&self) -> Daemon {
        self.locking_with(|_| ())
    }

    /// Starts such a daemon with changed settings.
    pub fn locking_with(&self, change: impl FnOnce(&mut JanusConfig)) -> Daemon {
        self.daemon(|settings| {
            settings.way = JanusWay::Lock;
            settings.listen = self.events_to;
            change(settings);
        })
    }

    /// Writes secrets of rooms to a file.
    pub fn room_secrets(&self, text: &str) -> (PathBuf, RoomSecrets) {
        let path = self.folder.path().join("secrets");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let secrets = RoomSecrets::read(&path).unwrap();
        (path, secrets)
    }
}

impl Drop for Janus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address of the loopback that nothing listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn spawn(folder: &Path) -> Child {
    let mut child = Command::new("janus")
        .arg("-F")
        .arg(folder)
        .args(["-i", "127.0.0.1", "-o"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Its pipe must not fill up.
    let output = child.stdout.take().unwrap();
    std::thread::spawn(move || {
        BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .for_each(drop);
    });
    child
}

/// Settings of the folders.
fn folders(configs: &Path) -> String {
    let configs = configs.display();
    format!(
        "configs_folder = \"{configs}\" plugins_folder = \"{PLUGINS}/plugins\" transports_folder = \"{PLUGINS}/transports\"\n\
         events_folder = \"{PLUGINS}/events\" loggers_folder = \"{PLUGINS}/loggers\"\n"
    )
}

/// Returns the names of Debian's plugins, transports or loggers but for these.
fn disabled(kind: &str, kept: &[&str]) -> String {
    let names = fs::read_dir(format!("{PLUGINS}/{kind}")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others: Vec<String> = names
        .filter(|name| {
            Path::new(name).extension().is_some_and(|it| it == "so")
                && !kept.contains(&name.as_str())
        })
        .collect();
    others.join(",")
}

fn write_config(folder: &Path, setup: &Setup, api: SocketAddr, admin: SocketAddr) {
    let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
    write(
        "janus.jcfg",
        format!(
            "general: {{ {} debug_level = 3 admin_secret = \"{ADMIN_SECRET}\" session_timeout = 0 }}\n\
             plugins: {{ disable = \"{}\" }}\ntransports: {{ disable = \"{}\" }}\nloggers: {{ disable = \"libjanus_jsonlog.so\" }}\n\
             events: {{ broadcast = {} }}\n",
            folders(folder),
            disabled("plugins", &["libjanus_videoroom.so"]),
            disabled("transports", &["libjanus_http.so"]),
            setup.events_to.is_some(),
        ),
    );
    write(
        "janus.transport.http.jcfg",
        format!(
            "general: {{ json = \"compact\" base_path = \"/janus\" http = true port = {} ip = \"127.0.0.1\" https = false }}\n\
             admin: {{ admin_base_path = \"/admin\" admin_http = true admin_port = {} admin_ip = \"127.0.0.1\" admin_https = false }}\n",
            api.port(),
            admin.port()
        ),
    );
    let key = if setup.has_admin_key {
        format!("admin_key = \"{ADMIN_KEY}\"")
    } else {
        String::new()
    };
    let mut rooms = String::new();
    for (name, lines) in &setup.rooms {
        writeln!(
            rooms,
            "{name}: {{ description = \"x\" publishers = 100 {lines} }}"
        )
        .unwrap();
    }
    for room in FIRST_NUMBERED..FIRST_NUMBERED + setup.numbered_rooms {
        writeln!(rooms, "room-{room}: {{ publishers = 100 }}").unwrap();
    }
    write(
        "janus.plugin.videoroom.jcfg",
        format!(
            "general: {{ {key} string_ids = {} }}\n{rooms}",
            setup.string_ids
        ),
    );
    if let Some(address) = setup.events_to {
        write(
            "janus.eventhandler.sampleevh.jcfg",
            format!(
                "general: {{ enabled = true events = \"all\" grouping = true json = \"compact\" backend = \"http://{address}/janus\" }}\n"
            ),
        );
    }
}
