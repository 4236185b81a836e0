//! Problems of a call, in the form of Shiguredo's public dispatcher.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::target::{RequestTarget, TargetProblem};
use crate::http::response::{self, HttpResponse};

/// A call that is refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// Method is not `POST`.
    Method,
    /// The header names no target of ours.
    Target(TargetProblem),
    /// Target is unknown, and the body is empty.
    UnknownWithoutBody,
    /// Target needs a body, and it is empty.
    NoBody(RequestTarget),
    /// The body is not JSON.
    NotJson,
    /// Target is unknown, and there is a body.
    Unknown(RequestTarget),
    /// Body does not match the target's schema.
    Schema(Box<Mismatch>),
    /// Gate refused with this error type.
    Gate(String),
    /// Internal error: a bug.
    Bug,
}

/// Mismatch between a body and its schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mismatch {
    /// Always the text `data`.
    pub(super) invalid: &'static str,
    pub(super) schema: Value,
    pub(super) error: &'static str,
    pub(super) data: Value,
    pub(super) path: Vec<&'static str>,
}

impl Problem {
    pub(super) fn answer(self) -> HttpResponse {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::Method => response::json(bad, &json!({"type": "UnexpectedMethod"})),
            Self::Target(TargetProblem::Missing) => {
                response::json(bad, &json!({"type": "MissingHeaderName"}))
            }
            Self::Target(TargetProblem::Malformed) => response::error(bad, "MissingService"),
            Self::Target(TargetProblem::WrongService) => response::error(bad, "InvalidTarget"),
            Self::UnknownWithoutBody => response::error(bad, "MissingTarget"),
            Self::NoBody(asked) => response::error_because(bad, "MissingTargetFunction", asked),
            Self::NotJson => {
                response::error_because(bad, "InvalidJSON", [json!({"invalid": "parse"})])
            }
            Self::Unknown(asked) => response::error_because(bad, "SchemaNotFound", asked),
            Self::Schema(mismatch) => response::error_because(bad, "InvalidJSON", [mismatch]),
            Self::Gate(error_type) => response::error(bad, &error_type),
            Self::Bug => response::error(StatusCode::INTERNAL_SERVER_ERROR, "HandlerException"),
        }
    }
}
