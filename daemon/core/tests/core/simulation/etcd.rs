//! An etcd with one node in it. It answers at once; if what is asked reaches it at once, too, a step of the gate is over when nothing is asked
//! any more.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::cluster::claim::{Claim, Found, Reply};
use soramode_core::cluster::history::{Configuration, Shown};
use soramode_core::cluster::{FenceAfter, Incarnation, Token};
use soramode_core::effect::{Action, Effects};
use soramode_core::gate::Gate;
use soramode_core::handles::Timestamp;
use soramode_core::input::Input;
use soramode_core::member::etcd::{
    ClaimOp, EtcdRequest, EtcdResponse, Joined, Load, MembershipView, NodeRecord,
};
use soramode_protocol::decision::Decision;
use soramode_protocol::event::EventKind;
use soramode_protocol::id::{ChannelId, ClusterId, HistoryId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::reply::Reply as Answered;

use super::inputs::Transition;

/// A gate, and the etcd that it has to itself.
pub(super) struct Driven {
    pub(super) gate: Gate,
    etcd: Etcd,
}

#[derive(Default)]
pub(super) struct Etcd {
    revision: u64,
    member: Option<(Incarnation, Mode)>,
    claims: BTreeMap<ChannelId, (Incarnation, Token)>,
    /// A fence that the SFU has not carried out.
    pub(super) fence: Option<u64>,
}

impl Driven {
    pub(super) fn new(gate: Gate) -> Self {
        Self {
            gate,
            etcd: Etcd::default(),
        }
    }

    /// The daemon starts anew; etcd goes on.
    pub(super) fn restart(&mut self, gate: Gate) {
        self.gate = gate;
        self.etcd.fence = None;
    }

    /// Lets one thing happen, and all that etcd answers to it; `None` if it cannot.
    pub(super) fn apply(&mut self, now: Timestamp, transition: &Transition) -> Option<Effects> {
        let input = match transition {
            Transition::Input(input) => input.clone(),
            Transition::Heartbeat => self.etcd.read(now),
            Transition::SessionsEnded => Input::FenceFinished {
                id: self.etcd.fence.take()?,
                outcome: Ok(()),
            },
            Transition::Restart { .. } => return None,
        };
        Some(self.step(now, input))
    }

    pub(super) fn step(&mut self, now: Timestamp, input: Input) -> Effects {
        let mut all = Effects::default();
        let mut inputs = vec![input];
        let mut at = now;
        while let Some(input) = inputs.pop() {
            let Effects { records, actions } = self.gate.step(at, input);
            all.records.extend(records);
            // Deadlines that are due at the start are the next step's.
            if let Some(deadline) = self.gate.next_deadline() {
                at.boot = now
                    .boot
                    .min(deadline.saturating_sub(Duration::from_nanos(1)));
            }
            let mut answers = Vec::new();
            for action in actions {
                match action {
                    Action::Etcd(request) => {
                        self.etcd.check_up_to_date(&request);
                        answers.extend(self.etcd.execute(now, *request));
                    }
                    Action::Fence { id, .. } => self.etcd.fence = Some(id),
                    Action::Deferred(_) => {}
                    action => all.actions.push(action),
                }
            }
            answers.reverse();
            inputs.extend(answers);
        }
        all
    }
}

impl Etcd {
    pub(super) fn read(&mut self, now: Timestamp) -> Input {
        let nodes = self.member.map(|(incarnation, mode)| NodeRecord {
            node_name: NodeName::new("node-01").unwrap(),
            incarnation,
            mode: Some(mode),
            load: Load::default(),
            signaling_url: None,
            api_url: None,
            version: None,
            since: None,
        });
        let configuration = Configuration {
            cluster_id: ClusterId::new("c").unwrap(),
            history_id: HistoryId::new("h").unwrap(),
            epoch: 1,
            etcd_cluster_id: 7,
            set_back: None,
        };
        self.revision = self.revision.max(1);
        Input::Etcd(EtcdResponse::MembersRead(Box::new(MembershipView {
            sent: now.boot,
            received: now.boot,
            etcd: Shown {
                configuration: Some(configuration),
                etcd_cluster_id: 7,
                revision: self.revision,
                revision_before: self.revision,
                fall: None,
            },
            configuration_text: b"configuration".to_vec(),
            own: self.member.map(|(incarnation, _)| incarnation),
            own_of_this_start: None,
            own_of_this_boot: None,
            nodes: nodes.into_iter().collect(),
            purged: Vec::new(),
        })))
    }

    /// Checks that a request goes by the etcd as it is.
    fn check_up_to_date(&self, request: &EtcdRequest) {
        let member = self.member.map(|(incarnation, _)| incarnation);
        match request {
            EtcdRequest::Join { give_up, .. } => assert_eq!(member, *give_up),
            EtcdRequest::Publish { by, .. } => assert_eq!(member, Some(*by)),
            EtcdRequest::Claim { op, .. } => assert!(
                matches!(op, ClaimOp::Get | ClaimOp::Acquire),
                "{op:?} of a node that knows its claims"
            ),
            _ => {}
        }
    }

    pub(super) fn execute(&mut self, now: Timestamp, request: EtcdRequest) -> Option<Input> {
        self.revision += 1;
        let response = match request {
            EtcdRequest::ReadMembers => return Some(self.read(now)),
            EtcdRequest::Join { give_up, .. }
                if self.member.map(|(incarnation, _)| incarnation) != give_up =>
            {
                EtcdResponse::Joined(Err("the name is in use".to_owned()))
            }
            EtcdRequest::Join { mode, .. } => {
                let incarnation = Incarnation(self.revision);
                self.member = Some((incarnation, mode));
                let owners = self.claims.values().map(|(owner, _)| *owner).collect();
                EtcdResponse::Joined(Ok(Joined {
                    incarnation,
                    owners,
                }))
            }
            EtcdRequest::Claim { channel_id, by, op } => {
                let reply = self.claim(&channel_id, by, &op);
                EtcdResponse::ClaimReplied {
                    channel_id,
                    by,
                    reply: Ok(reply),
                }
            }
            EtcdRequest::FindClaim { channel_id, .. } => {
                let found = Ok(self.found(&channel_id));
                EtcdResponse::ClaimFound { channel_id, found }
            }
            EtcdRequest::Release(channel_id, token) => {
                let claim = self.claims.get(&channel_id);
                if claim.is_some_and(|(_, owned)| *owned == token) {
                    self.claims.remove(&channel_id);
                }
                EtcdResponse::Released(channel_id, token, Ok(()))
            }
            EtcdRequest::Publish { by, mode } => {
                let is_member = self
                    .member
                    .is_some_and(|(incarnation, _)| incarnation == by);
                if is_member {
                    self.member = Some((by, mode));
                }
                let lost = || "the key is gone".to_owned();
                EtcdResponse::Published(mode, is_member.then_some(()).ok_or_else(lost))
            }
            EtcdRequest::Trust { .. } | EtcdRequest::PublishLoad { .. } => return None,
            other => panic!("{other:?} of a node that is alone in an etcd that loses nothing"),
        };
        Some(Input::Etcd(response))
    }

    fn claim(&mut self, channel_id: &ChannelId, by: Incarnation, op: &ClaimOp) -> Reply {
        let token = self.claims.get(channel_id).map(|(_, token)| *token);
        let holds = match op {
            ClaimOp::Get => false,
            ClaimOp::Acquire => token.is_none(),
            ClaimOp::Rewrite(claim) => token == Some(claim.token),
            ClaimOp::Release(claim) => {
                if token == Some(claim.token) {
                    self.claims.remove(channel_id);
                }
                false
            }
            ClaimOp::TakeOver(_) => panic!("{op:?} of a node that is alone"),
        };
        if !holds || self.member != Some((by, Mode::Normal)) {
            return Reply::Refused(self.found(channel_id));
        }
        let token = Token(self.revision);
        self.claims.insert(channel_id.clone(), (by, token));
        Reply::Won(token)
    }

    fn found(&self, channel_id: &ChannelId) -> Found {
        let claim = self.claims.get(channel_id);
        Found {
            claim: claim.map(|(incarnation, token)| Claim {
                node: NodeName::new("node-01").unwrap(),
                incarnation: *incarnation,
                fence_after: FenceAfter::Never,
                fence_budget: Duration::ZERO,
                token: *token,
            }),
            member: self.member.map(|(incarnation, _)| incarnation),
            mode: self.member.map(|(_, mode)| mode),
        }
    }
}

/// Leaves out what the model does not know of: tokens, and whether a mode was published.
pub(super) fn without_claims(mut action: Action) -> Action {
    if let Action::Answer(_, Ok(answer)) = &mut action {
        match answer {
            Answered::Decision(Decision::Offer { claim, .. }) => *claim = None,
            Answered::ModeChanged(changed) => changed.published = None,
            Answered::Status(status) => status.cluster = None,
            Answered::WaitEnded(ended) => ended.status.cluster = None,
            _ => {}
        }
    }
    action
}

/// Leaves the token of an event out.
pub(super) fn without_token(mut kind: EventKind) -> EventKind {
    if let EventKind::SessionCreated { token, .. } | EventKind::SessionDestroyed { token, .. } =
        &mut kind
    {
        *token = None;
    }
    kind
}
