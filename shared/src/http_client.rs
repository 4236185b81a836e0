//! How soramode asks other HTTP servers: directly, whatever proxy the environment names, and without going where it is sent on to.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};

pub use reqwest::Url;

/// The URL is no absolute `http:` or `https:` URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("got {0:?}, takes an absolute URL such as http://127.0.0.1:3000")]
pub struct NoHttpUrl(String);

/// Reads a URL of a server.
pub fn read_url(text: &str) -> Result<Url, NoHttpUrl> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.ok_or_else(|| NoHttpUrl(text.to_owned()))
}

/// The URL as it may be shown: without a password that it may have.
pub fn without_password(url: &Url) -> String {
    let mut shown = url.clone();
    if shown.password().is_some() && shown.set_password(Some("***")).is_err() {
        return "(a URL with a password)".to_owned();
    }
    shown.into()
}

/// The URL as it may be shown where it may hold a secret: without user, password and query.
pub fn without_secrets(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    if shown.set_username("").is_err() || shown.set_password(None).is_err() {
        return "(a URL with a user)".to_owned();
    }
    shown.into()
}

/// A client for a receiver of webhooks; `authorities` are certificates in PEM that are trusted beside the system's.
pub fn sender(url: &Url, timeout: Duration, authorities: Option<&[u8]>) -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder().timeout(timeout);
    if let Some(authorities) = authorities {
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(authorities)?);
    }
    build(url, builder)
}

/// A client for this server. A call fails if connecting, asking and hearing the whole answer take longer than `timeout`.
pub fn client(url: &Url, timeout: Duration) -> Result<Client, reqwest::Error> {
    build(url, Client::builder().timeout(timeout))
}

/// The same for answers of any length: a call fails if connecting, or waiting for the next piece, takes longer than `timeout`.
pub fn streaming(url: &Url, timeout: Duration) -> Result<Client, reqwest::Error> {
    build(url, Client::builder().connect_timeout(timeout).read_timeout(timeout))
}

fn build(url: &Url, builder: ClientBuilder) -> Result<Client, reqwest::Error> {
    let builder = builder.no_proxy().redirect(Policy::none()).referer(false).http1_only();
    // Another part of this program may have been first: then that one is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    // Without TLS no certificate of the system's is needed, and none may be there.
    if url.scheme() == "https" { builder.build() } else { builder.tls_certs_only([]).build() }
}
