//! Access to the API: for a browser's page only from a listed origin, under no foreign host name,
//! over TCP with a token if any are configured, and over a Unix socket by kernel credentials.

use std::sync::Arc;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, HOST, HeaderValue, ORIGIN, VARY, WWW_AUTHENTICATE,
};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, StatusCode};
use soramode_protocol::access::Access;

use crate::args::http::HostName;
use crate::config::ApiConfig;
use crate::http::listen::Caller;
use crate::http::response::{ErrorBody, HttpResponse, json};
use crate::http::state::HttpState;

const ALLOW_HEADERS: &str = "Origin, X-Requested-With, Content-Type, Accept, x-sora-target";
const ALLOW_HEADERS_AND_TOKEN: &str =
    "Origin, X-Requested-With, Content-Type, Accept, x-sora-target, Authorization";
const ALLOW_METHODS: &str = "POST, OPTIONS";
const MAX_AGE_SECONDS: &str = "1000";

/// Length of a foreign Host in the error, in characters.
const HOST_CHARACTERS_MAX: usize = 255;

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// The `Host` header names another host; or there is none, or several.
    Host(Option<String>),
    /// The page's origin is not listed.
    Origin,
    /// No token, or an unknown one.
    Token,
    /// The user may only look.
    User,
}

impl Refusal {
    pub(in crate::http) fn answer(self) -> HttpResponse {
        let (status, error_type, (error_reason, hint)) = match self {
            Self::Host(host) => (StatusCode::FORBIDDEN, "Forbidden", invalid_host(host)),
            Self::Origin => {
                let hint = "Allow the page's origin with --cors-origin";
                (
                    StatusCode::FORBIDDEN,
                    "Forbidden",
                    ("this Origin is not allowed".to_owned(), hint.to_owned()),
                )
            }
            Self::Token => {
                let hint = "Send authorization: Bearer with a token of --http-token-file";
                (
                    StatusCode::UNAUTHORIZED,
                    "Unauthorized",
                    ("the token is missing or wrong".to_owned(), hint.to_owned()),
                )
            }
            Self::User => {
                let hint = "Call as root, as soramoded's own user or as a member of --operator-group; or send a token of --http-token-file";
                (
                    StatusCode::FORBIDDEN,
                    "Forbidden",
                    ("this user may only view".to_owned(), hint.to_owned()),
                )
            }
        };
        let mut answer = json(
            status,
            &ErrorBody {
                error_type,
                error_reason: Some(error_reason),
                hint: Some(hint),
            },
        );
        if status == StatusCode::UNAUTHORIZED {
            answer
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

fn invalid_host(host: Option<String>) -> (String, String) {
    let Some(host) = host else {
        return (
            "the request has no Host header, or several".to_owned(),
            "Send one Host header".to_owned(),
        );
    };
    let host: String = host.chars().take(HOST_CHARACTERS_MAX).collect();
    let named = host
        .parse::<Authority>()
        .ok()
        .filter(|authority| authority.host().parse::<HostName>().is_ok());
    let hint = match named {
        Some(authority) => format!(
            "Start soramoded with --http-host {}, or have the proxy send Host: localhost",
            authority.host()
        ),
        None => "Send the name or the address of this machine, with or without a port".to_owned(),
    };
    (format!("the Host {host:?} is not allowed"), hint)
}

/// Refuses a host name that is not ours, to which a page could have pointed its own name. The port
/// is ignored: a proxy may have another.
pub(in crate::http) fn check_host(
    config: &ApiConfig,
    caller: &Caller,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    // No page leads to a Unix socket.
    if caller.peer.is_some() {
        return Ok(());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::Host(None));
    };
    let host = host.as_bytes();
    if is_usual_loopback(host) {
        return Ok(());
    }
    let host = String::from_utf8_lossy(host);
    if is_ours(config, &host) {
        return Ok(());
    }
    Err(Refusal::Host(Some(host.into_owned())))
}

/// Returns true for the usual ways to write this machine, without parsing them.
fn is_usual_loopback(host: &[u8]) -> bool {
    let rest = ["127.0.0.1", "localhost", "[::1]"]
        .iter()
        .find_map(|name| host.strip_prefix(name.as_bytes()));
    match rest {
        Some([]) => true,
        Some([b':', port @ ..]) => !port.is_empty() && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

fn is_ours(config: &ApiConfig, host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let host = HostName::of(authority.host());
    host.is_loopback() || config.hosts.contains(&host)
}

/// The CORS headers that every answer gets, if any; or the refusal of an origin that is not listed.
pub(super) fn check_origin(
    config: &ApiConfig,
    headers: &HeaderMap,
) -> Result<Option<Box<HeaderMap>>, Refusal> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let asking = match (origins.next(), origins.next()) {
        (None, _) => None,
        (Some(origin), None)
            if config
                .cors_origins
                .iter()
                .any(|listed| listed.as_str().as_bytes() == origin.as_bytes()) =>
        {
            Some(origin.clone())
        }
        (Some(_), _) => return Err(Refusal::Origin),
    };
    let first = config
        .cors_origins
        .first()
        .and_then(|origin| HeaderValue::from_str(origin.as_str()).ok());
    let Some(origin) = asking.or(first) else {
        return Ok(None);
    };
    let mut cors = HeaderMap::new();
    let allow_headers = if config.tokens.is_some() {
        ALLOW_HEADERS_AND_TOKEN
    } else {
        ALLOW_HEADERS
    };
    cors.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(allow_headers),
    );
    cors.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static(ALLOW_METHODS),
    );
    cors.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    cors.insert(
        ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static(MAX_AGE_SECONDS),
    );
    if config.cors_origins.len() > 1 {
        cors.insert(VARY, HeaderValue::from_static("origin"));
    }
    Ok(Some(Box::new(cors)))
}

/// Checks the caller's access, and returns the actor for records; `nameless` if neither the kernel
/// nor a token identifies it. Over TCP a token does, if any are configured. Over a Unix socket the
/// kernel does: operators need no token; other users may read, or act with a token.
pub(super) fn check_caller(
    state: &HttpState,
    caller: &Caller,
    headers: &HeaderMap,
    needed: Access,
) -> Result<Arc<str>, Refusal> {
    let tokens = state.config.api.tokens.as_ref();
    match (&caller.peer, tokens) {
        (Some(peer), _) if peer.access == Access::Operate => Ok(Arc::clone(&peer.actor)),
        (_, Some(tokens)) => {
            let holder = shown_token(headers)
                .and_then(|token| tokens.find(token))
                .ok_or(Refusal::Token)?;
            Ok(holder.name.map_or_else(
                || Arc::clone(&state.nameless),
                |name| Arc::from(format!("http({name})")),
            ))
        }
        (Some(peer), None) if needed == Access::View => Ok(Arc::clone(&peer.actor)),
        (Some(_), None) => Err(Refusal::User),
        (None, None) => Ok(Arc::clone(&state.nameless)),
    }
}

fn shown_token(headers: &HeaderMap) -> Option<&[u8]> {
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}
