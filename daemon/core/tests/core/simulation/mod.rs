//! The core against a second, simple model: random inputs from seeds, and everything compared after every step.
//!
//! `SORAMODE_SEEDS` plays N seeds, `SORAMODE_SEED` one alone.

mod commits;
mod etcd;
mod inputs;
mod invariants;
mod model;
mod replay;
mod run;

use std::io::Write as _;
use std::time::Instant;

use soramode_core::gate::Gate;
use soramode_core::handles::Timestamp;
use soramode_core::restore::{Seed, StartParams};

use crate::seeds::seeds;
use crate::show::{Detail, Show};
use etcd::Driven;
use inputs::{Inputs, Rng, START, Transition};
use run::Run;

const SEEDS_DEFAULT: u64 = 10_000;
const STEPS_MAX: u64 = 80;

/// Start and transitions that a seed draws.
struct Story {
    params: StartParams,
    transitions: Vec<(Timestamp, Transition)>,
}

/// The step that failed, and its problem.
type Failure = (usize, String);

/// Plays a seed until it is over or goes wrong.
fn play(seed: u64) -> (Story, Result<(), Failure>) {
    let mut rng = Rng(seed);
    let params = inputs::params(&mut rng);
    let steps = 1 + rng.below(STEPS_MAX);
    let mut run = Run::new(&params, 7);
    let mut drawn = Inputs::new(rng, &params);
    let mut story = Story {
        params,
        transitions: Vec::new(),
    };
    for step in 0..usize::try_from(steps).unwrap() {
        let (now, transition) = drawn.draw(run.next_deadline());
        story.transitions.push((now, transition.clone()));
        if let Err(problem) = run.apply(now, &transition) {
            return (story, Err((step, problem)));
        }
    }
    run.pages_agree()
        .unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    (story, Ok(()))
}

fn replay(params: &StartParams, transitions: &[(Timestamp, Transition)]) -> Result<(), Failure> {
    let mut run = Run::new(params, 7);
    for (step, (now, transition)) in transitions.iter().enumerate() {
        run.apply(*now, transition)
            .map_err(|problem| (step, problem))?;
    }
    Ok(())
}

/// Leaves inputs out as long as it still goes wrong.
fn shrink(story: Story) -> (Story, Failure) {
    let Story {
        params,
        mut transitions,
    } = story;
    let mut failure = replay(&params, &transitions).unwrap_err();
    transitions.truncate(failure.0 + 1);
    let mut at = 0;
    while at < transitions.len() {
        let mut shorter = transitions.clone();
        shorter.remove(at);
        match replay(&params, &shorter) {
            Err(shorter_failure) => {
                shorter.truncate(shorter_failure.0 + 1);
                (transitions, failure, at) = (shorter, shorter_failure, 0);
            }
            Ok(()) => at += 1,
        }
    }
    (
        Story {
            params,
            transitions,
        },
        failure,
    )
}

fn report(seed: u64, story: Story) -> String {
    let hook = std::panic::take_hook();
    // Each try may panic again.
    std::panic::set_hook(Box::new(|_| ()));
    let (
        Story {
            params,
            transitions,
        },
        (_, problem),
    ) = shrink(story);
    std::panic::set_hook(hook);
    let mut run = Run::new(&params, 7);
    let mut lines = vec![
        format!("seed {seed}: SORAMODE_SEED={seed} plays it alone. At its shortest:"),
        format!("{:?}", params.settings),
    ];
    lines.extend(params.stored.mode.map(|mode| format!("stored: {mode:?}")));
    for (now, transition) in transitions {
        lines.push(format!("@{:?} {:?}", now.boot, transition));
        lines.extend(
            run.apply(now, &transition)
                .unwrap_or_default()
                .into_iter()
                .map(|line| format!("    {line}")),
        );
    }
    lines.push(problem);
    lines.join("\n")
}

/// 7: the same seed gives the same outputs; another seed gives other ids, and nothing else that is other.
fn same_seed(story: &Story) -> Result<(), String> {
    let mut gates = [7, 7, 8].map(|seed| {
        let gate = Gate::restore(story.params.clone(), Seed([seed; 32]));
        Driven::new(gate, &story.params.settings)
    });
    let mut shows = [(); 2].map(|()| Show::new(START, Detail::InWords));
    // Until the first restart: what that begins with has ids of the gate's own making.
    let transitions = story
        .transitions
        .iter()
        .take_while(|(_, transition)| !matches!(transition, Transition::Restart { .. }));
    for (now, transition) in transitions {
        let effects = gates.each_mut().map(|gate| gate.apply(*now, transition));
        let [Some(first), Some(same), Some(other)] = effects else {
            continue;
        };
        if first != same {
            return Err(format!("7: {first:?}\nis not {same:?}"));
        }
        let (first, other) = (
            run::shown(&mut shows[0], &first),
            run::shown(&mut shows[1], &other),
        );
        if first != other {
            return Err(format!(
                "7: another seed decides otherwise: {first:?}\nis not {other:?}"
            ));
        }
    }
    Ok(())
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the time it took is printed, and nothing depends on it"
)]
fn the_core_does_what_the_model_does() {
    let seeds = seeds("SORAMODE_SEEDS", SEEDS_DEFAULT);
    let (began, runs, mut steps) = (Instant::now(), seeds.end - seeds.start, 0);
    for seed in seeds {
        let (story, result) = play(seed);
        steps += story.transitions.len();
        let result = result.map_err(|(_, problem)| problem).and_then(|()| {
            if seed % 16 == 0 {
                same_seed(&story)
            } else {
                Ok(())
            }
        });
        if let Err(problem) = result {
            let is_replayable = !problem.starts_with("7:");
            panic!(
                "{}",
                if is_replayable {
                    report(seed, story)
                } else {
                    format!("seed {seed}: {problem}")
                }
            );
        }
    }
    // Past the test harness, which would keep it to itself.
    writeln!(
        std::io::stderr(),
        "simulation: {runs} runs, {steps} steps, {:.1?}",
        began.elapsed()
    )
    .unwrap();
}
