//! Notifications to the service manager that started the daemon; without one they have no effect.

use sd_notify::NotifyState;

/// Notifies that the daemon listens; `status` is shown with the service.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sets the status that is shown with the service.
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

/// Notifies that a reload is complete; `status` is shown with the service.
pub fn reloaded(status: &str) {
    ready(status);
}

/// Notifies that the daemon is stopping.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn send(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::warn!(%error, "cannot reach systemd");
    }
}
