//! The async runtime.

use crate::error::{Exit, Failure};

/// Starts a runtime of one thread: starting more takes longer than most commands do.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|problem| Failure::new(Exit::Failed, format!("cannot start: {problem}")))
}
