//! Limits log lines that clients can cause: each is logged at most once a minute, with the number of those left out since.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::lock::lock;

/// The shortest time between two log lines of one kind.
const PAUSE: Duration = Duration::from_mins(1);

/// Limits one kind of log line.
#[derive(Debug)]
pub(crate) struct RateLimit(Mutex<State>);

#[derive(Debug)]
struct State {
    logged: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State {
            logged: None,
            suppressed: 0,
        }))
    }

    /// Returns the number of lines suppressed since the last one if another may be logged now.
    pub(crate) fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = lock(&self.0);
        if state
            .logged
            .is_some_and(|logged| now.duration_since(logged) < PAUSE)
        {
            state.suppressed += 1;
            return None;
        }
        state.logged = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

/// Logs as `tracing::warn!` or `tracing::error!` does, at most once a minute for each place in the code that it stands in.
macro_rules! log_limited {
    ($level:ident, $($line:tt)+) => {{
        static LIMIT: $crate::rate_limit::RateLimit = $crate::rate_limit::RateLimit::new();
        if let Some(suppressed) = LIMIT.admit() {
            tracing::$level!(suppressed = (suppressed > 0).then_some(suppressed), $($line)+);
        }
    }};
}
pub(crate) use log_limited;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_second_line_of_a_kind_waits_for_a_minute_and_counts_those_between() {
        let limit = RateLimit::new();
        let mut admitted = Vec::new();
        for pause in [0, 0, 59, 1, 59, 1] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            admitted.push(limit.admit());
        }
        assert_eq!(admitted, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
