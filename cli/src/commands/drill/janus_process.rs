//! A Janus of the rehearsal, with a configuration and ports of its own, on the loopback.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use soramode_protocol::http_client::Url;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use super::process::{command, failed, log_tail, stop_child};
use crate::error::Failure;

/// Limit of the time for a Janus to listen.
const START_MAX: Duration = Duration::from_secs(10);

/// The pause between two attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

/// Rooms of the scenario.
const ROOMS: [&str; 3] = ["ham", "spam", "egg"];

/// Plugins and transports that the rehearsal does not need.
const PLUGINS: &str = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,\
                       libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,\
                       libjanus_voicemail.so";
const TRANSPORTS: &str = "libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so,libjanus_websockets.so";
const LOGGERS: &str = "libjanus_jsonlog.so";

/// A Janus.
pub(super) struct JanusProcess {
    child: Child,
    folder: PathBuf,
    api: SocketAddr,
    admin: SocketAddr,
    /// Address at which soramoded receives its events.
    events: SocketAddr,
}

impl JanusProcess {
    /// Starts it with its files in a folder.
    pub(super) fn start(folder: &Path) -> Result<Self, Failure> {
        let in_folder = |problem: io::Error| {
            failed(format!(
                "cannot use the rehearsal's folder {}: {problem}",
                folder.display()
            ))
        };
        let (log, addresses) = configure(folder).map_err(in_folder)?;
        let [api, admin, events] = addresses;
        let mut command = command(Path::new("janus"), log.try_clone().map_err(in_folder)?);
        // It logs to its standard output.
        command
            .arg("-F")
            .arg(folder)
            .args(["-i", "127.0.0.1", "-o"])
            .stdout(log);
        let child = command.spawn().map_err(|problem| no_janus(&problem))?;
        Ok(Self {
            child,
            folder: folder.to_owned(),
            api,
            admin,
            events,
        })
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns the URL of the clients' API.
    pub(super) fn api(&self) -> Option<Url> {
        Url::parse(&format!("http://{}/", self.api)).ok()
    }

    /// Returns the arguments of the soramoded beside it.
    pub(super) fn node_args(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        vec![
            "--node-name=drill".to_owned(),
            format!("--janus-admin=http://{}/admin", self.admin),
            "--janus-way=lock".to_owned(),
            format!("--janus-admin-secret-file={}", file("secret")),
            format!("--janus-admin-key-file={}", file("key")),
            format!("--janus-listen={}", self.events),
        ]
    }

    /// Waits until it listens.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        let listens = async {
            for address in [self.api, self.admin] {
                while TcpStream::connect(address).await.is_err() {
                    sleep(CONNECT_PAUSE).await;
                }
            }
        };
        let why = tokio::select! {
            listening = timeout(START_MAX, listens) => match listening {
                Ok(()) => return Ok(()),
                Err(_) => format!("does not listen after {} s", START_MAX.as_secs()),
            },
            status = self.child.wait() => {
                let status = status.map_or_else(|problem| problem.to_string(), |status| status.to_string());
                format!("ended with {status} before it listened")
            }
        };
        Err(Failure {
            details: self.log_tail(),
            ..failed(format!("janus {why}. The last lines of its log:"))
        })
    }

    pub(super) fn log_tail(&self) -> Vec<String> {
        log_tail(&log_in(&self.folder))
    }

    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        stop_child("janus", &mut self.child).await
    }
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("janus.log")
}

/// Writes the configuration; returns the log, and the addresses of the API, the Admin API and the receiver of events.
fn configure(folder: &Path) -> io::Result<(File, [SocketAddr; 3])> {
    // They are free at the same time, so they differ.
    let (api, admin, events) = (listener()?, listener()?, listener()?);
    let (api, admin, events) = (api.local_addr()?, admin.local_addr()?, events.local_addr()?);
    let (secret, key) = (random_secret()?, random_secret()?);
    for (name, text) in [("secret", &secret), ("key", &key)] {
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    }
    let rooms = ROOMS.map(|room| format!("room-{room}: {{ publishers = 10 }}\n"));
    let rooms = rooms.concat();
    let files = [
        (
            "janus.jcfg",
            format!(
                "general: {{ configs_folder = \"{}\" admin_secret = \"{secret}\" debug_level = 3 session_timeout = 0 }}\n\
                 plugins: {{ disable = \"{PLUGINS}\" }}\ntransports: {{ disable = \"{TRANSPORTS}\" }}\n\
                 loggers: {{ disable = \"{LOGGERS}\" }}\nevents: {{ broadcast = true }}\n",
                folder.display()
            ),
        ),
        (
            "janus.transport.http.jcfg",
            format!(
                "general: {{ json = \"compact\" base_path = \"/janus\" http = true port = {} ip = \"127.0.0.1\" https = false }}\n\
                 admin: {{ admin_base_path = \"/admin\" admin_http = true admin_port = {} admin_ip = \"127.0.0.1\" admin_https = false }}\n",
                api.port(),
                admin.port()
            ),
        ),
        (
            "janus.plugin.videoroom.jcfg",
            format!("general: {{ admin_key = \"{key}\" string_ids = true }}\n{rooms}"),
        ),
        (
            "janus.eventhandler.sampleevh.jcfg",
            format!(
                "general: {{ enabled = true events = \"plugins,core\" grouping = true backend = \"http://{events}/janus\" }}\n"
            ),
        ),
    ];
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    Ok((File::create(log_in(folder))?, [api, admin, events]))
}

fn listener() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0")
}

/// Returns a secret that no other user of this machine can guess.
fn random_secret() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|problem| io::Error::other(problem.to_string()))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn no_janus(problem: &io::Error) -> Failure {
    if problem.kind() == io::ErrorKind::NotFound {
        return failed(
            "there is no janus in the search path, and this rehearsal needs one".to_owned(),
        )
        .with_hint("Install it: apt-get install janus");
    }
    failed(format!("cannot start janus: {problem}"))
}
