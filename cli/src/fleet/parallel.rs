//! Several futures at a time on one task, with a limit.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// A future that borrows.
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs the futures, at most `at_once` at a time; returns their results in the order of the futures.
pub(super) async fn in_parallel<T>(futures: Vec<Boxed<'_, T>>, at_once: usize) -> Vec<T> {
    let mut waiting = futures.into_iter().enumerate();
    let mut running: Vec<(usize, Boxed<'_, T>)> = Vec::new();
    let mut results: Vec<(usize, T)> = Vec::new();
    poll_fn(|context| {
        loop {
            running.extend(waiting.by_ref().take(at_once - running.len()));
            let before = running.len();
            running.retain_mut(|(number, future)| match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    results.push((*number, result));
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return if before == 0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            }
        }
    })
    .await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Runs the futures, at most `at_once` at a time; returns their results in the order of the futures.
pub(crate) async fn join_all<T>(
    futures: impl IntoIterator<Item = impl Future<Output = T> + '_>,
    at_once: usize,
) -> Vec<T> {
    let futures: Vec<Boxed<'_, T>> = futures
        .into_iter()
        .map(|future| Box::pin(future) as Boxed<'_, T>)
        .collect();
    in_parallel(futures, at_once).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn no_more_than_the_limit_run_and_the_results_are_in_order() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let one = |number: u64| {
            let (running, most) = (&running, &most);
            let future = async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                // The later ones are ready first.
                for _ in number..20 {
                    tokio::task::yield_now().await;
                }
                running.set(running.get() - 1);
                number
            };
            Box::pin(future) as Boxed<'_, u64>
        };
        let runtime = crate::runtime::runtime().unwrap();
        let results = runtime.block_on(in_parallel((0..20).map(one).collect(), 8));
        assert_eq!(results, (0..20).collect::<Vec<_>>());
        assert_eq!(most.get(), 8);
        assert!(
            runtime
                .block_on(in_parallel(Vec::<Boxed<'_, ()>>::new(), 8))
                .is_empty()
        );
    }
}
