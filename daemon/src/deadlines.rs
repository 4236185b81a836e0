//! Wakes the gate for its deadlines and when the wall clock is set, in a task of its own: on time even during a slow write.

use std::convert::Infallible;
use std::io;

use soramode_core::input::Input;

use crate::clock::ClockChanges;
use crate::engine::{Engine, Stopped};

/// Steps the gate at each deadline and each change of the clock; returns only if a timer fails.
pub(crate) async fn run(engine: Engine, clock: ClockChanges) -> io::Result<Infallible> {
    loop {
        tokio::select! {
            due = engine.deadline() => {
                due?;
                engine.tick();
            }
            set = clock.next() => {
                set?;
                // A stopped engine does nothing at its deadlines either.
                let (Ok(()) | Err(Stopped)) = engine.apply(Input::WallClockSet);
            }
        }
    }
}
