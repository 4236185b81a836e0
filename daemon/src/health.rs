//! Health of the servers that the daemon calls (upstreams, Sora's API, receivers of events), for
//! `status` and `doctor`.

use std::sync::{Mutex, MutexGuard};
#[cfg(feature = "cluster")]
use std::time::Duration;

use soramode_protocol::node::{Status, Upstream};

use crate::args::http::SoraMode;
use crate::clock;
use crate::config::{Config, HttpConfig};
use crate::http::Absent;
use crate::lock::lock;

/// Sora's API among the servers.
pub(crate) const SORA_API: &str = "sora-api";

/// Janus's Admin API among the servers.
pub(crate) const JANUS_ADMIN: &str = "janus-admin";

/// A member of etcd among the servers.
const ETCD: &str = "etcd";

/// A receiver of events among the servers.
const RECEIVER: &str = "webhook";

/// Warning about two settings that do not go together.
const GRACE_IN_MIRROR: &str = "--reconnect-grace has no effect with --sora-mode mirror: while the node is closed, Sora itself refuses the last client of \
    a channel that reconnects. Leave out one of the two";

/// Health of all servers.
#[derive(Debug, Default)]
pub(crate) struct Health {
    upstreams: Mutex<Vec<Upstream>>,
    /// The members of the cluster's etcd, in the order in which they are named.
    etcd: Mutex<Vec<Upstream>>,
    /// Listeners through which every user of this machine may change things.
    unauthenticated_listeners: Vec<String>,
    /// Receivers of events, each in its index; `None`: it was removed.
    receivers: Mutex<Vec<Option<Upstream>>>,
    /// Addresses that are listened on, and that the machine does not have yet.
    absent: Mutex<Vec<Absent>>,
    /// Warning that this process may open too few files.
    few_descriptors: Option<String>,
    /// Warning that a Sora which follows the mode knows no reconnect grace.
    grace_in_mirror: bool,
    /// Problem of the last reload, if it failed.
    reading: Mutex<Option<String>>,
    /// Findings about Janus's setup, once it was checked.
    janus: Mutex<Option<Vec<String>>>,
    /// Findings about the secrets of Janus's rooms.
    janus_rooms: Mutex<Vec<String>>,
    /// Warning that Janus's events do not come.
    janus_events: Mutex<Option<&'static str>>,
    /// Number of states found that must not occur, and the last one.
    bugs: Mutex<(u64, &'static str)>,
}

impl Health {
    /// Starts with all servers that the configuration names; none was called yet.
    pub(crate) fn new(config: &Config, few_descriptors: Option<String>) -> Self {
        let endpoints = config.cluster.iter().flat_map(|cluster| &cluster.endpoints);
        let etcd = endpoints.map(|url| unasked(ETCD, url.as_str())).collect();
        Self {
            upstreams: Mutex::new(named(&config.http)),
            etcd: Mutex::new(etcd),
            receivers: Mutex::default(),
            unauthenticated_listeners: config.http.unauthenticated_listeners(),
            absent: Mutex::default(),
            few_descriptors,
            grace_in_mirror: !config.reconnect_grace.is_zero()
                && config.http.sora.mode == SoraMode::Mirror,
            reading: Mutex::default(),
            janus: Mutex::default(),
            janus_rooms: Mutex::default(),
            janus_events: Mutex::default(),
            bugs: Mutex::default(),
        }
    }

    /// Replaces the servers by those of the configuration; the health of those that stay is kept.
    pub(crate) fn reload(&self, config: &HttpConfig) {
        let mut upstreams = self.upstreams();
        let is_same =
            |new: &Upstream, old: &Upstream| (&new.name, &new.url) == (&old.name, &old.url);
        let renewed = named(config).into_iter().map(|new| {
            upstreams
                .iter()
                .find(|old| is_same(&new, old))
                .cloned()
                .unwrap_or(new)
        });
        *upstreams = renewed.collect();
    }

    /// A server answered, or did not, with why.
    pub(crate) fn note(&self, name: &str, outcome: Result<(), String>) {
        if let Some(upstream) = self
            .upstreams()
            .iter_mut()
            .find(|upstream| upstream.name == name)
        {
            write(upstream, outcome);
        }
    }

    /// Notes an outcome of a member of etcd, by its index.
    #[cfg(feature = "cluster")]
    pub(crate) fn note_etcd(&self, index: usize, outcome: Result<(), String>) {
        if let Some(member) = self.etcd().get_mut(index) {
            write(member, outcome);
        }
    }

    /// Returns the problems of the members of etcd that failed when they were asked last, with their URLs.
    pub(crate) fn etcd_problems(&self) -> Option<String> {
        let problem = |it: &Upstream| Some(format!("{}: {}", it.url, it.problem.as_deref()?));
        let problems: Vec<String> = self.etcd().iter().filter_map(problem).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// Returns true if a member of etcd answered within this time.
    #[cfg(feature = "cluster")]
    pub(crate) fn has_etcd_answered(&self, index: usize, within: Duration) -> bool {
        let success = self
            .etcd()
            .get(index)
            .and_then(|member| member.last_success);
        success.is_some_and(|success| clock::now().wall.since(success) <= within)
    }

    /// Sets the receivers of the configuration, by their index; the health of those that stay is
    /// kept.
    pub(crate) fn set_receivers(&self, endpoints: impl Iterator<Item = Option<String>>) {
        let mut receivers = self.receivers();
        let known = std::mem::take(&mut *receivers);
        let mut known = known.into_iter();
        *receivers = endpoints
            .map(|endpoint| (endpoint, known.next().flatten()))
            .map(renewed)
            .collect();
    }

    /// A receiver took a delivery, or did not, with why.
    pub(crate) fn note_receiver(&self, index: usize, outcome: Result<(), String>) {
        if let Some(Some(receiver)) = self.receivers().get_mut(index) {
            write(receiver, outcome);
        }
    }

    /// Adds to a status what the gate cannot know.
    pub(crate) fn complete(&self, status: &mut Status) {
        let receivers = self.receivers();
        status.upstreams = self
            .upstreams()
            .iter()
            .chain(self.etcd().iter())
            .chain(receivers.iter().flatten())
            .cloned()
            .collect();
        status
            .unauthenticated_listeners
            .clone_from(&self.unauthenticated_listeners);
        status
            .warnings
            .extend(self.absent().iter().map(Absent::warning));
        status.warnings.extend(self.reading().clone());
        status
            .warnings
            .extend(lock(&self.janus).iter().flatten().cloned());
        status
            .warnings
            .extend(lock(&self.janus_rooms).iter().cloned());
        let events = *lock(&self.janus_events);
        status.warnings.extend(events.map(str::to_owned));
        status.warnings.extend(self.bug_warning());
        status.warnings.extend(self.few_descriptors.clone());
        let grace = self.grace_in_mirror.then(|| GRACE_IN_MIRROR.to_owned());
        status.warnings.extend(grace);
    }

    /// Returns whether Janus's setup was checked.
    pub(crate) fn has_janus_findings(&self) -> bool {
        lock(&self.janus).is_some()
    }

    /// Notes the findings about Janus's setup; none before it is checked again.
    pub(crate) fn note_janus(&self, findings: Option<Vec<String>>) {
        *lock(&self.janus) = findings;
    }

    /// Notes the findings about the secrets of Janus's rooms.
    pub(crate) fn note_janus_rooms(&self, findings: Vec<String>) {
        let mut known = lock(&self.janus_rooms);
        // Counts change with each room.
        if known.is_empty() {
            for finding in &findings {
                tracing::warn!("{finding}");
            }
        }
        *known = findings;
    }

    /// Notes whether Janus's events come: the warning that they do not.
    pub(crate) fn note_janus_events(&self, warning: Option<&'static str>) {
        let before = std::mem::replace(&mut *lock(&self.janus_events), warning);
        match (before, warning) {
            (None, Some(warning)) => tracing::warn!("{warning}"),
            (Some(_), None) => tracing::info!("Janus's events come"),
            (_, _) => {}
        }
    }

    /// Notes a state that must not occur.
    pub(crate) fn note_bug(&self, what: &'static str) {
        let mut bugs = lock(&self.bugs);
        *bugs = (bugs.0 + 1, what);
    }

    fn bug_warning(&self) -> Option<String> {
        let (count, last) = *lock(&self.bugs);
        let found = match count {
            0 => return None,
            1 => "a bug in itself".to_owned(),
            _ => format!("{count} bugs in itself, the last"),
        };
        Some(format!(
            "soramoded has found {found}: {last}. It goes on; report this, with the log"
        ))
    }

    /// Notes a reload, with its problem if it failed.
    pub(crate) fn note_reading(&self, problem: Option<String>) {
        *self.reading() = problem;
    }

    fn reading(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.reading)
    }

    /// Notes addresses on which the daemon listens before the machine has them.
    pub(crate) fn note_absent(&self, absent: Vec<Absent>) {
        *self.absent() = absent;
    }

    /// Removes absent addresses that the machine has now; returns the number of the others.
    pub(crate) fn look_for_absent(&self, is_there: impl Fn(&Absent) -> bool) -> usize {
        let mut absent = self.absent();
        for Absent { address, names } in absent.extract_if(.., |absent| is_there(absent)) {
            tracing::info!(%address, "an interface now has the address ({names})");
        }
        absent.len()
    }

    fn receivers(&self) -> MutexGuard<'_, Vec<Option<Upstream>>> {
        lock(&self.receivers)
    }

    fn absent(&self) -> MutexGuard<'_, Vec<Absent>> {
        lock(&self.absent)
    }

    fn upstreams(&self) -> MutexGuard<'_, Vec<Upstream>> {
        lock(&self.upstreams)
    }

    fn etcd(&self) -> MutexGuard<'_, Vec<Upstream>> {
        lock(&self.etcd)
    }
}

fn write(upstream: &mut Upstream, outcome: Result<(), String>) {
    let now = Some(clock::now().wall);
    match outcome {
        Ok(()) => (upstream.last_success, upstream.problem) = (now, None),
        Err(problem) => (upstream.last_failure, upstream.problem) = (now, Some(problem)),
    }
}

fn renewed((endpoint, known): (Option<String>, Option<Upstream>)) -> Option<Upstream> {
    endpoint.map(|endpoint| known.unwrap_or_else(|| unasked(RECEIVER, &endpoint)))
}

/// All servers that the configuration names; none has been asked.
fn named(config: &HttpConfig) -> Vec<Upstream> {
    let upstreams = &config.sora.upstreams;
    let janus = config.janus.as_ref().map(|janus| janus.admin.clone());
    let named = [
        ("auth", &upstreams.auth),
        ("session", &upstreams.session),
        ("event", &upstreams.event),
        (SORA_API, &config.sora.api),
        (JANUS_ADMIN, &janus),
    ];
    let named = named
        .into_iter()
        .filter_map(|(name, url)| Some((name, url.as_ref()?)));
    named
        .map(|(name, url): (&str, &crate::args::http::HttpUrl)| unasked(name, &url.to_string()))
        .collect()
}

fn unasked(name: &str, url: &str) -> Upstream {
    Upstream {
        name: name.to_owned(),
        url: url.to_owned(),
        last_success: None,
        last_failure: None,
        problem: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_counted_and_the_last_one_is_named() {
        let health = Health::default();
        assert_eq!(health.bug_warning(), None);
        health.note_bug("a connection has no session");
        health.note_bug("a node leaves its cluster");
        let warning = health.bug_warning().unwrap();
        assert!(warning.contains("2 bugs"), "{warning}");
        assert!(warning.contains("a node leaves its cluster"), "{warning}");
    }
}
