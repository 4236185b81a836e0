//! How the servers are that the daemon asks (upstreams, Sora's API), for `status` and `doctor`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use soramode_protocol::node::{Status, Upstream};

use crate::clock;
use crate::config::HttpConfig;

/// Sora's API among the servers.
pub(crate) const SORA_API: &str = "sora-api";

/// How each server is.
#[derive(Debug, Default)]
pub(crate) struct Health {
    upstreams: Mutex<Vec<Upstream>>,
}

impl Health {
    /// Of all servers that the configuration names; none has been asked.
    pub(crate) fn new(config: &HttpConfig) -> Self {
        Self { upstreams: Mutex::new(named(config)) }
    }

    /// The configuration names others; of those that stay is known what was.
    pub(crate) fn renew(&self, config: &HttpConfig) {
        let mut upstreams = self.upstreams();
        let is_same = |new: &Upstream, old: &Upstream| (&new.name, &new.url) == (&old.name, &old.url);
        let renewed = named(config).into_iter().map(|new| upstreams.iter().find(|old| is_same(&new, old)).cloned().unwrap_or(new));
        *upstreams = renewed.collect();
    }

    /// A server answered, or did not, with why.
    pub(crate) fn note(&self, name: &str, outcome: Result<(), String>) {
        let now = Some(clock::now().wall);
        let mut upstreams = self.upstreams();
        let Some(upstream) = upstreams.iter_mut().find(|upstream| upstream.name == name) else { return };
        match outcome {
            Ok(()) => (upstream.last_success, upstream.problem) = (now, None),
            Err(problem) => (upstream.last_failure, upstream.problem) = (now, Some(problem)),
        }
    }

    /// Says in a status what the gate cannot know.
    pub(crate) fn complete(&self, status: &mut Status) {
        status.upstreams.clone_from(&self.upstreams());
    }

    fn upstreams(&self) -> MutexGuard<'_, Vec<Upstream>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All servers that the configuration names; none has been asked.
fn named(config: &HttpConfig) -> Vec<Upstream> {
    let upstreams = &config.sora.upstreams;
    let named = [("auth", &upstreams.auth), ("session", &upstreams.session), ("event", &upstreams.event), (SORA_API, &config.sora.api)];
    let named = named.into_iter().filter_map(|(name, url)| Some((name, url.as_ref()?)));
    let upstream = |(name, url): (&str, &crate::args::http::HttpUrl)| Upstream {
        name: name.to_owned(),
        url: url.to_string(),
        last_success: None,
        last_failure: None,
        problem: None,
    };
    named.map(upstream).collect()
}
