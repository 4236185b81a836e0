//! Types of the cluster's settings, checked while they are parsed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;
use soramode_protocol::http_client::shown_text;

/// URL of a member of etcd: an absolute `http:` or `https:` URL without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EtcdUrl(String);

impl EtcdUrl {
    /// Returns the text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if the URL needs TLS.
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl FromStr for EtcdUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "got {:?}, takes the URL of an etcd member, such as http://10.0.0.1:2379",
                shown_text(text)
            )
        };
        let url = Url::parse(text).map_err(|_| wrong())?;
        let is_bare = matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let is_http = matches!(url.scheme(), "http" | "https") && url.host().is_some();
        if is_http && is_bare {
            Ok(Self(text.trim_end_matches('/').to_owned()))
        } else {
            Err(wrong())
        }
    }
}

impl fmt::Display for EtcdUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Time without a renewal after which the ownership lease expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceAfter {
    /// Expires after this time.
    After(Duration),
    /// Never expires on its own.
    Never,
}

impl FromStr for FenceAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let time = humantime::parse_duration(text).map_err(|_| {
            format!("got {text:?}, takes a duration with units, such as 30s, or never")
        })?;
        Ok(Self::After(time))
    }
}

impl fmt::Display for FenceAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(time) => humantime::format_duration(*time).fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

/// Means of ending sessions when the ownership lease expires.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnFence {
    /// Ends no sessions; an operator must.
    #[default]
    None,
    /// Calls `DisconnectChannel` of Sora's API.
    SoraApi,
    /// Runs this command, which ends all sessions.
    Exec(String),
    /// Sends the notification `Fence`, which each client with `ends: true` acknowledges.
    Socket,
}

impl OnFence {
    /// Returns the name in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SoraApi => "sora-api",
            Self::Exec(_) => "exec",
            Self::Socket => "socket",
        }
    }
}

impl FromStr for OnFence {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "sora-api" => Ok(Self::SoraApi),
            "socket" => Ok(Self::Socket),
            _ => match text.strip_prefix("exec:").map(str::trim) {
                Some(command) if !command.is_empty() => Ok(Self::Exec(command.to_owned())),
                Some(_) | None => Err(format!(
                    "got {text:?}, takes sora-api, exec:COMMAND, socket or none"
                )),
            },
        }
    }
}

/// Means of ending the SFU's sessions if the daemon itself is dead or frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadMan {
    /// No such means exist.
    #[default]
    None,
    /// The SFU requests grants repeatedly, and stops serving without one.
    Grant,
}

impl DeadMan {
    /// Returns the name in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Grant => "grant",
        }
    }
}

impl FromStr for DeadMan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unit" {
            return Err(
                "got \"unit\", takes grant or none: soramoded cannot guarantee to the other nodes how quickly systemd stops the SFU"
                    .to_owned(),
            );
        }
        let all = [Self::None, Self::Grant];
        all.into_iter()
            .find(|it| it.name() == text)
            .ok_or_else(|| format!("got {text:?}, takes grant or none"))
    }
}

/// Name of the cluster, which is part of etcd's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterName(String);

/// The longest name of a cluster, in bytes.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;

impl ClusterName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for ClusterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if (1..=CLUSTER_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "got {text:?}, takes 1 to {CLUSTER_NAME_BYTES_MAX} letters, digits, dots, dashes and underscores"
        ))
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute URL as clients are given it: `wss:`, `ws:`, `https:` or `http:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeUrl(String);

/// Maximum length of the URLs that a node publishes, in bytes.
pub const NODE_URL_BYTES_MAX: usize = 1_024;

impl NodeUrl {
    /// Returns the text as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_url = Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "wss" | "ws" | "https" | "http") && url.host().is_some()
        });
        if is_url && text.len() <= NODE_URL_BYTES_MAX {
            return Ok(Self(text.to_owned()));
        }
        let shown = shown_text(text);
        Err(format!(
            "got {shown:?}, takes a URL of at most {NODE_URL_BYTES_MAX} bytes, such as wss://node-01.example.com/signaling"
        ))
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
