//! What a rehearsal is written in, and how it is played: parts of steps, each a question and what must be said.

use std::fmt::Display;

use super::view::{View, Words};
use crate::error::Failure;

/// What belongs together, under one heading.
pub(super) struct Part<A: 'static, E: 'static> {
    /// For scripts.
    pub(super) name: &'static str,
    /// For people.
    pub(super) heading: &'static str,
    pub(super) steps: &'static [Step<A, E>],
}

/// One question.
pub(super) struct Step<A, E> {
    pub(super) ask: A,
    pub(super) expected: E,
    /// What the documentation says about it.
    pub(super) because: &'static str,
}

pub(super) const fn step<A, E>(ask: A, expected: E, because: &'static str) -> Step<A, E> {
    Step {
        ask,
        expected,
        because,
    }
}

/// How many steps there are.
pub(super) fn steps_total<A, E>(script: &[Part<A, E>]) -> usize {
    script.iter().map(|part| part.steps.len()).sum()
}

/// Asks each question in turn and shows what came; where nothing does, `gone` says what to make of that.
pub(super) async fn play<A: Copy + Display, E: Display>(
    script: &[Part<A, E>],
    view: &mut View<'_>,
    mut perform: impl AsyncFnMut(A) -> Result<String, String>,
    gone: impl FnOnce(&str) -> Failure,
) -> Result<(), Failure> {
    for part in script {
        view.part(part.heading)?;
        for step in part.steps {
            let said = perform(step.ask).await;
            let lost = said.as_ref().err().cloned();
            view.step(step.words(part), said)?;
            if let Some(lost) = lost {
                return Err(gone(&format!("{lost}, at step {}", view.so_far())));
            }
        }
    }
    Ok(())
}

impl<A: Display, E: Display> Step<A, E> {
    /// The same in words.
    fn words(&self, part: &Part<A, E>) -> Words {
        Words {
            part: part.name,
            asked: self.ask.to_string(),
            expected: self.expected.to_string(),
            because: self.because,
        }
    }
}
