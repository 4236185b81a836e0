//! Several real gates in one cluster, against a naive etcd and a naive model of claims: answers are late, lost or come in another order,
//! daemons and machines end and start, member keys vanish, clocks run at rates of their own. No channel may be served by two nodes.
//!
//! `SORAMODE_CLUSTER_SEEDS` plays N seeds, `SORAMODE_SEED` one alone.

mod clients;
mod faults;
mod node;

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::cluster::{FenceAfter, LeaseTerms, Token};
use soramode_core::effect::{Action, Effects};
use soramode_core::fault::PlantedFault;
use soramode_core::handles::{ReplyHandle, SocketId};
use soramode_core::input::{HostState, Input, SoraInput};
use soramode_core::member::etcd::{EtcdRequest, EtcdResponse, MembersRead};
use soramode_protocol::decision::Decision;
use soramode_protocol::id::ChannelId;
use soramode_protocol::reply::Reply;

use crate::etcd::Etcd;
use crate::seeds::{Rng, seeds};
use node::{Node, Reads};

const SEEDS_DEFAULT: u64 = 2_000;

/// Time with clients and faults.
const TIME: Duration = Duration::from_mins(2);

/// Time after that in which nothing fails.
const HEALED: Duration = Duration::from_mins(2);

const HEARTBEAT: Duration = Duration::from_secs(2);

/// Sora's requests have one socket, which does not close.
const SORA: SocketId = SocketId(0);

/// Something that is going to happen.
enum Due {
    /// A node reads the members.
    Beat {
        node: usize,
        start: u64,
    },
    /// A request arrives at etcd.
    Arrive {
        node: usize,
        start: u64,
        request: Sent,
    },
    /// Something arrives at a node.
    Deliver {
        node: usize,
        start: u64,
        message: Message,
    },
    /// A client, or a fault.
    Client,
    Fault,
    Start {
        node: usize,
        host: HostState,
    },
}

enum Sent {
    Read { at: Duration },
    Request(Box<EtcdRequest>),
}

enum Message {
    Read {
        sent: Duration,
        view: Box<MembersRead>,
    },
    Input(Box<Input>),
}

impl Message {
    /// Returns whether it answers a read of the members.
    fn is_read(&self) -> bool {
        match self {
            Self::Read { .. } => true,
            Self::Input(input) => matches!(
                input.as_ref(),
                Input::Etcd(EtcdResponse::MembersReadFailed(_))
            ),
        }
    }
}

struct World {
    rng: Rng,
    /// Draws the mistakes of operators and SFUs, so that those of networks are as they were.
    mistakes: Rng,
    now: Duration,
    etcd: Etcd,
    nodes: Vec<Node>,
    due: BTreeMap<(Duration, u64), Due>,
    last_due: u64,
    is_healed: bool,
    /// The newest token under which each channel was offered.
    offered: BTreeMap<ChannelId, Token>,
    trace: Vec<String>,
    offers: u64,
}

impl World {
    fn new(seed: u64, fault: PlantedFault) -> Self {
        let mut rng = Rng(seed);
        let fence_after = if rng.one_in(4) {
            FenceAfter::Never
        } else {
            FenceAfter::After(Duration::from_secs(12))
        };
        let terms = LeaseTerms {
            isolated_after: Duration::from_secs(6),
            fence_after,
            fence_budget: Duration::from_secs(2),
        };
        let names = ["n0", "n1", "n2"];
        let count = 2 + usize::try_from(rng.below(2)).unwrap();
        let nodes: Vec<Node> = names
            .iter()
            .take(count)
            .map(|name| {
                let rate = 995 + u32::try_from(rng.below(10)).unwrap();
                Node::new(name, terms, rate, fault)
            })
            .collect();
        let mut world = Self {
            rng,
            mistakes: Rng(!seed),
            now: Duration::ZERO,
            etcd: Etcd::new(),
            nodes,
            due: BTreeMap::new(),
            last_due: 0,
            is_healed: false,
            offered: BTreeMap::new(),
            trace: Vec::new(),
            offers: 0,
        };
        for node in 0..count {
            world.nodes[node].is_fence_stuck = world.mistakes.one_in(8);
            let host = HostState::Running;
            world.after(Duration::from_millis(10), Due::Start { node, host });
        }
        world.after(Duration::from_secs(5), Due::Client);
        world.after(Duration::from_secs(8), Due::Fault);
        world
    }

    fn after(&mut self, time: Duration, due: Due) {
        self.last_due += 1;
        self.due.insert((self.now + time, self.last_due), due);
    }

    /// Draws the time that a message takes.
    fn flight(&mut self) -> Duration {
        let rng = &mut self.rng;
        match rng.below(20) {
            0 if !self.is_healed => Duration::from_millis(rng.below(5_000)),
            1 if !self.is_healed => Duration::from_millis(rng.below(500)),
            _ => Duration::from_micros(100 + rng.below(20_000)),
        }
    }

    fn is_lost(&mut self, node: usize) -> bool {
        let is_cut = self.nodes[node].cut_until > self.now;
        is_cut || (!self.is_healed && self.rng.one_in(25))
    }

    fn run(&mut self) {
        while self.now < TIME {
            self.next();
        }
        self.is_healed = true;
        for node in 0..self.nodes.len() {
            self.nodes[node].cut_until = Duration::ZERO;
        }
        while self.now < TIME + HEALED {
            self.next();
        }
        for node in &mut self.nodes {
            node.check_end(self.now, &self.etcd);
        }
    }

    /// The next thing that happens: of a gate's deadlines, or of all else.
    fn next(&mut self) {
        let deadline = |(index, node): (usize, &Node)| {
            let boot = node.gate.as_ref()?.next_deadline()?;
            Some((node.when(boot).max(self.now), index))
        };
        let ticks = self.nodes.iter().enumerate().filter_map(deadline).min();
        let first = self.due.keys().next().copied();
        if let Some((at, node)) = ticks
            && first.is_none_or(|(due, _)| at <= due)
        {
            self.now = at;
            return self.step(node, Input::Tick);
        }
        let Some(((at, _), due)) = self.due.pop_first() else {
            panic!("nothing is going to happen");
        };
        self.now = at;
        self.etcd.expire(self.now);
        self.happen(due);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Beat { node, start } if self.is_running(node, start) => {
                self.send_read(node);
                let pause = HEARTBEAT + Duration::from_millis(self.rng.below(100));
                self.after(pause, Due::Beat { node, start });
            }
            Due::Arrive {
                node,
                start,
                request,
            } => self.arrive(node, start, request),
            Due::Deliver {
                node,
                start,
                message,
            } if self.is_running(node, start) => {
                let is_read = message.is_read();
                let input = match message {
                    Message::Read { sent, view } => self.nodes[node].read(self.now, *view, sent),
                    Message::Input(input) => *input,
                };
                if let Input::Sora(SoraInput::ConnectionCreated {
                    channel_id,
                    connection_id,
                    ..
                }) = &input
                    && !self.nodes[node].expects(connection_id, channel_id)
                {
                    return;
                }
                self.step(node, input);
                if is_read && std::mem::take(&mut self.nodes[node].reads) == Reads::AndAnother {
                    self.send_read(node);
                }
            }
            Due::Client if !self.is_healed => {
                self.client();
                let pause = Duration::from_millis(self.rng.below(400));
                self.after(pause, Due::Client);
            }
            Due::Fault if !self.is_healed => {
                self.fault();
                let pause = Duration::from_millis(self.rng.below(20_000));
                self.after(pause, Due::Fault);
            }
            Due::Start { node, host } => {
                let effects = self.nodes[node].start(self.now, host);
                let start = self.nodes[node].caller.start;
                self.perform(node, effects);
                self.happen(Due::Beat { node, start });
            }
            // The daemon has ended, or there are no clients and faults any more.
            Due::Beat { .. } | Due::Deliver { .. } | Due::Client | Due::Fault => {}
        }
    }

    fn is_running(&self, node: usize, start: u64) -> bool {
        self.nodes[node].gate.is_some() && self.nodes[node].caller.start == start
    }

    fn step(&mut self, node: usize, input: Input) {
        self.trace
            .push(format!("{} n{node} {input:?}", self.now.as_nanos()));
        let effects = self.nodes[node].step(self.now, input);
        self.perform(node, effects);
    }

    fn perform(&mut self, node: usize, effects: Effects) {
        for record in &effects.records {
            self.trace.push(format!("  {record:?}"));
        }
        for action in effects.actions {
            self.trace.push(format!("  {action:?}"));
            match action {
                Action::Answer(reply_to, answer) => {
                    self.nodes[node].check_answer(self.now, &self.etcd, reply_to, &answer);
                    if let Ok(Reply::Decision(decision)) = answer {
                        self.decided(node, reply_to, decision);
                    }
                }
                Action::Etcd(request) => self.send(node, *request),
                Action::Fence { id, .. } => {
                    let fails = self.rng.one_in(3) && !self.is_healed;
                    let outcome = if fails || self.nodes[node].is_fence_stuck {
                        Err("it did not work".to_owned())
                    } else {
                        Ok(())
                    };
                    let time = Duration::from_millis(self.rng.below(1_900));
                    self.deliver(node, time, Input::FenceFinished { id, outcome });
                }
                Action::Deferred(_) | Action::Progress(..) | Action::Sfu(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.check_service();
    }

    /// No channel is served by two nodes.
    fn check_service(&self) {
        let mut servers: BTreeMap<ChannelId, &Node> = BTreeMap::new();
        for node in &self.nodes {
            for channel_id in node.served(self.now) {
                if let Some(other) = servers.insert(channel_id.clone(), node) {
                    panic!(
                        "{:?} serves {channel_id:?}, and so does {:?}",
                        node.caller.name, other.caller.name
                    );
                }
            }
        }
    }

    fn decided(&mut self, node: usize, reply_to: ReplyHandle, decision: Decision) {
        let Decision::Offer {
            channel_id,
            connection_id,
            claim: Some(claim),
            ..
        } = decision
        else {
            return;
        };
        // A connection that is there is offered again under the node's last claim, and the offer says that this has expired.
        if claim.valid_for_ms == Some(0) {
            return;
        }
        self.offers += 1;
        let newest = self.offered.entry(channel_id.clone()).or_insert(Token(0));
        assert!(*newest <= Token(claim.token), "an offer under an old claim");
        *newest = Token(claim.token);
        if reply_to.socket == SORA {
            let input = if self.rng.one_in(4) {
                SoraInput::Denied { connection_id }
            } else {
                SoraInput::ConnectionCreated {
                    channel_id,
                    session_id: None,
                    connection_id,
                    client_id: None,
                }
            };
            let time = Duration::from_millis(self.rng.below(500));
            self.deliver(node, time, Input::Sora(input));
        }
    }

    fn deliver(&mut self, node: usize, time: Duration, input: Input) {
        let start = self.nodes[node].caller.start;
        self.deliver_to(node, start, time, Message::Input(Box::new(input)));
    }

    /// Delivers a message to the daemon that started then.
    fn deliver_to(&mut self, node: usize, start: u64, time: Duration, message: Message) {
        self.after(
            time,
            Due::Deliver {
                node,
                start,
                message,
            },
        );
    }

    /// A daemon reads the members once at a time; what is wanted meanwhile follows.
    fn send_read(&mut self, node: usize) {
        let reads = &mut self.nodes[node].reads;
        *reads = match reads {
            Reads::None => Reads::One,
            Reads::One | Reads::AndAnother => {
                *reads = Reads::AndAnother;
                return;
            }
        };
        let at = self.nodes[node].boot(self.now);
        self.send_on(node, Sent::Read { at });
    }

    fn send(&mut self, node: usize, request: EtcdRequest) {
        match request {
            EtcdRequest::ReadMembers => self.send_read(node),
            EtcdRequest::Trust { .. } => self.nodes[node].is_trusting = true,
            request if self.nodes[node].is_trusting => {
                self.send_on(node, Sent::Request(Box::new(request)));
            }
            request => {
                if let Some(refused) = request.refused("no etcd is trusted") {
                    self.deliver(node, Duration::from_micros(1), Input::Etcd(refused));
                }
            }
        }
    }

    fn send_on(&mut self, node: usize, request: Sent) {
        let start = self.nodes[node].caller.start;
        if self.is_lost(node) {
            return self.lose(node, start, request);
        }
        let time = self.flight();
        self.after(
            time,
            Due::Arrive {
                node,
                start,
                request,
            },
        );
    }

    fn lose(&mut self, node: usize, start: u64, request: Sent) {
        let why = "etcd does not answer";
        let response = match request {
            Sent::Read { .. } => Some(EtcdResponse::MembersReadFailed(why.to_owned())),
            Sent::Request(request) => request.refused(why),
        };
        if let Some(response) = response
            && self.is_running(node, start)
        {
            self.deliver(node, Duration::from_secs(1), Input::Etcd(response));
        }
    }

    /// etcd carries out what arrives, also of a daemon that is not there any more; the answer may be lost all the same.
    fn arrive(&mut self, node: usize, start: u64, request: Sent) {
        let mut caller = self.nodes[node].caller.clone();
        caller.start = start;
        let (now, is_lost) = (self.now, self.is_lost(node));
        let mut late = Duration::ZERO;
        let message = match request {
            Sent::Read { at: sent } => {
                let view = Box::new(self.etcd.read(&caller, now));
                if is_lost {
                    return self.lose(node, start, Sent::Read { at: sent });
                }
                Message::Read { sent, view }
            }
            Sent::Request(request) => {
                let response = self.etcd.execute(&caller, now, request.as_ref().clone());
                if is_lost {
                    return self.lose(node, start, Sent::Request(request));
                }
                let Some(response) = response else { return };
                if self.is_key_lost_after(&response) {
                    self.etcd.lose_member(&caller.name);
                    late = Duration::from_millis(self.rng.below(5_000));
                }
                Message::Input(Box::new(Input::Etcd(response)))
            }
        };
        let time = late + self.flight();
        self.deliver_to(node, start, time, message);
    }
}

/// Plays a seed; returns its trace, the number of its offers, and the result.
pub(crate) fn play(seed: u64, fault: PlantedFault) -> (Vec<String>, u64, std::thread::Result<()>) {
    let mut world = World::new(seed, fault);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    (world.trace, world.offers, result)
}

#[test]
fn no_channel_is_served_by_two_nodes_and_every_client_is_answered() {
    let seeds = seeds("SORAMODE_CLUSTER_SEEDS", SEEDS_DEFAULT);
    let (mut offers, mut steps, runs) = (0, 0, seeds.end - seeds.start);
    for seed in seeds {
        let (trace, offered, result) = play(seed, PlantedFault::NONE);
        offers += offered;
        steps += trace.iter().filter(|line| !line.starts_with(' ')).count();
        if result.is_err() {
            let last = if runs == 1 {
                0
            } else {
                trace.len().saturating_sub(60)
            };
            panic!(
                "seed {seed}: SORAMODE_SEED={seed} plays it alone. It ended with:\n{}",
                trace[last..].join("\n")
            );
        }
    }
    assert!(offers > runs * 10, "only {offers} offers in {runs} runs");
    println!("cluster simulation: {runs} runs, {steps} steps, {offers} offers");
}
