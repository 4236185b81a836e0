//! The cluster's decisions in every world that is small enough to be searched whole: two nodes, one channel, a linearizable
//! store, member keys that vanish at any step, answers that come late or never, transactions that are executed after the node
//! has stopped waiting for them, daemons that die and start anew. At no time do two SFUs serve the channel.
//!
//! Each mistake of which the protocol keeps clear is planted once in the code: the same search must find what it leads to.

mod fault;
mod node;
mod store;
mod trust;

use std::time::Duration;

use soramode_core::cluster::{FenceAfter, Incarnation, LeaseTerms, Token};
use soramode_core::fault::{Fault, PlantedFault};
use stateright::{Checker, HasDiscoveries, Model, Property};

use node::{Flight, Node, SLOTS};
use store::{Loss, NODES, Store};

/// The model's unit of time.
const TICK: Duration = Duration::from_secs(1_000);

/// A right that lasts for two ticks, and a wait that is over as soon as two have passed: not one tick to spare.
const TERMS: LeaseTerms = LeaseTerms {
    isolated_after: Duration::from_millis(1_979_900),
    fence_after: FenceAfter::After(Duration::from_millis(1_979_900)),
    fence_budget: Duration::ZERO,
};

/// Size of the worlds that are searched.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    ticks: u32,
    revisions: u64,
    /// Number of times that something fails or ends, each at any moment.
    incidents: u8,
    slow: Slow,
    /// A transaction of the member key and one of the claim may be in flight at a time.
    is_parallel: bool,
    /// Loss of the store, once at any moment.
    loss: Option<Loss>,
}

/// The nodes with late answers to their reads. Reads of the others are answered at once, and each tick begins with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slow {
    First,
    Second,
    Both,
}

impl Slow {
    fn is(self, node: usize) -> bool {
        match self {
            Self::First => node == 0,
            Self::Second => node == 1,
            Self::Both => true,
        }
    }
}

const THREADS: usize = 2;

/// Whole in half a minute. The first node has the channel at the beginning.
const USUAL: Bounds = Bounds {
    ticks: 2,
    revisions: 7,
    incidents: 2,
    slow: Slow::First,
    is_parallel: false,
    loss: None,
};

/// With two transactions in flight.
const PARALLEL: Bounds = Bounds {
    incidents: 1,
    is_parallel: true,
    ..USUAL
};

/// Revision that both nodes have seen before the store loses something. A node misses only what it has seen, and the store loses more than is
/// written before the next read.
const SEEN: u64 = 8;

/// Bounds for worlds in which the store loses something.
const LOSING: Bounds = Bounds {
    ticks: 2,
    revisions: SEEN + 3,
    incidents: 1,
    slow: Slow::First,
    is_parallel: false,
    loss: None,
};

struct Cluster {
    fault: PlantedFault,
    bounds: Bounds,
    start: Start,
}

/// The nodes at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Both have joined, and the first has the channel.
    Owned,
    /// Both have joined, and nobody has the channel.
    Unclaimed,
    /// The first has the channel, and the second was never in a cluster.
    Fresh,
    /// The second was never in a cluster, and makes one where it finds none: no node does that by itself.
    Founder,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    tick: u32,
    incidents: u8,
    has_lost: bool,
    store: Store,
    nodes: [Node; NODES],
}

/// A step of one node, or of the store for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// A read of the members is sent and done. The later a read is sent, the longer the right that it gives: so the time
    /// between does not count here.
    Read,
    ReceiveRead,
    /// The node sends a transaction that it decides on by itself, and it is executed.
    Ask,
    /// A transaction that followed from an answer is executed.
    Execute(usize),
    Receive(usize),
    Fence,
    // Incidents.
    /// The node sends a transaction, and does not wait for its answer.
    AskInVain,
    /// The answer to a read is lost.
    LoseRead,
    /// The node stops waiting for a transaction in flight, executed or not.
    GiveUpWaiting(usize),
    ExecuteLate,
    EndSession,
    Vanish,
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Tick,
    Lose(Loss),
    Node(usize, Step),
}

impl World {
    fn now(&self) -> Duration {
        TICK * self.tick
    }

    fn may(&self, node: usize, bounds: Bounds) -> Vec<Step> {
        let Node {
            read, txns, late, ..
        } = &self.nodes[node];
        let owned = self.nodes[node].owned();
        let (now, can_more) = (self.now(), self.incidents < bounds.incidents);
        let is_fenced = self.nodes[node].is_fence_due(now);
        let wants = !is_fenced && self.nodes[node].wants(now).is_some();
        let is_sent = |slot: usize| matches!(txns[slot], Some(Flight::Sent(_)));
        let of_slots = (0..SLOTS).flat_map(|slot| {
            let is_in_flight = txns[slot].is_some();
            [
                (Step::Execute(slot), is_sent(slot)),
                (Step::Receive(slot), is_in_flight && !is_sent(slot)),
                (
                    Step::GiveUpWaiting(slot),
                    can_more && is_in_flight && late.is_none(),
                ),
            ]
        });
        let steps = [
            (Step::Read, !is_fenced && read.is_none()),
            (Step::LoseRead, can_more && read.is_some()),
            (Step::ReceiveRead, read.is_some()),
            (Step::Ask, wants),
            (Step::Fence, is_fenced),
            (Step::AskInVain, can_more && wants && late.is_none()),
            (Step::ExecuteLate, late.is_some()),
            (
                Step::EndSession,
                can_more && owned.is_some() && txns[0].is_none() && !is_fenced,
            ),
            (Step::Vanish, can_more && self.store.members[node].is_some()),
            (Step::Crash, can_more && late.is_none()),
        ];
        steps
            .into_iter()
            .chain(of_slots)
            .filter_map(|(step, may)| may.then_some(step))
            .collect()
    }

    fn step(&mut self, node: usize, step: Step, model: &Cluster) {
        let now = self.now();
        let reads_late = model.bounds.slow.is(node);
        let Self {
            store,
            nodes,
            incidents,
            ..
        } = self;
        let it = &mut nodes[node];
        match step {
            Step::Read => {
                it.read = Some((now, store.show(node)));
                if !reads_late {
                    it.read_came(now);
                }
            }
            Step::LoseRead => it.read = None,
            Step::ReceiveRead => it.read_came(now),
            Step::Ask => {
                if let Some(slot) = it.send_wanted(now) {
                    it.execute(slot, node, store);
                }
            }
            Step::Execute(slot) => it.execute(slot, node, store),
            Step::Receive(slot) => it.txn_came(node, slot, now),
            Step::Fence => it.fence(),
            Step::AskInVain => {
                if let Some(slot) = it.send_wanted(now) {
                    it.give_up_waiting(slot);
                }
            }
            Step::GiveUpWaiting(slot) => it.give_up_waiting(slot),
            Step::ExecuteLate => it.execute_late(node, store),
            Step::EndSession => it.end_session(),
            Step::Vanish => store.vanish(node),
            Step::Crash => it.crash(),
        }
        match step {
            Step::LoseRead
            | Step::AskInVain
            | Step::GiveUpWaiting(_)
            | Step::EndSession
            | Step::Vanish
            | Step::Crash => *incidents += 1,
            Step::Read
            | Step::ReceiveRead
            | Step::Ask
            | Step::Execute(_)
            | Step::Receive(_)
            | Step::Fence
            | Step::ExecuteLate => {}
        }
        nodes[node].poll(now);
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut store = Store::new();
        if self.bounds.loss.is_some() {
            store.revision = SEEN;
        }
        if self.start == Start::Unclaimed {
            store.claim = None;
        }
        let joined = |incarnation, owned| Node::new(incarnation, owned, store.revision, self.fault);
        let owned = store.claim.as_ref().map(|claim| claim.token);
        let first = joined(Incarnation(1), owned);
        let second = match self.start {
            Start::Owned | Start::Unclaimed => joined(Incarnation(2), None),
            Start::Fresh | Start::Founder => {
                store.members[1] = None;
                Node::fresh(self.fault)
            }
        };
        let mut nodes = [first, second];
        for node in &mut nodes {
            node.is_parallel = self.bounds.is_parallel;
            node.is_founder = self.start == Start::Founder;
        }
        nodes[0].poll(Duration::ZERO);
        vec![World {
            tick: 0,
            incidents: 0,
            has_lost: false,
            store,
            nodes,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.tick < self.bounds.ticks {
            actions.push(Action::Tick);
        }
        if !world.has_lost
            && let Some(loss) = self.bounds.loss
        {
            actions.push(Action::Lose(loss));
        }
        for node in 0..NODES {
            actions.extend(
                world
                    .may(node, self.bounds)
                    .into_iter()
                    .map(|step| Action::Node(node, step)),
            );
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Tick => {
                world.tick += 1;
                let now = world.now();
                for node in &mut world.nodes {
                    node.sfu = node.sfu.filter(|until| now < *until);
                    node.poll(now);
                }
                for node in (0..NODES).filter(|node| !self.bounds.slow.is(*node)) {
                    world.step(node, Step::Read, self);
                }
            }
            Action::Lose(loss) => {
                world.has_lost = true;
                world.store.lose(loss);
            }
            Action::Node(node, step) => world.step(node, step, self),
        }
        Some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.store.revision <= self.bounds.revisions
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("no channel is served twice", |_, world: &World| {
                world
                    .nodes
                    .iter()
                    .filter(|node| node.is_serving(world.now()))
                    .count()
                    < 2
            }),
            Property::sometimes("taken over", |_, world: &World| {
                world.nodes[1].is_serving(world.now())
                    && world.nodes[0].ownership.lease().is_some()
                    && world.tick > 1
            }),
            Property::sometimes("adopted anew", |_, world: &World| {
                world.nodes[0]
                    .ownership
                    .lease()
                    .is_some_and(|lease| lease.incarnation() > Incarnation(2))
                    && world.nodes[0].owned() > Some(Token(4))
            }),
            Property::sometimes("released and claimed by another", |_, world: &World| {
                world.nodes[1].is_serving(world.now()) && world.tick == 0
            }),
        ]
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how much to look at is the tester's to say"
)]
fn bounds() -> Bounds {
    let Ok(text) = std::env::var("SORAMODE_MODEL") else {
        return USUAL;
    };
    read_bounds(&text).unwrap_or_else(|| {
        panic!("SORAMODE_MODEL takes ticks,revisions,incidents,first|second|both[,parallel], got {text:?}")
    })
}

fn read_bounds(text: &str) -> Option<Bounds> {
    let mut words = text.split(',');
    Some(Bounds {
        loss: None,
        is_parallel: words.clone().count() > 4,
        ticks: words.next()?.parse().ok()?,
        revisions: words.next()?.parse().ok()?,
        incidents: words.next()?.parse().ok()?,
        slow: match words.next()? {
            "first" => Slow::First,
            "second" => Slow::Second,
            "both" => Slow::Both,
            _ => return None,
        },
    })
}

#[test]
fn no_channel_is_ever_served_by_two_nodes() {
    println!("{}", check_all(bounds()));
}

#[test]
fn no_channel_is_served_by_two_nodes_with_two_transactions_in_flight() {
    println!("{}", check_all(PARALLEL));
}

/// Searches every world; returns how many there are.
fn check_all(bounds: Bounds) -> String {
    let checker = Cluster {
        fault: PlantedFault::NONE,
        bounds,
        start: Start::Owned,
    }
    .checker()
    .threads(THREADS)
    .spawn_dfs()
    .join();
    assert!(checker.is_done());
    checker.assert_properties();
    format!(
        "{} worlds, {} of them different, up to {} steps deep",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    )
}

/// Checks that a mistake is found: the search ends with the first world in which two nodes serve the channel.
fn must_be_found(fault: Fault, bounds: Bounds) {
    must_be_found_with(Some(fault), bounds, Start::Owned);
}

fn must_be_found_with(fault: Option<Fault>, bounds: Bounds, start: Start) {
    let property = "no channel is served twice";
    let found = HasDiscoveries::AnyOf(std::iter::once(property).collect());
    let checker = Cluster {
        fault: fault.map_or(PlantedFault::NONE, PlantedFault::of),
        bounds,
        start,
    }
    .checker()
    .threads(THREADS)
    .finish_when(found)
    .spawn_dfs()
    .join();
    assert!(
        checker.discovery(property).is_some(),
        "{fault:?}, {start:?}: not found in {} worlds",
        checker.unique_state_count()
    );
}

/// A store that is emptied, set back or replaced is taken by no node that has seen more, or by a fresh one.
#[test]
fn no_channel_is_served_by_two_nodes_also_if_the_store_loses_writes() {
    let worlds = [
        (Loss::Emptied, Start::Owned),
        (Loss::Emptied, Start::Fresh),
        (Loss::RolledBack, Start::Owned),
        (Loss::Replaced, Start::Owned),
    ];
    for (loss, start) in worlds {
        let bounds = Bounds {
            loss: Some(loss),
            ..LOSING
        };
        let property = "no channel is served twice";
        let checker = Cluster {
            fault: PlantedFault::NONE,
            bounds,
            start,
        }
        .checker()
        .threads(THREADS)
        .spawn_dfs()
        .join();
        println!(
            "{loss:?}, {start:?}: {} different worlds",
            checker.unique_state_count()
        );
        assert!(checker.is_done());
        checker.assert_no_discovery(property);
    }
}
