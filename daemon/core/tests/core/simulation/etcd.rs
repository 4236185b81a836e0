//! The first simulation's etcd, with one node in it. It answers at once; where requests reach it at once, too, a step of the gate is over when
//! none is left.

use std::time::Duration;

use soramode_core::effect::{Action, Effects};
use soramode_core::gate::Gate;
use soramode_core::handles::{FenceId, Timestamp};
use soramode_core::input::Input;
use soramode_core::member::etcd::{ClaimOp, EtcdRequest, EtcdResponse, MembersRead};
use soramode_core::settings::Settings;
use soramode_protocol::decision::Decision;
use soramode_protocol::event::EventKind;
use soramode_protocol::reply::Reply as Answered;

use super::inputs::Transition;
use crate::etcd::{Caller, Etcd};

/// A gate, and the etcd that it has to itself.
pub(super) struct Driven {
    pub(super) gate: Gate,
    etcd: OwnEtcd,
}

/// The etcd of a node that is alone in it, if it is in a cluster.
pub(super) struct OwnEtcd {
    etcd: Etcd,
    caller: Option<Caller>,
    /// A fence that the SFU has not carried out.
    pub(super) fence: Option<FenceId>,
}

impl Driven {
    pub(super) fn new(gate: Gate, settings: &Settings) -> Self {
        Self {
            gate,
            etcd: OwnEtcd::new(settings),
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

impl OwnEtcd {
    pub(super) fn new(settings: &Settings) -> Self {
        let caller = settings.cluster.as_ref().map(|cluster| Caller {
            name: settings.node_name.clone(),
            start: 0,
            boot: 0,
            terms: cluster.terms,
        });
        Self {
            etcd: Etcd::new(),
            caller,
            fence: None,
        }
    }

    pub(super) fn read(&mut self, now: Timestamp) -> Input {
        let view = self.etcd.read(self.caller.as_ref().unwrap(), now.boot);
        // Each answer is heard, so no key is one that the node does not know of.
        Input::Etcd(EtcdResponse::MembersRead(Box::new(MembersRead {
            sent: now.boot,
            received: now.boot,
            own_of_this_start: None,
            own_of_this_boot: None,
            own_of_another_boot: false,
            ..view
        })))
    }

    pub(super) fn execute(&mut self, now: Timestamp, request: EtcdRequest) -> Option<Input> {
        if request == EtcdRequest::ReadMembers {
            return Some(self.read(now));
        }
        let caller = self.caller.as_ref().unwrap();
        self.etcd
            .execute(caller, now.boot, request)
            .map(Input::Etcd)
    }

    /// Checks that a request goes by the etcd as it is.
    fn check_up_to_date(&self, request: &EtcdRequest) {
        let member = self.etcd.member(&self.caller.as_ref().unwrap().name);
        match request {
            EtcdRequest::Join { give_up, .. } => assert_eq!(member, *give_up),
            EtcdRequest::Publish { by, .. } => assert_eq!(member, Some(*by)),
            EtcdRequest::Claim { op, .. } => assert!(
                matches!(op, ClaimOp::Get | ClaimOp::Acquire),
                "{op:?} of a node that knows its claims"
            ),
            EtcdRequest::ReadMembers
            | EtcdRequest::DeleteMember(_)
            | EtcdRequest::FindClaim { .. }
            | EtcdRequest::Release(..)
            | EtcdRequest::Trust { .. }
            | EtcdRequest::PublishLoad { .. } => {}
            other => panic!("{other:?} of a node that is alone in an etcd that loses nothing"),
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
