//! The application's own webhooks, as the configuration names them now.

use std::sync::{Arc, PoisonError, RwLock};

use soramode_protocol::certificates::Authorities;
use soramode_protocol::http_client::Outgoing;

use super::upstream::Upstream;
use crate::args::http::HttpUrl;
use crate::config::SoraConfig;
use crate::health::Health;

/// The way to each of them. Whoever has asked for one keeps it until that is answered, whatever it is renewed to.
#[derive(Debug)]
pub(crate) struct Applications {
    ways: RwLock<Ways>,
    outgoing: Outgoing,
    health: Arc<Health>,
}

#[derive(Debug, Default)]
struct Ways {
    auth: Option<Arc<Upstream>>,
    session: Option<Arc<Upstream>>,
    event: Option<Arc<Upstream>>,
}

impl Applications {
    pub(crate) fn new(
        config: &SoraConfig,
        outgoing: Outgoing,
        health: &Arc<Health>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            ways: RwLock::new(ways(config, &outgoing, health)?),
            outgoing,
            health: Arc::clone(health),
        })
    }

    /// Asks these from now on.
    pub(crate) fn renew(
        &self,
        config: &SoraConfig,
        authorities: &Authorities,
    ) -> Result<(), reqwest::Error> {
        let outgoing = Outgoing {
            authorities: authorities.clone(),
            ..self.outgoing.clone()
        };
        let ways = ways(config, &outgoing, &self.health)?;
        *self.ways.write().unwrap_or_else(PoisonError::into_inner) = ways;
        Ok(())
    }

    pub(super) fn auth(&self) -> Option<Arc<Upstream>> {
        self.way(|ways| &ways.auth)
    }

    pub(super) fn session(&self) -> Option<Arc<Upstream>> {
        self.way(|ways| &ways.session)
    }

    pub(super) fn event(&self) -> Option<Arc<Upstream>> {
        self.way(|ways| &ways.event)
    }

    fn way(&self, of: impl Fn(&Ways) -> &Option<Arc<Upstream>>) -> Option<Arc<Upstream>> {
        of(&self.ways.read().unwrap_or_else(PoisonError::into_inner)).clone()
    }
}

fn ways(
    config: &SoraConfig,
    outgoing: &Outgoing,
    health: &Arc<Health>,
) -> Result<Ways, reqwest::Error> {
    let way = |name, url: &Option<HttpUrl>| {
        let way = |url: &HttpUrl| {
            Upstream::new(
                (name, url.clone()),
                config.upstream_timeout,
                outgoing,
                Arc::clone(health),
            )
            .map(Arc::new)
        };
        url.as_ref().map(way).transpose()
    };
    let urls = &config.upstreams;
    Ok(Ways {
        auth: way("auth", &urls.auth)?,
        session: way("session", &urls.session)?,
        event: way("event", &urls.event)?,
    })
}
