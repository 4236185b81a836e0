//! Settings of the HTTP listeners, and checks of their combinations.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::error::ConfigError;
use super::janus::{self, JanusConfig};
use super::limits::check_duration;
use super::tokens::Tokens;
use crate::args::Settings;
use crate::args::http::{CorsOrigin, HostName, HttpUrl, Listen, SoraMode};

/// Default timeout of an upstream.
const UPSTREAM_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Number of peers on the status page, at most.
pub const PEERS_MAX: usize = 16;

/// Longest `--upstream-timeout`: no client waits longer to be admitted.
pub const UPSTREAM_TIMEOUT_MAX: Duration = Duration::from_mins(5);

/// Settings of the HTTP listeners, checked. Listeners that are not configured are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// Settings of the Sora-compatible API.
    pub api: ApiConfig,
    /// Settings of a real Sora.
    pub sora: SoraConfig,
    /// Settings of a Janus.
    pub janus: Option<JanusConfig>,
    /// Address of the status page, `/live`, `/ready` and `/metrics`.
    pub observe_listen: Option<SocketAddr>,
    /// The status page.
    pub status_page: StatusPage,
}

/// The status page, on the listener for observability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusPage {
    /// Not served.
    Off,
    /// Served, with the nodes at these URLs as peers.
    Served(Vec<HttpUrl>),
}

impl Default for StatusPage {
    fn default() -> Self {
        Self::Served(Vec::new())
    }
}

/// Settings of the Sora-compatible API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiConfig {
    /// Addresses and sockets of the API.
    pub listen: Vec<Listen>,
    /// Origins of pages that may use the API.
    pub cors_origins: Vec<CorsOrigin>,
    /// Accepted host names, in addition to those of the loopback.
    pub hosts: Vec<HostName>,
    /// Accepted tokens; required if there are any.
    pub tokens: Option<Tokens>,
}

/// A real Sora: its webhooks in, where they go on to, and its API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoraConfig {
    /// Address of the listener for its webhooks.
    pub listen: Option<SocketAddr>,
    /// Addresses that may send webhooks, in addition to the loopback.
    pub peers: Vec<IpAddr>,
    /// Accepted tokens in the webhooks' URLs; required if there are any.
    pub tokens: Option<Tokens>,
    /// URL of Sora's API.
    pub api: Option<HttpUrl>,
    /// Owner of the mode: soramode alone, or mirrored to Sora.
    pub mode: SoraMode,
    /// Enforcement of the decisions.
    pub admission: Admission,
    /// The application's own webhooks.
    pub upstreams: Upstreams,
    /// Timeout of upstreams and of Sora's API.
    pub upstream_timeout: Duration,
    /// Time in which an admitted client must connect.
    pub pending_timeout: Duration,
    /// Time that an empty session may last without its `session.destroyed`.
    pub session_max_linger: Duration,
}

/// Enforcement of decisions about a Sora's clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Decisions are enforced on the clients.
    #[default]
    Enforced,
    /// Decisions are made, counted and logged, but all clients are admitted.
    Shadow,
}

/// URLs of the application's own webhooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstreams {
    /// `auth_webhook_url` of the application.
    pub auth: Option<HttpUrl>,
    /// URL of its `session_webhook_url`.
    pub session: Option<HttpUrl>,
    /// URL of its `event_webhook_url`.
    pub event: Option<HttpUrl>,
}

impl Default for SoraConfig {
    fn default() -> Self {
        Self {
            listen: None,
            peers: Vec::new(),
            tokens: None,
            api: None,
            mode: SoraMode::Own,
            admission: Admission::Enforced,
            upstreams: Upstreams::default(),
            upstream_timeout: UPSTREAM_TIMEOUT_DEFAULT,
            pending_timeout: soramode_core::settings::PENDING_TIMEOUT_DEFAULT,
            session_max_linger: soramode_core::settings::SESSION_MAX_LINGER_DEFAULT,
        }
    }
}

impl HttpConfig {
    /// Addresses that are listened on, at most: equal ones share a listener.
    pub fn listeners(&self) -> usize {
        self.api.listen.len()
            + usize::from(self.sora.listen.is_some())
            + usize::from(self.janus_listen().is_some())
            + usize::from(self.observe_listen.is_some())
    }

    /// Address of the listener for Janus's events.
    pub fn janus_listen(&self) -> Option<SocketAddr> {
        self.janus.as_ref().and_then(|janus| janus.listen)
    }
}

impl HttpConfig {
    /// The listeners through which every user of this machine may change things: those on the loopback that ask for no token.
    pub fn unauthenticated_listeners(&self) -> Vec<String> {
        let api = self.api.listen.iter().filter_map(|listen| match listen {
            Listen::Tcp(address) if self.api.tokens.is_none() => {
                Some(format!("api-listen {address}"))
            }
            Listen::Tcp(_) | Listen::Unix(_) => None,
        });
        let sora = self
            .sora
            .listen
            .filter(|_| self.sora.tokens.is_none())
            .map(|address| format!("sora-listen {address}"));
        api.chain(sora).collect()
    }
}

impl SoraConfig {
    /// Returns true if a Sora feeds the gate.
    pub const fn is_there(&self) -> bool {
        self.listen.is_some() || self.api.is_some()
    }
}

pub(super) fn check(settings: &Settings) -> Result<HttpConfig, ConfigError> {
    let config = HttpConfig {
        api: ApiConfig {
            listen: settings.api_listen.clone(),
            cors_origins: settings.cors_origin.clone(),
            hosts: settings.http_host.clone(),
            tokens: settings
                .http_token_file
                .as_deref()
                .map(|path| Tokens::read("http-token-file", path))
                .transpose()?,
        },
        sora: check_sora(settings)?,
        janus: janus::check(settings)?,
        observe_listen: settings.observe_listen,
        status_page: check_status_page(settings)?,
    };
    check_exposure(&config.api)?;
    Ok(config)
}

fn check_status_page(settings: &Settings) -> Result<StatusPage, ConfigError> {
    let (peers, is_off) = (
        settings.peer.clone(),
        settings.no_status_page.unwrap_or(false),
    );
    if !peers.is_empty() && settings.observe_listen.is_none() {
        return Err(ConfigError::Needs {
            name: "peer",
            needed: "observe-listen",
        });
    }
    if peers.len() > PEERS_MAX {
        return Err(ConfigError::OutOfRange {
            name: "peer",
            got: format!("{} URLs", peers.len()),
            takes: format!("at most {PEERS_MAX}"),
        });
    }
    Ok(if is_off {
        StatusPage::Off
    } else {
        StatusPage::Served(peers)
    })
}

fn check_sora(settings: &Settings) -> Result<SoraConfig, ConfigError> {
    let defaults = SoraConfig::default();
    let config = SoraConfig {
        listen: settings.sora_listen,
        peers: settings.sora_peer.clone(),
        tokens: settings
            .sora_token_file
            .as_deref()
            .map(|path| Tokens::read("sora-token-file", path))
            .transpose()?,
        api: settings.sora_api.clone(),
        mode: settings.sora_mode.unwrap_or_default(),
        admission: if settings.shadow.unwrap_or(false) {
            Admission::Shadow
        } else {
            Admission::Enforced
        },
        upstreams: Upstreams {
            auth: settings.auth_upstream.clone(),
            session: settings.session_upstream.clone(),
            event: settings.event_upstream.clone(),
        },
        upstream_timeout: check_duration(
            "upstream-timeout",
            settings.upstream_timeout,
            UPSTREAM_TIMEOUT_DEFAULT,
        )?,
        pending_timeout: check_duration(
            "pending-timeout",
            settings.pending_timeout,
            defaults.pending_timeout,
        )?,
        session_max_linger: check_duration(
            "session-max-linger",
            settings.session_max_linger,
            defaults.session_max_linger,
        )?,
    };
    if config.upstream_timeout.is_zero() || config.upstream_timeout > UPSTREAM_TIMEOUT_MAX {
        return Err(ConfigError::OutOfRange {
            name: "upstream-timeout",
            got: humantime::format_duration(config.upstream_timeout).to_string(),
            takes: format!(
                "1ms to {}",
                humantime::format_duration(UPSTREAM_TIMEOUT_MAX)
            ),
        });
    }
    check_needs(&config)?;
    Ok(config)
}

/// Refuses a setting without the one it depends on: it would have no effect.
fn check_needs(sora: &SoraConfig) -> Result<(), ConfigError> {
    let Upstreams {
        auth,
        session,
        event,
    } = &sora.upstreams;
    let needs_listen = [
        ("auth-upstream", auth.is_some()),
        ("session-upstream", session.is_some()),
        ("event-upstream", event.is_some()),
        ("sora-peer", !sora.peers.is_empty()),
        ("sora-token-file", sora.tokens.is_some()),
        ("shadow", sora.admission == Admission::Shadow),
    ];
    for (name, is_said) in needs_listen {
        if is_said && sora.listen.is_none() {
            return Err(ConfigError::Needs {
                name,
                needed: "sora-listen",
            });
        }
    }
    if sora.mode == SoraMode::Mirror && sora.api.is_none() {
        return Err(ConfigError::Needs {
            name: "sora-mode = mirror",
            needed: "sora-api",
        });
    }
    Ok(())
}

/// Checks that the API is reachable from other hosts only with a token: its callers can close the
/// node.
fn check_exposure(api: &ApiConfig) -> Result<(), ConfigError> {
    let exposed = api
        .listen
        .iter()
        .find(|listen| matches!(listen, Listen::Tcp(address) if !address.ip().is_loopback()));
    match (exposed, &api.tokens) {
        (Some(_), None) => Err(ConfigError::Needs {
            name: "api-listen on an address other than the loopback",
            needed: "http-token-file",
        }),
        (Some(_) | None, _) => Ok(()),
    }
}
