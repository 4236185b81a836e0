//! The gate beside a Sora whose webhooks get lost, late and out of order, and whose API can be asked: whatever the gate says is so on Sora
//! too, and in the end both know the same.
//!
//! `SORAMODE_SEEDS` runs so many seeds, `SORAMODE_SEED` one alone.

mod sora;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::time::Duration;

use soramode_core::effect::{Action, Effects};
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{Input, PolledConnection, SoraInput};
use soramode_core::snapshot::{
    Seed, Settings, SoraAdmission, SoraFeed, SoraSettings, StartParams, Stored,
};
use soramode_protocol::decision::Decision;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::{ChannelId, ConnectionId, NodeName, SessionId};
use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::node::{Storage, StorageState};
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{ConnectionState, ListConnections, ListRequest, Page};
use soramode_protocol::time::Time;
use soramode_protocol::wait::{Outcome, Wait, WaitFor};

use crate::dice::Dice;
use sora::Sora;

const START: Time = Time::from_micros(1_795_377_600_000_000);
const STARTED: Duration = Duration::from_secs(1_000);
const SEEDS_DEFAULT: u64 = 3_000;
const CLIENTS_MAX: u64 = 40;

/// One poll more than Sora needs to be believed about everything: ghosts are a poll grace old, and empty sessions have lingered.
const POLLS_TO_SETTLE: usize = 12;

const OPERATOR: SocketId = SocketId(1);
const SORA: SocketId = SocketId(2);

/// What is going to happen.
enum Happening {
    /// A client asks to come in.
    Ask(ChannelId),
    /// A client that was let in comes.
    Arrive(ChannelId, ConnectionId),
    Leave(ChannelId, ConnectionId),
    Close(ChannelId),
    Webhook(SoraInput),
    /// Sora looks at its table for a poll that began then, and answers after this time.
    Look(Duration, Duration),
    Answer(SoraInput),
    Operate(SettableMode),
}

struct World {
    gate: Gate,
    sora: Sora,
    dice: Dice,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Happening>,
    queued: u64,
    /// One webhook in so many is lost, while webhooks are lost.
    loses_one_in: u64,
    is_lossy: bool,
    /// How long a poll takes at most.
    poll_seconds: u64,
    /// Who left, and the gate was told so.
    gone: BTreeSet<ConnectionId>,
    polls: usize,
    vanished: u64,
    drained: u64,
}

impl World {
    fn new(mut dice: Dice) -> Self {
        let seconds = Duration::from_secs;
        let settings = Settings {
            node_name: NodeName::new("node-01").unwrap(),
            cluster: None,
            mode: None,
            session_linger: Duration::ZERO,
            max_connections: 1_000,
            pending_timeout: if dice.one_in(2) {
                seconds(30)
            } else {
                seconds(5)
            },
            socket_grace: Duration::ZERO,
            assume_complete: false,
            sora: SoraSettings {
                feed: SoraFeed::WebhooksAndApi,
                admission: SoraAdmission::Enforced,
                session_max_linger: if dice.one_in(2) {
                    seconds(60)
                } else {
                    seconds(15)
                },
            },
            storage: Storage {
                state: StorageState::Ok,
                path: None,
            },
            webhooks: Vec::new(),
        };
        let snapshot = StartParams {
            settings,
            started: Timestamp {
                wall: START,
                boot: STARTED,
            },
            stored: Stored::default(),
        };
        let gate = Gate::restore(snapshot, Seed([7; 32]));
        let (sora, queue) = (Sora::default(), BTreeMap::new());
        let (loses_one_in, poll_seconds) = (
            if dice.one_in(2) { 3 } else { 20 },
            if dice.one_in(2) { 2 } else { 20 },
        );
        let mut world = Self {
            gate,
            sora,
            dice,
            now: STARTED,
            queue,
            queued: 0,
            loses_one_in,
            is_lossy: true,
            poll_seconds,
            gone: BTreeSet::new(),
            polls: 0,
            vanished: 0,
            drained: 0,
        };
        world.settle_in();
        world
    }

    /// Some are there before the daemon is, and the day's clients and operators are drawn.
    fn settle_in(&mut self) {
        for _ in 0..self.dice.roll(6) {
            let (channel_id, connection_id) = (self.channel(), self.sora.next_connection());
            // Nobody hears of them.
            drop(self.sora.arrive(&channel_id, &connection_id, START));
            self.leave_later(channel_id, connection_id);
        }
        for _ in 0..self.dice.roll(CLIENTS_MAX) {
            let channel_id = self.channel();
            self.later(200, Happening::Ask(channel_id));
        }
        for _ in 0..=self.dice.roll(5) {
            let mode = SettableMode::ALL[usize::try_from(self.dice.roll(3)).unwrap()];
            self.later(200, Happening::Operate(mode));
        }
    }

    fn channel(&mut self) -> ChannelId {
        ["spam", "egg", "ham"][usize::try_from(self.dice.roll(3)).unwrap()]
            .parse()
            .unwrap()
    }

    fn leave_later(&mut self, channel_id: ChannelId, connection_id: ConnectionId) {
        let stays = if self.dice.one_in(2) { 60 } else { 15 };
        self.later(stays, Happening::Leave(channel_id, connection_id));
    }

    /// Within so many seconds from now.
    fn later(&mut self, seconds: u64, happening: Happening) {
        let at = self.now + Duration::from_millis(self.dice.roll(seconds * 1_000));
        self.queued += 1;
        self.queue.insert((at, self.queued), happening);
    }

    /// Lost, late, twice or as it should be.
    fn send(&mut self, webhook: SoraInput) {
        if self.is_lossy && self.dice.one_in(self.loses_one_in) {
            return;
        }
        if self.is_lossy && self.dice.one_in(30) {
            self.later(4, Happening::Webhook(webhook.clone()));
        }
        let delay = if self.is_lossy && self.dice.one_in(10) {
            4
        } else {
            0
        };
        match delay {
            0 => self.step(Input::Sora(webhook)),
            seconds => self.later(seconds, Happening::Webhook(webhook)),
        }
    }

    /// Goes on to what comes next; false if nothing does before `until`.
    fn go_on(&mut self, until: Duration) -> bool {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let deadline = self.gate.next_deadline().map(|at| at.max(self.now));
        let Some(next) = queued
            .into_iter()
            .chain(deadline)
            .min()
            .filter(|next| *next <= until)
        else {
            return false;
        };
        self.now = next;
        if queued == Some(next) {
            let (_, happening) = self.queue.pop_first().unwrap();
            self.happen(happening);
        } else {
            self.step(Input::Tick);
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Ask(channel_id) => {
                let connection_id = self.sora.next_connection();
                let reply_to = ReplyHandle {
                    socket: SORA,
                    serial: self.queued,
                };
                let (channel, connection) = (channel_id.clone(), connection_id.clone());
                let is_in = self.admit(SoraInput::Admit {
                    reply_to,
                    channel_id,
                    connection_id,
                    client_id: None,
                });
                // Some never come, and nobody is told.
                if is_in && !self.dice.one_in(10) {
                    self.later(3, Happening::Arrive(channel, connection));
                }
            }
            Happening::Arrive(channel_id, connection_id) => {
                let webhooks = self.sora.arrive(&channel_id, &connection_id, self.wall());
                for webhook in webhooks {
                    self.send(webhook);
                }
                self.leave_later(channel_id, connection_id);
            }
            Happening::Leave(channel_id, connection_id) => {
                let webhook = self.sora.leave(&channel_id, &connection_id);
                if let Some(webhook) = webhook {
                    self.send(webhook);
                }
                self.later(10, Happening::Close(channel_id));
            }
            Happening::Close(channel_id) => {
                let webhook = self.sora.close(&channel_id);
                if let Some(webhook) = webhook {
                    self.send(webhook);
                }
            }
            Happening::Webhook(webhook) => self.step(Input::Sora(webhook)),
            Happening::Look(began, answer_in) => {
                let is_failure = self.is_lossy && self.dice.one_in(6);
                let answer = if is_failure {
                    SoraInput::PollFailed {
                        why: "timed out".to_owned(),
                    }
                } else {
                    SoraInput::Polled {
                        began,
                        connections: self.sora.connections(),
                    }
                };
                self.queued += 1;
                self.queue.insert(
                    (self.now + answer_in, self.queued),
                    Happening::Answer(answer),
                );
            }
            Happening::Answer(answer) => {
                self.polls += 1;
                self.step(Input::Sora(answer));
            }
            Happening::Operate(mode) => {
                self.ask(GateRequest::ChangeMode(Box::new(ChangeMode::to(mode))));
                if Mode::from(mode).is_block() {
                    self.ask(GateRequest::Wait(Box::new(Wait::new(WaitFor::Drained))));
                }
            }
        }
    }

    fn wall(&self) -> Time {
        START + self.now.saturating_sub(STARTED)
    }

    fn ask(&mut self, request: GateRequest) {
        self.queued += 1;
        self.step(Input::Request {
            reply_to: ReplyHandle {
                socket: OPERATOR,
                serial: self.queued,
            },
            actor: "uid:0".into(),
            request,
        });
    }

    fn admit(&mut self, input: SoraInput) -> bool {
        let effects = self.step_for_effects(Input::Sora(input));
        effects.actions.iter().any(|action| {
            matches!(
                action,
                Action::Answer(_, Ok(Reply::Decision(Decision::Offer { .. })))
            )
        })
    }

    fn step(&mut self, input: Input) {
        drop(self.step_for_effects(input));
    }

    fn step_for_effects(&mut self, input: Input) -> Effects {
        let shown = format!("{input:?}");
        if let Input::Sora(SoraInput::ConnectionDestroyed { connection_id }) = &input {
            self.gone.insert(connection_id.clone());
        }
        let is_poll = matches!(input, Input::Sora(SoraInput::Polled { .. }));
        let now = Timestamp {
            wall: self.wall(),
            boot: self.now,
        };
        let effects = self.gate.step(now, input);
        self.gate
            .check()
            .unwrap_or_else(|problem| panic!("after {shown}: {problem}"));
        for kind in effects.kinds() {
            if *kind == EventKind::SessionVanished {
                self.vanished += 1;
                assert!(
                    self.sora.is_empty(),
                    "session.vanished while Sora has {:?}, after {shown}",
                    self.sora.connections()
                );
            }
            if is_poll {
                self.poll_is_taken_well(kind, &shown);
            }
        }
        for action in &effects.actions {
            match action {
                Action::Poll => {
                    let (began, answer_in) = (
                        self.now,
                        Duration::from_millis(self.dice.roll(self.poll_seconds * 1_000)),
                    );
                    self.later(2, Happening::Look(began, answer_in));
                }
                Action::Answer(_, Ok(Reply::WaitEnded(ended)))
                    if ended.outcome == Outcome::Reached =>
                {
                    self.drained += 1;
                    assert!(
                        self.sora.is_empty(),
                        "drained while Sora has {:?}, after {shown}",
                        self.sora.connections()
                    );
                    assert!(
                        ended.status.is_drained(),
                        "the status of who is drained says so"
                    );
                }
                Action::Answer(..)
                | Action::Progress(..)
                | Action::End { .. }
                | Action::Deliver(_)
                | Action::OutcomeApplied { .. }
                | Action::Deferred(_)
                | Action::Etcd(_)
                | Action::Fence { .. } => {}
            }
        }
        effects
    }

    /// An answer that is late takes nobody away who is there, and brings nobody back of whom it is known better.
    fn poll_is_taken_well(&self, kind: &EventKind, shown: &str) {
        match kind {
            EventKind::ConnectionDestroyed { connection_id, .. } => {
                assert!(
                    !self.sora.has(connection_id),
                    "{connection_id} is ended, and is there, after {shown}"
                );
            }
            EventKind::ConnectionCreated { connection_id, .. } => {
                assert!(
                    self.sora.has(connection_id) || !self.gone.contains(connection_id),
                    "{connection_id} comes back, after {shown}"
                );
            }
            EventKind::SessionCreated { .. }
            | EventKind::SessionDestroyed { .. }
            | EventKind::SessionVanished
            | EventKind::ModeChanged(_)
            | EventKind::NodeJoined { .. }
            | EventKind::NodeIsolated { .. }
            | EventKind::NodeFenced { .. }
            | EventKind::WebhookReceived { .. }
            | EventKind::DeliverySucceeded(_)
            | EventKind::DeliveryFailed(_)
            | EventKind::Unknown => {}
        }
    }

    fn table(&mut self) -> Vec<(ChannelId, SessionId, ConnectionId)> {
        let now = Timestamp {
            wall: self.wall(),
            boot: self.now,
        };
        let list = ListConnections {
            limit: Some(1_000),
            ..ListConnections::default()
        };
        let request = GateRequest::List(ListRequest::Connections(list));
        let effects = self.gate.step(
            now,
            Input::Request {
                reply_to: ReplyHandle {
                    socket: OPERATOR,
                    serial: 0,
                },
                actor: "uid:0".into(),
                request,
            },
        );
        let page = effects.actions.into_iter().find_map(|action| {
            if let Action::Answer(_, Ok(Reply::Page(Page::Connections(page)))) = action {
                Some(page)
            } else {
                None
            }
        });
        let live = page
            .unwrap()
            .connections
            .into_iter()
            .filter(|it| it.state == ConnectionState::Live);
        let mut table: Vec<_> = live
            .map(|it| (it.channel_id, it.session_id, it.connection_id))
            .collect();
        table.sort();
        table
    }

    /// The day is over: nothing is lost any more, and what is under way comes to its end.
    fn play(&mut self) {
        while self.now < STARTED + Duration::from_secs(220)
            && self.go_on(STARTED + Duration::from_secs(220))
        {}
        self.is_lossy = false;
        // Whoever is still there stays, so that there is something to compare.
        self.queue.retain(|_, happening| {
            !matches!(happening, Happening::Leave(..)) || self.queued.is_multiple_of(2)
        });
        let enough = self.polls + POLLS_TO_SETTLE;
        while self.polls < enough {
            assert!(self.go_on(Duration::MAX), "Sora is not asked any more");
        }
        let of = |PolledConnection {
                      channel_id,
                      session_id,
                      connection_id,
                      ..
                  }| (channel_id, session_id.unwrap(), connection_id);
        let mut truth: Vec<_> = self.sora.connections().into_iter().map(of).collect();
        truth.sort();
        assert_eq!(self.table(), truth, "the tables do not agree");
        let (sessions, pending) = self.counts();
        assert!(
            sessions <= self.sora.sessions() && pending == 0,
            "{sessions} sessions and {pending} pending"
        );
    }

    /// Sessions, and pending connections.
    fn counts(&mut self) -> (usize, u64) {
        let now = Timestamp {
            wall: self.wall(),
            boot: self.now,
        };
        let ask = Input::Request {
            reply_to: ReplyHandle {
                socket: OPERATOR,
                serial: 0,
            },
            actor: "uid:0".into(),
            request: GateRequest::GetStatus,
        };
        let counts = self
            .gate
            .step(now, ask)
            .actions
            .into_iter()
            .find_map(|action| match action {
                Action::Answer(_, Ok(Reply::Status(status))) => {
                    Some((usize::try_from(status.sessions).unwrap(), status.pending))
                }
                _ => None,
            });
        counts.unwrap()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to test is the tester's to say"
)]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| {
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} takes a number, got {value:?}"))
    })
}

#[test]
fn the_gate_believes_nothing_that_is_not_so() {
    let seeds = match number("SORAMODE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SORAMODE_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let (runs, mut vanished, mut drained, mut polls) = (seeds.end - seeds.start, 0, 0, 0);
    for seed in seeds {
        let played = std::panic::catch_unwind(|| {
            let mut world = World::new(Dice(seed));
            world.play();
            (world.vanished, world.drained, world.polls)
        });
        let Ok(counts) = played else {
            panic!("SORAMODE_SEED={seed} plays it alone")
        };
        (vanished, drained, polls) = (vanished + counts.0, drained + counts.1, polls + counts.2);
    }
    writeln!(
        std::io::stderr(),
        "lossy Sora: {runs} runs, {polls} polls, {vanished} times vanished, {drained} times drained"
    )
    .unwrap();
    assert!(
        runs < 100 || (vanished > runs / 10 && drained > runs / 10),
        "what is to be checked hardly ever happens"
    );
}
