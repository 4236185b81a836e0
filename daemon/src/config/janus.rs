//! Settings of the Janus beside this daemon, and checks of their combinations.

use std::net::SocketAddr;
use std::path::Path;

use super::error::ConfigError;
use super::room_secrets::RoomSecrets;
use super::secret::Secret;
use super::secret_file::read_secret;
use crate::args::Settings;
use crate::args::http::HttpUrl;
use crate::args::janus::{JanusEnd, JanusWay};

/// The largest file with one secret, in bytes.
const SECRET_FILE_BYTES_MAX: u64 = 4_096;

/// Secret of the Admin API in the configuration that comes with Janus: everybody knows it.
pub const DEFAULT_ADMIN_SECRET: &str = "janusoverlord";

/// A Janus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JanusConfig {
    /// URL of its Admin API.
    pub admin: HttpUrl,
    /// Way to apply the mode.
    pub way: JanusWay,
    /// Secret of the Admin API.
    pub admin_secret: Secret,
    /// Key of the VideoRoom plugin, if it has one.
    pub admin_key: Option<Secret>,
    /// Address of the listener for its events.
    pub listen: Option<SocketAddr>,
    /// Secrets of its rooms.
    pub room_secrets: Option<RoomSecrets>,
    /// Means to end a session.
    pub end: JanusEnd,
    /// In a mode that lets nobody in, Janus refuses new sessions of all its plugins.
    pub refuse_sessions: bool,
}

pub(super) fn check(settings: &Settings) -> Result<Option<JanusConfig>, ConfigError> {
    let needs = |name, needed| Err(ConfigError::Needs { name, needed });
    let refuse_sessions = settings.janus_refuse_sessions.unwrap_or(false);
    let Some(admin) = settings.janus_admin.clone() else {
        let given = [
            ("janus-way", settings.janus_way.is_some()),
            (
                "janus-admin-secret-file",
                settings.janus_admin_secret_file.is_some(),
            ),
            (
                "janus-admin-key-file",
                settings.janus_admin_key_file.is_some(),
            ),
            ("janus-listen", settings.janus_listen.is_some()),
            (
                "janus-room-secrets-file",
                settings.janus_room_secrets_file.is_some(),
            ),
            ("janus-end", settings.janus_end.is_some()),
            ("janus-refuse-sessions", refuse_sessions),
        ];
        return match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => needs(name, "janus-admin"),
            None => Ok(None),
        };
    };
    if admin.0.path() == "/" {
        return Err(ConfigError::OutOfRange {
            name: "janus-admin",
            got: admin.to_string(),
            takes: "a URL such as http://127.0.0.1:7088/admin, with Janus's admin_base_path"
                .to_owned(),
        });
    }
    for (other, is_given) in [
        ("sora-listen", settings.sora_listen.is_some()),
        ("sora-api", settings.sora_api.is_some()),
    ] {
        if is_given {
            let name = "janus-admin";
            return Err(ConfigError::Excludes { name, other });
        }
    }
    let Some(way) = settings.janus_way else {
        return needs("janus-admin", "janus-way");
    };
    for (other, is_given) in [
        ("cluster", !settings.cluster.is_empty()),
        ("max-connections", settings.max_connections.is_some()),
    ] {
        if way == JanusWay::Lock && is_given {
            let name = "janus-way = lock";
            return Err(ConfigError::Excludes { name, other });
        }
    }
    if way == JanusWay::Ask && refuse_sessions {
        return needs("janus-refuse-sessions", "janus-way = lock");
    }
    let Some(secret_file) = &settings.janus_admin_secret_file else {
        return needs("janus-admin", "janus-admin-secret-file");
    };
    let key_file = settings.janus_admin_key_file.as_deref();
    let rooms_file = settings.janus_room_secrets_file.as_deref();
    Ok(Some(JanusConfig {
        admin,
        way,
        admin_secret: read_one("janus-admin-secret-file", secret_file)?,
        admin_key: key_file
            .map(|path| read_one("janus-admin-key-file", path))
            .transpose()?,
        listen: settings.janus_listen,
        room_secrets: rooms_file
            .map(|path| read_rooms("janus-room-secrets-file", path))
            .transpose()?,
        end: settings.janus_end.unwrap_or_default(),
        refuse_sessions,
    }))
}

fn read_one(name: &'static str, path: &Path) -> Result<Secret, ConfigError> {
    let wrong = |problem: String| ConfigError::SecretFile {
        name,
        path: path.to_owned(),
        problem,
    };
    let text = read_secret(path, SECRET_FILE_BYTES_MAX).map_err(wrong)?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    if secret.is_empty() || secret.contains('\n') {
        return Err(wrong("takes one secret on one line".to_owned()));
    }
    Ok(Secret::new(secret))
}

fn read_rooms(name: &'static str, path: &Path) -> Result<RoomSecrets, ConfigError> {
    let wrong = |problem: String| ConfigError::SecretFile {
        name,
        path: path.to_owned(),
        problem,
    };
    RoomSecrets::read(path).map_err(wrong)
}
