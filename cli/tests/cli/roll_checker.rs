//! Judges rolls from outside, by the events of the daemons: how many nodes were open at each close, and which roll had closed which; and by
//! the daemons' records, how long a reservation outlasts its roll.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use soramode_protocol::time::Time;
use soramode_testkit::control_client::TestClient;

/// Time for which a dead roll keeps others out, and a daemon that has started anew.
const BLOCKED_MAX: Duration = Duration::from_mins(1);

/// Time that a daemon may take from its start, which it shows, to the first step of its gate, which begins a reservation anew.
const START_MAX: Duration = Duration::from_secs(5);

/// Promise of a roll: of its nodes, this number of others is open at each close.
#[derive(Clone, Debug)]
pub(crate) struct Promise {
    pub(crate) nodes: Vec<usize>,
    pub(crate) keep_open: usize,
}

/// A change of a node's mode.
#[derive(Clone, Debug)]
struct Change {
    /// Time of the event, in the daemon's words: they sort by time.
    at: String,
    node: usize,
    is_close: bool,
    is_block: bool,
    roll: Option<String>,
}

/// The events of all nodes so far.
pub(crate) struct Checker {
    sockets: Vec<PathBuf>,
    /// The sequence number of the next event of each node.
    next: Vec<u64>,
    changes: Vec<Change>,
    /// Rolls that are over or dead, each with a time after which nothing of it reaches a node.
    ends: BTreeMap<String, Time>,
    /// Violations of I4.
    overlong: Vec<String>,
    /// Number of gaps in the nodes' logs. Each loss of power makes one at most.
    pub(crate) gaps: u32,
    pub(crate) promises: BTreeMap<String, Promise>,
}

/// Findings from the events.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// Number of closes by rolls.
    pub(crate) closes: usize,
    /// Fewest nodes of all that were open at the same time.
    pub(crate) least_open: usize,
    /// Fewest of a roll's other nodes that were open when it closed one, beyond what it promised.
    pub(crate) least_to_spare: Option<usize>,
    /// Pairs of rolls that had nodes of the same list closed at the same time.
    pub(crate) together: Vec<(String, String)>,
    pub(crate) violations: Vec<String>,
}

impl Checker {
    pub(crate) fn new(sockets: Vec<PathBuf>) -> Self {
        Self {
            next: vec![1; sockets.len()],
            sockets,
            changes: Vec::new(),
            ends: BTreeMap::new(),
            overlong: Vec::new(),
            gaps: 0,
            promises: BTreeMap::new(),
        }
    }

    /// Reads the events since the last time. All daemons run.
    pub(crate) fn read(&mut self) {
        for (node, socket) in self.sockets.iter().enumerate() {
            let mut client = TestClient::to(socket);
            let from = self.next[node];
            let subscribed = client.get("Subscribe", &json!({ "from": from }));
            let next = subscribed["next_seq"].as_u64().unwrap();
            let mut read = from;
            while read < next {
                let message = client.recv();
                if message["method"] == "Gap" {
                    // A loss of power skips the numbers that were reserved.
                    self.gaps += 1;
                    read = message["params"]["to"].as_u64().unwrap() + 1;
                }
                if message["method"] == "Event" {
                    let event = &message["params"];
                    read = event["seq"].as_u64().unwrap() + 1;
                    self.changes.extend(change(node, event));
                }
            }
            self.next[node] = next;
        }
        self.changes.sort_by(|a, b| a.at.cmp(&b.at));
    }

    /// Notes that nothing of this roll reaches a node from now on.
    pub(crate) fn note_end(&mut self, roll: &str) {
        self.ends.insert(roll.to_owned(), now());
    }

    /// Notes that a command goes on with this roll.
    pub(crate) fn note_resumed(&mut self, roll: &str) {
        self.ends.remove(roll);
    }

    /// Checks I4 by the present records; returns the number of nodes that a roll still blocks which is over or dead. All daemons run.
    pub(crate) fn check_reservations(&mut self) -> usize {
        let sockets = self.sockets.clone();
        let mut blocked = 0;
        for (node, socket) in sockets.iter().enumerate() {
            let asked = now();
            let status = TestClient::to(socket).status();
            blocked += usize::from(self.check_reservation(asked, node, &status));
        }
        blocked
    }

    /// Checks one record, of a status that was asked for at this time or later.
    fn check_reservation(&mut self, asked: Time, node: usize, status: &Value) -> bool {
        let record = &status["reservation"];
        let (Some(roll), Some(left)) = (
            record["roll"].as_str(),
            record["expires_in_seconds"].as_u64(),
        ) else {
            return false;
        };
        let Some(&end) = self.ends.get(roll) else {
            return false;
        };
        let started: Time = status["started_at"].as_str().unwrap().parse().unwrap();
        let limit = end.max(started + START_MAX) + BLOCKED_MAX;
        // The seconds are rounded up.
        let expires = asked + Duration::from_secs(left.saturating_sub(1));
        if expires > limit {
            let violation = format!("I4: {roll} blocks {node} until {expires}, not {limit}");
            self.overlong.push(violation);
        }
        true
    }

    /// Checks I1 to I3 at each close, and I4 as noted.
    pub(crate) fn judge(&self) -> Verdict {
        let mut closed: BTreeMap<usize, Option<&str>> = BTreeMap::new();
        let mut verdict = Verdict {
            closes: 0,
            least_open: self.sockets.len(),
            least_to_spare: None,
            together: Vec::new(),
            violations: self.overlong.clone(),
        };
        for change in &self.changes {
            let roll = change.roll.as_deref();
            if let Some(roll) = roll.filter(|_| change.is_close) {
                self.judge_close(change, roll, &closed, &mut verdict);
            }
            if change.is_block {
                closed.insert(change.node, roll);
            } else {
                closed.remove(&change.node);
            }
            let open = self.sockets.len() - closed.len();
            verdict.least_open = verdict.least_open.min(open);
        }
        verdict
    }

    fn judge_close(
        &self,
        change: &Change,
        roll: &str,
        closed: &BTreeMap<usize, Option<&str>>,
        verdict: &mut Verdict,
    ) {
        verdict.closes += 1;
        let Some(promise) = self.promises.get(roll) else {
            let violation = format!("{roll} is no roll of this test: {change:?}");
            return verdict.violations.push(violation);
        };
        if closed.values().any(|it| *it == Some(roll)) {
            let violation = format!("I1: {roll} has two nodes closed: {closed:?}, {change:?}");
            verdict.violations.push(violation);
        }
        let others = promise.nodes.iter().filter(|node| **node != change.node);
        let open = others.filter(|node| !closed.contains_key(node)).count();
        match open.checked_sub(promise.keep_open) {
            Some(spare) => {
                let least = verdict
                    .least_to_spare
                    .map_or(spare, |least| least.min(spare));
                verdict.least_to_spare = Some(least);
            }
            None => verdict.violations.push(format!(
                "I2: {roll} closes {} while {open} others are open, not {}",
                change.node, promise.keep_open
            )),
        }
        for other in closed.values().flatten().filter(|other| **other != roll) {
            let theirs = self.promises.get(*other);
            let is_shared =
                theirs.is_some_and(|it| it.nodes.iter().any(|node| promise.nodes.contains(node)));
            if is_shared {
                let pair = ((*other).to_owned(), roll.to_owned());
                verdict.together.push(pair);
            }
        }
    }
}

fn change(node: usize, event: &Value) -> Option<Change> {
    if event["type"] != "mode.changed" {
        return None;
    }
    let is_block = |mode: &Value| mode.as_str().unwrap().starts_with("block_");
    Some(Change {
        at: event["timestamp"].as_str().unwrap().to_owned(),
        node,
        is_close: is_block(&event["mode"]) && !is_block(&event["previous_mode"]),
        is_block: is_block(&event["mode"]),
        roll: event["roll"].as_str().map(str::to_owned),
    })
}

/// The wall clock, which is the daemons' too.
fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Time::from_micros(since.as_micros().try_into().unwrap())
}

#[test]
fn a_reservation_that_outlasts_its_roll_is_found() {
    let check = |after_end: Duration, restarted_after: Option<Duration>, left: u64| {
        let mut checker = Checker::new(Vec::new());
        checker.note_end("R1");
        let end = checker.ends["R1"];
        let started = restarted_after.map_or(Time::from_micros(0), |time| end + time);
        let status = json!({
            "started_at": started, "reservation": {"roll": "R1", "expires_in_seconds": left},
        });
        assert!(checker.check_reservation(end + after_end, 0, &status));
        checker.judge().violations.len()
    };
    let seconds = Duration::from_secs;
    assert_eq!(check(seconds(0), None, 60), 0);
    assert_eq!(check(seconds(20), None, 41), 0);
    assert_eq!(check(seconds(20), None, 60), 1);
    assert_eq!(check(seconds(0), None, 600), 1);
    assert_eq!(check(seconds(50), Some(seconds(50)), 60), 0);
    assert_eq!(check(seconds(80), Some(seconds(50)), 60), 1);
}
