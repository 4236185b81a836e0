//! Sharing of one ssh connection among commands, so that each after the first starts at once.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::process::Command;
use tokio::time::timeout;

use super::SshHost;

/// Limit of the folder's path, in bytes: ssh adds 58 for a socket that it is creating, and Linux takes 107.
const FOLDER_BYTES_MAX: usize = 48;

/// Permission bits of other users.
const BITS_OF_OTHERS: u32 = 0o077;

/// Limit of the time for `ssh -G` and `ssh -O stop`.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The connection to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// The connection that the configuration of ssh selects.
    Configured,
    /// The command's own master, which runs already: the path of its socket.
    Master(PathBuf),
    /// The command's own master, which this connection starts.
    Fresh(PathBuf),
    /// A connection for this command alone.
    Off,
}

impl Sharing {
    /// Finds the connection to use for a host.
    pub(super) async fn find(host: &SshHost) -> Self {
        let Some(folder) = folder() else {
            return Self::Configured;
        };
        match control_path(host, &[]).await {
            // An ssh that is not OpenSSH shares nothing.
            Configured::Path(_) | Configured::Unknown => return Self::Configured,
            Configured::None => {}
        }
        let pattern = folder.join("%C");
        match control_path(host, &path_option(&pattern)).await {
            Configured::Path(path) if path.exists() => Self::Master(path),
            Configured::Path(path) => Self::Fresh(path),
            Configured::None | Configured::Unknown => Self::Configured,
        }
    }

    /// Returns the options for ssh.
    pub(super) fn options(&self) -> Vec<OsString> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        match self {
            Self::Configured => Vec::new(),
            Self::Off => words(&["-o", "ControlMaster=no", "-o", "ControlPath=none"]),
            Self::Master(path) | Self::Fresh(path) => {
                let mut options = words(&["-o", "ControlMaster=auto", "-o", "ControlPersist=60s"]);
                options.extend(path_option(path));
                options
            }
        }
    }
}

impl SshHost {
    /// Gives no further command the command's own master, which ends after those that use it. One that hangs loses its socket all the same.
    pub(super) async fn retire_master(&self, path: &Path) {
        let mut options = path_option(path);
        options.extend(["-O", "stop"].map(OsString::from));
        // Its socket is removed in each case.
        let _ = run(&self.ssh_words(&options)).await;
        let _ = fs::remove_file(path);
    }
}

fn path_option(path: &Path) -> Vec<OsString> {
    let mut option = OsString::from("ControlPath=");
    option.push(path);
    vec!["-o".into(), option]
}

/// The `ControlPath` of an ssh's configuration.
enum Configured {
    Path(PathBuf),
    None,
    Unknown,
}

/// Asks ssh for its `ControlPath` for a host, with these options.
async fn control_path(host: &SshHost, options: &[OsString]) -> Configured {
    let options: Vec<OsString> = std::iter::once("-G".into())
        .chain(options.iter().cloned())
        .collect();
    let Some(answer) = run(&host.ssh_words(&options)).await else {
        return Configured::Unknown;
    };
    let text = String::from_utf8_lossy(&answer);
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    match value("controlpath ") {
        Some("none") | None if value("hostname ").is_none() => Configured::Unknown,
        Some("none") | None => Configured::None,
        Some(path) => Configured::Path(path.into()),
    }
}

/// Runs an ssh that answers at once; returns its stdout if it succeeds.
async fn run(words: &[OsString]) -> Option<Vec<u8>> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(ANSWER_MAX, command.output()).await.ok()?.ok()?;
    output.status.success().then_some(output.stdout)
}

/// Returns the folder of the masters' sockets, which is this user's alone; `None` where there is none.
fn folder() -> Option<PathBuf> {
    let folder = Path::new(&std::env::var_os("XDG_RUNTIME_DIR")?).join("soramode-ssh");
    prepared(&folder).then_some(folder)
}

/// Creates the folder if it is missing; returns whether it can be used.
fn prepared(folder: &Path) -> bool {
    if !folder.is_absolute() || folder.as_os_str().as_bytes().len() > FOLDER_BYTES_MAX {
        return false;
    }
    // One that is there already is checked like a new one.
    let _ = DirBuilder::new().mode(0o700).create(folder);
    fs::symlink_metadata(folder).is_ok_and(|there| {
        there.is_dir() && there.uid() == geteuid().as_raw() && there.mode() & BITS_OF_OTHERS == 0
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_a_short_folder_of_this_user_alone_is_used() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("soramode-ssh");
        assert!(prepared(&folder));
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        assert!(prepared(&folder), "also the second time");
        for bits in [0o701, 0o710, 0o777] {
            fs::set_permissions(&folder, Permissions::from_mode(bits)).unwrap();
            assert!(!prepared(&folder), "{bits:o}");
        }
        let link = base.path().join("link");
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        symlink(&folder, &link).unwrap();
        assert!(!prepared(&link), "a link");
        let long = base.path().join("x".repeat(FOLDER_BYTES_MAX));
        assert!(!prepared(&long) && !long.exists(), "too long");
        assert!(!prepared(Path::new("soramode-ssh")), "relative");
    }
}
