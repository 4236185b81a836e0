//! A mode that Janus holds by locks of its rooms: answers to changes, and plans.

use std::collections::VecDeque;
use std::time::Duration;

use soramode_core::effect::{Action, Effects};
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input, JanusInput, ListScope};
use soramode_core::locks::calls::{LockOutcome, LockRequest};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{Settings, SfuFeed, SfuSettings};
use soramode_core::stored::Stored;
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::{ChangeMode, InForce, ModeChanged, SettableMode};
use soramode_protocol::plan::{PlanOutcome, PlanStep, StartPlan};
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;

use crate::plain_settings::plain_settings;

const NOW: Timestamp = Timestamp {
    wall: Time::from_micros(1_795_377_600_000_000),
    boot: Duration::from_secs(1_000),
};

/// A gate beside a Janus with one empty room.
struct Site {
    gate: Gate,
    /// Actions that were not carried out.
    actions: VecDeque<Action>,
    changes: Vec<(u64, ModeChanged)>,
    plan_outcome: Option<PlanOutcome>,
}

impl Site {
    fn start() -> Self {
        let settings = Settings {
            assume_complete: false,
            sfu: SfuSettings {
                feed: SfuFeed::Janus {
                    has_events: true,
                    locks_rooms: true,
                    refuses_sessions: false,
                },
                ..SfuSettings::default()
            },
            ..plain_settings()
        };
        let params = StartParams {
            settings,
            started: NOW,
            stored: Stored::default(),
        };
        let mut site = Self {
            gate: Gate::restore(params, Seed([1; 32])),
            actions: VecDeque::new(),
            changes: Vec::new(),
            plan_outcome: None,
        };
        site.step(Input::Started(HostState::Running));
        site.carry_out(|_| true);
        site
    }

    fn step(&mut self, input: Input) {
        let Effects { actions, .. } = self.gate.step(NOW, input);
        for action in actions {
            match action {
                Action::Answer(to, Ok(Reply::ModeChanged(changed))) => {
                    self.changes.push((to.serial, *changed));
                }
                Action::Answer(_, Ok(Reply::PlanFound(found))) => {
                    self.plan_outcome = found.plan.unwrap().outcome;
                }
                action => self.actions.push_back(action),
            }
        }
    }

    fn ask(&mut self, serial: u64, request: GateRequest) {
        self.step(Input::Request {
            reply_to: ReplyHandle {
                socket: SocketId(serial),
                serial,
            },
            actor: "uid:0(root)".into(),
            request,
        });
    }

    fn change(&mut self, serial: u64, mode: SettableMode) {
        self.ask(
            serial,
            GateRequest::ChangeMode(Box::new(ChangeMode::to(mode))),
        );
    }

    /// Carries out lists of all rooms, and those requests about the lock that are to be.
    fn carry_out(&mut self, does: impl Fn(LockRequest) -> bool) {
        let mut left = VecDeque::new();
        while let Some(action) = self.actions.pop_front() {
            let room: ChannelId = "1234".parse().unwrap();
            match action {
                Action::Poll => self.step(Input::Janus(JanusInput::Listed {
                    scope: ListScope::All,
                    began: NOW.boot,
                    rooms: vec![room],
                    participants: Vec::new(),
                })),
                Action::Lock(call) if does(call.request) => {
                    self.step(Input::Janus(JanusInput::LockAnswered {
                        channel_id: call.channel_id,
                        outcome: LockOutcome::Done { tokens: 0 },
                    }));
                }
                action => left.push_back(action),
            }
        }
        self.actions = left;
    }
}

#[test]
fn a_change_that_is_followed_by_another_was_never_in_force() {
    let mut site = Site::start();
    site.change(1, SettableMode::BlockNewConnection);
    site.change(2, SettableMode::Normal);
    assert_eq!(site.changes, [], "the room is being locked");
    site.carry_out(|_| true);
    site.changes.sort_by_key(|(serial, _)| *serial);
    let [(_, first), (_, second)] = site.changes.as_slice() else {
        panic!("{:?}", site.changes);
    };
    assert_eq!(
        (first.in_force, first.warning.as_deref()),
        (
            Some(InForce::No),
            Some(
                "block_new_connection is set, but not in force: the mode was changed again meanwhile"
            )
        )
    );
    assert_eq!(
        (second.in_force, second.warning.as_deref()),
        (Some(InForce::Yes), None)
    );
}

#[test]
fn a_plan_is_done_with_the_list_that_follows_the_last_lock() {
    let mut site = Site::start();
    let close = vec![PlanStep::Mode {
        at_seconds: 0,
        mode: SettableMode::BlockNewSession,
    }];
    site.ask(1, GateRequest::StartPlan(Box::new(StartPlan::now(close))));
    site.carry_out(|request| request != LockRequest::Lock);
    site.ask(2, GateRequest::GetPlan);
    assert_eq!(site.plan_outcome, None, "a room is not locked");
    site.carry_out(|_| true);
    site.ask(3, GateRequest::GetPlan);
    assert_eq!(site.plan_outcome, Some(PlanOutcome::Done));
}
