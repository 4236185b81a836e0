//! One node of a simulated cluster: a real gate, what a store would keep of it, and a naive model of its claims and its lease.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_core::cluster::{FenceAfter, Incarnation, LeaseTerms, Token};
use soramode_core::effect::{Action, Effects, Record};
use soramode_core::fault::PlantedFault;
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input};
use soramode_core::member::etcd::{EtcdResponse, MembersRead};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{ClusterSettings, FenceMeans, Settings, SfuSettings};
use soramode_core::stored::Stored;
use soramode_protocol::decision::Decision;
use soramode_protocol::id::{ChannelId, ConnectionId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{Membership, Storage, StorageState};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::time::Time;

use crate::etcd::{Caller, Etcd, TTL};
use soramode_testkit::record_store::RecordStore;

const START: Time = Time::from_micros(1_795_377_600_000_000);

/// The boot clock when a node's machine starts.
const BOOT: Duration = Duration::from_secs(1);

/// Reads of the members that are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Reads {
    #[default]
    None,
    One,
    AndAnother,
}

pub(super) struct Node {
    pub(super) caller: Caller,
    settings: Settings,
    /// `None` while the daemon is down.
    pub(super) gate: Option<Gate>,
    record_store: RecordStore,
    booted_at: Duration,
    /// Its clock's rate, per mille.
    rate: u32,
    pub(super) is_machine_up: bool,
    /// Its SFU never ends sessions that it is ordered to end.
    pub(super) is_fence_stuck: bool,
    /// Channels that its SFU served when an operator purged it by mistake: other nodes may own them, until its sessions have ended.
    purged: BTreeSet<ChannelId>,
    /// Number of times that it was purged.
    purges: u32,
    /// Its incarnations since its daemon started, and the one that it had stored before.
    joined_as: BTreeSet<Incarnation>,
    /// Transactions are carried out.
    pub(super) is_trusting: bool,
    /// Until then nothing of the node reaches etcd.
    pub(super) cut_until: Duration,
    pub(super) reads: Reads,
    pub(super) sockets: Vec<SocketId>,
    last_socket: u64,
    last_serial: u64,
    unanswered: BTreeSet<ReplyHandle>,
    /// The channels that it owns, by its records alone.
    owned: BTreeMap<ChannelId, Token>,
    /// Sora's connections that are admitted and have not come yet, each with its channel.
    pending: BTreeMap<ConnectionId, ChannelId>,
    /// The incarnation that it has stored: a key of a later one confirms nothing until its claims are written anew.
    member: Option<Incarnation>,
    /// When the newest read was sent that showed the key of that incarnation, by its boot clock.
    confirmed: Option<Duration>,
}

impl Node {
    pub(super) fn new(name: &str, terms: LeaseTerms, rate: u32, fault: PlantedFault) -> Self {
        let name = NodeName::new(name).unwrap();
        Self {
            settings: settings(&name, terms, fault),
            caller: Caller {
                name,
                start: 0,
                boot: 0,
                terms,
            },
            gate: None,
            record_store: RecordStore::new(Stored::default()),
            booted_at: Duration::ZERO,
            rate,
            is_machine_up: true,
            is_fence_stuck: false,
            purged: BTreeSet::new(),
            purges: 0,
            joined_as: BTreeSet::new(),
            is_trusting: false,
            cut_until: Duration::ZERO,
            reads: Reads::None,
            sockets: Vec::new(),
            last_socket: 0,
            last_serial: 0,
            unanswered: BTreeSet::new(),
            owned: BTreeMap::new(),
            pending: BTreeMap::new(),
            member: None,
            confirmed: None,
        }
    }

    pub(super) fn boot(&self, now: Duration) -> Duration {
        BOOT + now.saturating_sub(self.booted_at) * self.rate / 1_000
    }

    /// When this deadline of the gate comes by the world's clock.
    pub(super) fn when(&self, boot: Duration) -> Duration {
        let after = boot.saturating_sub(BOOT) * 1_000 / self.rate;
        self.booted_at + after + Duration::from_nanos(2)
    }

    fn timestamp(&self, now: Duration) -> Timestamp {
        Timestamp {
            wall: START + now,
            boot: self.boot(now),
        }
    }

    /// The daemon ends without a word, and its machine with it if that is to be started anew.
    pub(super) fn crash(&mut self, host: HostState) {
        self.gate = None;
        self.sockets.clear();
        self.unanswered.clear();
        self.is_trusting = false;
        self.reads = Reads::None;
        self.is_machine_up = host == HostState::Running;
    }

    /// An operator purges it while its daemon is down.
    pub(super) fn purge(&mut self, etcd: &mut Etcd) {
        etcd.purge_running(&self.caller.name);
        self.purged.append(&mut self.record_store.channels());
        self.purges += 1;
    }

    pub(super) fn start(&mut self, now: Duration, host: HostState) -> Effects {
        if host == HostState::Rebooted {
            self.booted_at = now;
            self.caller.boot += 1;
            self.confirmed = None;
        }
        self.is_machine_up = true;
        self.joined_as = self.member.into_iter().collect();
        self.caller.start += 1;
        let params = StartParams {
            settings: self.settings.clone(),
            started: self.timestamp(now),
            stored: self.record_store.stored(),
        };
        let seed = u8::try_from(self.caller.start % 256).unwrap();
        self.gate = Some(Gate::restore(params, Seed([seed; 32])));
        self.step(now, Input::Started(host))
    }

    pub(super) fn step(&mut self, now: Duration, input: Input) -> Effects {
        let timestamp = self.timestamp(now);
        match &input {
            Input::Request { reply_to, .. } => {
                self.unanswered.insert(*reply_to);
            }
            Input::SocketClosed(socket) => {
                self.unanswered
                    .retain(|reply_to| reply_to.socket != *socket);
                self.sockets.retain(|other| other != socket);
            }
            _ => {}
        }
        if let Input::Etcd(EtcdResponse::Joined(Ok(joined))) = &input {
            self.joined_as.insert(joined.incarnation);
        }
        let read = match &input {
            Input::Etcd(EtcdResponse::MembersRead(view)) => view.own.zip(Some(view.sent)),
            _ => None,
        };
        let gate = self.gate.as_mut().unwrap();
        let effects = gate.step(timestamp, input);
        gate.check().unwrap();
        for record in &effects.records {
            self.record_store.read(record);
            match record {
                Record::Claimed { channel_id, token } => {
                    let before = self.owned.insert(channel_id.clone(), *token);
                    assert!(before < Some(*token), "a token of {channel_id:?} goes back");
                }
                Record::Member(member) => self.member = member.map(|member| member.incarnation),
                Record::Unclaimed(channel_id) => {
                    self.owned.remove(channel_id);
                }
                Record::Pending {
                    channel_id,
                    connection_id,
                    ..
                } => {
                    self.pending
                        .insert(connection_id.clone(), channel_id.clone());
                }
                Record::PendingEnded(connection_id) => {
                    self.pending.remove(connection_id);
                }
                _ => {}
            }
        }
        if !self.purged.is_empty() {
            let served = self.record_store.channels();
            self.purged.retain(|channel_id| served.contains(channel_id));
        }
        if let Some((_, sent)) = read.filter(|(own, _)| self.member == Some(*own)) {
            self.confirmed = self.confirmed.max(Some(sent));
        }
        effects
    }

    /// Returns whether Sora may still report a connection: it was admitted to this channel, and has not ended since.
    pub(super) fn expects(&self, connection_id: &ConnectionId, channel_id: &ChannelId) -> bool {
        self.pending.get(connection_id) == Some(channel_id)
    }

    pub(super) fn read(&self, now: Duration, mut view: MembersRead, sent: Duration) -> Input {
        (view.sent, view.received) = (sent, self.boot(now));
        Input::Etcd(EtcdResponse::MembersRead(Box::new(view)))
    }

    pub(super) fn open_socket(&mut self) -> SocketId {
        self.last_socket += 1;
        let socket = SocketId(self.last_socket);
        self.sockets.push(socket);
        socket
    }

    pub(super) fn reply_to(&mut self, socket: SocketId) -> ReplyHandle {
        self.last_serial += 1;
        ReplyHandle {
            socket,
            serial: self.last_serial,
        }
    }

    /// Sora waits for an answer, as a client does.
    pub(super) fn asked_by_sora(&mut self, reply_to: ReplyHandle) {
        self.unanswered.insert(reply_to);
    }

    /// Checks an answer: each request has one, an offer is made under the claim that the node owns, and that it wrote itself.
    pub(super) fn check_answer(
        &mut self,
        now: Duration,
        etcd: &Etcd,
        reply_to: ReplyHandle,
        answer: &Answer,
    ) {
        let is_closed = reply_to.socket != SocketId(0) && !self.sockets.contains(&reply_to.socket);
        assert!(
            self.unanswered.remove(&reply_to) || is_closed,
            "{reply_to:?} is answered twice"
        );
        match answer {
            Ok(Reply::Decision(Decision::Offer {
                channel_id,
                claim,
                created,
                ..
            })) => {
                let token = claim.as_ref().map(|claim| Token(claim.token));
                assert_eq!(
                    token.as_ref(),
                    self.owned.get(channel_id),
                    "an offer on {channel_id:?} under another claim than the node's"
                );
                // A connection that is there is offered again also while its session is being ended: its claim is lost.
                assert!(token.is_some() || !created, "a session without a claim");
                let writer = token.map(|token| etcd.written.get(&(channel_id.clone(), token)));
                assert!(
                    writer.is_none_or(|writer| writer == Some(&self.caller.name)),
                    "nobody wrote that claim"
                );
            }
            Ok(Reply::Decision(Decision::Redirect { node_name, .. })) => {
                assert_ne!(
                    *node_name, self.caller.name,
                    "a redirect to the node itself"
                );
            }
            Ok(Reply::Granted(granted)) => {
                let (boot, over) = (self.boot(now), self.lease_over());
                let valid = granted.valid_for_ms.map(Duration::from_millis);
                let left = over.map(|over| over.saturating_sub(boot));
                assert!(
                    left.is_none_or(|left| valid.is_some_and(|valid| valid <= left)),
                    "{granted:?} promises more than {left:?}"
                );
                assert!(
                    granted.membership != Membership::Joined || self.confirmed.is_some(),
                    "joined without a read"
                );
            }
            _ => {}
        }
    }

    /// When its right is over at the latest, by its boot clock; nothing if it has no end.
    fn lease_over(&self) -> Option<Duration> {
        match self.caller.terms.fence_after {
            FenceAfter::After(time) => Some(self.confirmed.map_or(Duration::ZERO, |at| at + time)),
            FenceAfter::Never => None,
        }
    }

    /// The channels that the node's SFU may serve. What is not ended at the fence the dead man ends.
    pub(super) fn served(&self, now: Duration) -> BTreeSet<ChannelId> {
        let dead_at = self
            .lease_over()
            .map(|over| over + self.caller.terms.fence_budget);
        let is_dead = dead_at.is_some_and(|at| self.boot(now) >= at);
        if is_dead || !self.is_machine_up {
            return BTreeSet::new();
        }
        let mut channels = self.record_store.channels();
        channels.retain(|channel_id| !self.purged.contains(channel_id));
        channels
    }

    /// In the end: every request is answered, and the node is in. If its SFU ends no session, it may be out, and then the other nodes do not
    /// see it as `normal`.
    pub(super) fn check_end(&mut self, now: Duration, etcd: &Etcd) {
        assert_eq!(self.unanswered, BTreeSet::new(), "never answered");
        let socket = self.open_socket();
        let reply_to = self.reply_to(socket);
        let effects = self.step(
            now,
            Input::Request {
                reply_to,
                actor: "check".into(),
                request: soramode_protocol::request::GateRequest::Grant,
            },
        );
        let [Action::Answer(_, Ok(Reply::Granted(granted)))] = effects.actions.as_slice() else {
            panic!("{effects:?}")
        };
        if granted.membership == Membership::Joined {
            return self.check_claims(etcd);
        }
        let is_bounded = self.caller.terms.fence_after != FenceAfter::Never;
        assert!(
            self.is_fence_stuck && is_bounded,
            "{granted:?}, though its sessions end, or no lease bounds them"
        );
        assert_ne!(
            etcd.published_mode(&self.caller.name),
            Some(Mode::Normal),
            "the others redirect clients to a node that rejects them"
        );
    }

    /// etcd has the node's claim on every channel that it serves, but for those that it lost while its SFU ends no session, and those of
    /// before a purge.
    fn check_claims(&self, etcd: &Etcd) {
        for channel_id in self.record_store.channels() {
            if self.purged.contains(&channel_id) && !self.owned.contains_key(&channel_id) {
                continue;
            }
            let claim = etcd.claims.get(&channel_id);
            // A purged node leaves a claim of before its start that it has no record of: another machine may have been given its name.
            let is_known = |it| self.member == Some(it) || self.joined_as.contains(&it);
            let is_left = |incarnation| self.purges > 0 && !is_known(incarnation);
            let token = claim
                .filter(|claim| claim.node == self.caller.name && !is_left(claim.incarnation))
                .map(|claim| claim.token);
            assert_eq!(
                token.as_ref(),
                self.owned.get(&channel_id),
                "{channel_id:?} is served without a claim"
            );
            assert!(
                token.is_some() || self.is_fence_stuck,
                "{channel_id:?} is served, and nobody's"
            );
        }
    }
}

fn settings(name: &NodeName, terms: LeaseTerms, fault: PlantedFault) -> Settings {
    Settings {
        node_name: name.clone(),
        cluster: Some(ClusterSettings {
            name: "default".to_owned(),
            endpoints: Vec::new(),
            terms,
            no_takeover_reason: None,
            on_fence: FenceMeans::Exec,
            dead_man: "grant".to_owned(),
            signaling_url: None,
            api_url: None,
            page_url: None,
            fault,
            registration_ttl: TTL,
        }),
        mode: None,
        reconnect_grace: Duration::ZERO,
        stall_after: Duration::from_mins(10),
        max_connections: 4,
        pending_timeout: Duration::from_secs(3),
        socket_grace: Duration::from_secs(1),
        assume_complete: true,
        sfu: SfuSettings::default(),
        storage: Storage {
            state: StorageState::Ok,
            path: None,
        },
        receivers: Vec::new(),
    }
}
