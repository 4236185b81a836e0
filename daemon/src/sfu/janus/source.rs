//! Lists the participants of Janus's rooms for the gate: all when the gate requests it, and those of a room after an event. One request
//! at a time, so that each list is newer than those before it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use soramode_core::input::{Input, JanusInput, ListScope, Participant};
use soramode_core::locks::calls::{LockCall, LockOutcome};
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::id::ChannelId;
use soramode_protocol::text::shorten;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::admin::AdminApi;
use super::admin_error::AdminError;
use super::checks;
use super::due_lists::{Due, DueLists};
use super::event_check::EventCheck;
use super::ids::{Id, channel_of, participant};
use super::room_locker::{RoomLocker, holder_calls};
use super::secret_check::{self, SecretCheck};
use crate::args::janus::JanusWay;
use crate::clock;
use crate::config::RoomSecrets;
use crate::engine::Engine;
use crate::health::{Health, JANUS_ADMIN};
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::rate_limit::log_limited;

/// Pause before a list after a break of the connection, and between two checks of the file with the rooms' secrets.
const PAUSE: Duration = Duration::from_secs(1);

/// Lists Janus's rooms for the gate.
#[derive(Debug)]
pub(crate) struct JanusSource {
    pub(crate) api: AdminApi,
    pub(crate) engine: Engine,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    /// Notified when the gate requests a list.
    pub(crate) wanted: Arc<Notify>,
    /// Rooms that events named.
    pub(crate) due_lists: Arc<DueLists>,
    /// Check of the events, where they are to come.
    pub(crate) event_check: Option<Mutex<EventCheck>>,
    /// Time of the next list that the gate has not asked for.
    pub(crate) relist_at: Mutex<Option<Instant>>,
    /// Makes the calls about locks of rooms, where the gate makes any.
    pub(crate) locker: Option<RoomLocker>,
    pub(crate) way: JanusWay,
    pub(crate) room_secrets: Option<RoomSecrets>,
    pub(crate) secret_check: Mutex<SecretCheck>,
}

/// Failure of a list.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Api(#[from] AdminError),
    /// A participant is in a room that the list does not show.
    #[error(
        "the room {} has a participant and is not in Janus's list. Set --janus-admin-key-file to VideoRoom's admin_key",
        shorten(&.0.to_string(), PEER_TEXT_BYTES_MAX)
    )]
    HiddenRoom(Id),
}

impl JanusSource {
    /// Lists until the daemon stops.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let locker = self.locker.as_mut();
        let mut queue = locker.map_or_else(|| holder_calls().1, RoomLocker::take_queue);
        let secrets = self.room_secrets.as_ref();
        let mut known_secrets = secrets.map(RoomSecrets::version);
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let listing = async {
            loop {
                tokio::select! {
                    // A restarted Janus refuses new sessions first. Lists come before locks: a mode is not in force before a list, and clients
                    // may join a room until it is locked.
                    biased;
                    Some(accept) = queue.accept_sessions.recv() => self.accept_sessions(accept).await,
                    () = self.wanted.notified() => self.report_all().await,
                    Some(call) = queue.locks.recv() => self.call(call).await,
                    due = self.due_lists.next() => match due {
                        Due::Nothing => {}
                        Due::Rooms(rooms) => self.report_rooms(rooms).await,
                        Due::All => self.report_all().await,
                        Due::Restarted => self.apply(JanusInput::Restarted),
                    },
                    () = self.relist() => self.report_all().await,
                    () = self.api.broken() => self.relist_within(PAUSE),
                    _ = ticks.tick() => {
                        let version = secrets.map(RoomSecrets::version);
                        if std::mem::replace(&mut known_secrets, version) != version {
                            self.apply(JanusInput::SecretsChanged);
                            lock(&self.secret_check).restart();
                            self.relist_within(PAUSE);
                        }
                        self.api.keep_alive().await;
                    }
                    // Only while nothing else is to be done: one request at a time.
                    Some(room) = self.next_unchecked() => self.check_secret(room).await,
                }
            }
        };
        tokio::select! {
            () = listing => {}
            () = stop.cancelled() => {}
        }
    }

    async fn call(&self, call: LockCall) {
        let outcome = match &self.locker {
            Some(locker) => locker.call(&call).await,
            None => LockOutcome::Unreachable,
        };
        self.report_restart();
        self.apply(JanusInput::LockAnswered {
            channel_id: call.channel_id,
            outcome,
        });
    }

    async fn accept_sessions(&self, accept: bool) {
        let is_done = match &self.locker {
            Some(locker) => locker.accept_sessions(accept).await,
            None => false,
        };
        self.report_restart();
        self.apply(JanusInput::SessionsAnswered { is_done });
    }

    /// Reports before an answer that it came over another connection: Janus may have been restarted.
    fn report_restart(&self) {
        if self.api.has_reconnected() {
            tracing::info!(url = %self.api.url(), "connected to Janus again; it may have been restarted");
            self.health.note_janus(None);
            lock(&self.secret_check).restart();
            self.apply(JanusInput::Restarted);
        }
    }

    /// Checks Janus's setup, until that has succeeded once since Janus was started.
    async fn check(&self) {
        if self.health.has_janus_findings() {
            return;
        }
        let refuses_sessions = self.locker.as_ref().is_some_and(|it| it.refuses_sessions);
        if let Ok(findings) = checks::findings(&self.api, refuses_sessions).await {
            for finding in &findings {
                tracing::warn!("{finding}");
            }
            self.health.note_janus(Some(findings));
        }
    }

    /// Returns a room to check. Cancel safe.
    #[expect(clippy::unused_async, reason = "a branch of a select")]
    async fn next_unchecked(&self) -> Option<Id> {
        lock(&self.secret_check).next()
    }

    /// Checks a room's secret. One that could not be checked is so after the next list.
    async fn check_secret(&self, room: Id) {
        let checked =
            secret_check::check(&self.api, self.room_secrets.as_ref(), (&room, self.way)).await;
        self.report_restart();
        if let Ok(secret) = checked {
            lock(&self.secret_check).note(room, secret);
        }
        self.note_secret_findings();
    }

    fn note_secret_findings(&self) {
        let check = lock(&self.secret_check);
        if check.is_finished() {
            self.health.note_janus_rooms(check.findings(self.way));
        }
    }

    /// Waits until it is time for a list that the gate has not asked for. Cancel safe.
    async fn relist(&self) {
        let at = *lock(&self.relist_at);
        match at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    fn relist_within(&self, pause: Duration) {
        let at = Instant::now() + pause;
        lock(&self.relist_at).get_or_insert(at);
    }

    /// Takes a list into the check of the events.
    fn check_events(&self, events_before: u64, participants: &[Participant], took: Duration) {
        let Some(check) = &self.event_check else {
            return;
        };
        let events = self.due_lists.events();
        let mut check = lock(check);
        check.on_all(participants, (events_before, events));
        self.health.note_janus_events(check.warning());
        if let Some(pause) = check.pause(events, took) {
            self.relist_within(pause);
        }
    }

    async fn report_all(&self) {
        *lock(&self.relist_at) = None;
        let (began, events) = (clock::now().boot, self.due_lists.events());
        let listed = self.list_all().await;
        let outcome = listed.as_ref().map(|_| ()).map_err(ToString::to_string);
        self.health.note(JANUS_ADMIN, outcome);
        self.metrics.poll(listed.is_ok().then(|| clock::now().wall));
        self.report_restart();
        if let Ok((_, participants)) = &listed {
            let took = clock::now().boot.saturating_sub(began);
            self.check_events(events, participants, took);
        }
        let input = match listed {
            Ok((rooms, participants)) => JanusInput::Listed {
                scope: ListScope::All,
                began,
                rooms,
                participants,
            },
            Err(error) => {
                let why = error.to_string();
                log_limited!(warn, url = %self.api.url(), why, "cannot list the participants of Janus's rooms; retrying");
                JanusInput::Failed { why }
            }
        };
        self.apply(input);
        self.check().await;
    }

    /// Lists the rooms that events named. A failure is one of the next list of all.
    async fn report_rooms(&self, rooms: BTreeSet<Id>) {
        for room in rooms {
            let Some(channel_id) = channel_of(&room) else {
                continue;
            };
            let began = clock::now().boot;
            match self.list_room(&room).await {
                Ok(participants) => {
                    if let Some(check) = &self.event_check {
                        lock(check).on_room(&channel_id, &participants);
                    }
                    self.apply_room(channel_id, began, participants);
                }
                Err(error) => {
                    log_limited!(warn, url = %self.api.url(), %error, "cannot list a room of Janus; listing all");
                    return self.due_lists.add_all();
                }
            }
        }
    }

    fn apply_room(&self, channel_id: ChannelId, began: Duration, participants: Vec<Participant>) {
        self.apply(JanusInput::Listed {
            scope: ListScope::Channel(channel_id),
            began,
            rooms: Vec::new(),
            participants,
        });
    }

    fn apply(&self, input: JanusInput) {
        // After the stop nothing waits for it.
        self.engine.apply(Input::Janus(input)).unwrap_or_default();
    }

    /// Lists all rooms and their participants.
    async fn list_all(&self) -> Result<(Vec<ChannelId>, Vec<Participant>), ListError> {
        let rooms = self.api.list().await?;
        let mut participants = Vec::new();
        for room in rooms.iter().filter(|room| room.num_participants > 0) {
            participants.extend(self.list_room(&room.room).await?);
        }
        if participants.is_empty() {
            let listed = rooms.iter().map(|room| room.room.clone()).collect();
            self.check_handles(&listed).await?;
        }
        lock(&self.secret_check).on_listed(rooms.iter().map(|room| room.room.clone()));
        self.note_secret_findings();
        let channels = rooms.iter().filter_map(|room| channel_of(&room.room));
        Ok((channels.collect(), participants))
    }

    async fn list_room(&self, room: &Id) -> Result<Vec<Participant>, AdminError> {
        let Some(channel_id) = channel_of(room) else {
            return Ok(Vec::new());
        };
        self.api.note_room(room);
        let listed = self.api.list_participants(&room.to_string()).await?;
        Ok(listed
            .iter()
            .filter_map(|it| participant(&channel_id, room, &it.id))
            .collect())
    }

    /// Checks that no publisher is in a room that the list does not show, before Janus counts as empty.
    async fn check_handles(&self, rooms: &BTreeSet<Id>) -> Result<(), ListError> {
        for session in self.api.list_sessions().await? {
            for handle in or_gone(self.api.list_handles(session).await)? {
                let info = or_gone(self.api.handle_info(session, handle).await.map(Some))?;
                let room = info.and_then(|info| info.published_room());
                if let Some(room) = room.filter(|room| !rooms.contains(room)) {
                    return Err(ListError::HiddenRoom(room));
                }
            }
        }
        Ok(())
    }
}

/// Puts nothing in place of an answer about something that has gone meanwhile.
fn or_gone<T: Default>(answered: Result<T, AdminError>) -> Result<T, AdminError> {
    match answered {
        Err(error) if error.is_gone() => Ok(T::default()),
        answered => answered,
    }
}
