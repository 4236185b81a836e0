//! Whether the gate knows of every session on the SFU: who has told the whole truth, and what must still be confirmed.
//!
//! "No session" and "nobody told me of any" are not the same. Where a Sora can be asked, nothing counts as empty that it has not confirmed
//! since: a lost webhook may have hidden a client.

use std::collections::BTreeSet;
use std::time::Duration;

use soramode_protocol::node::{Source, StorageState};
use soramode_protocol::time::Time;

use crate::cluster::Incarnation;
use crate::effect::Action;
use crate::gate::{Ctx, Gate};
use crate::snapshot::{POLL_PAUSE, POLL_PAUSE_BLOCKED, Settings, SoraFeed};
use crate::timers::Timer;
use crate::waits::Changed;

/// What each source has told.
pub(crate) struct Known {
    /// Whether the control socket's clients have told of everybody.
    socket: bool,
    /// When one of them last told of a connection.
    socket_contact: Option<Time>,
    sora: Option<SoraTruth>,
    /// Earlier incarnations without a record; `None` on a node outside a cluster, or with its state.
    untracked: Option<UntrackedIncarnations>,
}

/// Incarnations of a cluster's node whose sessions it has no record of: the SFU may still serve them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UntrackedIncarnations {
    /// The claims have not been read: there may be some.
    Unread,
    /// These own channels.
    Own {
        incarnations: BTreeSet<Incarnation>,
        /// When the claims were read, by the boot clock.
        read_at: Duration,
    },
}

struct SoraTruth {
    /// Whether the whole truth has been told once.
    is_known: bool,
    last_contact: Option<Time>,
    /// Where it can be asked.
    api: Option<Polls>,
}

#[derive(Default)]
struct Polls {
    poll: Poll,
    /// A poll that began then or later must say so before the node counts as empty; by the boot clock.
    confirm_from: Option<Duration>,
    problem: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Poll {
    #[default]
    Resting,
    UnderWay,
    /// And another is wanted after it: it may have begun too early.
    UnderWayAndWanted,
}

impl Known {
    /// At the start.
    pub(crate) fn new(settings: &Settings, untracked: Option<UntrackedIncarnations>) -> Self {
        let api = || match settings.sora.feed {
            SoraFeed::WebhooksAndApi => Some(Polls::default()),
            SoraFeed::None | SoraFeed::Webhooks => None,
        };
        match settings.sora.feed {
            SoraFeed::None => Self {
                socket: settings.assume_complete,
                socket_contact: None,
                sora: None,
                untracked,
            },
            SoraFeed::Webhooks | SoraFeed::WebhooksAndApi => {
                let sora = SoraTruth {
                    is_known: settings.assume_complete,
                    last_contact: None,
                    api: api(),
                };
                Self {
                    socket: true,
                    socket_contact: None,
                    sora: Some(sora),
                    untracked,
                }
            }
        }
    }

    /// A client of the control socket told of a connection.
    pub(crate) const fn heard_socket(&mut self, now: Time) {
        self.socket_contact = Some(now);
    }

    /// Earlier incarnations whose sessions are not known to have ended.
    pub(crate) const fn untracked(&self) -> Option<&UntrackedIncarnations> {
        self.untracked.as_ref()
    }

    pub(crate) fn set_untracked(&mut self, untracked: Option<UntrackedIncarnations>) {
        self.untracked = untracked;
    }

    /// Whether Sora's API can be polled for every session.
    pub(crate) fn has_api(&self) -> bool {
        self.polls().is_some()
    }

    /// Whether the sessions are those of a Sora.
    pub(crate) const fn has_sora(&self) -> bool {
        self.sora.is_some()
    }

    /// Sora said something.
    pub(crate) const fn heard_sora(&mut self, now: Time) {
        if let Some(sora) = &mut self.sora {
            sora.last_contact = Some(now);
        }
    }

    /// Whether the whole truth has been told at some time since the start.
    pub(crate) fn is_known(&self) -> bool {
        self.is_told() && self.untracked.is_none()
    }

    /// Whether each source has reported everything.
    fn is_told(&self) -> bool {
        self.socket && self.sora.as_ref().is_none_or(|sora| sora.is_known)
    }

    /// The same, or Sora or etcd has been asked and may answer any moment.
    pub(crate) fn is_known_soon(&self) -> bool {
        let is_asked = self.polls().is_some_and(|polls| polls.problem.is_none());
        let is_being_read = self.untracked == Some(UntrackedIncarnations::Unread);
        self.is_known() || (self.socket && is_asked) || (self.is_told() && is_being_read)
    }

    /// Whether only an operator or a client can make the session list complete.
    pub(crate) fn needs_report_or_purge(&self) -> bool {
        matches!(self.untracked, Some(UntrackedIncarnations::Own { .. })) && !self.has_api()
    }

    /// Whether what is known is known to be so still.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.is_known()
            && self
                .polls()
                .is_none_or(|polls| polls.confirm_from.is_none())
    }

    fn polls(&self) -> Option<&Polls> {
        self.sora.as_ref().and_then(|sora| sora.api.as_ref())
    }

    fn polls_mut(&mut self) -> Option<&mut Polls> {
        self.sora.as_mut().and_then(|sora| sora.api.as_mut())
    }
}

impl Gate {
    /// At the start Sora is asked at once, and a node that starts closed is not taken for empty before it has answered.
    pub(crate) fn begin_polls(&mut self) {
        let (now, is_block) = (self.started.boot, self.mode.mode.is_block());
        if let Some(polls) = self.known.polls_mut() {
            polls.confirm_from = is_block.then_some(now);
            self.timers.set(Timer::Poll, now);
        }
    }

    /// Sora must say once more that it is as the gate believes, from now on.
    pub(crate) fn confirm(&mut self, ctx: &mut Ctx) {
        if let Some(polls) = self.known.polls_mut() {
            polls.confirm_from = Some(ctx.now.boot);
            self.want_poll(ctx);
        }
    }

    /// An open node has nothing to confirm.
    pub(crate) fn confirm_nothing(&mut self) {
        if let Some(polls) = self.known.polls_mut() {
            polls.confirm_from = None;
        }
    }

    pub(crate) fn want_poll(&mut self, ctx: &mut Ctx) {
        let Some(polls) = self.known.polls_mut() else {
            return;
        };
        polls.poll = match polls.poll {
            Poll::Resting => {
                ctx.effects.actions.push(Action::Poll);
                Poll::UnderWay
            }
            Poll::UnderWay | Poll::UnderWayAndWanted => Poll::UnderWayAndWanted,
        };
        self.timers.cancel(Timer::Poll);
    }

    /// A complete Report names every session but those of a Sora.
    pub(crate) fn report_succeeded(&mut self, ctx: &mut Ctx) {
        self.known.socket = true;
        if !self.known.has_sora() {
            self.clear_untracked(ctx);
        }
    }

    /// A poll that began then has told everything.
    pub(crate) fn poll_succeeded(&mut self, ctx: &mut Ctx, began: Duration) {
        self.known.heard_sora(ctx.now.wall);
        if began >= self.started.boot {
            self.known
                .sora
                .iter_mut()
                .for_each(|sora| sora.is_known = true);
            self.clear_untracked(ctx);
        }
        if let Some(polls) = self.known.polls_mut() {
            polls.problem = None;
            polls.confirm_from = polls.confirm_from.filter(|from| began < *from);
        }
        self.poll_over(ctx);
        self.tell_held_vanished(ctx);
        self.waits.note(Changed::Sessions);
    }

    pub(crate) fn poll_failed(&mut self, ctx: &mut Ctx, why: String) {
        if let Some(polls) = self.known.polls_mut() {
            polls.problem = Some(why);
        }
        self.poll_over(ctx);
    }

    fn poll_over(&mut self, ctx: &mut Ctx) {
        let Some(polls) = self.known.polls_mut() else {
            return;
        };
        let (was, failed) = (std::mem::take(&mut polls.poll), polls.problem.is_some());
        if was == Poll::UnderWayAndWanted {
            return self.want_poll(ctx);
        }
        let is_urgent = failed || self.mode.mode.is_block() || !self.known.is_known();
        let pause = if is_urgent {
            POLL_PAUSE_BLOCKED
        } else {
            POLL_PAUSE
        };
        self.timers.set(Timer::Poll, ctx.now.boot + pause);
    }

    pub(crate) fn sources(&self) -> Vec<Source> {
        let why = |is_incomplete: bool| match is_incomplete.then(|| self.what_is_missing()) {
            Some((reason, remedy)) => (Some(reason), remedy),
            None => (None, None),
        };
        let (incomplete_reason, hint) = why(!self.is_socket_complete());
        let mut sources = vec![Source {
            name: "socket".to_owned(),
            complete: self.is_socket_complete(),
            incomplete_reason,
            hint,
            last_contact: self.known.socket_contact,
            problem: None,
        }];
        if let Some(sora) = &self.known.sora {
            let complete = self.known.is_confirmed();
            let problem = sora.api.as_ref().and_then(|polls| polls.problem.clone());
            let (name, last_contact) = ("sora".to_owned(), sora.last_contact);
            let (incomplete_reason, hint) = why(!complete);
            sources.push(Source {
                name,
                complete,
                incomplete_reason,
                hint,
                last_contact,
                problem,
            });
        }
        sources
    }

    /// Whether the control socket's clients have reported everything; earlier sessions of a Sora are its own to report.
    fn is_socket_complete(&self) -> bool {
        self.known.socket && (self.known.has_sora() || self.known.untracked.is_none())
    }

    /// Why the sessions are not all known, and what to do about it.
    pub(crate) fn what_is_missing(&self) -> (String, Option<String>) {
        let node = &self.node_name;
        if let Some(missing) = self.describe_untracked().filter(|_| self.known.is_told()) {
            return missing;
        }
        let since = match self.settings.storage.state {
            StorageState::Failed => "could not use its stored state when it started",
            StorageState::Ok | StorageState::Memory => {
                "was started beside an SFU that may already have had sessions"
            }
        };
        let Some(sora) = &self.known.sora else {
            let reason =
                format!("soramoded on {node} has received no complete Report, and {since}");
            return (
                reason,
                Some("Send a complete Report from the signalling server".to_owned()),
            );
        };
        let problem = |polls: &Polls| {
            polls
                .problem
                .as_ref()
                .map(|problem| format!(" ({problem})"))
                .unwrap_or_default()
        };
        match &sora.api {
            None => (
                format!(
                    "soramoded on {node} has no --sora-api, so it cannot ask Sora for its sessions, and {since}"
                ),
                Some(
                    "Restart soramoded with --sora-api; or, if it always starts before Sora, with --assume-complete"
                        .to_owned(),
                ),
            ),
            Some(polls) if !sora.is_known => (
                format!(
                    "soramoded on {node} has had no usable answer from Sora's API{}, and {since}",
                    problem(polls)
                ),
                Some("Check --sora-api, and that Sora runs".to_owned()),
            ),
            Some(polls) => (
                format!(
                    "Sora's API has yet to confirm the sessions of soramoded on {node}{}",
                    problem(polls)
                ),
                None,
            ),
        }
    }
}
