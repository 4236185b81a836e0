//! What can be wrong with a call, as Shiguredo's public dispatcher says it.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::target::RequestTarget;
use crate::http::response::{self, HttpResponse};

/// A call that is refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// Not `POST`.
    Method,
    /// No `x-sora-target`.
    NoTarget,
    /// A target that is not `Word_8digits.Word`.
    NotATarget,
    /// Two targets, or one of another service.
    WrongService,
    /// No body, and nobody knows the target.
    UnknownWithoutBody,
    /// No body, and the target needs one.
    NoBody(RequestTarget),
    /// The body is not JSON.
    NotJson,
    /// A body, and nobody knows the target.
    Unknown(RequestTarget),
    /// The body is not what the target takes.
    Schema(Box<Mismatch>),
    /// The gate refused, with its own word for why.
    Gate(String),
    /// A bug.
    Bug,
}

/// Where a body is not what its schema says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mismatch {
    /// Always `data`.
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
            Self::NoTarget => response::json(bad, &json!({"type": "MissingHeaderName"})),
            Self::NotATarget => response::error(bad, "MissingService"),
            Self::WrongService => response::error(bad, "InvalidTarget"),
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
