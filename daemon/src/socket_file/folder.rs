//! Folder of the socket: created if it is one of soramode's own, and checked if other users can
//! write beside it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use soramode_protocol::socket_path::SocketEnv;

use super::error::SocketError;

/// The bits of a folder in `/run` or `$XDG_RUNTIME_DIR`: the operator group has to get through.
const SHARED_BITS: u32 = 0o755;

/// The bits of a folder in `/tmp`.
const PRIVATE_BITS: u32 = 0o700;

/// Kind of a folder, which decides how it is treated.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// `/tmp/soramode-UID`, which another user may have created first.
    Private,
    /// `/run/soramode` or `$XDG_RUNTIME_DIR/soramode`, where no other user can create one.
    Own,
    /// Named and created by the operator.
    Foreign,
}

/// Makes or checks the folder for this socket.
pub(super) fn prepare(socket: &Path) -> Result<(), SocketError> {
    let folder = match socket.parent() {
        None => return Ok(()),
        Some(folder) if folder.as_os_str().is_empty() => return Ok(()),
        Some(folder) => folder,
    };
    let uid = rustix::process::geteuid().as_raw();
    match kind(folder, SocketEnv::of_process(uid)) {
        Kind::Private => prepare_private(folder, uid),
        Kind::Own => prepare_own(folder),
        Kind::Foreign if folder.is_dir() => Ok(()),
        Kind::Foreign => Err(path_conflict(
            folder,
            "not a folder that is there",
            "made before the daemon starts",
        )),
    }
}

fn kind(folder: &Path, around: SocketEnv) -> Kind {
    let is_folder_of = |socket: &PathBuf| socket.parent() == Some(folder);
    let without_login = SocketEnv {
        uid: around.uid,
        ..SocketEnv::default()
    };
    let defaults = SocketEnv {
        socket: None,
        ..around
    }
    .client_sockets();
    // Root's is the system's folder.
    let is_in_tmp = without_login.uid != 0
        && without_login
            .client_sockets()
            .last()
            .is_some_and(is_folder_of);
    if is_in_tmp {
        Kind::Private
    } else if defaults.iter().any(is_folder_of) {
        Kind::Own
    } else {
        Kind::Foreign
    }
}

fn prepare_private(folder: &Path, uid: u32) -> Result<(), SocketError> {
    make_regardless_of_umask(folder, PRIVATE_BITS)?;
    let there = fs::symlink_metadata(folder).map_err(SocketError::on("look at", folder))?;
    let bits = there.mode() & 0o7777;
    if there.is_dir() && there.uid() == uid && bits == PRIVATE_BITS {
        return Ok(());
    }
    let found = if there.is_dir() {
        format!("a folder of uid {} with mode {bits:04o}", there.uid())
    } else {
        "not a folder".to_owned()
    };
    Err(path_conflict(
        folder,
        &found,
        "a folder of the daemon's user with mode 0700",
    ))
}

fn prepare_own(folder: &Path) -> Result<(), SocketError> {
    make_regardless_of_umask(folder, SHARED_BITS)
}

/// Creates a missing folder with these bits: the umask may remove some, and the next start would
/// refuse the folder.
fn make_regardless_of_umask(folder: &Path, bits: u32) -> Result<(), SocketError> {
    match make(folder, bits)? {
        Creator::Now => fs::set_permissions(folder, Permissions::from_mode(bits))
            .map_err(SocketError::on("set the permissions of", folder)),
        Creator::Before => Ok(()),
    }
}

#[derive(PartialEq, Eq)]
enum Creator {
    Now,
    Before,
}

fn make(folder: &Path, bits: u32) -> Result<Creator, SocketError> {
    match DirBuilder::new().mode(bits).create(folder) {
        Ok(()) => Ok(Creator::Now),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Creator::Before),
        Err(error) => Err(SocketError::on("make the folder", folder)(error)),
    }
}

fn path_conflict(folder: &Path, found: &str, wanted: &'static str) -> SocketError {
    SocketError::PathConflict {
        path: folder.to_owned(),
        found: found.to_owned(),
        wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::symlink;

    fn bits(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn each_default_folder_has_its_kind() {
        let around = || SocketEnv {
            uid: 1000,
            xdg_runtime_dir: Some("/run/user/1000".into()),
            ..SocketEnv::default()
        };
        let kind = |folder: &str| kind(Path::new(folder), around());
        assert_eq!(kind("/tmp/soramode-1000"), Kind::Private);
        assert_eq!(kind("/run/soramode"), Kind::Own);
        assert_eq!(kind("/run/user/1000/soramode"), Kind::Own);
        assert_eq!(kind("/tmp/soramode-1001"), Kind::Foreign);
        assert_eq!(kind("/srv"), Kind::Foreign);
    }

    #[test]
    fn a_private_folder_is_made_and_taken_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("private");
        let uid = rustix::process::geteuid().as_raw();
        prepare_private(&folder, uid).unwrap();
        assert_eq!(bits(&folder), 0o700);
        prepare_private(&folder, uid).unwrap();
    }

    #[test]
    fn a_private_folder_that_others_made_or_can_use_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("private");
        let uid = rustix::process::geteuid().as_raw();
        prepare_private(&folder, uid).unwrap();
        assert!(
            prepare_private(&folder, uid + 1)
                .unwrap_err()
                .to_string()
                .contains(&format!("of uid {uid} with mode 0700"))
        );
        for open in [0o777, 0o1777, 0o755, 0o710] {
            fs::set_permissions(&folder, Permissions::from_mode(open)).unwrap();
            let refusal = prepare_private(&folder, uid).unwrap_err().to_string();
            assert!(refusal.contains(&format!("mode {open:04o}")), "{refusal}");
        }
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        let link = home.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(
            prepare_private(&link, uid)
                .unwrap_err()
                .to_string()
                .contains("is not a folder")
        );
    }

    #[test]
    fn a_shared_folder_lets_the_group_through_and_is_left_alone_once_there() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("soramode");
        prepare_own(&folder).unwrap();
        assert_eq!(bits(&folder), 0o755);
        fs::set_permissions(&folder, Permissions::from_mode(0o750)).unwrap();
        prepare_own(&folder).unwrap();
        assert_eq!(bits(&folder), 0o750);
    }

    #[test]
    fn a_folder_that_the_operator_named_is_not_made() {
        let home = tempfile::tempdir().unwrap();
        prepare(&home.path().join("soramode.sock")).unwrap();
        prepare(Path::new("soramode.sock")).unwrap();
        let missing = home.path().join("missing");
        let refusal = prepare(&missing.join("soramode.sock"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            refusal,
            format!(
                "{} is not a folder that is there: it must be made before the daemon starts",
                missing.display()
            )
        );
        assert!(!missing.exists());
    }
}
