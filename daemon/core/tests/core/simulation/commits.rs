//! The gate with its commits, with writes that take any time, succeed or fail, against a reference: all steps since the last success are one
//! batch. Requests that leave for etcd are answered at once, and each answer is one more step.
//!
//! `SORAMODE_SEEDS` plays N seeds, `SORAMODE_SEED` one alone.

mod reference;
mod world;

use std::io::Write as _;
use std::time::Instant;

use soramode_core::commits::{Batch, Commits, Durability, OPEN_EFFECTS_MAX, UNWRITTEN_RECORDS_MAX};
use soramode_core::effect::Record;
use soramode_core::fault::{Fault, PlantedFault};
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{AttemptResult, HostState, Input};
use soramode_core::restore::Seed;
use soramode_core::settings::EventReceiver;
use soramode_protocol::event::EventType;
use soramode_protocol::mode::Mode;
use soramode_protocol::request::GateRequest;
use soramode_protocol::wait::{PROGRESS_SECONDS_MIN, WAITS_MAX, Wait, WaitFor};

use world::{World, refusal};

use super::SEEDS_DEFAULT;
use super::inputs::{Inputs, Rng, params};
use crate::seeds::seeds;

const STEPS_MAX: u64 = 60;

/// Seeds that find each planted fault.
const FAULT_SEEDS: u64 = 2_000;

fn play(seed: u64, fault: PlantedFault) -> (u64, u32) {
    let mut rng = Rng(seed);
    let mut params = params(&mut rng);
    params.settings.receivers = vec![EventReceiver {
        url: "http://receiver/".to_owned(),
        endpoint: "http://receiver".to_owned(),
        types: EventType::ALL.to_vec(),
    }];
    let steps = 1 + rng.below(STEPS_MAX);
    let mut inputs = Inputs::new(rng, &params);
    let mut world = World::new(&params, fault);
    let mut last = params.started;
    for _ in 0..steps {
        let (now, transition) = inputs.draw(world.gate.next_deadline());
        last = now;
        world.apply(now, transition);
        if inputs.rng.one_in(3) && !world.attempts.is_empty() {
            let id = world.attempts.remove(0);
            let status = Some(if inputs.rng.one_in(2) { 200 } else { 500 });
            let result = AttemptResult {
                status,
                ..AttemptResult::default()
            };
            world.step(now, Input::DeliveryAttempted { id, result });
        }
        if inputs.rng.one_in(2) {
            let succeeds = !inputs.rng.one_in(4);
            world.write(now, succeeds);
        }
    }
    (steps, world.end(last))
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the time it took is printed, and nothing depends on it"
)]
fn effects_leave_as_if_all_steps_since_the_last_success_were_one_batch() {
    let seeds = seeds("SORAMODE_SEEDS", SEEDS_DEFAULT);
    let (began, mut steps, mut failures) = (Instant::now(), 0, 0);
    for seed in seeds.clone() {
        let played = std::panic::catch_unwind(|| play(seed, PlantedFault::NONE));
        let (played, failed) = played.unwrap_or_else(|_| panic!("seed {seed}"));
        (steps, failures) = (steps + played, failures + u64::from(failed));
    }
    // Past the test harness, which would keep it to itself.
    writeln!(
        std::io::stderr(),
        "commits: {} runs, {steps} steps, {failures} failed writes, {:.1?}",
        seeds.end - seeds.start,
        began.elapsed()
    )
    .unwrap();
}

/// Each rule of the commits, broken.
const FAULTS: [Fault; 14] = [
    Fault::ReleaseDuringWrite,
    Fault::ReleaseUnwritten,
    Fault::BeginTooEarly,
    Fault::FailureSparesLaterSteps,
    Fault::FailureKeepsPromises,
    Fault::FailureIsNotReported,
    Fault::DeliveryAfterFailure,
    Fault::RetryTwice,
    Fault::RetryOutOfOrder,
    Fault::DeliveryBeforeRecord,
    Fault::RetryDropsLaterRecords,
    Fault::ModeReadDuringWrite,
    Fault::ModeReadUnwritten,
    Fault::RetryIsNotCounted,
];

#[test]
fn each_planted_fault_is_found() {
    let hook = std::panic::take_hook();
    // Each find is a panic.
    std::panic::set_hook(Box::new(|_| ()));
    let is_missed = |fault: &Fault| {
        let fault = PlantedFault::of(*fault);
        (0..FAULT_SEEDS).all(|seed| std::panic::catch_unwind(|| play(seed, fault)).is_ok())
    };
    let missed: Vec<Fault> = FAULTS.into_iter().filter(is_missed).collect();
    std::panic::set_hook(hook);
    assert_eq!(missed, [], "not found in {FAULT_SEEDS} seeds");
}

#[test]
fn nothing_waits_where_nothing_outlives_the_daemon() {
    let params = params(&mut Rng(1));
    let mut gate = Gate::restore(params.clone(), Seed([7; 32]));
    let mut commits = Commits::new(Durability::Ephemeral);
    let mut released = Batch::default();
    let input = Input::Started(HostState::Running);
    gate.step_into(params.started, input, commits.open_mut(params.started));
    let records = commits.open_mut(params.started).records.len();
    assert!(records > 0 && commits.take_ready(&mut released));
    assert_eq!(released.effects.records.len(), records);
    assert!(commits.begin_write().is_none() && !commits.has_work());
}

#[test]
fn a_write_that_never_ends_does_not_gather_reports_on_the_progress_of_waits() {
    let params = params(&mut Rng(1));
    let mut now = params.started;
    let mut gate = Gate::restore(params, Seed([7; 32]));
    let mut commits = Commits::new(Durability::Durable);
    gate.step_into(
        now,
        Input::Started(HostState::Running),
        commits.open_mut(now),
    );
    assert!(commits.begin_write().is_some());
    for serial in 1..=WAITS_MAX as u64 {
        let mut wait = Wait::new(WaitFor::Mode);
        (wait.mode, wait.progress_seconds) =
            (Some(Mode::BlockNewSession), Some(PROGRESS_SECONDS_MIN));
        let input = Input::Request {
            reply_to: ReplyHandle {
                socket: SocketId(1),
                serial,
            },
            actor: "test".into(),
            request: GateRequest::Wait(Box::new(wait)),
        };
        gate.step_into(now, input, commits.open_mut(now));
    }
    let waits = commits.open_mut(now).actions.len();
    assert_eq!(waits, WAITS_MAX, "each receives its progress at once");
    for _ in 0..OPEN_EFFECTS_MAX {
        now.boot = gate.next_deadline().unwrap();
        gate.step_into(now, Input::Tick, commits.open_mut(now));
        assert!(!commits.take_ready(&mut Batch::default()));
        assert!(!commits.is_crowded(), "a client may still ask");
    }
}

#[test]
fn records_that_are_not_written_are_bounded_wherever_they_wait() {
    let (params, now) = (params(&mut Rng(1)), super::START);
    let now = Timestamp {
        wall: now,
        ..params.started
    };
    let mut gate = Gate::restore(params, Seed([7; 32]));
    let mut commits = Commits::new(Durability::Durable);
    let records = |count| vec![Record::VanishedPending(true); count];
    commits.open_mut(now).records = records(OPEN_EFFECTS_MAX - 1);
    assert!(!commits.is_crowded());
    commits.open_mut(now).records.extend(records(1));
    assert!(commits.is_crowded());
    let written = commits.begin_write().unwrap();
    assert!(!commits.is_crowded() && commits.begin_write().is_none());
    commits.open_mut(now).records = records(2);
    assert_eq!(commits.unwritten(), OPEN_EFFECTS_MAX + 2);
    commits.write_failed(&mut gate, now, written, &refusal());
    let waiting = commits.unwritten();
    let retried = commits.begin_retry().unwrap();
    assert!(commits.begin_retry().is_none(), "one at a time");
    commits.open_mut(now).records = records(UNWRITTEN_RECORDS_MAX - waiting);
    assert!(commits.is_full());
    commits.take_ready(&mut Batch::default());
    assert!(commits.is_full() && commits.unwritten() == UNWRITTEN_RECORDS_MAX);
    commits.retry_failed(retried);
    assert_eq!(commits.begin_retry().unwrap().len(), UNWRITTEN_RECORDS_MAX);
}
