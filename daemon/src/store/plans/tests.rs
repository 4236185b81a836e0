//! Inputs that start, answer and stop plans, announcements and ends.

use fastrand::Rng;
use soramode_core::handles::ReplyHandle;
use soramode_core::input::Input;
use soramode_core::plan::calls::{SfuFailure, SfuOutcome};
use soramode_core::plan::stored::{Moment, PlanProgress, StoredOutcome};
use soramode_protocol::announce::{Announce, NoticeData};
use soramode_protocol::end::End;
use soramode_protocol::mode::SettableMode;
use soramode_protocol::plan::{CancelPlan, EndRate, PlanOutcome, PlanStep, RISK_OF_END, StartPlan};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;

use super::{PlanProgressRef, Progress, no_plan_progress};

/// Creates a random input about plans.
pub(in super::super) fn input(rng: &mut Rng, reply_to: ReplyHandle) -> Input {
    let ask = |request| Input::Request {
        reply_to,
        actor: "uid:0(root)".into(),
        request,
    };
    let channel_id = (rng.u64(..2) == 0).then(|| "spam".parse().unwrap());
    let data = NoticeData(serde_json::json!({"level": 2, "ja": "メンテナンス"}));
    match rng.u64(..7) {
        0 => ask(GateRequest::StartPlan(Box::new(StartPlan {
            reason: Some("kernel".to_owned()),
            accept_risk: Some(RISK_OF_END.to_owned()),
            replace: rng.u64(..2) == 0,
            on_behalf_of: Some("alice".to_owned()),
            ..StartPlan::now(steps(data))
        }))),
        1 => ask(GateRequest::CancelPlan(CancelPlan::default())),
        2 => ask(GateRequest::Announce(Box::new(Announce {
            text: Some("soon".to_owned()),
            data: Some(data),
            channel_id,
        }))),
        3 => ask(GateRequest::End(End {
            all: channel_id.is_none(),
            channel_id,
            reason: Some("it is stuck".to_owned()),
            per_minute: Some(EndRate::PerMinute(30)),
        })),
        4 => Input::Tick,
        _ => Input::SfuAnswered {
            id: 1 + rng.u64(..20),
            outcome: SfuOutcome {
                api: [
                    Some(Ok(())),
                    Some(Err(SfuFailure::Unreachable("no answer in time".to_owned()))),
                    None,
                ][usize::try_from(rng.u64(..3)).unwrap()]
                .clone(),
                subscribers: rng.u64(..2),
            },
        },
    }
}

/// Steps of which some are due within the seconds that a test lasts.
fn steps(data: NoticeData) -> Vec<PlanStep> {
    vec![
        PlanStep::Unready { at_seconds: -2 },
        PlanStep::Mode {
            at_seconds: 0,
            mode: SettableMode::BlockNewSession,
        },
        PlanStep::Announce {
            at_seconds: 3,
            text: Some("The node is closed in {minutes} minutes".to_owned()),
            data: Some(data),
        },
        PlanStep::End {
            at_seconds: 6,
            per_minute: Some(EndRate::Max),
        },
    ]
}

/// An end that was announced was stored by the wall clock alone at first.
#[test]
fn an_announced_end_is_read_by_both_clocks_or_by_the_wall_clock_alone() {
    let end = Moment {
        wall: Time::from_micros(1_795_377_600_000_000),
        boot_micros: 7_000_000,
    };
    let progress = PlanProgress {
        announced_end: Some(end),
        ..no_plan_progress()
    };
    let written = serde_json::to_value(PlanProgressRef(&progress)).unwrap();
    let Progress(read) = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(read, progress);

    let mut of_before = written;
    of_before["announced_end"] = serde_json::to_value(end.wall).unwrap();
    let Progress(read) = serde_json::from_value(of_before).unwrap();
    let by_wall = Moment {
        boot_micros: 0,
        ..end
    };
    assert_eq!(read.announced_end, Some(by_wall));
}

/// The generation of the mode at the end of a plan was not stored at first.
#[test]
fn an_outcome_is_read_with_the_generation_of_the_mode_or_without() {
    let over = StoredOutcome {
        outcome: PlanOutcome::Missed,
        why: None,
        by: None,
        reason: None,
        at: Time::from_micros(1_795_377_600_000_000),
        generation: Some(7),
    };
    let progress = PlanProgress {
        over: Some(over),
        ..no_plan_progress()
    };
    let mut written = serde_json::to_value(PlanProgressRef(&progress)).unwrap();
    let Progress(read) = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(read, progress);

    let of_before = written["over"].as_object_mut().unwrap();
    of_before.remove("generation");
    let Progress(read) = serde_json::from_value(written).unwrap();
    assert_eq!(read.over.unwrap().generation, None);
}
