//! The control socket: who may come in, and a task for each who did.

mod client;
mod conversation;
mod hangup;
mod listing;
mod output;
pub mod peer;
pub mod socket_file;
mod subscription;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use soramode_core::input::SocketId;
use soramode_protocol::access::Access;
use soramode_protocol::envelope::{Answered, ReplyTo, write_line};
use soramode_protocol::error::Error;
use soramode_protocol::id::NodeName;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use client::LINE_TIME;
pub use conversation::IN_FLIGHT_MAX;
pub use listing::SLICE_ROWS_MAX;
pub use output::UNREAD_BYTES_MAX;

use crate::event_log::EventLog;
use crate::inbox::Inbox;
use client::Door;
use peer::{Peer, Peers};

/// Clients at one time.
pub const CLIENTS_MAX: usize = 1_024;

/// Places among [`CLIENTS_MAX`] that are kept for clients that may operate.
pub const OPERATE_PLACES: usize = 16;

/// How long no client is taken after the system could not give one, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every client may know.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) log: Arc<EventLog>,
    pub(crate) node_name: NodeName,
    pub(crate) operator_group: Option<String>,
}

/// The control socket's door.
pub(crate) struct Control {
    pub(crate) house: Arc<House>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) inbox: Inbox,
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
    places: Arc<Semaphore>,
    view_places: Arc<Semaphore>,
    last_socket: u64,
}

impl Control {
    pub(crate) fn new(house: House, peers: Peers, inbox: Inbox, stop: CancellationToken) -> Self {
        Self {
            house: Arc::new(house),
            peers: Arc::new(peers),
            inbox,
            stop,
            tracker: TaskTracker::new(),
            places: Arc::new(Semaphore::new(CLIENTS_MAX)),
            view_places: Arc::new(Semaphore::new(CLIENTS_MAX - OPERATE_PLACES)),
            last_socket: 0,
        }
    }

    /// Takes clients until the daemon stops; returns when the last is gone.
    pub(crate) async fn serve(mut self, listener: &UnixListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) => self.pause(&error).await,
            }
        }
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn welcome(&mut self, stream: UnixStream) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return turn_away(&stream, CLIENTS_MAX);
        };
        self.last_socket += 1;
        let door = Door { socket: SocketId(self.last_socket), inbox: self.inbox.clone(), stop: self.stop.clone() };
        let (house, peers, view_places) = (Arc::clone(&self.house), Arc::clone(&self.peers), Arc::clone(&self.view_places));
        self.tracker.spawn(async move {
            let peer = peers.identify(&stream).await;
            let Ok(view_place) = view_place(&peer, view_places) else {
                return turn_away(&stream, CLIENTS_MAX - OPERATE_PLACES);
            };
            client::serve(stream, peer, house, door).await;
            drop((place, view_place));
        });
    }

    async fn pause(&self, error: &io::Error) {
        tracing::warn!(%error, "cannot take a client");
        tokio::select! {
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// One of the places that all may have; those who may operate need none.
fn view_place(peer: &Peer, places: Arc<Semaphore>) -> Result<Option<OwnedSemaphorePermit>, tokio::sync::TryAcquireError> {
    match peer.access {
        Access::Operate => Ok(None),
        Access::View => places.try_acquire_owned().map(Some),
    }
}

/// Says once that there is no place. A client that was just taken has room for a line; one that has not is told nothing.
fn turn_away(stream: &UnixStream, clients: usize) {
    let mut line = Vec::new();
    let error = Error::too_many_clients(clients);
    if write_line(&mut line, &Answered::<()>::new(&ReplyTo::Null, Err(&error))).is_ok() {
        // Past tokio, which knows a socket as writable only after it was polled once.
        let sent = rustix::io::write(stream, &line);
        tracing::warn!(?sent, clients, "turned a client away");
    }
}
