//! Why a Unix socket cannot be had, with the remedy.

use std::io;
use std::path::{Path, PathBuf};

use os_display::Quotable;
use soramode_protocol::socket_path::SOCKET_PATH_BYTES_MAX;

/// Why the control socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel takes no path that long, and it is not cut: it would be another one.
    #[error("the socket path {} has {} bytes, takes at most {SOCKET_PATH_BYTES_MAX}", .0.display(), .0.as_os_str().len())]
    PathTooLong(PathBuf),
    /// The operator group is not there.
    #[error("there is no group {0:?} for --operator-group")]
    NoSuchGroup(String),
    /// Another daemon has the socket.
    #[error("{} is in use by a running soramoded{}", path.display(), pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Running {
        /// Path of the socket.
        path: PathBuf,
        /// Process of the other daemon, if known.
        pid: Option<i32>,
    },
    /// Something is in the socket's place, or its folder's, or its lock file's, that must not be there.
    #[error("{} is {found}: it must be {wanted}", path.display())]
    PathConflict {
        /// Path of the conflict.
        path: PathBuf,
        /// Description of the existing file.
        found: String,
        /// Description of an acceptable file.
        wanted: &'static str,
    },
    /// A system call failed.
    #[error("cannot {what} {}: {error}", path.display())]
    System {
        /// Operation that failed.
        what: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error that the system returned.
        error: io::Error,
    },
}

impl SocketError {
    /// Returns the remedy for the operator, if there is one in addition to the message.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::PathTooLong(_) => Some("Pass a shorter path".to_owned()),
            Self::NoSuchGroup(name) => Some(format!(
                "Create it with: groupadd --system {}; or correct --operator-group",
                name.maybe_quote()
            )),
            Self::Running { .. } => Some("Stop that soramoded, or pass another path: --socket, else SORAMODE_SOCKET, else socket in the configuration file".to_owned()),
            Self::System { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                let uid = rustix::process::geteuid().as_raw();
                Some(format!(
                    "Give soramoded's user (uid {uid}) write access to the folder, or pass another path"
                ))
            }
            Self::PathConflict { .. } | Self::System { .. } => None,
        }
    }

    /// Creates the error of an operation on a file, for `map_err`.
    pub(super) fn on<E: Into<io::Error>>(
        what: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |error| Self::System {
            what,
            path: path.to_owned(),
            error: error.into(),
        }
    }
}
