//! The path of the control socket.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the socket.
pub const SOCKET_VARIABLE: &str = "SORAMODE_SOCKET";

/// The longest path of a Unix socket, in bytes: Linux has 108 with the final NUL.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

const FILE_NAME: &str = "soramode.sock";
const SYSTEM_DIRECTORY: &str = "/run/soramode";

/// The environment that the path of the socket depends on.
#[derive(Clone, Debug, Default)]
pub struct SocketEnv {
    /// Id of the user.
    pub uid: u32,
    /// Value of the variable `$SORAMODE_SOCKET`.
    pub socket: Option<OsString>,
    /// `$RUNTIME_DIRECTORY`, which systemd sets for a service.
    pub runtime_directory: Option<OsString>,
    /// `$XDG_RUNTIME_DIR`, which a login session sets.
    pub xdg_runtime_dir: Option<OsString>,
}

impl SocketEnv {
    /// Reads the environment of this process; the caller knows its `uid`.
    pub fn of_process(uid: u32) -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            uid,
            socket: variable(SOCKET_VARIABLE),
            runtime_directory: variable("RUNTIME_DIRECTORY"),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
        }
    }

    /// Returns the daemon's default path of the socket.
    pub fn daemon_socket(&self) -> PathBuf {
        if let Some(socket) = &self.socket {
            return socket.into();
        }
        if let Some(directory) = &self.runtime_directory {
            // systemd separates several by colons, the service's own first.
            let directory = directory.to_string_lossy();
            return Path::new(directory.split(':').next().unwrap_or_default()).join(FILE_NAME);
        }
        if self.uid == 0 {
            Path::new(SYSTEM_DIRECTORY).join(FILE_NAME)
        } else {
            self.own_socket()
        }
    }

    /// Returns the CLI's default paths, in the order of search. Root searches only the system's
    /// folder: its daemon is nowhere else, and any user can create a folder in `/tmp`.
    pub fn client_sockets(&self) -> Vec<PathBuf> {
        let system = Path::new(SYSTEM_DIRECTORY).join(FILE_NAME);
        match &self.socket {
            Some(socket) => vec![socket.into()],
            None if self.uid == 0 => vec![system],
            None => vec![system, self.own_socket()],
        }
    }

    fn own_socket(&self) -> PathBuf {
        match &self.xdg_runtime_dir {
            Some(directory) => Path::new(directory).join("soramode").join(FILE_NAME),
            None => PathBuf::from(format!("/tmp/soramode-{}", self.uid)).join(FILE_NAME),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_takes_the_variable_then_systemds_folder_then_its_own() {
        let mut around = SocketEnv {
            uid: 1000,
            ..SocketEnv::default()
        };
        assert_eq!(
            around.daemon_socket(),
            Path::new("/tmp/soramode-1000/soramode.sock")
        );
        around.xdg_runtime_dir = Some("/run/user/1000".into());
        assert_eq!(
            around.daemon_socket(),
            Path::new("/run/user/1000/soramode/soramode.sock")
        );
        around.uid = 0;
        assert_eq!(
            around.daemon_socket(),
            Path::new("/run/soramode/soramode.sock")
        );
        around.runtime_directory = Some("/run/soramode-2:/run/other".into());
        assert_eq!(
            around.daemon_socket(),
            Path::new("/run/soramode-2/soramode.sock")
        );
        around.socket = Some("/tmp/s".into());
        assert_eq!(around.daemon_socket(), Path::new("/tmp/s"));
    }

    #[test]
    fn the_client_looks_at_the_systems_socket_first() {
        let around = SocketEnv {
            uid: 1000,
            ..SocketEnv::default()
        };
        let sockets = around.client_sockets();
        assert_eq!(
            sockets,
            [
                Path::new("/run/soramode/soramode.sock"),
                Path::new("/tmp/soramode-1000/soramode.sock")
            ]
        );
        for xdg_runtime_dir in [None, Some("/run/user/1000".into())] {
            let root = SocketEnv {
                xdg_runtime_dir,
                ..SocketEnv::default()
            };
            assert_eq!(
                root.client_sockets(),
                [Path::new("/run/soramode/soramode.sock")],
                "root trusts no folder of another user"
            );
        }
    }
}
