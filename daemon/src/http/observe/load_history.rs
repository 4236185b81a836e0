//! Sessions and connections of the last hour, in memory.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;
use crate::lock::lock;

/// Time between two samples.
const SAMPLE_PAUSE: Duration = Duration::from_secs(10);

/// Number of samples kept: an hour of them.
pub(super) const SAMPLES_KEPT: usize = 360;

/// Sample: sessions and connections at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) sessions: u64,
    pub(super) connections: u64,
}

/// The last samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct LoadHistory(Mutex<VecDeque<Load>>);

impl LoadHistory {
    /// Takes a sample now and then until the daemon stops.
    pub(crate) async fn record(&self, engine: Engine, stop: CancellationToken) {
        let mut ticks = interval(SAMPLE_PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => return,
            }
            let answered = tokio::select! {
                answered = engine.ask_one("http".into(), GateRequest::GetStatus) => answered,
                () = stop.cancelled() => return,
            };
            if let Ok(Reply::Status(status)) = answered {
                self.add(Load {
                    sessions: status.sessions,
                    connections: status.connections,
                });
            }
        }
    }

    fn add(&self, load: Load) {
        let mut samples = lock(&self.0);
        if samples.len() == SAMPLES_KEPT {
            samples.pop_front();
        }
        samples.push_back(load);
    }

    /// Returns the samples, oldest first.
    pub(super) fn samples(&self) -> Vec<Load> {
        lock(&self.0).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_kept() {
        let history = LoadHistory::default();
        let load = |sessions| Load {
            sessions,
            connections: 0,
        };
        for sessions in 0..=SAMPLES_KEPT as u64 {
            history.add(load(sessions));
        }
        let samples = history.samples();
        assert_eq!((samples.len(), samples[0]), (SAMPLES_KEPT, load(1)));
    }
}
