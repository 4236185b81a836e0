//! Default folder of the state.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

const SYSTEM_DIRECTORY: &str = "/var/lib/soramode";
const NAME: &str = "soramode";

/// Environment that determines the folder.
#[derive(Clone, Debug, Default)]
pub(super) struct StateEnv {
    /// Id of the user.
    pub(super) uid: u32,
    /// `$STATE_DIRECTORY`, which systemd sets for a service.
    pub(super) state_directory: Option<OsString>,
    /// Value of the variable `$XDG_STATE_HOME`.
    pub(super) xdg_state_home: Option<OsString>,
    /// Value of the variable `$HOME`.
    pub(super) home: Option<OsString>,
}

impl StateEnv {
    /// Reads the environment of this process.
    pub(super) fn of_process(uid: u32) -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            uid,
            state_directory: variable("STATE_DIRECTORY"),
            xdg_state_home: variable("XDG_STATE_HOME"),
            home: variable("HOME"),
        }
    }

    /// The folder, if one follows from them.
    pub(super) fn state_dir(&self) -> Option<PathBuf> {
        if let Some(directory) = &self.state_directory {
            // systemd separates several by colons, the service's own first.
            let directory = directory.to_string_lossy();
            return directory.split(':').next().map(PathBuf::from);
        }
        if self.uid == 0 {
            return Some(SYSTEM_DIRECTORY.into());
        }
        // The XDG specification says to ignore relative paths.
        let xdg = self
            .xdg_state_home
            .as_ref()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let state_home = xdg.or_else(|| {
            self.home
                .as_ref()
                .map(|home| Path::new(home).join(".local/state"))
        })?;
        Some(state_home.join(NAME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_folder_comes_first_then_the_systems_then_the_users_own() {
        let mut around = StateEnv {
            uid: 1000,
            ..StateEnv::default()
        };
        let is = |around: &StateEnv, path: &str| {
            assert_eq!(around.state_dir().as_deref(), Some(Path::new(path)));
        };
        assert_eq!(around.state_dir(), None);
        around.home = Some("/home/ops".into());
        is(&around, "/home/ops/.local/state/soramode");
        around.xdg_state_home = Some("state".into());
        is(&around, "/home/ops/.local/state/soramode");
        around.xdg_state_home = Some("/state".into());
        is(&around, "/state/soramode");
        around.uid = 0;
        is(&around, "/var/lib/soramode");
        around.state_directory = Some("/var/lib/soramode-2:/var/lib/other".into());
        is(&around, "/var/lib/soramode-2");
    }
}
