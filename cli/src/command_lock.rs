//! Lock of the command of a roll or `maintain` on this host. The `exec-stdio` or the `maintain` that runs the command holds it, and the kernel
//! ends it with that process, also after `kill -9`: so a lock that is free says that no end of the command will be recorded any more.
//!
//! It is a socket in the abstract namespace, which needs no folder. Only that of the same user counts: another user could only have it that
//! this one is not found, and nothing is then known.

use std::future::pending;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::unistd::geteuid;
use soramode_protocol::id::RollId;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::endpoint::Endpoint;
use crate::node::Node;

/// Bytes of the hash in the lock's name.
const HASH_BYTES: usize = 8;

/// State of the lock.
pub(crate) enum Lock {
    /// This process holds it, until this is dropped.
    Held { _holder: JoinSet<()> },
    /// Another process of this user holds it.
    HeldByAnother,
    /// State that cannot be seen.
    Unknown,
}

/// Takes the lock of the roll's command beside the daemon at this socket.
pub(crate) async fn take(roll: &RollId, socket: &Path) -> Lock {
    let name = name(roll, socket);
    if let Ok(socket) = UnixListener::bind(&name) {
        let mut holder = JoinSet::new();
        holder.spawn(accept_all(socket));
        return Lock::Held { _holder: holder };
    }
    let holder = UnixStream::connect(&name).await;
    match holder.and_then(|stream| stream.peer_cred()) {
        Ok(user) if user.uid() == geteuid().as_raw() => Lock::HeldByAnother,
        Ok(_) | Err(_) => Lock::Unknown,
    }
}

/// Returns the path of the socket of a daemon on this machine.
pub(crate) fn socket(node: Node<'_>) -> &Path {
    match node.endpoint() {
        Ok(Endpoint::Local(socket)) => socket.path(),
        Ok(Endpoint::Ssh(_)) | Err(_) => Path::new(""),
    }
}

/// Accepts the connections by which other processes look at the lock: the queue of a socket has an end.
async fn accept_all(socket: UnixListener) {
    while socket.accept().await.is_ok() {}
    pending::<()>().await;
}

/// Returns a name of at most 107 bytes: a roll may be maintaining another node of this host. Another version of soramode, which the command may
/// have installed, and another path of the same socket give the same.
fn name(roll: &RollId, socket: &Path) -> String {
    let path = socket.canonicalize();
    let path = path.as_deref().unwrap_or(socket).as_os_str();
    let hash = hmac_sha256::Hash::hash(path.as_bytes());
    let hash: [u8; HASH_BYTES] = hash.first_chunk().copied().unwrap_or_default();
    let hash = u64::from_be_bytes(hash);
    format!("\0soramode-exec/{}/{hash:016x}", roll.as_str())
}

#[cfg(test)]
mod tests {
    use soramode_protocol::reservation::ROLL_BYTES_MAX;

    use super::*;

    #[tokio::test]
    async fn one_process_holds_the_lock_of_a_roll_on_a_node() {
        let longest = "x".repeat(ROLL_BYTES_MAX).parse().unwrap();
        let (node, other) = (Path::new("/lock-test/a"), Path::new("/lock-test/b"));
        let held = take(&longest, node).await;
        assert!(matches!(held, Lock::Held { .. }));
        assert!(matches!(take(&longest, node).await, Lock::HeldByAnother));
        assert!(matches!(take(&longest, other).await, Lock::Held { .. }));
        // More than the queue of a socket holds.
        for _ in 0..5_000 {
            assert!(matches!(take(&longest, node).await, Lock::HeldByAnother));
        }
        drop(held);
        tokio::task::yield_now().await;
        assert!(matches!(take(&longest, node).await, Lock::Held { .. }));
    }

    #[test]
    fn a_name_is_that_of_the_socket_and_stays_the_same() {
        let roll = "R1".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (socket, link) = (folder.path().join("s"), folder.path().join("link"));
        std::fs::write(&socket, "").unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        assert_eq!(name(&roll, &socket), name(&roll, &link));
        // An earlier version has the same name.
        let expected = "\0soramode-exec/R1/d6723bc791dec28f";
        assert_eq!(name(&roll, Path::new("/no-such/socket")), expected);
    }
}
