//! What happens in a run: drawn from a seed, with few ids, so that they meet.

use std::time::Duration;

use soramode_core::cluster::{FenceAfter, LeaseTerms};
use soramode_core::fault::PlantedFault;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input, SoraInput};
use soramode_core::snapshot::{
    ClusterSettings, FenceMeans, Settings, SoraSettings, StartParams, Stored,
};
use soramode_protocol::decision::{
    Connect, Disconnect, Explain, Lifetime, Report, ReportedConnection,
};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, NodeName, SessionId};
use soramode_protocol::mode::{ChangeMode, ListModeChanges, Mode, ModeState, SettableMode};
use soramode_protocol::node::{ListClusterNodes, Storage, StorageState};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;
use soramode_protocol::wait::{PROGRESS_SECONDS_MIN, Wait, WaitFor};

pub(super) use crate::dice::Dice;

pub(super) const START: Time = Time::from_micros(1_795_377_600_000_000);

impl Dice {
    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.roll(choices.len() as u64)).unwrap()].clone()
    }

    fn maybe<T>(&mut self, times: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(times).then(|| make(self))
    }

    fn channel(&mut self) -> ChannelId {
        self.of(&["spam", "egg", "ham"]).parse().unwrap()
    }

    fn connection(&mut self) -> ConnectionId {
        format!("c{}", self.roll(6)).parse().unwrap()
    }

    /// A session's id is of one channel.
    fn session(&mut self, channel: &ChannelId) -> SessionId {
        format!("{}-{channel}", self.of(&["A", "B", "C"]))
            .parse()
            .unwrap()
    }

    fn client(&mut self) -> Option<ClientId> {
        self.maybe(3, |dice| dice.of(&["alice", "bob"]).parse().unwrap())
    }

    fn seconds(&mut self) -> f64 {
        self.of(&[0.0, 0.5, 1.0, 3.0, 10.0, 40.0])
    }

    fn settable(&mut self) -> SettableMode {
        self.of(&SettableMode::ALL)
    }
}

/// Draws the settings, and what was stored.
pub(super) fn snapshot(dice: &mut Dice) -> StartParams {
    let started = Timestamp {
        wall: START,
        boot: Duration::from_secs(1_000),
    };
    let cluster = dice.maybe(2, cluster);
    // A deadline that is due at once would be looked at by an earlier clock, at which the lease may be another.
    let no_grace = Duration::from_nanos(u64::from(cluster.is_some()));
    let settings = Settings {
        node_name: NodeName::new("node-01").unwrap(),
        cluster,
        mode: dice.maybe(8, Dice::settable),
        session_linger: dice.of(&[Duration::ZERO, Duration::ZERO, Duration::from_secs(5)]),
        max_connections: dice.of(&[3, 1_000]),
        pending_timeout: dice.of(&[Duration::from_secs(2), Duration::from_secs(30)]),
        socket_grace: dice.of(&[no_grace, Duration::from_secs(1), Duration::from_secs(30)]),
        assume_complete: !dice.one_in(3),
        sora: SoraSettings::default(),
        storage: Storage {
            state: StorageState::Ok,
            path: None,
        },
        webhooks: Vec::new(),
    };
    let mode = dice.maybe(3, |dice| {
        let mode = dice.of(&Mode::ALL);
        let expires_at = if mode.is_block() {
            dice.maybe(2, |dice| {
                START + Duration::from_secs(dice.roll(20) * dice.roll(20))
            })
        } else {
            None
        };
        let reason = dice.maybe(2, |_| "stored".to_owned());
        ModeState {
            mode,
            generation: 1 + dice.roll(3),
            since: START,
            actor: "uid:0(root)".to_owned(),
            reason,
            expires_at,
            own_mode: None,
        }
    });
    StartParams {
        settings,
        started,
        stored: Stored {
            mode,
            next_seq: 1 + dice.roll(3),
            ..Stored::default()
        },
    }
}

fn cluster(dice: &mut Dice) -> ClusterSettings {
    let fence_after = Duration::from_secs(1 + dice.roll(60));
    ClusterSettings {
        name: "default".to_owned(),
        endpoints: Vec::new(),
        terms: LeaseTerms {
            isolated_after: Duration::from_secs(1 + dice.roll(20)),
            fence_after: dice.of(&[FenceAfter::After(fence_after), FenceAfter::Never]),
            fence_budget: Duration::from_secs(5),
        },
        no_takeover_reason: None,
        on_fence: FenceMeans::Exec,
        dead_man: "grant".to_owned(),
        signaling_url: None,
        api_url: None,
        fault: PlantedFault::NONE,
        registration_ttl: Duration::from_secs(10),
    }
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Transition {
    /// To the gate.
    Input(Input),
    /// The node reads the members of its cluster.
    Heartbeat,
    /// The SFU has ended what it was told to at the fence, if it was.
    SessionsEnded,
    /// The daemon ends without a word, and starts again with what was kept.
    Restart {
        settings: Box<Settings>,
        host: HostState,
    },
}

/// What a run has drawn so far.
pub(super) struct Inputs {
    pub(super) dice: Dice,
    settings: Settings,
    sockets: Vec<SocketId>,
    last_socket: u64,
    serial: u64,
    now: Timestamp,
}

impl Inputs {
    pub(super) fn new(dice: Dice, snapshot: &StartParams) -> Self {
        let settings = snapshot.settings.clone();
        Self {
            dice,
            settings,
            sockets: Vec::new(),
            last_socket: 0,
            serial: 0,
            now: snapshot.started,
        }
    }

    /// The next thing that happens. Mostly the gate is woken for its deadlines, now and then it oversleeps.
    pub(super) fn draw(&mut self, deadline: Option<Duration>) -> (Timestamp, Transition) {
        if self.dice.one_in(12) {
            self.set_clock();
        }
        let pause = match self.dice.roll(12) {
            0..4 => Duration::ZERO,
            4..7 => Duration::from_micros(self.dice.roll(1_000)),
            7..10 => Duration::from_millis(self.dice.roll(3_000)),
            10 => Duration::from_secs(self.dice.roll(40)),
            _ => Duration::from_mins(1),
        };
        let target = self.now.boot + pause;
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= target)
            && !self.dice.one_in(4)
        {
            self.pass(deadline.saturating_sub(self.now.boot));
            return (self.now, Transition::Input(Input::Tick));
        }
        self.pass(pause);
        let is_clustered = self.settings.cluster.is_some();
        let transition = match self.dice.roll(40) {
            0 => self.restart(),
            1..5 if is_clustered => Transition::Heartbeat,
            5 if is_clustered => Transition::SessionsEnded,
            _ => Transition::Input(self.input()),
        };
        (self.now, transition)
    }

    fn restart(&mut self) -> Transition {
        let dice = &mut self.dice;
        let host = dice.of(&[HostState::Running, HostState::Running, HostState::Rebooted]);
        if host == HostState::Rebooted {
            self.now.boot = Duration::from_secs(1 + dice.roll(20));
        }
        self.sockets.clear();
        let settings = Settings {
            mode: dice.maybe(8, Dice::settable),
            assume_complete: !dice.one_in(3),
            ..self.settings.clone()
        };
        Transition::Restart {
            settings: Box::new(settings),
            host,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall = self.now.wall + time;
    }

    fn set_clock(&mut self) {
        let step = i64::try_from(self.dice.roll(7_200_000_000)).unwrap() - 3_600_000_000;
        self.now.wall = Time::from_micros(self.now.wall.as_micros() + step);
    }

    fn socket(&mut self) -> SocketId {
        if self.sockets.is_empty() || (self.sockets.len() < 4 && self.dice.one_in(6)) {
            self.last_socket += 1;
            self.sockets.push(SocketId(self.last_socket));
        }
        let sockets = self.sockets.clone();
        self.dice.of(&sockets)
    }

    fn reply_to(&mut self) -> ReplyHandle {
        self.serial += 1;
        ReplyHandle {
            socket: self.socket(),
            serial: self.serial,
        }
    }

    fn input(&mut self) -> Input {
        match self.dice.roll(100) {
            0..68 => self.ask(),
            68..90 => Input::Sora(self.sora()),
            90..93 => {
                let socket = self.socket();
                self.sockets.retain(|other| *other != socket);
                Input::SocketClosed(socket)
            }
            97 => Input::StorageFailed {
                refused: (0..self.dice.roll(3))
                    .map(|_| self.dice.connection())
                    .collect(),
                generations: (0..self.dice.roll(3)).collect(),
            },
            98 => Input::StorageRestored,
            _ => Input::Tick,
        }
    }

    fn ask(&mut self) -> Input {
        let dice = &mut self.dice;
        let request = match dice.roll(40) {
            0..14 => GateRequest::Connect(Connect {
                channel_id: dice.channel(),
                connection_id: if dice.one_in(12) {
                    None
                } else {
                    Some(dice.connection())
                },
                client_id: dice.client(),
                lifetime: dice.of(&[Lifetime::Explicit, Lifetime::Socket]),
                hops: 0,
            }),
            14..23 => GateRequest::Disconnect(Disconnect {
                connection_id: dice.connection(),
            }),
            23..29 => GateRequest::ChangeMode(Box::new(change_mode(dice))),
            29..32 => {
                let connections = (0..dice.roll(4)).map(|_| reported(dice)).collect();
                GateRequest::Report(Report {
                    connections,
                    complete: dice.one_in(3),
                })
            }
            32..36 => GateRequest::Wait(Box::new(wait(dice))),
            36 => dice.of(&[
                GateRequest::GetStatus,
                GateRequest::ListClusterNodes(ListClusterNodes {
                    count_orphaned: false,
                }),
            ]),
            37 => GateRequest::GetMode,
            38 => GateRequest::ListModeChanges(ListModeChanges {
                limit: dice.maybe(2, |_| 3),
            }),
            _ => GateRequest::Explain(Explain {
                channel_id: dice.channel(),
            }),
        };
        request.check().unwrap();
        let reply_to = self.reply_to();
        Input::Request {
            reply_to,
            actor: format!("uid:{}(ops)", reply_to.socket.0).into(),
            request,
        }
    }

    fn sora(&mut self) -> SoraInput {
        let reply_to = self.reply_to();
        let dice = &mut self.dice;
        let (channel_id, connection_id) = (dice.channel(), dice.connection());
        let session_id = dice.session(&channel_id);
        match dice.roll(20) {
            0..7 => SoraInput::Admit {
                reply_to,
                channel_id,
                connection_id,
                client_id: dice.client(),
            },
            7..9 => SoraInput::Denied { connection_id },
            9..13 => {
                // Some Soras know no sessions.
                let session_id = (!dice.one_in(8)).then_some(session_id);
                SoraInput::ConnectionCreated {
                    channel_id,
                    session_id,
                    connection_id,
                    client_id: dice.client(),
                }
            }
            13..16 => SoraInput::ConnectionDestroyed { connection_id },
            16..18 => {
                let created_time = Time::from_micros(
                    self.now.wall.as_micros() - i64::try_from(dice.roll(9_000_000)).unwrap(),
                );
                SoraInput::SessionCreated {
                    channel_id,
                    session_id,
                    created_time,
                }
            }
            _ => SoraInput::SessionDestroyed {
                channel_id,
                session_id,
            },
        }
    }
}

fn change_mode(dice: &mut Dice) -> ChangeMode {
    let mode = dice.settable();
    let expires = if mode == SettableMode::Normal {
        [0, 0, 0]
    } else {
        [0, 1, 8]
    };
    ChangeMode {
        mode,
        reason: dice.maybe(3, |dice| dice.of(&["kernel", "disk"]).to_owned()),
        expires_in_seconds: dice.maybe(3, |dice| dice.of(&expires)),
        if_mode: dice.maybe(8, |dice| dice.of(&Mode::ALL)),
        if_generation: dice.maybe(8, |dice| dice.roll(6)),
        on_behalf_of: dice.maybe(6, |_| "carol".to_owned()),
    }
}

fn reported(dice: &mut Dice) -> ReportedConnection {
    let (channel_id, connection_id, client_id) = (dice.channel(), dice.connection(), dice.client());
    let session_id = dice.maybe(3, |dice| dice.session(&channel_id));
    ReportedConnection {
        channel_id,
        connection_id,
        client_id,
        session_id,
    }
}

fn wait(dice: &mut Dice) -> Wait {
    let wait_for = dice.of(&[
        WaitFor::Drained,
        WaitFor::Drained,
        WaitFor::Mode,
        WaitFor::Joined,
    ]);
    let is_drained = wait_for == WaitFor::Drained;
    Wait {
        wait_for,
        mode: (wait_for == WaitFor::Mode).then(|| dice.of(&Mode::ALL)),
        generation: dice.maybe(3, |dice| dice.roll(8)),
        max_sessions: if is_drained {
            dice.maybe(3, |dice| dice.roll(3))
        } else {
            None
        },
        settle_seconds: if is_drained {
            dice.maybe(2, Dice::seconds)
        } else {
            None
        },
        timeout_seconds: dice.maybe(2, Dice::seconds),
        progress_seconds: dice.maybe(4, |dice| PROGRESS_SECONDS_MIN + dice.seconds()),
        assume_complete: is_drained && dice.one_in(3),
    }
}
