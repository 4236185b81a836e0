//! Plans beside an SFU that is slow, fails and lies, clients that come and go, operators that change their minds, a disk that fails,
//! kills, reboots and a wall clock that is set: the guarantees hold with each call, and the plan is where a naive one is after each step.
//!
//! `SORAMODE_SEEDS` sets the number of seeds.

mod guarantees;
mod naive;
mod operators;
mod reach;
mod world;

use std::io::Write as _;

use soramode_core::fault::{Fault, PlantedFault};
use world::World;

use crate::seeds::seeds;

const SEEDS_DEFAULT: u64 = 3_000;

/// Seeds that find each planted mistake.
const FAULT_SEEDS: u64 = 3_000;
const STEPS_MAX: u64 = 150;

fn play(seed: u64, fault: PlantedFault) -> Result<World, String> {
    let mut world = World::new(seed, fault);
    let steps = 20 + world.rng.below(STEPS_MAX);
    for _ in 0..steps {
        if let Err(problem) = world.turn() {
            let trace = world.trace.join("\n");
            return Err(format!(
                "seed {seed}: SORAMODE_SEED={seed} plays it alone.\n{trace}\n{problem}"
            ));
        }
    }
    Ok(world)
}

#[test]
fn a_plan_keeps_its_guarantees() {
    let seeds = seeds("SORAMODE_SEEDS", SEEDS_DEFAULT);
    let (runs, mut outcomes, mut cuts) = (seeds.end - seeds.start, [0_u64; 5], 0);
    let (mut held, mut unheard) = (0, 0);
    for seed in seeds {
        let world = play(seed, PlantedFault::NONE).unwrap_or_else(|problem| panic!("{problem}"));
        for (sum, number) in outcomes.iter_mut().zip(world.outcomes) {
            *sum += number;
        }
        cuts += world.cuts;
        held += world.held;
        unheard += world.unheard;
    }
    // Past the test harness, which would keep it to itself.
    let [done, cancelled, replaced, missed, failed] = outcomes;
    writeln!(
        std::io::stderr(),
        "plans: {runs} runs, {done} done, {cancelled} cancelled, {replaced} replaced, {missed} missed, {failed} failed, {cuts} cuts, {held} steps held without means, {unheard} announcements to nobody"
    )
    .unwrap();
    let numbers = outcomes.iter().chain([&cuts, &held, &unheard]);
    let happens = numbers.into_iter().all(|number| *number > 0);
    assert!(happens || runs < 1_000, "some outcome never happens");
}

/// Rules of plans, each broken.
const FAULTS: [Fault; 5] = [
    Fault::AnnouncedEndByWallClock,
    Fault::LateStepRuns,
    Fault::StepRunsWithoutMeans,
    Fault::UnheardAnnouncementCounts,
    Fault::OverPlanEndsSessions,
];

#[test]
fn each_planted_fault_is_found() {
    let mut missed = Vec::new();
    for fault in FAULTS {
        let mut seeds = 0..FAULT_SEEDS;
        let found = seeds.find(|seed| play(*seed, PlantedFault::of(fault)).is_err());
        let line = format!("{fault:?}: {found:?}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        missed.extend(found.is_none().then_some(fault));
    }
    assert_eq!(missed, [], "not found in {FAULT_SEEDS} seeds");
}
