//! Words to the service manager that started the daemon. Where there is none, nobody hears them.

use sd_notify::NotifyState;

/// The daemon listens; `status` is shown beside the service.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What is shown beside the service from now on.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The daemon is alive.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// The configuration is about to be read again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot report the time to systemd"),
    }
}

/// It was read; `status` is shown beside the service.
pub fn reloaded(status: &str) {
    ready(status);
}

/// The daemon has been told to stop and is about to.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn send(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::warn!(%error, "cannot reach systemd");
    }
}
