//! What the HTTP doors run by, and what of it does not fit together.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::tokens::Tokens;
use super::{ConfigError, check_duration};
use crate::args::Settings;
use crate::args::http::{CorsOrigin, HostName, HttpUrl, Listen, SoraMode};

/// How long an upstream may take, if no setting says otherwise.
const UPSTREAM_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// The longest `--upstream-timeout`: nobody waits longer to be let in.
pub const UPSTREAM_TIMEOUT_MAX: Duration = Duration::from_mins(5);

/// The HTTP doors, checked. Those that nobody asked for are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpConfig {
    /// Sora's API.
    pub api: ApiConfig,
    /// A real Sora.
    pub sora: SoraConfig,
    /// Where `/live`, `/ready` and `/metrics` are served.
    pub observe_listen: Option<SocketAddr>,
}

/// The API shim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiConfig {
    /// Where it is served.
    pub listen: Vec<Listen>,
    /// Whose pages may use it.
    pub cors_origins: Vec<CorsOrigin>,
    /// Names by which it is asked for, beside those of the loopback.
    pub hosts: Vec<HostName>,
    /// One of these is needed, if there are any.
    pub tokens: Option<Tokens>,
}

/// A real Sora: its webhooks in, where they go on to, and its API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoraConfig {
    /// Where its webhooks come in.
    pub listen: Option<SocketAddr>,
    /// From where they may come, beside the loopback.
    pub peers: Vec<IpAddr>,
    /// One of these is needed in the webhooks' URLs, if there are any.
    pub tokens: Option<Tokens>,
    /// Its API.
    pub api: Option<HttpUrl>,
    /// Whose the mode is.
    pub mode: SoraMode,
    /// Whether the decisions are kept to.
    pub admission: Admission,
    /// The application's own webhooks.
    pub upstreams: Upstreams,
    /// How long an upstream, and Sora's API, may take.
    pub upstream_timeout: Duration,
    /// How long who was let in may take to come.
    pub pending_timeout: Duration,
    /// How long an empty session may go on without its `session.destroyed`.
    pub session_max_linger: Duration,
}

/// Whether decisions about a Sora's clients are kept to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    #[default]
    Enforced,
    /// They are made, counted and logged, and everybody gets in.
    Shadow,
}

/// Where each kind of webhook goes on to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstreams {
    /// `auth_webhook_url` of the application.
    pub auth: Option<HttpUrl>,
    /// Its `session_webhook_url`.
    pub session: Option<HttpUrl>,
    /// Its `event_webhook_url`.
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
            pending_timeout: soramode_core::snapshot::PENDING_TIMEOUT_DEFAULT,
            session_max_linger: soramode_core::snapshot::SESSION_MAX_LINGER_DEFAULT,
        }
    }
}

impl HttpConfig {
    /// Addresses that are listened on, at most: equal ones share a listener.
    pub const fn listeners(&self) -> usize {
        self.api.listen.len()
            + self.sora.listen.is_some() as usize
            + self.observe_listen.is_some() as usize
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
    /// Whether a Sora feeds the gate.
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
        observe_listen: settings.observe_listen,
    };
    check_exposure(&config.api)?;
    Ok(config)
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

/// A setting without the one that it works through would do nothing, and nobody would be told.
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

/// Who reaches the API may close the node: from afar only with a token.
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
