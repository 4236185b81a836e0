//! Types of the HTTP settings, checked while they are parsed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use soramode_protocol::http_client;

/// Address of a listener: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Listens on a TCP address.
    Tcp(SocketAddr),
    /// Listens on a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("got no path after unix:, takes unix:PATH".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("got {text:?}, takes ADDRESS:PORT (127.0.0.1:3000) or unix:PATH")
            }),
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
        http_client::read_url(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl fmt::Display for HttpUrl {
    /// Shows the URL without secrets that it may have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&http_client::redacted(&self.0))
    }
}

/// An origin as browsers send it: scheme, host and, if it is not the scheme's own, port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorsOrigin(String);

impl CorsOrigin {
    /// Returns the text as in the `Origin` header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CorsOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let origin = Url::parse(text)
            .map(|url| url.origin().ascii_serialization())
            .unwrap_or_default();
        if origin == text {
            return Ok(Self(origin));
        }
        let meant = if origin.contains("://") {
            format!("; did you mean {origin}?")
        } else {
            String::new()
        };
        Err(format!(
            "got {text:?}, takes an origin as browsers send it, such as http://127.0.0.1:5000{meant}"
        ))
    }
}

/// A host as a `Host` header names it, without its port. Each is written in one way, however it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// A name, in lower case and without the root's dot.
    Name(String),
    /// An address; an IPv4 address in the form of an IPv6 one is the IPv4 address.
    Address(IpAddr),
}

impl HostName {
    /// Reads the host of a `Host` header, or of a setting.
    pub fn of(text: &str) -> Self {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        match bare.parse::<IpAddr>() {
            Ok(address) => Self::Address(address.to_canonical()),
            Err(_) => Self::Name(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()),
        }
    }

    /// Returns true if it names only this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name == "localhost",
            Self::Address(address) => address.is_loopback(),
        }
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        match Self::of(text) {
            Self::Name(name) if name.is_empty() || !name.bytes().all(is_plain) => Err(format!(
                "got {text:?}, takes a host name or address without a port"
            )),
            host @ (Self::Name(_) | Self::Address(_)) => Ok(host),
        }
    }
}

/// Owner of the mode, if a Sora has one too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SoraMode {
    /// Keep the mode in soramoded alone
    #[default]
    Own,
    /// Set Sora's mode as well; the stricter of both applies
    Mirror,
}
