//! Transitions of a run: drawn from a seed, with few ids, so that they meet.

use std::time::Duration;

use soramode_core::cluster::{FenceAfter, LeaseTerms};
use soramode_core::commit_failure::Refused;
use soramode_core::fault::PlantedFault;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input, SoraInput};
use soramode_core::restore::StartParams;
use soramode_core::settings::{ClusterSettings, FenceMeans, Settings, SfuMeans, SfuSettings};
use soramode_core::stored::Stored;
use soramode_protocol::decision::{
    Connect, Disconnect, Explain, Lifetime, Report, ReportedConnection,
};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, NodeName, SessionId};
use soramode_protocol::mode::{ChangeMode, ListModeChanges, Mode, ModeState, SettableMode};
use soramode_protocol::node::{ListClusterNodes, Storage, StorageState};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;
use soramode_protocol::wait::{PROGRESS_SECONDS_MIN, Wait, WaitFor};

pub(super) use crate::seeds::Rng;

pub(super) const START: Time = Time::from_micros(1_795_377_600_000_000);

impl Rng {
    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()].clone()
    }

    fn maybe<T>(&mut self, times: u64, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.one_in(times).then(|| make(self))
    }

    fn channel(&mut self) -> ChannelId {
        self.of(&["spam", "egg", "ham"]).parse().unwrap()
    }

    fn connection(&mut self) -> ConnectionId {
        format!("c{}", self.below(6)).parse().unwrap()
    }

    /// A session's id is of one channel.
    fn session(&mut self, channel: &ChannelId) -> SessionId {
        format!("{}-{channel}", self.of(&["A", "B", "C"]))
            .parse()
            .unwrap()
    }

    fn client(&mut self) -> Option<ClientId> {
        self.maybe(3, |rng| rng.of(&["alice", "bob"]).parse().unwrap())
    }

    fn seconds(&mut self) -> f64 {
        self.of(&[0.0, 0.5, 1.0, 3.0, 10.0, 40.0])
    }

    fn settable(&mut self) -> SettableMode {
        self.of(&SettableMode::ALL)
    }
}

/// Draws the settings, and what was stored.
pub(super) fn params(rng: &mut Rng) -> StartParams {
    let started = Timestamp {
        wall: START,
        boot: Duration::from_secs(1_000),
    };
    let cluster = rng.maybe(2, cluster);
    // A deadline that is due at once would be looked at by an earlier clock, at which the lease may be another.
    let no_grace = Duration::from_nanos(u64::from(cluster.is_some()));
    let settings = Settings {
        node_name: NodeName::new("node-01").unwrap(),
        cluster,
        mode: rng.maybe(8, Rng::settable),
        reconnect_grace: rng.of(&[Duration::ZERO, Duration::ZERO, Duration::from_secs(5)]),
        stall_after: Duration::from_mins(10),
        max_connections: rng.of(&[3, 1_000]),
        pending_timeout: rng.of(&[Duration::from_secs(2), Duration::from_secs(30)]),
        socket_grace: rng.of(&[no_grace, Duration::from_secs(1), Duration::from_secs(30)]),
        assume_complete: !rng.one_in(3),
        sfu: SfuSettings {
            means: SfuMeans::SORA_API,
            ..SfuSettings::default()
        },
        storage: Storage {
            state: StorageState::Ok,
            path: None,
        },
        receivers: Vec::new(),
    };
    let mode = rng.maybe(3, |rng| {
        let mode = rng.of(&Mode::ALL);
        let expires_at = if mode.is_block() {
            rng.maybe(2, |rng| {
                START + Duration::from_secs(rng.below(20) * rng.below(20))
            })
        } else {
            None
        };
        let reason = rng.maybe(2, |_| "stored".to_owned());
        ModeState {
            mode,
            generation: 1 + rng.below(3),
            since: START,
            actor: "uid:0(root)".to_owned(),
            on_behalf_of: None,
            reason,
            expires_at,
            expected_end_at: None,
            own_mode: None,
            in_force: None,
            plan_id: None,
            roll: None,
        }
    });
    StartParams {
        settings,
        started,
        stored: Stored {
            mode,
            next_seq: 1 + rng.below(3),
            ..Stored::default()
        },
    }
}

fn cluster(rng: &mut Rng) -> ClusterSettings {
    let fence_after = Duration::from_secs(1 + rng.below(60));
    ClusterSettings {
        name: "default".to_owned(),
        endpoints: Vec::new(),
        terms: LeaseTerms {
            isolated_after: Duration::from_secs(1 + rng.below(20)),
            fence_after: rng.of(&[FenceAfter::After(fence_after), FenceAfter::Never]),
            fence_budget: Duration::from_secs(5),
        },
        no_takeover_reason: None,
        on_fence: FenceMeans::Exec,
        dead_man: "grant".to_owned(),
        signaling_url: None,
        api_url: None,
        page_url: None,
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
    /// The SFU has ended the sessions of the fence, if it was notified.
    SessionsEnded,
    /// The daemon ends without a word, and starts again with what was kept.
    Restart {
        settings: Box<Settings>,
        host: HostState,
        /// The node had closed itself because of its storage, and that is not stored.
        closed_by_storage: bool,
    },
}

/// State of a run's draws.
pub(super) struct Inputs {
    pub(super) rng: Rng,
    settings: Settings,
    sockets: Vec<SocketId>,
    last_socket: u64,
    serial: u64,
    now: Timestamp,
}

impl Inputs {
    pub(super) fn new(rng: Rng, params: &StartParams) -> Self {
        let settings = params.settings.clone();
        Self {
            rng,
            settings,
            sockets: Vec::new(),
            last_socket: 0,
            serial: 0,
            now: params.started,
        }
    }

    /// The next thing that happens. Mostly the gate is woken for its deadlines, now and then it oversleeps.
    pub(super) fn draw(&mut self, deadline: Option<Duration>) -> (Timestamp, Transition) {
        if self.rng.one_in(12) {
            self.set_clock();
        }
        let pause = match self.rng.below(12) {
            0..4 => Duration::ZERO,
            4..7 => Duration::from_micros(self.rng.below(1_000)),
            7..10 => Duration::from_millis(self.rng.below(3_000)),
            10 => Duration::from_secs(self.rng.below(40)),
            _ => Duration::from_mins(1),
        };
        let target = self.now.boot + pause;
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= target)
            && !self.rng.one_in(4)
        {
            self.pass(deadline.saturating_sub(self.now.boot));
            return (self.now, Transition::Input(Input::Tick));
        }
        self.pass(pause);
        let is_clustered = self.settings.cluster.is_some();
        let transition = match self.rng.below(40) {
            0 => self.restart(),
            1..5 if is_clustered => Transition::Heartbeat,
            5 if is_clustered => Transition::SessionsEnded,
            _ => Transition::Input(self.input()),
        };
        (self.now, transition)
    }

    fn restart(&mut self) -> Transition {
        let rng = &mut self.rng;
        let host = rng.of(&[HostState::Running, HostState::Running, HostState::Rebooted]);
        if host == HostState::Rebooted {
            self.now.boot = Duration::from_secs(1 + rng.below(20));
        }
        self.sockets.clear();
        let settings = Settings {
            mode: rng.maybe(8, Rng::settable),
            assume_complete: !rng.one_in(3),
            ..self.settings.clone()
        };
        Transition::Restart {
            settings: Box::new(settings),
            host,
            closed_by_storage: rng.one_in(4),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall = self.now.wall + time;
    }

    fn set_clock(&mut self) {
        let step = i64::try_from(self.rng.below(7_200_000_000)).unwrap() - 3_600_000_000;
        self.now.wall = Time::from_micros(self.now.wall.as_micros() + step);
    }

    fn socket(&mut self) -> SocketId {
        if self.sockets.is_empty() || (self.sockets.len() < 4 && self.rng.one_in(6)) {
            self.last_socket += 1;
            self.sockets.push(SocketId(self.last_socket));
        }
        let sockets = self.sockets.clone();
        self.rng.of(&sockets)
    }

    fn reply_to(&mut self) -> ReplyHandle {
        self.serial += 1;
        ReplyHandle {
            socket: self.socket(),
            serial: self.serial,
        }
    }

    fn input(&mut self) -> Input {
        match self.rng.below(100) {
            0..68 => self.ask(),
            68..90 => Input::Sora(self.sora()),
            90..93 => {
                let socket = self.socket();
                self.sockets.retain(|other| *other != socket);
                Input::SocketClosed(socket)
            }
            97 => Input::StorageFailed(Refused {
                connections: (0..self.rng.below(3))
                    .map(|_| self.rng.connection())
                    .collect(),
                generations: (0..self.rng.below(3)).collect(),
                ..Refused::default()
            }),
            98 => Input::StorageRestored,
            _ => Input::Tick,
        }
    }

    fn ask(&mut self) -> Input {
        let rng = &mut self.rng;
        let request = match rng.below(40) {
            0..14 => GateRequest::Connect(Connect {
                channel_id: rng.channel(),
                connection_id: if rng.one_in(12) {
                    None
                } else {
                    Some(rng.connection())
                },
                client_id: rng.client(),
                lifetime: rng.of(&[Lifetime::Explicit, Lifetime::Socket]),
                hops: 0,
            }),
            14..23 => GateRequest::Disconnect(Disconnect {
                connection_id: rng.connection(),
            }),
            23..29 => GateRequest::ChangeMode(Box::new(change_mode(rng))),
            29..32 => {
                let connections = (0..rng.below(4)).map(|_| reported(rng)).collect();
                GateRequest::Report(Report {
                    connections,
                    complete: rng.one_in(3),
                })
            }
            32..36 => GateRequest::Wait(Box::new(wait(rng))),
            36 => rng.of(&[
                GateRequest::GetStatus,
                GateRequest::ListClusterNodes(ListClusterNodes {
                    count_orphaned: false,
                }),
            ]),
            37 => GateRequest::GetMode,
            38 => GateRequest::ListModeChanges(ListModeChanges {
                limit: rng.maybe(2, |_| 3),
            }),
            _ => GateRequest::Explain(Explain {
                channel_id: rng.channel(),
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
        let rng = &mut self.rng;
        let (channel_id, connection_id) = (rng.channel(), rng.connection());
        let session_id = rng.session(&channel_id);
        match rng.below(20) {
            0..7 => SoraInput::Admit {
                reply_to,
                channel_id,
                connection_id,
                client_id: rng.client(),
            },
            7..9 => SoraInput::Denied { connection_id },
            9..13 => {
                // Some Soras know no sessions.
                let session_id = (!rng.one_in(8)).then_some(session_id);
                SoraInput::ConnectionCreated {
                    channel_id,
                    session_id,
                    connection_id,
                    client_id: rng.client(),
                }
            }
            13..16 => SoraInput::ConnectionDestroyed { connection_id },
            16..18 => {
                let created_time = Time::from_micros(
                    self.now.wall.as_micros() - i64::try_from(rng.below(9_000_000)).unwrap(),
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

fn change_mode(rng: &mut Rng) -> ChangeMode {
    let mode = rng.settable();
    let expires = if mode == SettableMode::Normal {
        [0, 0, 0]
    } else {
        [0, 1, 8]
    };
    ChangeMode {
        mode,
        reason: rng.maybe(3, |rng| rng.of(&["kernel", "disk"]).to_owned()),
        expires_in_seconds: rng.maybe(3, |rng| rng.of(&expires)),
        expected_end_at: if mode == SettableMode::Normal {
            None
        } else {
            rng.maybe(4, |rng| Time::from_micros(rng.of(&[1_000_000, 9_000_000])))
        },
        if_mode: rng.maybe(8, |rng| rng.of(&Mode::ALL)),
        if_generation: rng.maybe(8, |rng| rng.below(6)),
        if_plan: None,
        if_roll: None,
        roll: None,
        round: None,
        unless_reserved: false,
        on_behalf_of: rng.maybe(6, |_| "carol".to_owned()),
    }
}

fn reported(rng: &mut Rng) -> ReportedConnection {
    let (channel_id, connection_id, client_id) = (rng.channel(), rng.connection(), rng.client());
    let session_id = rng.maybe(3, |rng| rng.session(&channel_id));
    ReportedConnection {
        channel_id,
        connection_id,
        client_id,
        session_id,
    }
}

fn wait(rng: &mut Rng) -> Wait {
    let wait_for = rng.of(&[
        WaitFor::Drained,
        WaitFor::Drained,
        WaitFor::Mode,
        WaitFor::Joined,
    ]);
    let is_drained = wait_for == WaitFor::Drained;
    Wait {
        wait_for,
        mode: (wait_for == WaitFor::Mode).then(|| rng.of(&Mode::ALL)),
        generation: rng.maybe(3, |rng| rng.below(8)),
        max_sessions: if is_drained {
            rng.maybe(3, |rng| rng.below(3))
        } else {
            None
        },
        settle_seconds: if is_drained {
            rng.maybe(2, Rng::seconds)
        } else {
            None
        },
        timeout_seconds: rng.maybe(2, Rng::seconds),
        progress_seconds: rng.maybe(4, |rng| PROGRESS_SECONDS_MIN + rng.seconds()),
        assume_in_force: false,
        assume_complete: is_drained && rng.one_in(3),
        plan: None,
        end_id: None,
    }
}
