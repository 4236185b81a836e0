//! Limits of requests to end sessions, and the refusal of a plan that could not be written.

use std::time::Duration;

use soramode_core::commits::{Commits, Durability};
use soramode_core::effect::Action;
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input};
use soramode_core::plan::END_SESSIONS_MAX;
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::Settings;
use soramode_core::stored::Stored;
use soramode_protocol::decision::Connect;
use soramode_protocol::end::End;
use soramode_protocol::error::Error;
use soramode_protocol::mode::SettableMode;
use soramode_protocol::plan::{PlanStep, StartPlan};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;

use crate::plain_settings::plain_settings;

const SESSIONS: usize = 20_000;

const NOW: Timestamp = Timestamp {
    wall: Time::from_micros(1_795_377_600_000_000),
    boot: Duration::from_secs(1_000),
};

fn gate() -> Gate {
    let settings = Settings {
        max_connections: 100_000,
        ..plain_settings()
    };
    let params = StartParams {
        settings,
        started: NOW,
        stored: Stored::default(),
    };
    let mut gate = Gate::restore(params, Seed([1; 32]));
    let _ = gate.step(NOW, Input::Started(HostState::Running));
    gate
}

fn input(serial: usize, request: GateRequest) -> Input {
    Input::Request {
        reply_to: ReplyHandle {
            socket: SocketId(1),
            serial: serial as u64,
        },
        actor: "uid:0(root)".into(),
        request,
    }
}

fn answer(actions: Vec<Action>) -> Option<Answer> {
    actions.into_iter().find_map(|action| match action {
        Action::Answer(_, answer) => Some(answer),
        _ => None,
    })
}

/// Asks for something; returns the answer, unless it comes later.
fn ask(gate: &mut Gate, serial: usize, request: GateRequest) -> Option<Answer> {
    answer(gate.step(NOW, input(serial, request)).actions)
}

fn end_all(reason: String) -> GateRequest {
    GateRequest::End(End {
        all: true,
        channel_id: None,
        reason: Some(reason),
        per_minute: None,
    })
}

#[test]
fn requests_name_a_limited_number_of_sessions_together() {
    let mut gate = gate();
    for number in 0..SESSIONS {
        let connect = Connect::new(
            format!("channel-{number}").parse().unwrap(),
            format!("connection-{number}").parse().unwrap(),
        );
        ask(&mut gate, number, GateRequest::Connect(connect));
    }
    let taken = END_SESSIONS_MAX / SESSIONS;
    for number in 0..taken {
        let answer = ask(&mut gate, number, end_all(format!("reason {number}")));
        assert_eq!(answer, None, "request {number}: the SFU has not answered");
    }
    let refused = ask(&mut gate, taken, end_all("one more".to_owned()));
    let refused = refused.unwrap().unwrap_err();
    assert!(
        refused.message.contains("requests to end 1000000 sessions"),
        "{refused:?}"
    );
    let one = GateRequest::End(End {
        all: false,
        channel_id: Some("channel-7".parse().unwrap()),
        reason: None,
        per_minute: None,
    });
    assert_eq!(ask(&mut gate, taken + 1, one), None, "one session is taken");
    gate.check().unwrap();
}

#[test]
fn the_refusal_of_a_replacement_says_that_the_plan_before_is_over() {
    let start = |lead: i64| {
        let steps = vec![
            PlanStep::Unready { at_seconds: -lead },
            PlanStep::Mode {
                at_seconds: 0,
                mode: SettableMode::BlockNewSession,
            },
        ];
        let start = StartPlan {
            replace: true,
            ..StartPlan::now(steps)
        };
        GateRequest::StartPlan(Box::new(start))
    };
    let (mut gate, mut commits) = (gate(), Commits::new(Durability::Durable));
    gate.step_into(NOW, input(1, start(60)), commits.open_mut(NOW));
    let records = commits.begin_write().unwrap();
    let started = answer(commits.write_succeeded(records).effects.actions);
    let Some(Ok(Reply::PlanStarted(started))) = started else {
        panic!("{started:?}");
    };
    gate.step_into(NOW, input(2, start(120)), commits.open_mut(NOW));
    let records = commits.begin_write().unwrap();
    let refusal = Error::storage_unavailable("the disk is full");
    let refused = commits.write_failed(&mut gate, NOW, records, &refusal);
    let refused = answer(refused.effects.actions).unwrap().unwrap_err();
    let over = format!(
        ". No plan was started, and plan {} is over",
        started.plan.id
    );
    assert!(refused.message.ends_with(&over), "{refused:?}");
}
