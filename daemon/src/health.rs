//! How the servers are that the daemon asks (upstreams, Sora's API), for `status` and `doctor`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use soramode_protocol::time::Time;

use crate::clock;

/// How each server is.
#[derive(Debug, Default)]
pub(crate) struct Health {
    servers: Mutex<BTreeMap<&'static str, Server>>,
}

#[derive(Clone, Debug, Default)]
struct Server {
    last_success: Option<Time>,
    last_failure: Option<Time>,
    problem: Option<String>,
}

impl Health {
    /// A server (`auth`, `session`, `event` or `sora-api`) answered, or did not, with why.
    pub(crate) fn note(&self, name: &'static str, outcome: Result<(), String>) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let server = servers.entry(name).or_default();
        let now = Some(clock::now().wall);
        match outcome {
            Ok(()) => (server.last_success, server.problem) = (now, None),
            Err(problem) => (server.last_failure, server.problem) = (now, Some(problem)),
        }
    }
}
