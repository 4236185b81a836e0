//! Rolls at the same time, from many seeds: each close keeps enough of the roll's other nodes open, and each planted mistake is found.
//!
//! `SORAMODE_SEEDS` sets the number of seeds; `SORAMODE_SEED` plays one alone.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use fastrand::Rng;
use soramode_core::fault::{Fault as GateFault, PlantedFault as GatePlanted};
use soramode_core::input::HostState;
use soramode_protocol::mode::{ChangeMode, SettableMode};
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::Reservation;
use soramode_roll::fault::{Fault, PlantedFault};
use soramode_roll::{CallId, Input, RESERVED_SECONDS, StopKind};

use crate::commands::{Command, Event, Events, Faults, Odds, answer, settings};
use crate::nodes::{Nodes, Promise};

const SEEDS_DEFAULT: u64 = 600;

/// Number of seeds in which a planted mistake must show.
const SEEDS_WITH_FAULT: u64 = 10_000;

const TIME_MAX: Duration = Duration::from_mins(40);

/// Events that a run has at most: one that goes round in circles is a failure.
const EVENTS_MAX: usize = 200_000;

#[derive(Default)]
struct Counts {
    done: u64,
    stopped: u64,
    resumed: u64,
    closes: u64,
}

struct World {
    nodes: Nodes,
    events: Events,
    commands: Vec<Command>,
    rng: Rng,
    now: Duration,
    faults: Faults,
    odds: Odds,
    resumed: u64,
    /// True if the host had rebooted since the command, when a call of a command was answered.
    rebooted_at: BTreeMap<(usize, CallId), bool>,
    /// Nodes that each command has released, each with the number of its starts then.
    released: BTreeMap<(usize, usize), u8>,
    /// The command that has reserved each node last, or renewed it.
    reserved_by: BTreeMap<usize, usize>,
}

impl World {
    fn new(seed: u64, faults: Faults, odds: Odds) -> Self {
        let mut rng = Rng::with_seed(seed);
        let count = rng.usize(odds.nodes.clone());
        Self {
            nodes: Nodes::new(count, faults.gate),
            events: Events::default(),
            commands: Vec::new(),
            rng,
            now: Duration::ZERO,
            faults,
            odds,
            resumed: 0,
            rebooted_at: BTreeMap::new(),
            released: BTreeMap::new(),
            reserved_by: BTreeMap::new(),
        }
    }

    /// Starts a roll of its own.
    fn start_roll(&mut self) {
        let name = format!("R{}", self.commands.len());
        let count = self.nodes.count();
        let (settings, promise, lead) =
            settings(&mut self.rng, count, (&name, &self.odds), self.faults.roll);
        self.nodes
            .promises
            .insert(settings.roll.clone(), promise.clone());
        let Promise { hosts, .. } = promise;
        let odds = self.odds.clone();
        self.begin(Command::start(settings, hosts, lead, odds));
    }

    /// Resumes a roll. Its earlier command may be dead, frozen, or well.
    fn resume_roll(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        let number = self.rng.usize(..self.commands.len());
        let command = self.commands[number].resume(&mut self.rng);
        self.resumed += 1;
        self.begin(command);
    }

    fn begin(&mut self, mut command: Command) {
        let input = Input::Connected(command.facts(&mut self.nodes, self.now));
        let number = self.commands.len();
        command.reach(self.now, input, number, &mut self.rng, &mut self.events);
        self.commands.push(command);
    }

    /// Something happens from outside.
    fn incident(&mut self) -> Result<(), String> {
        let node = self.rng.usize(..self.nodes.count());
        if self.rng.u8(..) < self.odds.start {
            self.start_roll();
            return Ok(());
        }
        let some = (!self.commands.is_empty()).then(|| self.rng.usize(..self.commands.len()));
        match (self.rng.u8(..16), some) {
            (0..4, _) => self.start_roll(),
            (4..7, _) => self.resume_roll(),
            (7..10, Some(number)) => {
                let until = self.now + Duration::from_secs(self.rng.u64(1..200));
                self.commands[number].freeze(until);
            }
            (10, Some(number)) => self.commands[number].kill(),
            (11, Some(number)) => self.commands[number].interrupt(),
            (12..15, _) => {
                let host = if self.rng.u8(..4) == 0 {
                    HostState::Rebooted
                } else {
                    HostState::Running
                };
                self.nodes.restart(self.now, node, host)?;
            }
            (_, _) => self.drain(node)?,
        }
        Ok(())
    }

    /// Another user drains a node that is not reserved, or opens it.
    fn drain(&mut self, node: usize) -> Result<(), String> {
        let mode = self.nodes.status(self.now, node).mode;
        let change = if mode.mode.is_block() {
            ChangeMode {
                if_generation: Some(mode.generation),
                ..ChangeMode::to(SettableMode::Normal)
            }
        } else {
            ChangeMode {
                unless_reserved: true,
                ..ChangeMode::to(SettableMode::BlockNewSession)
            }
        };
        let request = GateRequest::ChangeMode(Box::new(change));
        self.nodes.request(self.now, node, request).map(drop)
    }

    /// Lets everything happen until this time.
    fn run(&mut self, until: Duration) -> Result<(), String> {
        for _ in 0..EVENTS_MAX {
            let next = self
                .nodes
                .next_deadline()
                .into_iter()
                .chain(self.events.next())
                .min();
            let Some(at) = next.filter(|at| *at <= until) else {
                self.now = until;
                return Ok(());
            };
            self.now = self.now.max(at);
            self.nodes.tick(self.now)?;
            if self.events.next().is_some_and(|at| at <= self.now)
                && let Some((_, event)) = self.events.take()
            {
                self.happen(event)?;
            }
        }
        Err("it goes round in circles".to_owned())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let (command, input) = match event {
            Event::Request {
                command,
                host,
                id,
                request,
            } => {
                if matches!(request, GateRequest::GetStatus) {
                    let has_rebooted = self.nodes.has_rebooted(host, &self.commands[command].id);
                    self.rebooted_at.insert((command, id), has_rebooted);
                }
                let released = self.check_released((command, host), &request);
                let reserves = matches!(&request, GateRequest::Reserve(it) if it.seconds.is_some());
                let answered = self.nodes.request(self.now, host, request)?;
                if let Some(renewed) = released.filter(|_| answered.is_ok()) {
                    return Err(renewed);
                }
                if reserves && answered.is_ok() {
                    self.reserved_by.insert(host, command);
                }
                let input = Input::Answered(id, answer(answered));
                let pause = Duration::from_millis(self.rng.u64(1..300));
                let reach = Event::Reach { command, input };
                self.events.add(self.now + pause, reach);
                return Ok(());
            }
            Event::Task {
                command,
                host,
                task,
            } => {
                let end = self.commands[command].end_of_task(
                    self.now,
                    &mut self.nodes,
                    host,
                    &task,
                    &mut self.rng,
                )?;
                let Some(end) = end else {
                    let again = Event::Task {
                        command,
                        host,
                        task,
                    };
                    self.events.add(self.now + Duration::from_secs(5), again);
                    return Ok(());
                };
                (command, Input::Ended(host, end))
            }
            Event::Reach { command, input } => (command, input),
            Event::Wake(command) => (command, Input::Tick),
        };
        let was_over = self.commands[command].finish.is_some();
        let (rng, events) = (&mut self.rng, &mut self.events);
        self.commands[command].reach(self.now, input, command, rng, events);
        if !was_over {
            self.check_named(command)?;
        }
        self.check_reboots(command)
    }

    /// Checks that a command which is over names each node that it has reserved and not released.
    fn check_named(&mut self, number: usize) -> Result<(), String> {
        let command = &self.commands[number];
        let Some(finish) = &command.finish else {
            return Ok(());
        };
        let hosts = command.hosts.iter().enumerate();
        let unnamed = hosts.filter(|(host, _)| !finish.unreleased.contains(host));
        for (_, &node) in unnamed {
            let reservation = self.nodes.status(self.now, node).reservation;
            let is_own = |it: &Reservation| it.is_current() && it.roll == command.id;
            if reservation.as_deref().is_some_and(is_own)
                && self.reserved_by.get(&node) == Some(&number)
            {
                return Err(format!("I7: {} does not name {node}", command.id));
            }
        }
        Ok(())
    }

    /// Returns the failure that it is if the node accepts this request: a reservation or a renewal after the release. A restart of the node
    /// ends the connections of before, over which such a request would come; only the node's record outlives it.
    fn check_released(
        &mut self,
        (command, host): (usize, usize),
        request: &GateRequest,
    ) -> Option<String> {
        let record = self.nodes.status(self.now, host).reservation;
        let starts = self.nodes.starts(host);
        let commands = &self.commands;
        self.released.retain(|(command, node), of_start| {
            let is_of_before = *node == host && *of_start != starts;
            let is_on_record = |it: &Reservation| it.roll == commands[*command].id;
            *of_start = if is_of_before { starts } else { *of_start };
            !is_of_before || record.as_deref().is_some_and(is_on_record)
        });
        let roll = &commands[command].id;
        match request {
            GateRequest::Release(_) => {
                self.released.insert((command, host), starts);
                None
            }
            GateRequest::Reserve(it) if it.seconds.is_some() => {
                let is_released = self.released.contains_key(&(command, host));
                is_released.then(|| format!("I6: {roll} reserves {host} after its release"))
            }
            _ => None,
        }
    }

    /// Checks that a roll reboots no host that it could see rebooted since its command.
    fn check_reboots(&mut self, command: usize) -> Result<(), String> {
        for (node, answered) in std::mem::take(&mut self.commands[command].begun_reboots) {
            let has_rebooted = answered.and_then(|id| self.rebooted_at.get(&(command, id)));
            if has_rebooted == Some(&true) {
                let roll = &self.commands[command].id;
                return Err(format!("I5: {roll} reboots {node} once more"));
            }
        }
        Ok(())
    }

    /// Lets rolls start, and incidents happen.
    fn play_incidents(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.u64(2..5) {
            self.start_roll();
        }
        let end = Duration::from_secs(self.rng.u64(self.odds.seconds.clone()));
        while self.now < end {
            let pause = Duration::from_millis(self.rng.u64(..self.odds.pause_max));
            self.run(self.now + pause)?;
            self.incident()?;
        }
        Ok(())
    }

    /// Plays a run, and lets it come to rest.
    fn play(&mut self) -> Result<(), String> {
        self.play_incidents()?;
        // Everything comes to rest, and then nothing is reserved any more.
        self.run(self.now + TIME_MAX)?;
        for command in &self.commands {
            if command.finish.is_none() && !command.is_dead() {
                return Err(format!("{} has no end: {command:?}", command.id));
            }
        }
        let reserved = Duration::from_secs(RESERVED_SECONDS);
        self.run(self.now + reserved)?;
        self.nodes.check_none_reserved(self.now)
    }
}

/// Plays a run with a few of everything.
fn play(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed, Faults::default(), Odds::USUAL);
    match world.play() {
        Ok(()) => Ok(world),
        Err(problem) => Err(describe(seed, &world, &problem)),
    }
}

/// Plays a run with a planted mistake: its end, if it shows.
fn play_with(seed: u64, faults: Faults, odds: Odds) -> Option<String> {
    let mut world = World::new(seed, faults, odds);
    let problem = world.play().err()?;
    problem
        .starts_with('I')
        .then(|| describe(seed, &world, &problem))
}

fn describe(seed: u64, world: &World, problem: &str) -> String {
    format!(
        "seed {seed}: SORAMODE_SEED={seed} plays it alone: at {:?}: {problem}",
        world.now
    )
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn each_close_keeps_enough_nodes_open() {
    let seeds = match number("SORAMODE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SORAMODE_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let runs = seeds.end - seeds.start;
    let mut counts = Counts::default();
    for seed in seeds {
        let world = play(seed).unwrap_or_else(|problem| panic!("{problem}"));
        for finish in world.commands.iter().filter_map(|it| it.finish.as_ref()) {
            match &finish.stop {
                None => counts.done += 1,
                Some(stop) => {
                    assert_ne!(stop.kind, StopKind::Usage, "seed {seed}: {stop:?}");
                    counts.stopped += 1;
                }
            }
        }
        counts.resumed += world.resumed;
        counts.closes += world.nodes.closes;
    }
    let Counts {
        done,
        stopped,
        resumed,
        closes,
    } = counts;
    writeln!(
        std::io::stderr(),
        "rolls: {runs} runs, {done} done, {stopped} stopped, {resumed} resumed, {closes} closes"
    )
    .unwrap();
    let happens = done > runs / 4 && stopped > 0 && resumed > 0 && closes > runs;
    assert!(happens || runs < 100, "some outcome hardly happens");
}

fn is_found(name: &str, faults: Faults, odds: &Odds) {
    let of_seed = |seed| play_with(seed, faults, odds.clone());
    let Some(problem) = (0..SEEDS_WITH_FAULT).find_map(of_seed) else {
        panic!("{name} is not found");
    };
    let line = format!("{name}: {problem}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn of_roll(fault: Fault) -> Faults {
    Faults {
        roll: PlantedFault::of(fault),
        ..Faults::default()
    }
}

fn of_gate(fault: GateFault) -> Faults {
    Faults {
        gate: GatePlanted::of(fault),
        ..Faults::default()
    }
}

#[test]
fn late_closes_beside_rolls_that_begin_all_the_time_break_nothing() {
    for seed in 0..number("SORAMODE_SEEDS").unwrap_or(SEEDS_DEFAULT) / 3 {
        for odds in [
            Odds::LATE_REQUESTS,
            Odds::LATE_CLOSES,
            Odds::LATE_RELEASES,
            Odds::LATE_RENEWALS,
        ] {
            assert_eq!(play_with(seed, Faults::default(), odds), None);
        }
    }
}

#[test]
fn a_roll_that_reboots_a_host_once_more_is_found() {
    let faults = of_roll(Fault::RepeatReboot);
    is_found("one more reboot", faults, &Odds::LATE_REQUESTS);
}

#[test]
fn a_roll_that_renews_the_node_last_is_found() {
    let faults = of_roll(Fault::RenewLast);
    is_found("the present node last", faults, &Odds::LATE_CLOSES);
}

#[test]
fn a_roll_that_renews_in_the_same_round_is_found() {
    // The late renewal of an earlier pass keeps the node reserved longer than the others, on which the close rests.
    let faults = of_roll(Fault::SameRound);
    is_found("the same round", faults, &Odds::LATE_RENEWALS);
}

#[test]
fn a_roll_that_releases_all_nodes_at_once_is_found() {
    let faults = of_roll(Fault::ReleaseAtOnce);
    is_found("all released at once", faults, &Odds::LATE_RELEASES);
}

#[test]
fn a_node_that_is_reserved_after_its_release_is_found() {
    let faults = of_gate(GateFault::ReleaseForgetsRound);
    is_found("reserved after the release", faults, &Odds::USUAL);
}

#[test]
fn a_node_that_forgets_a_release_before_the_reservation_is_found() {
    let faults = of_gate(GateFault::UnknownReleaseIsForgotten);
    is_found(
        "reserved after a release that came first",
        faults,
        &Odds::USUAL,
    );
}

#[test]
fn a_node_that_forgets_the_round_of_an_earlier_roll_is_found() {
    let faults = of_gate(GateFault::OtherRollForgetsRound);
    is_found(
        "reserved after the release and another roll",
        faults,
        &Odds::LATE_REQUESTS,
    );
}

#[test]
fn a_node_that_accepts_any_round_is_found() {
    let faults = of_gate(GateFault::AnyRoundCloses);
    is_found("any round", faults, &Odds::LATE_REQUESTS);
}

#[test]
fn a_node_that_needs_no_renewal_after_a_start_is_found() {
    let faults = of_gate(GateFault::ReservationOutlivesRestart);
    is_found("no renewal after a start", faults, &Odds::LATE_REQUESTS);
}
