//! Secrets of Janus's rooms, from a file that is read again when it changes.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::secret::Secret;
use super::secret_file::read_secret;
use crate::lock::lock;
use crate::rate_limit::log_limited;

/// The largest file, in bytes.
pub const ROOM_SECRETS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Stands for all rooms that the file does not name.
const OTHERS: &str = "*";

/// Secrets by room.
#[derive(Clone)]
pub struct RoomSecrets {
    path: PathBuf,
    current: Arc<Mutex<Current>>,
}

struct Current {
    secrets: HashMap<String, Secret>,
    changed_at: Option<SystemTime>,
    /// Number of times that the file was read again.
    version: u64,
}

impl RoomSecrets {
    /// Reads a file: `ROOM SECRET` or `* SECRET` per line; empty lines and those that begin with `#` are ignored. The error describes
    /// the problem.
    pub fn read(path: &Path) -> Result<Self, String> {
        let changed_at = changed_at(path);
        let current = Current {
            secrets: parse(&read_secret(path, ROOM_SECRETS_BYTES_MAX)?)?,
            changed_at,
            version: 0,
        };
        Ok(Self {
            path: path.to_owned(),
            current: Arc::new(Mutex::new(current)),
        })
    }

    /// Returns the secret of a room, if the file has one. A file that cannot be read any more leaves the secrets as they were.
    pub fn of(&self, room: &str) -> Option<Secret> {
        let mut current = lock(&self.current);
        self.read_again(&mut current);
        let secrets = &current.secrets;
        secrets.get(room).or_else(|| secrets.get(OTHERS)).cloned()
    }

    /// Returns a number that changes when the file has changed.
    pub fn version(&self) -> u64 {
        let mut current = lock(&self.current);
        self.read_again(&mut current);
        current.version
    }

    fn read_again(&self, current: &mut Current) {
        let changed_at = changed_at(&self.path);
        if changed_at != current.changed_at {
            match read_secret(&self.path, ROOM_SECRETS_BYTES_MAX).and_then(|text| parse(&text)) {
                Ok(secrets) => {
                    tracing::info!(path = %self.path.display(), "read the secrets of rooms again");
                    current.secrets = secrets;
                    current.changed_at = changed_at;
                    current.version += 1;
                }
                Err(problem) => {
                    log_limited!(warn, path = %self.path.display(), problem, "cannot read the secrets of rooms again; those from before stay in use");
                }
            }
        }
    }
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

fn parse(text: &str) -> Result<HashMap<String, Secret>, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let mut secrets = HashMap::new();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let parts = line.rsplit_once(char::is_whitespace);
        let (room, secret) =
            parts.ok_or_else(|| format!("line {}: takes ROOM SECRET or * SECRET", index + 1))?;
        let room = room.trim();
        if secrets
            .insert(room.to_owned(), Secret::new(secret))
            .is_some()
        {
            return Err(format!("line {}: another line names {room} too", index + 1));
        }
    }
    Ok(secrets)
}

impl PartialEq for RoomSecrets {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for RoomSecrets {}

impl fmt::Debug for RoomSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoomSecrets({})", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_that_changes_is_read_again_and_one_that_became_wrong_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        let mut seconds = 0;
        let mut write = |text: &str| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            seconds += 1;
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(at)
                .unwrap();
        };
        write("# rooms\n1234 abc\nmy room  def\n* other\n");
        let secrets = RoomSecrets::read(&path).unwrap();
        let of = |room| secrets.of(room).map(|secret| secret.expose().to_owned());
        assert_eq!(of("1234").as_deref(), Some("abc"));
        assert_eq!(of("my room").as_deref(), Some("def"));
        assert_eq!(of("1235").as_deref(), Some("other"));
        write("1234 new\n");
        assert_eq!((of("1234").as_deref(), of("1235")), (Some("new"), None));
        assert_eq!((secrets.version(), secrets.version()), (1, 1));
        write("1234 newer\n");
        assert_eq!(secrets.version(), 2);
        for doubled in ["1234 a\n1234 b\n", "* a\n1234 b\n* c\n"] {
            write(doubled);
            assert_eq!(secrets.version(), 2, "{doubled}");
        }
        write("1234 new\n");
        assert_eq!(secrets.version(), 3);
        write("nonsense\n");
        assert_eq!(of("1234").as_deref(), Some("new"));
        assert_eq!(
            format!("{secrets:?}"),
            format!("RoomSecrets({})", path.display())
        );
    }
}
