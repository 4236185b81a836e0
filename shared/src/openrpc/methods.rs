//! Methods of the document: params, result, errors, access and examples.

use serde_json::{Value, json};

use super::{Generators, finish, golden};
use crate::error::ErrorType;
use crate::request::Method;

/// Bytes of the examples of a method, beside the first.
const EXAMPLE_BYTES_MAX: usize = 700;

/// Returns the method's entry.
pub(super) fn method(method: Method, generators: &mut Generators) -> Value {
    let (result, schema) = method.result_schema(&mut generators.results);
    let errors: Vec<Value> = errors(method)
        .iter()
        .map(|error_type| json!({"$ref": format!("#/components/errors/{error_type:?}")}))
        .collect();
    let name = method.name();
    let description: Vec<&str> = method.description().lines().map(str::trim).collect();
    json!({
        "name": name,
        "description": description.join(" ").trim(),
        "paramStructure": "by-name",
        "params": params(method, generators),
        "result": {"name": result, "required": true, "schema": schema},
        "errors": errors,
        "examples": examples(method),
        "x-access": method.access().name(),
    })
}

/// Params in the order of their names, those that are required first, as OpenRPC asks for.
fn params(method: Method, generators: &mut Generators) -> Vec<Value> {
    let schema = method.params_schema(&mut generators.params);
    let object = finish(&mut generators.params, schema);
    let is_required = |name: &str| {
        let required = object["required"].as_array().into_iter().flatten();
        required.into_iter().any(|it| it == name)
    };
    let properties = object["properties"].as_object().into_iter().flatten();
    let mut params: Vec<Value> = properties
        .map(|(name, schema)| param(name, schema, is_required(name)))
        .collect();
    params.sort_by_key(|param| param["required"] == false);
    params
}

/// Returns a content descriptor; the description moves to it from the schema.
fn param(name: &str, schema: &Value, is_required: bool) -> Value {
    let mut schema = schema.clone();
    let description = schema
        .as_object_mut()
        .and_then(|schema| schema.remove("description"));
    json!({"name": name, "description": description, "required": is_required, "schema": schema})
}

/// Errors that the method answers, beside those that every method may answer.
const fn errors(method: Method) -> &'static [ErrorType] {
    use ErrorType as E;
    match method {
        Method::ChangeMode => &[
            E::Superseded,
            E::NotJoined,
            E::Reserved,
            E::StorageUnavailable,
            E::ClusterUnavailable,
            E::PermissionDenied,
        ],
        Method::Connect => &[
            E::ConnectionIdInUse,
            E::NotFound,
            E::StorageUnavailable,
            E::ClusterUnavailable,
            E::PermissionDenied,
        ],
        Method::End => &[
            E::NotFound,
            E::CannotEndSessions,
            E::StorageUnavailable,
            E::PermissionDenied,
        ],
        Method::Wait => &[E::NotFound, E::ConditionImpossible, E::SessionsIncomplete],
        Method::ResendDelivery => &[
            E::NotFound,
            E::ConditionImpossible,
            E::StorageUnavailable,
            E::PermissionDenied,
        ],
        Method::PurgeClusterNode => &[
            E::NotFound,
            E::NodeStillJoined,
            E::NotJoined,
            E::ConditionImpossible,
            E::ClusterUnavailable,
            E::PermissionDenied,
        ],
        Method::InitCluster => &[
            E::AlreadyExists,
            E::ConditionImpossible,
            E::ClusterUnavailable,
            E::PermissionDenied,
        ],
        Method::StartPlan => &[
            E::PlanRefused,
            E::CannotAnnounce,
            E::CannotEndSessions,
            E::Reserved,
            E::StorageUnavailable,
            E::PermissionDenied,
        ],
        Method::Announce => &[
            E::NotFound,
            E::CannotAnnounce,
            E::StorageUnavailable,
            E::PermissionDenied,
        ],
        Method::Reserve => &[
            E::Reserved,
            E::NotFound,
            E::StorageUnavailable,
            E::PermissionDenied,
        ],
        Method::Report | Method::Disconnect | Method::Release => {
            &[E::StorageUnavailable, E::PermissionDenied]
        }
        Method::Explain => &[E::ClusterUnavailable],
        Method::GetSession => &[E::NotFound],
        Method::CancelPlan | Method::Grant | Method::Acknowledge | Method::Subscribe => {
            &[E::PermissionDenied]
        }
        Method::GetMode
        | Method::GetStatus
        | Method::ListModeChanges
        | Method::ListSessions
        | Method::ListConnections
        | Method::Unsubscribe
        | Method::ListDeliveries
        | Method::ListClusterNodes
        | Method::GetPlan
        | Method::GetInfo
        | Method::Discover => &[],
    }
}

/// The first pair of a request and its result, and further ones while these are short.
fn examples(method: Method) -> Vec<Value> {
    let lines = golden(method.name());
    let requests = lines.iter().filter(|line| line.get("method").is_some());
    let pairs = requests.filter_map(|request| {
        let is_result = |line: &&Value| line["id"] == request["id"] && line.get("result").is_some();
        Some((request, lines.iter().find(is_result)?))
    });
    let mut examples: Vec<Value> = Vec::new();
    let mut bytes = 0;
    for (request, answer) in pairs {
        let params: Vec<Value> = request["params"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        let example = json!({
            "name": format!("{} {}", method.name(), examples.len() + 1),
            "params": params,
            "result": {"name": "result", "value": answer["result"]},
        });
        bytes += example.to_string().len();
        if examples.is_empty() || bytes <= EXAMPLE_BYTES_MAX {
            examples.push(example);
        }
    }
    examples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;

    #[test]
    fn every_method_that_changes_something_can_be_denied() {
        for method in Method::ALL {
            let is_denied = errors(*method).contains(&ErrorType::PermissionDenied);
            let needs_access = method.access() == Access::Operate || *method == Method::Subscribe;
            assert_eq!(is_denied, needs_access, "{}", method.name());
        }
    }
}
