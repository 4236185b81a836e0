//! The application's own webhooks, as the configuration names them now.

use std::sync::{Arc, PoisonError, RwLock};

use soramode_protocol::certificates::Authorities;
use soramode_protocol::http_client::Outgoing;

use super::upstream::Upstream;
use crate::args::http::HttpUrl;
use crate::config::SoraConfig;
use crate::health::Health;

/// HTTP clients of all upstreams. A request that is in flight during a reload keeps its client.
#[derive(Debug)]
pub(crate) struct UpstreamClients {
    clients: RwLock<Clients>,
    outgoing: Outgoing,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct Clients {
    auth: Option<Arc<Upstream>>,
    session: Option<Arc<Upstream>>,
    event: Option<Arc<Upstream>>,
}

impl UpstreamClients {
    pub(crate) fn new(
        config: &SoraConfig,
        outgoing: Outgoing,
        health: &Arc<Health>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            clients: RwLock::new(clients(config, &outgoing, health)?),
            outgoing,
            health: Arc::clone(health),
        })
    }

    /// Replaces the upstreams.
    pub(crate) fn reload(
        &self,
        config: &SoraConfig,
        authorities: &Authorities,
    ) -> Result<(), reqwest::Error> {
        let outgoing = Outgoing {
            authorities: authorities.clone(),
            ..self.outgoing.clone()
        };
        let clients = clients(config, &outgoing, &self.health)?;
        *self.clients.write().unwrap_or_else(PoisonError::into_inner) = clients;
        Ok(())
    }

    pub(super) fn auth(&self) -> Option<Arc<Upstream>> {
        self.client(|clients| &clients.auth)
    }

    pub(super) fn session(&self) -> Option<Arc<Upstream>> {
        self.client(|clients| &clients.session)
    }

    pub(super) fn event(&self) -> Option<Arc<Upstream>> {
        self.client(|clients| &clients.event)
    }

    fn client(&self, of: impl Fn(&Clients) -> &Option<Arc<Upstream>>) -> Option<Arc<Upstream>> {
        of(&self.clients.read().unwrap_or_else(PoisonError::into_inner)).clone()
    }
}

fn clients(
    config: &SoraConfig,
    outgoing: &Outgoing,
    health: &Arc<Health>,
) -> Result<Clients, reqwest::Error> {
    let client = |name, url: &Option<HttpUrl>| {
        let client = |url: &HttpUrl| {
            Upstream::new(
                (name, url.clone()),
                config.upstream_timeout,
                outgoing,
                Arc::clone(health),
            )
            .map(Arc::new)
        };
        url.as_ref().map(client).transpose()
    };
    let urls = &config.upstreams;
    Ok(Clients {
        auth: client("auth", &urls.auth)?,
        session: client("session", &urls.session)?,
        event: client("event", &urls.event)?,
    })
}
