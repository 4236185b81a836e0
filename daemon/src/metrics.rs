//! What is counted while the daemon runs, for `/metrics`.

/// The counters. One for the whole daemon; everything in it is cheap to add to.
#[derive(Debug, Default)]
pub(crate) struct Metrics {}

/// What became of one of Sora's webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebhookOutcome {
    /// Taken in (for auth: let in), and passed on where there is an upstream.
    Taken,
    /// auth: rejected by the gate.
    Rejected,
    /// auth: the application said no.
    Denied,
    /// The upstream failed or was too slow.
    UpstreamFailed,
    /// It could not be read.
    Unreadable,
    /// It came from an address that is not listed.
    Forbidden,
}

impl Metrics {
    /// One of Sora's webhooks: `kind` is `auth`, `session` or `event`.
    pub(crate) fn webhook(&self, _kind: &'static str, _outcome: WebhookOutcome) {}

    /// A call of the API that was answered.
    pub(crate) fn api_call(&self, _operation: &'static str, _status: u16) {}

    /// A poll of Sora's API.
    pub(crate) fn poll(&self, _outcome: Result<(), ()>) {}
}
