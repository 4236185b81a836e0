//! Plays a story. `tests/scenarios/README.md` describes its lines.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use soramode_core::cluster::LeaseTerms;
use soramode_core::effect::{Action, Effects};
use soramode_core::fault::PlantedFault;
use soramode_core::gate::Gate;
use soramode_core::handles::{DeliveryId, ReceiverIndex, Timestamp};
use soramode_core::input::{AttemptResult, HostState, Input};
use soramode_core::locks::calls::LockCall;
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{
    ClusterSettings, EventReceiver, FenceMeans, MAX_CONNECTIONS_DEFAULT, PENDING_TIMEOUT_DEFAULT,
    SOCKET_GRACE_DEFAULT, STALL_AFTER_DEFAULT, Settings,
};
use soramode_core::stored::Stored;
use soramode_protocol::event::{EventPattern, EventType};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::{DatedModeChange, Mode, ModeChange, ModeState, SettableMode};
use soramode_protocol::node::{Storage, StorageState};
use soramode_protocol::reply::Reply;
use soramode_protocol::time::Time;
use soramode_testkit::record_store::RecordStore;

use super::described::Unanswered;
use super::etcd::fence_after;
use super::plan::outcome;
use super::read::{Problem, REFUSED, Speakers, Words, duration, words};
use crate::show::{Detail, Show, seconds};

/// 2026-11-22T20:00:00Z
pub(super) const START: Time = Time::from_micros(1_795_377_600_000_000);

/// The machine had been up for so long.
const BOOTED: Duration = Duration::from_secs(1_000);

/// Returns all stories of a file as they happen now.
pub(super) fn replay(text: &str) -> Result<String, Problem> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("  "))
        .collect();
    let mut replayed = String::new();
    let mut story: Option<Story> = None;
    let mut at = 0;
    while let Some(&line) = lines.get(at) {
        at += 1;
        replayed.push_str(line);
        replayed.push('\n');
        let mut happened = Vec::new();
        if line == "orders of" {
            let actions: Vec<&str> = lines
                .iter()
                .skip(at)
                .map_while(|line| line.strip_prefix("| "))
                .collect();
            for action in lines.iter().skip(at).take(actions.len()) {
                replayed.push_str(action);
                replayed.push('\n');
            }
            at += actions.len();
            happened = story
                .as_ref()
                .ok_or("no start")?
                .orders(&actions)
                .map_err(|problem| format!("{line}: {problem}"))?;
        } else if let Some(settings) = line.strip_prefix("start") {
            story = Some(Story::start(settings).map_err(|problem| format!("{line}: {problem}"))?);
        } else if !(line.is_empty() || line.starts_with('#') || line.starts_with("== ")) {
            let story = story.as_mut().ok_or_else(|| format!("{line}: no start"))?;
            happened = story
                .play(line)
                .map_err(|problem| format!("{line}: {problem}"))?;
        }
        for line in happened {
            replayed.push_str("  ");
            replayed.push_str(&line);
            replayed.push('\n');
        }
    }
    Ok(replayed)
}

pub(super) struct Story {
    gate: Gate,
    /// Records, as a store keeps them.
    record_store: RecordStore,
    starts: u8,
    show: Show,
    speakers: Speakers,
    unanswered: Unanswered,
    /// Calls to the SFU that it has not answered, in their order.
    calls: Vec<u64>,
    /// Requests about locks that Janus has not answered, in their order.
    pub(super) locks: VecDeque<LockCall>,
    /// The last attempt at each receiver.
    under_way: BTreeMap<ReceiverIndex, DeliveryId>,
    now: Timestamp,
    pub(super) settings: String,
    pub(super) played: Vec<String>,
}

impl Story {
    pub(super) fn start(line: &str) -> Result<Self, Problem> {
        let now = Timestamp {
            wall: START,
            boot: BOOTED,
        };
        let (params, joined) = params(line, now)?;
        let mut record_store = RecordStore::new(params.stored.clone());
        let mut gate = Gate::restore(params, Seed([7; 32]));
        for record in gate.step(now, Input::Started(HostState::Running)).records {
            record_store.read(&record);
        }
        let mut story = Self {
            gate,
            record_store,
            starts: 1,
            show: Show::new(START, Detail::InWords),
            speakers: Speakers::default(),
            unanswered: Unanswered::default(),
            calls: Vec::new(),
            locks: VecDeque::new(),
            under_way: BTreeMap::new(),
            now,
            settings: line.to_owned(),
            played: Vec::new(),
        };
        if let Some(incarnation) = joined {
            story.join(incarnation)?;
        }
        Ok(story)
    }

    /// Joins the cluster with this incarnation, in an etcd without other nodes.
    fn join(&mut self, incarnation: u64) -> Result<(), Problem> {
        let read = "etcd: read rev=20".to_owned();
        let written = format!("etcd: joined {incarnation}");
        let confirmed = format!("etcd: read own={incarnation}");
        for line in [read, written, confirmed] {
            let input = self.speakers.input(&line, self.now)?;
            self.step(input)?;
        }
        Ok(())
    }

    /// The daemon ends without a word, and starts again with what was kept; `host` too, if it says so.
    fn restart(&mut self, line: &str) -> Result<Vec<String>, Problem> {
        let (line, host) = line
            .strip_prefix(" host")
            .map_or((line, HostState::Running), |line| {
                (line, HostState::Rebooted)
            });
        self.starts += 1;
        self.calls.clear();
        self.locks.clear();
        let mut stored = self.record_store.stored();
        if host == HostState::Rebooted {
            stored.expires_at_boot = None;
        }
        let (params, _) = params(line, self.now)?;
        stored.closed_by_storage = params.stored.closed_by_storage;
        let params = StartParams { stored, ..params };
        self.gate = Gate::restore(params, Seed([self.starts; 32]));
        self.step(Input::Started(host))
    }

    pub(super) fn play(&mut self, line: &str) -> Result<Vec<String>, Problem> {
        self.played.push(line.to_owned());
        let mut happened = Vec::new();
        let line = &self.show.resolve(line);
        let mut what = line.as_str();
        if let Some(timed) = line.strip_prefix('@') {
            let (time, rest) = timed.split_once(' ').ok_or("takes `@time who: what`")?;
            self.go_to(BOOTED + duration(time)?, &mut happened)?;
            what = rest;
        }
        if let Some(settings) = what.strip_prefix("restart") {
            happened.extend(self.restart(settings)?);
        } else if let Some(repeated) = what.strip_prefix("repeat ") {
            happened.push(self.repeat(repeated)?);
        } else if let Some(named) = what.strip_prefix("webhooks") {
            happened.extend(self.step(Input::Receivers(new_receivers(named)?))?);
        } else if let Some(time) = what.strip_prefix("asleep ") {
            self.pass(duration(time)?);
        } else if let Some(time) = what.strip_prefix("clock +") {
            self.now.wall = self.now.wall + duration(time)?;
        } else if let Some(time) = what.strip_prefix("clock -") {
            let micros =
                i64::try_from(duration(time)?.as_micros()).map_err(|error| error.to_string())?;
            self.now.wall = Time::from_micros(self.now.wall.as_micros() - micros);
        } else if let Some(answer) = what.strip_prefix("sfu ") {
            happened.extend(self.sfu(answer)?);
        } else if let Some(answer) = what.strip_prefix("lock ") {
            happened.extend(self.lock_answered(answer)?);
        } else {
            let input = match what.strip_prefix("hook ") {
                Some(answer) => self.tried(answer),
                None => self.speakers.input(what, self.now),
            };
            match input {
                Err(problem) if problem.starts_with(REFUSED) => {
                    happened.push(format!("-> {problem}"));
                }
                input => happened.extend(self.step(input?)?),
            }
        }
        Ok(happened)
    }

    /// A receiver answers what it was sent last.
    fn tried(&self, line: &str) -> Result<Input, Problem> {
        let (receiver, answer) = line.split_once(": ").ok_or("takes `hook 0: 200`")?;
        let receiver: usize = receiver
            .parse()
            .map_err(|_| format!("{receiver:?} is no number"))?;
        let id = *self
            .under_way
            .get(&ReceiverIndex(receiver))
            .ok_or("nothing is under way there")?;
        let mut all = Words::new(&words(answer));
        let status = all.next()?.parse().ok();
        let retry_after = all.time("retry")?;
        let problem = status
            .is_none_or(|status| !(200..300).contains(&status))
            .then(|| "as it said".to_owned());
        all.end(Input::DeliveryAttempted {
            id,
            result: AttemptResult {
                status,
                retry_after,
                problem,
            },
        })
    }

    /// The SFU answers a call, or `all` of those that there are.
    fn sfu(&mut self, line: &str) -> Result<Vec<String>, Problem> {
        let (id, answer) = line.split_once(": ").ok_or("takes `sfu 1: ok`")?;
        let outcome = outcome(Words::new(&words(answer)))?;
        let ids = if id == "all" {
            std::mem::take(&mut self.calls)
        } else {
            let id: u64 = id.parse().map_err(|_| format!("{id:?} is no number"))?;
            let at = self.calls.iter().position(|it| *it == id);
            vec![self.calls.remove(at.ok_or("there is no such call")?)]
        };
        let mut happened = Vec::new();
        for id in ids {
            let outcome = outcome.clone();
            happened.extend(self.step(Input::SfuAnswered { id, outcome })?);
        }
        Ok(happened)
    }

    fn repeat(&mut self, line: &str) -> Result<String, Problem> {
        let (times, line) = line
            .split_once(' ')
            .ok_or("takes `repeat times who: what`")?;
        let times: u32 = times
            .parse()
            .map_err(|_| format!("{times:?} is no number"))?;
        let mut lines = 0;
        for time in 1..=times {
            let input = self
                .speakers
                .input(&line.replace("{}", &time.to_string()), self.now)?;
            lines += self.step_unchecked(input).len();
        }
        self.gate.check()?;
        Ok(format!("{lines} lines"))
    }

    /// Lets time go by as the driver does: wakes the gate for each deadline.
    fn go_to(&mut self, time: Duration, happened: &mut Vec<String>) -> Result<(), Problem> {
        while let Some(deadline) = self
            .gate
            .next_deadline()
            .filter(|deadline| *deadline <= time)
        {
            self.pass(deadline.saturating_sub(self.now.boot));
            let at = seconds(self.now.boot.saturating_sub(BOOTED));
            let lines = self.step(Input::Tick)?;
            happened.extend(lines.iter().map(|line| format!("@{at} {line}")));
        }
        if time < self.now.boot {
            return Err("time does not go back".to_owned());
        }
        self.pass(time.saturating_sub(self.now.boot));
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now.boot += time;
        self.now.wall = self.now.wall + time;
    }

    pub(super) fn step(&mut self, input: Input) -> Result<Vec<String>, Problem> {
        let lines = self.step_unchecked(input);
        self.gate.check()?;
        Ok(lines)
    }

    fn step_unchecked(&mut self, input: Input) -> Vec<String> {
        self.unanswered.note(&input);
        let Effects { records, actions } = self.gate.step(self.now, input);
        self.unanswered.validate(&records, &actions);
        for record in &records {
            self.record_store.read(record);
        }
        let mut lines: Vec<String> = Vec::new();
        for action in &actions {
            if let Action::Sfu(call) = action {
                self.calls.push(call.id);
            }
            if let Action::Lock(call) = action {
                self.locks.push_back(call.clone());
            }
            if let Action::Deliver(attempt) = action {
                self.under_way.insert(attempt.receiver, attempt.id);
            }
            if let Action::Answer(_, Ok(Reply::Page(page))) = action {
                self.speakers.cursor = page.cursor().map(str::to_owned);
            }
            let speakers = &self.speakers;
            lines.extend(self.show.act(action, |socket| speakers.name(socket)));
        }
        let records = records
            .iter()
            .map(|record| self.show.record(record))
            .collect::<Vec<String>>();
        records.into_iter().chain(lines).collect()
    }
}

/// `hook0=session.*`, `hook1=mode.changed`
fn receivers_named(all: &mut Words) -> Result<Vec<EventReceiver>, Problem> {
    let mut receivers = Vec::new();
    for name in ["hook0", "hook1"] {
        let Some(pattern) = all.value::<EventPattern>(name)? else {
            continue;
        };
        let types = EventType::ALL
            .into_iter()
            .filter(|it| pattern.matches(*it))
            .collect();
        receivers.push(EventReceiver {
            url: format!("http://{name}/?secret"),
            endpoint: name.to_owned(),
            types,
        });
    }
    Ok(receivers)
}

/// `cluster`, with `isolated=`, `fence=` (or never), `budget=` and `on_fence=`: channels are claimed in a cluster.
fn cluster(all: &mut Words) -> Result<Option<ClusterSettings>, Problem> {
    if !all.has("cluster") {
        return Ok(None);
    }
    let fence_after = fence_after(
        &all.value::<String>("fence")?
            .unwrap_or_else(|| "30s".to_owned()),
    )?;
    let on_fence = match all.value::<String>("on_fence")?.as_deref() {
        Some("none") => FenceMeans::None,
        Some("exec") => FenceMeans::Exec,
        Some(_) | None => FenceMeans::Socket,
    };
    Ok(Some(ClusterSettings {
        name: "default".to_owned(),
        endpoints: vec!["http://etcd".to_owned()],
        terms: LeaseTerms {
            isolated_after: all.time("isolated")?.unwrap_or(Duration::from_secs(6)),
            fence_after,
            fence_budget: all.time("budget")?.unwrap_or(Duration::from_secs(5)),
        },
        no_takeover_reason: None,
        on_fence,
        dead_man: "grant".to_owned(),
        signaling_url: None,
        api_url: None,
        page_url: None,
        fault: PlantedFault::NONE,
        registration_ttl: Duration::from_secs(10),
    }))
}

/// Reads both receivers; one that is not named any more gets no event.
fn new_receivers(line: &str) -> Result<Vec<EventReceiver>, Problem> {
    let mut all = Words::new(&words(line));
    let mut named = receivers_named(&mut all)?;
    for name in ["hook0", "hook1"] {
        let url = format!("http://{name}/?secret");
        if !named.iter().any(|webhook| webhook.url == url) {
            named.push(EventReceiver {
                url,
                endpoint: name.to_owned(),
                types: Vec::new(),
            });
        }
    }
    named.sort_by(|one, other| one.url.cmp(&other.url));
    all.end(named)
}

/// Start parameters of a gate, and the incarnation with which it joins its cluster at once.
fn params(line: &str, started: Timestamp) -> Result<(StartParams, Option<u64>), Problem> {
    let mut all = Words::new(&words(line));
    let joined = all.value("joined")?;
    let state = if all.has("disk") {
        StorageState::Ok
    } else {
        StorageState::Memory
    };
    let mode = all
        .value::<Mode>("mode")?
        .map(SettableMode::try_from)
        .transpose()
        .map_err(|error| error.to_string())?;
    let settings = Settings {
        node_name: NodeName::new("node-01").map_err(|error| error.to_string())?,
        cluster: cluster(&mut all)?,
        mode,
        reconnect_grace: all.time("reconnect")?.unwrap_or_default(),
        stall_after: all.time("stall")?.unwrap_or(STALL_AFTER_DEFAULT),
        max_connections: all.value("max")?.unwrap_or(MAX_CONNECTIONS_DEFAULT),
        pending_timeout: all.time("pending")?.unwrap_or(PENDING_TIMEOUT_DEFAULT),
        socket_grace: all.time("grace")?.unwrap_or(SOCKET_GRACE_DEFAULT),
        assume_complete: !all.has("unknown"),
        sfu: super::plan::sfu(&mut all)?,
        storage: Storage { state, path: None },
        receivers: receivers_named(&mut all)?,
    };
    let mut stored = Stored {
        closed_by_storage: all.has("closed"),
        ..Stored::default()
    };
    if let Some(generation) = all.value("opened")? {
        let change = ModeChange {
            mode: Mode::Normal,
            previous_mode: Mode::BlockNewSession,
            generation,
            actor: "uid:1000(ops)".to_owned(),
            on_behalf_of: None,
            reason: None,
            expires_at: None,
            expected_end_at: None,
            plan_id: None,
            roll: None,
        };
        stored.mode_changes.push(DatedModeChange {
            timestamp: started.wall,
            change,
        });
    }
    let (generation, reason, expires) = (
        all.value("generation")?,
        all.value("reason")?,
        all.time("expires")?,
    );
    if let Some(mode) = all.value::<Mode>("stored")? {
        let expires_at = expires.map(|time| started.wall + time);
        let actor = "uid:1000(ops)".to_owned();
        stored.mode = Some(ModeState {
            mode,
            generation: generation.unwrap_or(1),
            since: started.wall,
            actor,
            on_behalf_of: None,
            reason,
            expires_at,
            expected_end_at: None,
            own_mode: None,
            in_force: None,
            plan_id: None,
            roll: None,
        });
    }
    let params = StartParams {
        settings,
        started,
        stored,
    };
    all.end((params, joined))
}
