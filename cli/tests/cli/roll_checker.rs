//! Judges rolls from outside, by the events of the daemons: how many nodes were open at each close, and which roll had closed which.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;

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

    /// Checks I1 to I3 at each close.
    pub(crate) fn judge(&self) -> Verdict {
        let mut closed: BTreeMap<usize, Option<&str>> = BTreeMap::new();
        let mut verdict = Verdict {
            closes: 0,
            least_open: self.sockets.len(),
            least_to_spare: None,
            together: Vec::new(),
            violations: Vec::new(),
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
