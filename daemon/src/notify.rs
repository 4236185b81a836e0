//! Words to the service manager that started the daemon. Where there is none, nobody hears them.

use sd_notify::NotifyState;

/// The daemon listens; `status` is shown beside the service.
pub fn ready(status: &str) {
    say(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What is shown beside the service from now on.
pub fn status(status: &str) {
    say(&[NotifyState::Status(status)]);
}

/// The daemon has been told to stop and is about to.
pub fn stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn say(words: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(words) {
        tracing::warn!(%error, "cannot reach the service manager");
    }
}
