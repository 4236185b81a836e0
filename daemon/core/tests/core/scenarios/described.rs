//! Answers and events of the stories are as `man/openrpc.json` describes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use soramode_core::effect::{Action, Record};
use soramode_core::handles::ReplyHandle;
use soramode_core::input::Input;
use soramode_protocol::openrpc::Validator;
use soramode_protocol::request::{GateRequest, Method};
use soramode_protocol::session::ListRequest;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man/openrpc.json");
    let document = fs::read_to_string(path).unwrap();
    Validator::new(serde_json::from_str(&document).unwrap())
});

/// Requests that are not answered yet.
#[derive(Default)]
pub(super) struct Unanswered(BTreeMap<ReplyHandle, Method>);

impl Unanswered {
    /// Notes a request.
    pub(super) fn note(&mut self, input: &Input) {
        if let Input::Request {
            reply_to, request, ..
        } = input
        {
            self.0.insert(*reply_to, method(request));
        }
    }

    /// Validates the events and the answers of a step.
    pub(super) fn validate(&mut self, records: &[Record], actions: &[Action]) {
        for record in records {
            if let Record::Event(event) = record {
                let event = serde_json::to_value(event).unwrap();
                VALIDATOR.notification("Event", &event).unwrap();
            }
        }
        for action in actions {
            let Action::Answer(reply_to, answer) = action else {
                continue;
            };
            // Answers to Sora's webhooks are no messages of the protocol.
            let Some(method) = self.0.remove(reply_to).map(Method::name) else {
                continue;
            };
            match answer {
                Ok(reply) => VALIDATOR.result(method, &serde_json::to_value(reply).unwrap()),
                Err(error) => VALIDATOR.error_of(method, &serde_json::to_value(error).unwrap()),
            }
            .unwrap();
        }
    }
}

const fn method(request: &GateRequest) -> Method {
    match request {
        GateRequest::GetMode => Method::GetMode,
        GateRequest::ChangeMode(_) => Method::ChangeMode,
        GateRequest::GetStatus => Method::GetStatus,
        GateRequest::ListClusterNodes(_) => Method::ListClusterNodes,
        GateRequest::ListModeChanges(_) => Method::ListModeChanges,
        GateRequest::Connect(_) => Method::Connect,
        GateRequest::Report(_) => Method::Report,
        GateRequest::Disconnect(_) => Method::Disconnect,
        GateRequest::End(_) => Method::End,
        GateRequest::Explain(_) => Method::Explain,
        GateRequest::List(ListRequest::Sessions(_)) => Method::ListSessions,
        GateRequest::List(ListRequest::Session(_)) => Method::GetSession,
        GateRequest::List(ListRequest::Connections(_)) => Method::ListConnections,
        GateRequest::Wait(_) => Method::Wait,
        GateRequest::ListDeliveries(_) => Method::ListDeliveries,
        GateRequest::ResendDelivery(_) => Method::ResendDelivery,
        GateRequest::PurgeClusterNode(_) => Method::PurgeClusterNode,
        GateRequest::InitCluster(_) => Method::InitCluster,
        GateRequest::Grant => Method::Grant,
        GateRequest::Acknowledge(_) => Method::Acknowledge,
        GateRequest::StartPlan(_) => Method::StartPlan,
        GateRequest::GetPlan => Method::GetPlan,
        GateRequest::CancelPlan(_) => Method::CancelPlan,
        GateRequest::Announce(_) => Method::Announce,
        GateRequest::Reserve(_) => Method::Reserve,
        GateRequest::Release(_) => Method::Release,
    }
}
