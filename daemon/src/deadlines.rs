//! Wakes the gate for its deadlines. A task of its own, so that they come in time also while a write takes long.

use std::convert::Infallible;
use std::io;

use crate::engine::Engine;

/// Steps deadlines as they come; returns only if the timer fails.
pub(crate) async fn run(engine: Engine) -> io::Result<Infallible> {
    loop {
        engine.deadline().await?;
        engine.tick();
    }
}
