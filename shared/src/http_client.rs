//! HTTP clients for outgoing requests: no proxies from the environment, no redirects.
//!
//! A request that may be executed twice goes over a kept connection ([`kept`]). Each other request,
//! such as an auth webhook for the application, has a connection of its own. A server may close a
//! kept connection at any moment; the request in flight then fails although the server is well, and
//! it may not be sent again, as the server may have executed it (RFC 9110, 9.2.2). So with kept
//! connections every second client is refused by an application that closes after a response. A
//! connection per request costs 0.12 ms of processor time (0.25 in place of 0.13, with nginx and a
//! client in Python), with TLS 1.7 ms; over a network one round trip, with TLS two.

pub mod kept;

use std::time::Duration;

use reqwest::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

pub use reqwest::Url;

use crate::certificates::Authorities;
use crate::crypto::install_crypto;
use crate::text::shorten;

/// Text of another server that is kept, logged or shown, at most, in bytes.
pub const PEER_TEXT_BYTES_MAX: usize = 255;

/// The header in which each soramoded that sends a request, or passes one on, adds its mark: one that comes back to it goes in circles.
pub const MARK_HEADER: &str = "soramode-passed-by";

/// The beginning of a webhook's path that is shown, at most, in characters: the rest may be a secret.
const PATH_CHARS_SHOWN: usize = 12;

/// The URL is no absolute `http:` or `https:` URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("got {0:?}, takes an absolute URL such as http://127.0.0.1:3000")]
pub struct NoHttpUrl(String);

/// Settings that all requests of a program share.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Certificate authorities that are trusted in addition to the system's.
    pub authorities: Authorities,
    /// Value of the header [`MARK_HEADER`].
    pub mark: Option<HeaderValue>,
}

/// Parses the URL of a server. The error does not repeat what may be a secret.
pub fn read_url(text: &str) -> Result<Url, NoHttpUrl> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| NoHttpUrl(shown_text(text)))
}

/// Returns a text that was to be a URL, without a user and a query that it may have.
pub fn shown_text(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = text
        .split_once("://")
        .map_or(("", text), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit('@').next().unwrap_or_default();
    shorten(
        &if scheme.is_empty() {
            rest.to_owned()
        } else {
            format!("{scheme}://{rest}")
        },
        PEER_TEXT_BYTES_MAX,
    )
}

/// Returns the URL without user, password, query and fragment, which may be secrets.
pub fn redacted(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    if shown.set_username("").is_err() || shown.set_password(None).is_err() {
        return "(a URL with a user)".to_owned();
    }
    shown.into()
}

/// Returns a webhook's URL without secrets: of its path only the beginning is shown, as many services put a token into the rest.
pub fn endpoint(url: &Url) -> String {
    let mut shown = url.clone();
    let mut segments = url.path_segments().into_iter().flatten();
    let first = segments.next().unwrap_or_default();
    let beginning: String = first.chars().take(PATH_CHARS_SHOWN).collect();
    let cut = if beginning.len() < first.len() {
        "..."
    } else {
        ""
    };
    let more = if segments.next().is_some() {
        "/..."
    } else {
        ""
    };
    shown.set_path(&format!("/{beginning}{cut}{more}"));
    redacted(&shown)
}

/// Returns a client for this server. A call fails if connecting, asking and hearing the whole answer take longer than `timeout`.
pub fn client(url: &Url, timeout: Duration, outgoing: &Outgoing) -> Result<Client, reqwest::Error> {
    build(url, Client::builder().timeout(timeout), outgoing)
}

/// Returns a client for answers of any length: a call fails if connecting, or waiting for the next piece, takes longer than `timeout`.
pub fn streaming(
    url: &Url,
    timeout: Duration,
    outgoing: &Outgoing,
) -> Result<Client, reqwest::Error> {
    build(
        url,
        Client::builder()
            .connect_timeout(timeout)
            .read_timeout(timeout),
        outgoing,
    )
}

fn build(url: &Url, builder: ClientBuilder, outgoing: &Outgoing) -> Result<Client, reqwest::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.extend(
        outgoing
            .mark
            .clone()
            .map(|mark| (HeaderName::from_static(MARK_HEADER), mark)),
    );
    let builder = builder
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .http1_only();
    let builder = builder.pool_max_idle_per_host(0).default_headers(headers);
    install_crypto();
    // Without TLS no certificate of the system's is needed, and none may be there.
    match (url.scheme(), outgoing.authorities.certificates()) {
        ("https", []) => builder.build(),
        ("https", certificates) => builder
            .tls_certs_merge(certificates.iter().cloned())
            .build(),
        (_, _) => builder.tls_certs_only([]).build(),
    }
}

/// Returns why a request failed: the cause of all causes, because those around it repeat the URL.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let text = causes
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string);
    if text.contains("CaUsedAsEndEntity") {
        return "its self-signed certificate is one of an authority (CA:TRUE), which TLS does not accept of a server; make it with: openssl req -x509 \
                -addext basicConstraints=critical,CA:FALSE"
            .to_owned();
    }
    if text.contains("UnknownIssuer") {
        return "its certificate's issuer is not trusted here; name the issuer's certificate in a CA file".to_owned();
    }
    shorten(
        text.split(" (os error").next().unwrap_or_default(),
        PEER_TEXT_BYTES_MAX,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_is_shown() {
        for (url, plain, hook) in [
            (
                "http://u:P@h:1/a/b?key=Q#f",
                "http://h:1/a/b",
                "http://h:1/a/...",
            ),
            (
                "https://u@hooks.example/services/T0/B0/SECRET",
                "https://hooks.example/services/T0/B0/SECRET",
                "https://hooks.example/services/...",
            ),
            ("https://h/hook", "https://h/hook", "https://h/hook"),
            (
                "https://h/abcdefghijklmnop",
                "https://h/abcdefghijklmnop",
                "https://h/abcdefghijkl...",
            ),
            ("https://h", "https://h/", "https://h/"),
        ] {
            let url = read_url(url).unwrap();
            assert_eq!(
                (redacted(&url).as_str(), endpoint(&url).as_str()),
                (plain, hook)
            );
        }
        for wrong in [
            "//u:PASS@h/?key=PASS",
            "htp://u:PASS@h/x?PASS",
            "u:PASS@h/#PASS",
            "http://",
        ] {
            let refusal = read_url(wrong).unwrap_err().to_string();
            assert!(!refusal.contains("PASS"), "{refusal}");
        }
    }
}
