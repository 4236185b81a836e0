//! Other nodes on the status page, read from their `/status.json`.

use std::time::Duration;

use reqwest::{Client, Url};
use serde::Deserialize;
use soramode_protocol::http_client::{self, Outgoing, redacted};
use soramode_protocol::mode::Mode;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::http::HttpUrl;

/// Time in which a peer must answer.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Time for which the answers of the peers are reused.
const PEERS_CACHED: Duration = Duration::from_secs(5);

/// Length of a peer's answer, at most.
const PEER_BYTES_MAX: usize = 64 * 1024;

/// The peers, and what they answered last.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: Vec<Peer>,
    /// Held while the peers are called, so that viewers of the page do not multiply the calls.
    latest: Mutex<Option<(Instant, Vec<PeerState>)>>,
}

#[derive(Clone, Debug)]
struct Peer {
    client: Client,
    url: Url,
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
    pub(super) node_name: String,
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
        let peer = |url: &HttpUrl| {
            let mut target = url.0.clone();
            target.set_path("/status.json");
            Ok(Peer {
                client: http_client::client(&target, PEER_TIMEOUT, outgoing)?,
                url: target,
                shown: redacted(&url.0),
            })
        };
        Ok(Self {
            peers: urls.iter().map(peer).collect::<Result<_, _>>()?,
            latest: Mutex::default(),
        })
    }

    /// Returns the state of each peer, in the order of the settings.
    pub(super) async fn states(&self) -> Vec<PeerState> {
        if self.peers.is_empty() {
            return Vec::new();
        }
        let mut latest = self.latest.lock().await;
        if let Some((at, states)) = &*latest
            && at.elapsed() < PEERS_CACHED
        {
            return states.clone();
        }
        let mut calls: JoinSet<_> = self
            .peers
            .iter()
            .cloned()
            .enumerate()
            .map(|(index, peer)| async move { (index, peer.state().await) })
            .collect();
        let mut states = Vec::with_capacity(self.peers.len());
        while let Some(called) = calls.join_next().await {
            states.extend(called);
        }
        states.sort_by_key(|(index, _)| *index);
        let states: Vec<PeerState> = states.into_iter().map(|(_, state)| state).collect();
        *latest = Some((Instant::now(), states.clone()));
        states
    }
}

impl Peer {
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
