//! A real Sora's webhooks: `POST /sora/auth`, `/sora/session`, `/sora/event`.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::House;
use super::answer::{Answered, error};
use super::listen::Caller;

pub(super) async fn answer(_house: &House, _caller: Caller, _request: Request<Incoming>) -> Answered {
    error(StatusCode::NOT_IMPLEMENTED, "HandlerException")
}
