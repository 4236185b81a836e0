//! The words in which the HTTP doors are set up, each checked while it is read.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use soramode_protocol::http_client;

/// Where a door listens: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("takes a path after unix:".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| format!("got {text:?}, takes ADDRESS:PORT (127.0.0.1:3000) or unix:PATH")),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An absolute `http:` or `https:` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(pub Url);

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        http_client::read_url(text).map(Self).map_err(|error| error.to_string())
    }
}

impl fmt::Display for HttpUrl {
    /// Shows the URL without secrets that it may have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&http_client::without_secrets(&self.0))
    }
}

/// An origin as browsers send it: scheme, host and, if it is not the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigin(String);

impl CorsOrigin {
    /// As it stands in the `Origin` header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CorsOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let origin = Url::parse(text).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        if origin == text {
            return Ok(Self(origin));
        }
        let meant = if origin.contains("://") { format!("; did you mean {origin}?") } else { String::new() };
        Err(format!("got {text:?}, takes an origin as browsers send it, such as http://127.0.0.1:5000{meant}"))
    }
}

/// A name that a `Host` header may have, without its port; compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    /// In lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_address =
            text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok());
        if is_address || (!text.is_empty() && text.bytes().all(is_plain)) {
            return Ok(Self(text.to_ascii_lowercase()));
        }
        Err(format!("got {text:?}, takes a host's name or address without a port (an IPv6 address in brackets)"))
    }
}

/// Whose the mode is, where there is a Sora that has one too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SoraMode {
    /// soramode's alone
    #[default]
    Own,
    /// Sora is told of each change, and the stricter of both is what holds
    Mirror,
}
