//! A control socket that systemd, or whoever started the daemon, opened before and passed on (`LISTEN_FDS`).

use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::SocketError;

/// The `FileDescriptorName=` that tells the control socket from others.
const NAME: &str = "control";

/// The one named `control`, else the first that could be it; none where nothing was passed.
pub(super) fn take() -> Result<Option<UnixListener>, SocketError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        return Ok(None);
    }
    let control = names.split(':').position(|name| name == NAME);
    let listener =
        control.into_iter().chain(0..passed.len()).find_map(|index| passed.take_unix_listener(index).ok().flatten().filter(listens));
    listener.map(Some).ok_or(SocketError::NothingInherited(passed.len()))
}

fn listens(socket: &UnixListener) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}
