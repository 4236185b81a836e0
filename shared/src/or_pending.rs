//! An optional future in a `select!`.

use std::future::pending;

/// Awaits the future; never returns if there is none.
pub async fn or_pending<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}
