//! Wakes the gate for its deadlines, in a task of its own: on time even during a slow write.

use std::convert::Infallible;
use std::io;

use crate::engine::Engine;

/// Steps the gate at each deadline; returns only if the timer fails.
pub(crate) async fn run(engine: Engine) -> io::Result<Infallible> {
    loop {
        engine.deadline().await?;
        engine.tick();
    }
}
