//! Who may use the API: a browser's page only from a listed origin, nobody under a name that is not ours, and from afar only with a token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST,
    HeaderValue, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::config::ApiConfig;
use crate::http::answer::{Answered, json};
use crate::http::listen::Caller;

const ALLOW_HEADERS: &str = "Origin, X-Requested-With, Content-Type, Accept, x-sora-target";
const ALLOW_HEADERS_AND_TOKEN: &str = "Origin, X-Requested-With, Content-Type, Accept, x-sora-target, Authorization";
const ALLOW_METHODS: &str = "POST, OPTIONS";
const MAX_AGE_SECONDS: &str = "1000";
const DEFAULT_PORT: u16 = 80;

/// Who is not let in, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Host,
    Origin,
    Token,
}

#[derive(Serialize)]
struct Refused {
    error_type: &'static str,
    error_reason: &'static str,
}

impl Refusal {
    pub(super) fn answer(self) -> Answered {
        let (status, error_type, error_reason) = match self {
            Self::Host => (StatusCode::FORBIDDEN, "Forbidden", "the Host is not one of ours: see --http-host"),
            Self::Origin => (StatusCode::FORBIDDEN, "Forbidden", "the Origin is not listed: see --cors-origin"),
            Self::Token => (StatusCode::UNAUTHORIZED, "Unauthorized", "takes authorization: Bearer with a token of --http-token-file"),
        };
        let mut answer = json(status, &Refused { error_type, error_reason });
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

/// Refuses a name that is not ours: a page could have had it lead here.
pub(super) fn check_host(config: &ApiConfig, caller: Caller, headers: &HeaderMap) -> Result<(), Refusal> {
    // Over a Unix socket comes nobody whom a name could have led here.
    let Some(port) = caller.port else { return Ok(()) };
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map_err(|_| Refusal::Host)?,
        (_, _) => return Err(Refusal::Host),
    };
    // Most say an address, which is read at a fraction of what a name takes.
    let is_our_address = host.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback() && address.port() == port);
    if is_our_address || is_our_name(config, port, host) { Ok(()) } else { Err(Refusal::Host) }
}

fn is_our_name(config: &ApiConfig, port: u16, host: &str) -> bool {
    let Ok(host) = host.parse::<Authority>() else { return false };
    let name = host.host().to_ascii_lowercase();
    let is_listed = config.hosts.iter().any(|listed| listed.as_str() == name);
    let is_our_port = host.port_u16().unwrap_or(DEFAULT_PORT) == port;
    is_listed || (is_loopback(&name) && is_our_port)
}

fn is_loopback(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The CORS headers that every answer gets; or the refusal of an origin that is not listed.
pub(super) fn check_origin(config: &ApiConfig, headers: &HeaderMap) -> Result<HeaderMap, Refusal> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let asking = match (origins.next(), origins.next()) {
        (None, _) => None,
        (Some(origin), None) if config.cors_origins.iter().any(|listed| listed.as_str().as_bytes() == origin.as_bytes()) => {
            Some(origin.clone())
        }
        (Some(_), _) => return Err(Refusal::Origin),
    };
    let mut cors = HeaderMap::new();
    let first = config.cors_origins.first().and_then(|origin| HeaderValue::from_str(origin.as_str()).ok());
    let Some(origin) = asking.or(first) else { return Ok(cors) };
    let allow_headers = if config.tokens.is_some() { ALLOW_HEADERS_AND_TOKEN } else { ALLOW_HEADERS };
    cors.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allow_headers));
    cors.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOW_METHODS));
    cors.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    cors.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
    if config.cors_origins.len() > 1 {
        cors.insert(VARY, HeaderValue::from_static("origin"));
    }
    Ok(cors)
}

/// Who asks, as a change of the mode is recorded under; `nameless`, where no token says it.
pub(super) fn check_token(config: &ApiConfig, caller: Caller, headers: &HeaderMap, nameless: &Arc<str>) -> Result<Arc<str>, Refusal> {
    let (Some(tokens), Some(_)) = (&config.tokens, caller.port) else { return Ok(Arc::clone(nameless)) };
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let bearer = match (shown.next(), shown.next()) {
        (Some(value), None) => value.as_bytes().split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer ")),
        (_, _) => None,
    };
    let holder = bearer.and_then(|(_, token)| tokens.find(token)).ok_or(Refusal::Token)?;
    Ok(holder.name.map_or_else(|| Arc::clone(nameless), |name| Arc::from(format!("http({name})"))))
}
