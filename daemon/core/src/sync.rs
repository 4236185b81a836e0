//! Knowledge of the sessions on the SFU: the sources that have reported everything, and the state that must still be verified.
//!
//! "No session" and "no session was reported" differ. Where Sora has an API, the node does not count as empty before a poll has
//! shown that: a lost webhook may have hidden a client.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::id::NodeName;
use soramode_protocol::node::{Source, StorageState};
use soramode_protocol::time::Time;

use crate::cluster::Incarnation;
use crate::ctx::Ctx;
use crate::effect::Action;
use crate::handles::Timestamp;
use crate::settings::{
    LIST_PAUSE_FACTOR, LIST_PAUSE_WITHOUT_EVENTS, POLL_PAUSE, POLL_PAUSE_BLOCKED, Settings, SfuFeed,
};
use crate::timers::{Timer, Timers};

/// Knowledge of the sessions on the SFU, by source.
pub(crate) struct SyncState {
    node_name: NodeName,
    /// State of the storage at the start.
    storage: StorageState,
    started: Timestamp,
    /// The control socket's clients have reported every connection.
    socket: bool,
    /// When one of them last reported a connection.
    socket_contact: Option<Time>,
    sfu: Option<SfuSource>,
    /// Earlier incarnations without a record; `None` on a node outside a cluster, or with its state.
    untracked: Option<UntrackedIncarnations>,
}

/// Incarnations of a cluster's node that it has no record of: the SFU may still serve their sessions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UntrackedIncarnations {
    /// The claims have not been read: there may be some.
    Unread,
    /// The claims were read: these incarnations own channels.
    Own {
        incarnations: BTreeSet<Incarnation>,
        /// When the claims were read, by the boot clock.
        read_at: Duration,
    },
}

struct SfuSource {
    kind: Sfu,
    /// A poll has shown every connection since the start.
    is_known: bool,
    last_contact: Option<Time>,
    /// URL of its API, for messages.
    api_url: Option<String>,
    /// Its API, where there is one.
    api: Option<ApiPoller>,
}

/// Program that feeds the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sfu {
    Sora,
    Janus { has_events: bool },
}

impl Sfu {
    const fn of(feed: SfuFeed) -> Option<Self> {
        match feed {
            SfuFeed::None => None,
            SfuFeed::Webhooks | SfuFeed::WebhooksAndApi | SfuFeed::Api => Some(Self::Sora),
            SfuFeed::Janus { has_events, .. } => Some(Self::Janus { has_events }),
        }
    }

    /// Returns the name of the source.
    const fn source(self) -> &'static str {
        match self {
            Self::Sora => "sora",
            Self::Janus { .. } => "janus",
        }
    }

    /// Returns the name of the program.
    const fn program(self) -> &'static str {
        match self {
            Self::Sora => "Sora",
            Self::Janus { .. } => "Janus",
        }
    }

    /// Returns the name of its API.
    const fn api(self) -> &'static str {
        match self {
            Self::Sora => "Sora's API",
            Self::Janus { .. } => "Janus's Admin API",
        }
    }

    /// Returns the name of its API, with its URL.
    fn api_at(self, url: &str) -> String {
        match self {
            Self::Sora => format!("Sora's API at {url}"),
            Self::Janus { .. } => format!("Janus's Admin API at {url}"),
        }
    }

    /// Returns the flag that names its API.
    const fn flag(self) -> &'static str {
        match self {
            Self::Sora => "--sora-api",
            Self::Janus { .. } => "--janus-admin",
        }
    }
}

#[derive(Default)]
struct ApiPoller {
    poll: Poll,
    /// The node does not count as empty before a poll shows it that began then or later; by the boot clock.
    verify_since: Option<Duration>,
    problem: Option<String>,
    /// The last poll failed, and the one before did too.
    failed_twice: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Poll {
    #[default]
    Idle,
    InFlight,
    /// Another follows: the one in flight may have begun too early.
    InFlightThenAgain,
}

impl SyncState {
    /// Creates the state of a start. A node that starts closed does not count as empty before Sora has been polled.
    pub(crate) fn new(
        settings: &Settings,
        started: Timestamp,
        untracked: Option<UntrackedIncarnations>,
        starts_closed: bool,
    ) -> Self {
        let poller = || ApiPoller {
            verify_since: starts_closed.then_some(started.boot),
            ..ApiPoller::default()
        };
        let feed = settings.sfu.feed;
        let sfu = Sfu::of(feed).map(|kind| SfuSource {
            kind,
            is_known: settings.assume_complete,
            last_contact: None,
            api_url: settings.sfu.api_url.clone(),
            api: (feed != SfuFeed::Webhooks).then(poller),
        });
        Self {
            node_name: settings.node_name.clone(),
            storage: settings.storage.state,
            started,
            socket: settings.assume_complete || sfu.is_some(),
            socket_contact: None,
            sfu,
            untracked,
        }
    }

    /// Has Sora polled at once after the start.
    pub(crate) fn start_polls(&self, timers: &mut Timers) {
        if self.has_api() {
            timers.set(Timer::Poll, self.started.boot);
        }
    }

    /// Notes that a client of the control socket reported a connection.
    pub(crate) const fn on_socket_contact(&mut self, now: Time) {
        self.socket_contact = Some(now);
    }

    /// Notes that the SFU reported something.
    pub(crate) const fn on_sfu_contact(&mut self, now: Time) {
        if let Some(sfu) = &mut self.sfu {
            sfu.last_contact = Some(now);
        }
    }

    /// Earlier incarnations that may still have sessions.
    pub(crate) const fn untracked(&self) -> Option<&UntrackedIncarnations> {
        self.untracked.as_ref()
    }

    pub(crate) fn set_untracked(&mut self, untracked: Option<UntrackedIncarnations>) {
        self.untracked = untracked;
    }

    /// Returns whether Sora's API can be polled.
    pub(crate) fn has_api(&self) -> bool {
        self.poller().is_some()
    }

    /// Returns whether an SFU feeds the gate by itself.
    pub(crate) const fn has_sfu(&self) -> bool {
        self.sfu.is_some()
    }

    /// Returns whether a poll has shown every connection of the SFU since the start.
    pub(crate) fn is_sfu_known(&self) -> bool {
        self.sfu.as_ref().is_some_and(|sfu| sfu.is_known)
    }

    /// Returns whether every session has been reported at some time since the start.
    pub(crate) fn is_known(&self) -> bool {
        self.is_reported() && self.untracked.is_none()
    }

    /// Returns whether each source has reported everything.
    fn is_reported(&self) -> bool {
        self.socket && self.sfu.as_ref().is_none_or(|sfu| sfu.is_known)
    }

    /// Returns whether every session is known, or may be at any moment, when a poll of Sora or a read of etcd ends.
    pub(crate) fn is_synced_soon(&self) -> bool {
        let is_polled = self.poller().is_some_and(|api| api.problem.is_none());
        let is_being_read = self.untracked == Some(UntrackedIncarnations::Unread);
        self.is_known() || (self.socket && is_polled) || (self.is_reported() && is_being_read)
    }

    /// Returns whether only an operator or a client can make the session list complete.
    pub(crate) fn needs_report_or_purge(&self) -> bool {
        matches!(self.untracked, Some(UntrackedIncarnations::Own { .. })) && !self.has_api()
    }

    /// Returns whether every session is known, and nothing is left to verify.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_known() && self.poller().is_none_or(|api| api.verify_since.is_none())
    }

    fn poller(&self) -> Option<&ApiPoller> {
        self.sfu.as_ref().and_then(|sfu| sfu.api.as_ref())
    }

    fn poller_mut(&mut self) -> Option<&mut ApiPoller> {
        self.sfu.as_mut().and_then(|sfu| sfu.api.as_mut())
    }

    /// Requires that a poll which begins from now on shows the sessions that the gate knows.
    pub(crate) fn require_verification(&mut self, ctx: &mut Ctx) {
        if let Some(api) = self.poller_mut() {
            api.verify_since = Some(ctx.now.boot);
            self.request_poll(ctx);
        }
    }

    /// Drops that requirement: the node is open.
    pub(crate) fn clear_verification(&mut self) {
        if let Some(api) = self.poller_mut() {
            api.verify_since = None;
        }
    }

    pub(crate) fn request_poll(&mut self, ctx: &mut Ctx) {
        let Some(api) = self.poller_mut() else {
            return;
        };
        api.poll = match api.poll {
            Poll::Idle => {
                ctx.act(Action::Poll);
                Poll::InFlight
            }
            Poll::InFlight | Poll::InFlightThenAgain => Poll::InFlightThenAgain,
        };
        ctx.timers.cancel(Timer::Poll);
    }

    /// Takes in that clients of the control socket have reported every connection.
    pub(crate) const fn on_complete_report(&mut self) {
        self.socket = true;
    }

    /// Takes in that a poll which began then has shown every connection of Sora. Returns whether it began after the start.
    pub(crate) fn on_poll_read(&mut self, now: Time, began: Duration) -> bool {
        self.on_sfu_contact(now);
        let is_of_this_start = began >= self.started.boot;
        if let Some(sfu) = &mut self.sfu {
            sfu.is_known |= is_of_this_start;
        }
        is_of_this_start
    }

    /// Ends a poll that succeeded, and sets the time of the next one.
    pub(crate) fn on_poll_succeeded(&mut self, ctx: &mut Ctx, began: Duration, is_closed: bool) {
        if let Some(api) = self.poller_mut() {
            (api.problem, api.failed_twice) = (None, false);
            api.verify_since = api.verify_since.filter(|since| began < *since);
        }
        let took = ctx.now.boot.saturating_sub(began);
        self.end_poll(ctx, is_closed, took);
    }

    /// Ends a poll that failed, and sets the time of the next one.
    pub(crate) fn on_poll_failed(&mut self, ctx: &mut Ctx, why: String) {
        if let Some(api) = self.poller_mut() {
            api.failed_twice = api.problem.replace(why).is_some();
        }
        self.end_poll(ctx, true, Duration::ZERO);
    }

    fn end_poll(&mut self, ctx: &mut Ctx, is_urgent: bool, took: Duration) {
        let is_urgent = is_urgent || !self.is_known();
        let kind = self.sfu.as_ref().map(|sfu| sfu.kind);
        let Some(api) = self.poller_mut() else {
            return;
        };
        if std::mem::take(&mut api.poll) == Poll::InFlightThenAgain {
            return self.request_poll(ctx);
        }
        let is_first_failure = api.problem.is_some() && !api.failed_twice;
        let pause = match kind {
            Some(Sfu::Janus { .. }) if is_first_failure => LIST_PAUSE_WITHOUT_EVENTS,
            Some(Sfu::Janus { has_events: false }) if api.problem.is_none() => {
                LIST_PAUSE_WITHOUT_EVENTS.max(took * LIST_PAUSE_FACTOR)
            }
            Some(Sfu::Janus { .. }) if is_urgent => {
                POLL_PAUSE_BLOCKED.max(took * LIST_PAUSE_FACTOR)
            }
            _ if is_urgent => POLL_PAUSE_BLOCKED,
            _ => POLL_PAUSE,
        };
        ctx.timers.set(Timer::Poll, ctx.now.boot + pause);
    }

    /// Sources of sessions, as the status shows them. The last auth webhook of a Sora and the connections without one are as given.
    pub(crate) fn sources(
        &self,
        (last_auth, without_auth): (Option<Time>, Option<u64>),
    ) -> Vec<Source> {
        let why = |is_incomplete: bool| match is_incomplete.then(|| self.describe_missing()) {
            Some((reason, remedy)) => (Some(reason), remedy),
            None => (None, None),
        };
        let (incomplete_reason, hint) = why(!self.is_socket_complete());
        let mut sources = vec![Source {
            name: "socket".to_owned(),
            complete: self.is_socket_complete(),
            incomplete_reason,
            hint,
            last_contact: self.socket_contact,
            last_auth: None,
            without_auth: None,
            problem: None,
        }];
        if let Some(sfu) = &self.sfu {
            let complete = self.is_synced();
            let (incomplete_reason, hint) = why(!complete);
            sources.push(Source {
                name: sfu.kind.source().to_owned(),
                complete,
                incomplete_reason,
                hint,
                last_contact: sfu.last_contact,
                last_auth,
                without_auth,
                problem: sfu.api.as_ref().and_then(|api| api.problem.clone()),
            });
        }
        sources
    }

    /// Returns whether the control socket's clients have reported everything; earlier sessions of an SFU are its own to report.
    const fn is_socket_complete(&self) -> bool {
        self.socket && (self.has_sfu() || self.untracked.is_none())
    }

    /// Describes why not all sessions are known, and the remedy.
    pub(crate) fn describe_missing(&self) -> (String, Option<String>) {
        let node = &self.node_name;
        if let Some(missing) = self.describe_untracked().filter(|_| self.is_reported()) {
            return missing;
        }
        let since = match self.storage {
            StorageState::Failed => "could not use its stored state when it started",
            StorageState::Ok | StorageState::Memory => {
                "was started beside an SFU that may already have had sessions"
            }
        };
        let Some(sfu) = &self.sfu else {
            let reason =
                format!("soramoded on {node} has received no complete Report, and {since}");
            return (
                reason,
                Some("Send a complete Report from the signalling server".to_owned()),
            );
        };
        let problem = |api: &ApiPoller| {
            api.problem
                .as_ref()
                .map(|problem| format!(" ({problem})"))
                .unwrap_or_default()
        };
        let kind = sfu.kind;
        let (program, flag) = (kind.program(), kind.flag());
        let name = match &sfu.api_url {
            Some(url) => kind.api_at(url),
            None => kind.api().to_owned(),
        };
        match &sfu.api {
            None => (
                format!(
                    "soramoded on {node} has no --sora-api, so it cannot ask Sora for its sessions, and {since}"
                ),
                Some(
                    "Restart soramoded with --sora-api; or, if it always starts before Sora, with --assume-complete"
                        .to_owned(),
                ),
            ),
            Some(api) if !sfu.is_known => (
                format!(
                    "soramoded on {node} has had no usable answer from {name}{}, and {since}",
                    problem(api)
                ),
                Some(format!("Check {flag}, and that {program} runs")),
            ),
            Some(api) => (
                format!(
                    "{name} has yet to confirm the sessions of soramoded on {node}{}",
                    problem(api)
                ),
                api.problem
                    .as_ref()
                    .map(|_| format!("Check {flag}, and that {program} runs")),
            ),
        }
    }

    /// Describes why untracked incarnations make the session list incomplete, and the remedy.
    fn describe_untracked(&self) -> Option<(String, Option<String>)> {
        let node = &self.node_name;
        let described = match self.untracked()? {
            UntrackedIncarnations::Unread => {
                let reason = format!(
                    "{node} has no record of an earlier run, and has not yet read from etcd whether one owns channels"
                );
                let remedy = "It does so when it joins its cluster. To see what it waits for: soramode status";
                (reason, Some(remedy.to_owned()))
            }
            UntrackedIncarnations::Own { .. } => {
                let reason = format!(
                    "{node} has no record of its earlier run, which still owns channels in etcd"
                );
                let source = if self.has_sfu() {
                    "Make soramoded ask Sora, with --sora-api"
                } else {
                    "Send a complete Report from the signalling server"
                };
                let purge = format!(
                    "{source}; or, once the SFU serves none of that run's clients, run: soramode nodes purge {node} --accept-risk=still-running"
                );
                (reason, Some(purge).filter(|_| !self.has_api()))
            }
        };
        Some(described)
    }
}
