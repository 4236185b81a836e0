//! State of the status page: the history of the load, and the pages of other nodes.

use std::sync::Arc;

use soramode_protocol::http_client::Outgoing;

use super::load_history::LoadHistory;
use super::peers::Peers;
use crate::config::{HttpConfig, StatusPage};

/// State of the status page.
#[derive(Debug)]
pub(in crate::http) struct StatusPageState {
    pub(in crate::http) history: Arc<LoadHistory>,
    pub(super) peers: Peers,
}

impl StatusPageState {
    /// Creates the state, unless the page is off or has no listener.
    pub(in crate::http) fn new(
        config: &HttpConfig,
        outgoing: &Outgoing,
    ) -> Result<Option<Self>, reqwest::Error> {
        let StatusPage::Served(peers) = &config.status_page else {
            return Ok(None);
        };
        if config.observe_listen.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            history: Arc::default(),
            peers: Peers::new(peers, outgoing)?,
        }))
    }
}
