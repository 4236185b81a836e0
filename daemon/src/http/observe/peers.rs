//! Other nodes on the status page, read from their `/status.json`.

use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use soramode_protocol::http_client::{self, Outgoing, redacted};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::http::HttpUrl;
use crate::config::PEERS_MAX;

/// Time in which a peer must answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for which the answers of the peers are reused.
const PEERS_CACHED: Duration = Duration::from_secs(5);

/// Length of a peer's answer, at most.
const PEER_BYTES_MAX: usize = 64 * 1024;

/// The peers, and what they answered last.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Peers of the settings.
    configured: Vec<Peer>,
    outgoing: Outgoing,
    /// Held while the peers are called, so that viewers of the page do not multiply the calls.
    latest: Mutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    /// Other members of the cluster, by the pages that they published.
    members: Vec<Peer>,
    answers: Option<(Instant, Vec<PeerState>)>,
}

#[derive(Clone, Debug)]
struct Peer {
    client: Client,
    url: Url,
    /// URL of its status page.
    page: Url,
    /// URL without secrets.
    shown: String,
}

/// Peer as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerState {
    /// URL of the peer, without secrets.
    pub(super) url: String,
    /// Its status, or why there is none.
    pub(super) status: Result<PeerStatus, String>,
}

/// Part of a peer's `GetStatus` that the page shows. Other fields may be those of another version.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct PeerStatus {
    pub(super) node_name: NodeName,
    pub(super) mode: Mode,
    pub(super) sessions: u64,
    pub(super) connections: u64,
}

#[derive(Deserialize)]
struct PeerDocument {
    status: PeerStatus,
}

impl Peers {
    pub(crate) fn new(urls: &[HttpUrl], outgoing: &Outgoing) -> Result<Self, reqwest::Error> {
        let peer = |url: &HttpUrl| Peer::new(&url.0, outgoing);
        Ok(Self {
            configured: urls.iter().map(peer).collect::<Result<_, _>>()?,
            outgoing: outgoing.clone(),
            latest: Mutex::default(),
        })
    }

    /// Returns the state of each peer: those of the settings in their order, and then the members of the cluster with these pages.
    pub(super) async fn states(&self, pages: &[Url]) -> Vec<PeerState> {
        if self.configured.is_empty() && pages.is_empty() {
            return Vec::new();
        }
        let mut latest = self.latest.lock().await;
        if let Some((at, states)) = &latest.answers
            && at.elapsed() < PEERS_CACHED
        {
            return states.clone();
        }
        latest.members = self.members(std::mem::take(&mut latest.members), pages);
        let mut calls: JoinSet<_> = self
            .configured
            .iter()
            .chain(&latest.members)
            .take(PEERS_MAX)
            .cloned()
            .enumerate()
            .map(|(index, peer)| async move { (index, peer.state().await) })
            .collect();
        let mut states = Vec::with_capacity(self.configured.len());
        while let Some(called) = calls.join_next().await {
            states.extend(called);
        }
        states.sort_by_key(|(index, _)| *index);
        let states: Vec<PeerState> = states.into_iter().map(|(_, state)| state).collect();
        latest.answers = Some((Instant::now(), states.clone()));
        states
    }

    /// Returns the members with these pages that are no peers of the settings. A client is kept while its member has the same page.
    fn members(&self, mut known: Vec<Peer>, pages: &[Url]) -> Vec<Peer> {
        let is_other = |page: &&Url| self.configured.iter().all(|peer| peer.page != **page);
        let pages = pages.iter().filter(is_other).take(PEERS_MAX);
        let member = |page: &Url| match known.iter().position(|peer| peer.page == *page) {
            Some(index) => Some(known.swap_remove(index)),
            // A URL for which there can be no client has no answer either.
            None => Peer::new(page, &self.outgoing).ok(),
        };
        pages.filter_map(member).collect()
    }
}

impl Peer {
    fn new(page: &Url, outgoing: &Outgoing) -> Result<Self, reqwest::Error> {
        let mut url = page.clone();
        url.set_path(&format!(
            "{}/status.json",
            page.path().trim_end_matches('/')
        ));
        Ok(Self {
            client: http_client::client(&url, PEER_TIMEOUT, outgoing)?,
            url,
            page: page.clone(),
            shown: redacted(page),
        })
    }

    async fn state(self) -> PeerState {
        let status = self.read().await;
        PeerState {
            url: self.shown,
            status,
        }
    }

    async fn read(&self) -> Result<PeerStatus, String> {
        let describe = |error: reqwest::Error| {
            if error.is_timeout() {
                "no answer in time".to_owned()
            } else {
                http_client::root_cause(&error)
            }
        };
        let sent = self.client.get(self.url.clone()).send().await;
        let mut response = sent.map_err(describe)?;
        if !response.status().is_success() {
            return Err(format!("HTTP status {}", response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(describe)? {
            if bytes.len() + chunk.len() > PEER_BYTES_MAX {
                return Err(format!("answer longer than {PEER_BYTES_MAX} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let document: Result<PeerDocument, _> = serde_json::from_slice(&bytes);
        let status = document.map_err(|_| "not the status of a soramoded".to_owned())?;
        Ok(status.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_peers_unless_the_settings_name_them() {
        let url = |name: &str| Url::parse(&format!("http://{name}:9400/")).unwrap();
        let peers = Peers::new(&[HttpUrl(url("a"))], &Outgoing::default()).unwrap();
        let shown = |members: &[Peer]| -> Vec<String> {
            members
                .iter()
                .map(|member| member.url.to_string())
                .collect()
        };
        let members = peers.members(Vec::new(), &[url("a"), url("b")]);
        assert_eq!(shown(&members), ["http://b:9400/status.json"]);
        let many: Vec<Url> = (0..20).map(|number| url(&format!("n{number}"))).collect();
        assert_eq!(peers.members(members, &many).len(), PEERS_MAX);
        let behind_a_proxy = Url::parse("https://proxy/sfu-02/?key=1").unwrap();
        let members = peers.members(Vec::new(), &[behind_a_proxy]);
        assert_eq!(shown(&members), ["https://proxy/sfu-02/status.json?key=1"]);
    }
}
