//! Checks that the server at a socket can be trusted: in a default path another user may have
//! started one first.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The permission bits by which a user other than the owner can write.
const OTHERS_WRITE: u32 = 0o022;

const ROOT: u32 = 0;

/// The origin of the socket's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOrigin {
    /// `--socket` or `$SORAMODE_SOCKET`, which are trusted.
    ApiSource,
    /// The system's folder, which only root can create.
    System,
    /// The user's folder, which any user can create in `/tmp`.
    Own,
}

/// Refuses a folder in which another user could have put the socket.
pub(crate) fn check_folder(place: SocketOrigin, socket: &Path, uid: u32) -> Result<(), String> {
    let Some(folder) = socket.parent().filter(|_| place == SocketOrigin::Own) else {
        return Ok(());
    };
    // A missing folder fails when the socket is opened.
    let Ok(there) = fs::symlink_metadata(folder) else {
        return Ok(());
    };
    let is_own = there.is_dir() && there.uid() == uid && there.mode() & OTHERS_WRITE == 0;
    if is_own {
        Ok(())
    } else {
        Err(format!(
            "{} is not a folder that only this user can write to",
            folder.display()
        ))
    }
}

/// Refuses a server that runs as another user than root, this one, or the owner of the system's folder.
pub(crate) fn check_server(
    place: SocketOrigin,
    socket: &Path,
    server: u32,
    uid: u32,
) -> Result<(), String> {
    let is_trusted = match place {
        SocketOrigin::ApiSource => true,
        SocketOrigin::System | SocketOrigin::Own if server == ROOT || server == uid => true,
        SocketOrigin::Own => false,
        SocketOrigin::System => socket
            .parent()
            .and_then(|folder| fs::metadata(folder).ok())
            .is_some_and(|folder| folder.uid() == server),
    };
    if is_trusted {
        Ok(())
    } else {
        Err(format!(
            "the server there runs as uid {server}, which is neither root nor this user"
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_a_real_folder_of_this_user_alone_is_trusted() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("soramode");
        let socket = folder.join("soramode.sock");
        let uid = nix::unistd::geteuid().as_raw();
        let check = |uid: u32| check_folder(SocketOrigin::Own, &socket, uid).is_ok();
        assert!(check(uid), "one that is not there is no danger");
        fs::create_dir(&folder).unwrap();
        for (bits, is_trusted) in [
            (0o700, true),
            (0o755, true),
            (0o770, false),
            (0o777, false),
            (0o1777, false),
        ] {
            fs::set_permissions(&folder, Permissions::from_mode(bits)).unwrap();
            assert_eq!(check(uid), is_trusted, "{bits:o}");
            assert!(!check(uid + 1), "another user's");
        }
        assert!(
            check_folder(SocketOrigin::ApiSource, &socket, uid + 1).is_ok(),
            "what is named is believed"
        );
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        fs::rename(&folder, base.path().join("real")).unwrap();
        symlink(base.path().join("real"), &folder).unwrap();
        assert!(!check(uid), "a link");
    }

    #[test]
    fn the_server_is_root_or_this_user_or_the_owner_of_the_systems_folder() {
        let folder = tempfile::tempdir().unwrap();
        let owner = fs::metadata(folder.path()).unwrap().uid();
        let socket = folder.path().join("soramode.sock");
        let check =
            |place: SocketOrigin, server: u32| check_server(place, &socket, server, 1_000).is_ok();
        for place in [SocketOrigin::System, SocketOrigin::Own] {
            assert!(check(place, 0) && check(place, 1_000), "{place:?}");
            assert!(!check(place, 65_534), "{place:?}");
        }
        assert!(check(SocketOrigin::System, owner));
        assert!(check(SocketOrigin::ApiSource, 65_534));
    }
}
