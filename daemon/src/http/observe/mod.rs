//! What load balancers and monitoring ask: `/live`, `/ready`, `/ready/new-session`, `/metrics`.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::House;
use super::answer::{Answered, error};
use super::listen::Caller;

/// Whether this door serves the path.
pub(super) fn is_path(path: &str) -> bool {
    matches!(path, "/live" | "/ready" | "/ready/new-session" | "/metrics")
}

pub(super) async fn answer(_house: &House, _caller: &Caller, _request: &Request<Incoming>) -> Answered {
    error(StatusCode::NOT_IMPLEMENTED, "HandlerException")
}
