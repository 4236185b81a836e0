//! Judges a run of a cluster by what its SFUs served and by what etcd's own history says: independent of soramode, which is
//! what is judged. All times are of one boot clock.
//!
//! 1. No two nodes ever serve one channel at the same time.
//! 2. Tokens grow in the order of service.
//! 3. Each service lies inside its claim's life.
//! 4. No node makes a new claim while it is not published as `normal`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One node served one channel, under one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) channel: String,
    pub(crate) node: String,
    pub(crate) token: u64,
    pub(crate) start: Duration,
    /// End of the service; for one that continues, the time of the check: later events were not
    /// observed yet.
    pub(crate) end: Duration,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            channel,
            node,
            token,
            start,
            end,
        } = self;
        write!(
            f,
            "{channel} on {node} with token {token} from {start:.3?} to {end:.3?}"
        )
    }
}

/// A change of a key, in the order of etcd's revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    /// Time at which the watch reported it: no earlier than it happened.
    pub(crate) seen: Option<Duration>,
    pub(crate) what: What,
}

/// Change of the cluster's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A node wrote a channel's claim; the revision is its token.
    Claimed { channel: String, node: String },
    /// A channel's claim was deleted.
    Freed { channel: String },
    /// A node's published mode; none when its key is gone.
    Mode { node: String, mode: Option<String> },
}

/// Violation of a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Both served at the same time, for so long.
    Overlap {
        first: Service,
        second: Service,
        time: Duration,
    },
    /// The later service has not the larger token.
    TokenOrder { first: Service, second: Service },
    /// No claim of this node for this channel was written at that revision.
    NoSuchClaim(Service),
    /// It went on when the claim had been seen to be another's, or deleted.
    OutlivedItsClaim { service: Service, seen: Duration },
    /// The claim of this revision is new, and its node was not `normal`.
    ClaimWhileNotNormal {
        revision: u64,
        channel: String,
        node: String,
        mode: Option<String>,
    },
}

/// All that is wrong with a run.
pub(crate) fn check(services: &[Service], history: &[Change]) -> Vec<Violation> {
    let mut by_channel: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in services {
        by_channel
            .entry(&service.channel)
            .or_default()
            .push(service);
    }
    let mut violations = Vec::new();
    for served in by_channel.values_mut() {
        served.sort_by_key(|service| service.start);
        check_overlaps(served, &mut violations);
        check_tokens(served, &mut violations);
    }
    check_lives(services, history, &mut violations);
    check_modes(history, &mut violations);
    violations
}

/// Each service against those of other nodes that began before it and go on longest.
fn check_overlaps(served: &[&Service], violations: &mut Vec<Violation>) {
    let mut longest: BTreeMap<&str, &Service> = BTreeMap::new();
    for second in served {
        for first in longest
            .values()
            .filter(|first| first.node != second.node && second.start < first.end)
        {
            // Two services that began at once have no order: any common time is a violation.
            let time = first.end.min(second.end).saturating_sub(second.start);
            if !time.is_zero() {
                violations.push(Violation::Overlap {
                    first: (*first).clone(),
                    second: (*second).clone(),
                    time,
                });
            }
        }
        if longest
            .get(second.node.as_str())
            .is_none_or(|known| known.end < second.end)
        {
            longest.insert(&second.node, second);
        }
    }
}

fn check_tokens(served: &[&Service], violations: &mut Vec<Violation>) {
    let mut highest: Option<&Service> = None;
    for second in served {
        if let Some(first) = highest {
            let is_in_order = if first.node == second.node {
                first.token <= second.token
            } else {
                first.token < second.token
            };
            if !is_in_order {
                violations.push(Violation::TokenOrder {
                    first: first.clone(),
                    second: (*second).clone(),
                });
            }
        }
        if highest.is_none_or(|first| first.token < second.token) {
            highest = Some(second);
        }
    }
}

/// A life of a claim: from a node's first writing of it to the change that makes it another's or nobody's. A node that writes
/// its own claim anew goes on with that life.
struct Life<'a> {
    node: &'a str,
    tokens: Vec<u64>,
    /// Seen to be over at this time.
    over: Option<Duration>,
}

fn check_lives(services: &[Service], history: &[Change], violations: &mut Vec<Violation>) {
    let mut lives: BTreeMap<&str, Vec<Life<'_>>> = BTreeMap::new();
    for change in history {
        match &change.what {
            What::Claimed { channel, node } => {
                let lives = lives.entry(channel).or_default();
                if let Some(life) = lives
                    .last_mut()
                    .filter(|life| life.node == node && life.over.is_none())
                {
                    life.tokens.push(change.revision);
                } else {
                    end_life(lives, change);
                    lives.push(Life {
                        node,
                        tokens: vec![change.revision],
                        over: None,
                    });
                }
            }
            What::Freed { channel } => end_life(lives.entry(channel).or_default(), change),
            What::Mode { .. } => {}
        }
    }
    for service in services {
        let of_channel = lives
            .get(service.channel.as_str())
            .map_or(&[][..], Vec::as_slice);
        match of_channel
            .iter()
            .find(|life| life.node == service.node && life.tokens.contains(&service.token))
        {
            None => violations.push(Violation::NoSuchClaim(service.clone())),
            Some(Life {
                over: Some(seen), ..
            }) if *seen < service.end => {
                violations.push(Violation::OutlivedItsClaim {
                    service: service.clone(),
                    seen: *seen,
                });
            }
            Some(_) => {}
        }
    }
}

/// Ends the newest life, if it has not ended. Where nobody saw the change there is no time to hold a service against.
fn end_life(lives: &mut [Life<'_>], change: &Change) {
    if let Some(life) = lives.last_mut().filter(|life| life.over.is_none()) {
        life.over = Some(change.seen.unwrap_or(Duration::MAX));
    }
}

fn check_modes(history: &[Change], violations: &mut Vec<Violation>) {
    let mut modes: BTreeMap<&str, &str> = BTreeMap::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for change in history {
        match &change.what {
            What::Claimed { channel, node } => {
                let is_new = owners.insert(channel, node) != Some(node);
                let mode = modes.get(node.as_str()).copied();
                if is_new && mode != Some("normal") {
                    let (channel, node, mode) =
                        (channel.clone(), node.clone(), mode.map(str::to_owned));
                    violations.push(Violation::ClaimWhileNotNormal {
                        revision: change.revision,
                        channel,
                        node,
                        mode,
                    });
                }
            }
            What::Freed { channel } => {
                owners.remove(channel.as_str());
            }
            What::Mode {
                node,
                mode: Some(mode),
            } => {
                modes.insert(node, mode);
            }
            What::Mode { node, mode: None } => {
                modes.remove(node.as_str());
            }
        }
    }
}
