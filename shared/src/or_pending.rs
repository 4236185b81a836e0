//! An optional future in a `select!`.

use std::future::pending;

/// Returns a future that awaits this one; if there is none, it never completes.
///
/// Mostly there is none, and a `select!` moves its futures: a box is as large as a pointer, and is allocated only for a future that is there.
pub fn or_pending<F: Future>(future: Option<F>) -> impl Future<Output = F::Output> {
    let future = future.map(Box::pin);
    async move {
        match future {
            Some(future) => future.await,
            None => pending().await,
        }
    }
}
