//! Lock of a roll's command on this host. The `exec-stdio` that runs the command holds it, and the kernel ends it with that process, also
//! after `kill -9`: so a lock that is free says that no end of the command will be recorded any more.
//!
//! It is a socket in the abstract namespace, which needs no folder. Only that of the same user counts: another user could only have it that
//! this one is not found, and nothing is then known.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use nix::unistd::geteuid;
use soramode_protocol::id::RollId;
use tokio::net::{UnixListener, UnixStream};

/// State of the lock.
pub(super) enum Lock {
    /// This process holds it, until this is dropped.
    Held { _socket: UnixListener },
    /// Another process of this user holds it.
    HeldByAnother,
    /// State that cannot be seen.
    Unknown,
}

/// Takes the lock of the roll's command beside the daemon at this socket.
pub(super) async fn take(roll: &RollId, socket: &Path) -> Lock {
    let name = name(roll, socket);
    if let Ok(socket) = UnixListener::bind(&name) {
        return Lock::Held { _socket: socket };
    }
    let holder = UnixStream::connect(&name).await;
    match holder.and_then(|stream| stream.peer_cred()) {
        Ok(user) if user.uid() == geteuid().as_raw() => Lock::HeldByAnother,
        Ok(_) | Err(_) => Lock::Unknown,
    }
}

/// Returns a name of at most 107 bytes: a roll may be maintaining another node of this host.
fn name(roll: &RollId, socket: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    socket.hash(&mut hasher);
    format!("\0soramode-exec/{}/{:016x}", roll.as_str(), hasher.finish())
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
        drop(held);
        assert!(matches!(take(&longest, node).await, Lock::Held { .. }));
    }
}
