//! Configuration of the daemon: flags, variables, file and defaults, merged into one checked set of
//! values.

mod cluster;
mod error;
mod http;
mod janus;
mod limits;
mod own_listeners;
mod pem;
mod problem;
mod room_secrets;
mod secret;
mod secret_file;
mod state_dir;
mod tokens;
mod webhooks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use soramode_core::settings::STALL_AFTER_DEFAULT;
use soramode_protocol::certificates::Authorities;
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::SettableMode;
use soramode_protocol::small_file::{self, Guard};
use soramode_protocol::socket_path::SocketEnv;

pub use self::cluster::{
    ClusterConfig, ENDPOINTS_MAX, FENCE_MAX, HEARTBEAT_RANGE, Login, TTL_RANGE, Tls,
};
pub use self::error::ConfigError;
pub use self::http::{
    Admission, ApiConfig, HttpConfig, PEERS_MAX, SoraConfig, StatusPage, UPSTREAM_TIMEOUT_MAX,
    Upstreams,
};
pub use self::janus::{DEFAULT_ADMIN_SECRET, JanusConfig};
pub use self::limits::{DURATION_MAX, STALL_AFTER_MIN};
use self::limits::{check_count, check_duration, check_path, check_stall_after};
pub use self::room_secrets::{ROOM_SECRETS_BYTES_MAX, RoomSecrets};
pub use self::secret::Secret;
use self::secret_file::own_uid;
use self::state_dir::StateEnv;
pub use self::tokens::{Holder, TOKEN_BYTES_MAX, TOKEN_BYTES_MIN, TOKEN_FILE_BYTES_MAX, Tokens};
pub use self::webhooks::{WebhookConfig, WebhookReceiver};
use crate::args::{Args, LogFormat, LogLevel, Settings, SocketMode};

/// The largest configuration file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Highest value of `--max-connections`.
pub const MAX_CONNECTIONS_MAX: u64 = 10_000_000;

/// Highest value of `--keep-events`.
pub const KEEP_EVENTS_MAX: u64 = 10_000_000;

const MAX_CONNECTIONS_DEFAULT: u64 = 1_000_000;
const KEEP_EVENTS_DEFAULT: u64 = 100_000;
const SOCKET_GRACE_DEFAULT: Duration = Duration::from_secs(30);

/// Settings of the daemon, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the node.
    pub node_name: NodeName,
    /// Path of the control socket.
    pub socket: PathBuf,
    /// The control socket's permission bits.
    pub socket_mode: u32,
    /// Group with the access `operate`.
    pub operator_group: Option<String>,
    /// Mode at the first start, if set.
    pub mode: Option<SettableMode>,
    /// Time in which clients of a closed node may rejoin a channel without a live connection.
    pub reconnect_grace: Duration,
    /// Time without the end of a session after which a drain has stalled.
    pub stall_after: Duration,
    /// Maximum number of connections: 1 to [`MAX_CONNECTIONS_MAX`].
    pub max_connections: u64,
    /// Number of events to retain: 1 to [`KEEP_EVENTS_MAX`].
    pub keep_events: u64,
    /// Time that a connection of lifetime `socket` outlives its socket.
    pub socket_grace: Duration,
    /// `true` if the sessions are assumed to be complete from the start.
    pub assume_complete: bool,
    /// Folder of the state; `None` if it may end with the daemon.
    pub state_dir: Option<PathBuf>,
    /// Settings of the HTTP listeners.
    pub http: HttpConfig,
    /// The cluster, if the node joins one.
    pub cluster: Option<ClusterConfig>,
    /// Settings of outgoing webhooks.
    pub webhooks: WebhookConfig,
    /// Certificate authorities that are trusted in addition to the system's, for every server but
    /// etcd.
    pub authorities: Authorities,
    /// Format of the log lines.
    pub log_format: LogFormat,
    /// Level of the log.
    pub log_level: LogLevel,
}

/// Configuration, and warnings about its sources.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Settings of the daemon.
    pub config: Config,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Warnings about the configuration.
    pub warnings: Vec<String>,
}

impl Config {
    /// Loads the settings from the command line, the variables, and the file if they name one.
    pub fn load(args: Args) -> Result<Self, ConfigError> {
        Self::load_with_warnings(args).map(|loaded| loaded.config)
    }

    /// Loads the settings, with warnings about their sources.
    pub fn load_with_warnings(args: Args) -> Result<Loaded, ConfigError> {
        let file = args.config.clone();
        let uid = own_uid();
        let around = SocketEnv::of_process(uid);
        let mut warnings = problem::unknown_variables(std::env::vars_os().map(|(name, _)| name));
        let settings = merge(args, &around, &mut warnings)?;
        warnings.extend(problem::unused_state_dir(&settings));
        let config = check(settings, &around, &StateEnv::of_process(uid))?;
        warnings.extend(
            file.as_deref()
                .and_then(|path| problem::readable_secrets(path, &config.http, &config.webhooks)),
        );
        Ok(Loaded {
            config,
            file,
            warnings,
        })
    }

    /// The defaults with the control socket there, state in memory and little of everything: for tests.
    pub fn on_socket(path: impl Into<PathBuf>) -> Self {
        Self {
            node_name: NodeName::generate([0; 16]),
            socket: path.into(),
            socket_mode: SocketMode::default().0,
            operator_group: None,
            mode: None,
            reconnect_grace: Duration::ZERO,
            stall_after: STALL_AFTER_DEFAULT,
            max_connections: 10_000,
            keep_events: 1_000,
            socket_grace: SOCKET_GRACE_DEFAULT,
            assume_complete: true,
            state_dir: None,
            http: HttpConfig::default(),
            cluster: None,
            webhooks: WebhookConfig::default(),
            authorities: Authorities::default(),
            log_format: LogFormat::default(),
            log_level: LogLevel::default(),
        }
    }

    #[cfg(test)]
    fn load_in(args: Args, around: &SocketEnv, state: &StateEnv) -> Result<Self, ConfigError> {
        check(merge(args, around, &mut Vec::new())?, around, state)
    }
}

/// Merges flags, variables and the file.
fn merge(
    args: Args,
    around: &SocketEnv,
    warnings: &mut Vec<String>,
) -> Result<Settings, ConfigError> {
    let mut said = args.settings;
    let file = args.config.map(|path| read_file(&path)).transpose()?;
    // $SORAMODE_SOCKET is a variable too, and so comes before the file.
    if let (None, Some(variable)) = (&said.socket, &around.socket) {
        let of_file = file.as_ref().and_then(|file| file.socket.as_deref());
        warnings.extend(problem::overridden_socket(Path::new(variable), of_file));
        said.socket = Some(variable.into());
    }
    Ok(match file {
        Some(file) => said.or(file),
        None => said,
    })
}

fn check(settings: Settings, around: &SocketEnv, state: &StateEnv) -> Result<Config, ConfigError> {
    let http = http::check(&settings)?;
    let webhooks = webhooks::check(&settings)?;
    own_listeners::check(&http, &webhooks)?;
    let authorities = settings
        .ca_file
        .as_deref()
        .map(|path| pem::read_authorities("ca-file", path))
        .transpose()?;
    let cluster = cluster::check(&settings)?;
    // An SFU may have been running before the daemon, and has not been polled yet.
    let assume_complete = settings
        .assume_complete()?
        .unwrap_or(!http.sora.is_there() && http.janus.is_none());
    let state_dir = match settings.ephemeral {
        Some(true) => None,
        Some(false) | None => Some(
            settings
                .state_dir
                .or_else(|| state.state_dir())
                .ok_or(ConfigError::NoStateDir)?,
        ),
    };
    Ok(Config {
        node_name: settings.node_name.map_or_else(host_name, Ok)?,
        socket: check_path(settings.socket.unwrap_or_else(|| around.daemon_socket()))?,
        socket_mode: settings.socket_mode.unwrap_or_default().0,
        operator_group: settings.operator_group,
        mode: settings.mode,
        reconnect_grace: check_duration(
            "reconnect-grace",
            settings.reconnect_grace,
            Duration::ZERO,
        )?,
        stall_after: check_stall_after(settings.stall_after)?,
        max_connections: check_count(
            "max-connections",
            settings.max_connections.unwrap_or(MAX_CONNECTIONS_DEFAULT),
            MAX_CONNECTIONS_MAX,
        )?,
        keep_events: check_count(
            "keep-events",
            settings.keep_events.unwrap_or(KEEP_EVENTS_DEFAULT),
            KEEP_EVENTS_MAX,
        )?,
        socket_grace: check_duration("socket-grace", settings.socket_grace, SOCKET_GRACE_DEFAULT)?,
        assume_complete,
        state_dir,
        http,
        cluster,
        webhooks,
        authorities: authorities.unwrap_or_default(),
        log_format: settings.log_format.unwrap_or_default(),
        log_level: settings.log_level.unwrap_or_default(),
    })
}

fn read_file(path: &Path) -> Result<Settings, ConfigError> {
    let text = small_file::read_text(path, FILE_BYTES_MAX, Guard::Writers { uid: own_uid() });
    let text = text.map_err(|problem| ConfigError::Unreadable {
        path: path.to_owned(),
        problem,
    })?;
    parse_file(path, &text)
}

/// Parses the text of a configuration file. Errors name it as `path`.
pub fn parse_file(path: &Path, text: &str) -> Result<Settings, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text
            .bytes()
            .take(start)
            .filter(|byte| *byte == b'\n')
            .count();
        ConfigError::WrongFile {
            path: path.to_owned(),
            line: line + 1,
            key: text
                .lines()
                .nth(line)
                .and_then(problem::key)
                .map(str::to_owned),
            message: problem::plain_message(error.message()),
        }
    })
}

fn host_name() -> Result<NodeName, ConfigError> {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    name.and_then(|name| NodeName::new(&name).ok())
        .ok_or(ConfigError::NoHostName)
}

#[cfg(test)]
mod tests;
