//! Finds URLs that lead back to the daemon itself: it would ask itself, and that again, until its places for clients are taken.

use std::net::{IpAddr, SocketAddr};

use soramode_protocol::http_client::{self, Url};

use super::error::ConfigError;
use super::http::HttpConfig;
use super::webhooks::WebhookConfig;
use crate::args::http::{HttpUrl, Listen};

/// Checks that no URL of another server leads to a listener of the daemon itself. Names are not
/// resolved here; requests that come back are refused later (508).
pub(super) fn check(http: &HttpConfig, webhooks: &WebhookConfig) -> Result<(), ConfigError> {
    let sora = &http.sora;
    let asked = [
        ("auth-upstream", &sora.upstreams.auth),
        ("session-upstream", &sora.upstreams.session),
        ("event-upstream", &sora.upstreams.event),
        ("sora-api", &sora.api),
    ];
    let janus = http.janus.iter().map(|janus| ("janus-admin", &janus.admin));
    let asked = asked
        .into_iter()
        .filter_map(|(name, url)| Some((name, url.as_ref()?)))
        .chain(janus);
    let receivers = webhooks.receivers.iter();
    for (name, url) in asked.chain(receivers.map(|receiver| ("webhook", &receiver.url))) {
        if let Some((listener, _)) = listeners(http)
            .into_iter()
            .find(|(_, address)| leads_to(url, *address))
        {
            return Err(ConfigError::OwnListener {
                name,
                url: if name == "webhook" {
                    http_client::endpoint(&url.0)
                } else {
                    url.to_string()
                },
                listener,
            });
        }
    }
    Ok(())
}

fn listeners(http: &HttpConfig) -> Vec<(&'static str, SocketAddr)> {
    let api = http.api.listen.iter().filter_map(|listen| match listen {
        Listen::Tcp(address) => Some(("api-listen", *address)),
        Listen::Unix(_) => None,
    });
    let sora = http.sora.listen.map(|address| ("sora-listen", address));
    let janus = http.janus_listen().map(|address| ("janus-listen", address));
    let observe = http
        .observe_listen
        .map(|address| ("observe-listen", address));
    api.chain(sora).chain(janus).chain(observe).collect()
}

fn leads_to(HttpUrl(url): &HttpUrl, listener: SocketAddr) -> bool {
    if url.port_or_known_default() != Some(listener.port()) {
        return false;
    }
    let own = listener.ip().to_canonical();
    match host_address(url) {
        // To connect to no address in particular is to connect to the loopback.
        Some(asked) if asked.is_loopback() || asked.is_unspecified() => {
            own == asked || own.is_unspecified() || asked.is_unspecified() && own.is_loopback()
        }
        Some(asked) => own == asked,
        None => is_localhost(url) && (own.is_loopback() || own.is_unspecified()),
    }
}

fn host_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .ok()?;
    Some(address.to_canonical())
}

fn is_localhost(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
}
