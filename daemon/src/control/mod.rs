//! The control socket: who may come in, and a task for each who did.

mod budget;
mod client;
mod conversation;
mod hangup;
mod listing;
mod output;
pub mod peer;
mod stream;
mod subscription;
mod turns;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use soramode_core::input::SocketId;
use soramode_protocol::access::Access;
use soramode_protocol::envelope::{ReplyTo, write_answer};
use soramode_protocol::error::Error;
use soramode_protocol::id::NodeName;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use budget::{OPERATE_UNREAD_BYTES_MAX, OPERATE_WAITS_MAX, READINGS_MAX, VIEW_IN_FLIGHT_MAX, VIEW_UNREAD_BYTES_MAX, VIEW_WAITS_MAX};
pub use client::LINE_TIME;
pub use conversation::IN_FLIGHT_MAX;
pub use listing::{PAGE_BYTES_MAX, SLICE_ROWS_MAX};
pub use output::{UNREAD_BYTES_FAIR, UNREAD_BYTES_MAX};
pub use turns::TURNS_PER_PASS;

use crate::ender::Ender;
use crate::event_log::EventLog;
use crate::inbox::Inbox;
use crate::rate_limit::log_limited;
use crate::socket_file::{self, SocketError, SocketFile};
pub(crate) use budget::Budgets;
use client::Door;
use peer::{Peer, Peers};

/// Clients at one time.
pub const CLIENTS_MAX: usize = 1_024;

/// Places among [`CLIENTS_MAX`] that are kept for clients that may operate.
pub const OPERATE_PLACES: usize = 16;

/// Clients that have come and are not yet known. They have no place; more wait in the kernel's queue until one is known.
pub const NEWCOMERS_MAX: usize = 64;

/// How many times all others have their turn before a client is told that there is no place.
const TURNS_FOR_THE_GONE: usize = 32;

/// How long no client is taken after the system could not give one, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every client may know.
#[derive(Clone, Debug)]
pub(crate) struct House {
    pub(crate) log: Arc<EventLog>,
    pub(crate) ender: Ender,
    pub(crate) node_name: NodeName,
    pub(crate) operator_group: Option<String>,
    pub(crate) budgets: Budgets,
}

#[cfg(test)]
impl House {
    /// One where nothing has happened yet.
    fn new() -> Self {
        use soramode_protocol::id::LogId;
        let log = Arc::new(EventLog::new(LogId::generate([0; 16]), 10_000));
        let node_name = NodeName::new("node-01").unwrap();
        let (ender, budgets) = (Ender::new(None, Default::default()), Budgets::new());
        Self { log, ender, node_name, operator_group: Some("operators".to_owned()), budgets }
    }
}

/// Who may operate, beside root and the daemon's own user. Holds for whoever comes from now on.
#[derive(Clone, Debug)]
pub(crate) struct Operators {
    group: Option<String>,
    peers: Arc<Peers>,
}

impl Operators {
    /// The members of a group. Asks the user database, which may take its time.
    pub(crate) fn look_up(group: Option<String>) -> Result<Self, SocketError> {
        let gid = group.as_deref().map(socket_file::find_group).transpose()?;
        Ok(Self::of(group, gid))
    }

    /// The members of a group that was looked up.
    pub(crate) fn of(group: Option<String>, gid: Option<u32>) -> Self {
        Self { group, peers: Arc::new(Peers::new(gid)) }
    }

    /// Identifies the client of another Unix socket.
    pub(crate) async fn identify(&self, stream: &UnixStream) -> Peer {
        self.peers.identify(stream).await
    }

    /// The group's number.
    pub(crate) fn gid(&self) -> Option<u32> {
        self.peers.operator_gid()
    }
}

/// The control socket's door.
pub(crate) struct Control {
    pub(crate) house: Arc<House>,
    operators: watch::Receiver<Operators>,
    pub(crate) inbox: Inbox,
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
    newcomers: Arc<Semaphore>,
    places: Arc<Places>,
    last_socket: u64,
}

impl Control {
    pub(crate) fn new(house: House, operators: watch::Receiver<Operators>, inbox: Inbox, stop: CancellationToken) -> Self {
        Self {
            house: Arc::new(house),
            operators,
            inbox,
            stop,
            tracker: TaskTracker::new(),
            newcomers: Arc::new(Semaphore::new(NEWCOMERS_MAX)),
            places: Arc::new(Places::new()),
            last_socket: 0,
        }
    }

    /// Takes clients until the daemon stops; returns when the last is gone.
    pub(crate) async fn serve(mut self, socket: &SocketFile) {
        let _turns = AbortOnDropHandle::new(TaskTracker::new().spawn(self.house.budgets.clone().refill()));
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(socket.listener()) => accepted,
                () = self.stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, newcomer)) => self.welcome((stream, socket.lasting().first_word_due()), newcomer),
                Err(error) => self.pause(&error).await,
            }
        }
        self.tracker.close();
        self.tracker.wait().await;
    }

    async fn accept(&self, listener: &UnixListener) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
        let newcomer = Arc::clone(&self.newcomers).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = listener.accept().await?;
        Ok((stream, newcomer))
    }

    fn welcome(&mut self, (stream, first_word_due): (UnixStream, Instant), newcomer: OwnedSemaphorePermit) {
        self.last_socket += 1;
        let door = Door { socket: SocketId(self.last_socket), inbox: self.inbox.clone(), stop: self.stop.clone(), first_word_due };
        let operators = self.operators.borrow_and_update().clone();
        if self.house.operator_group != operators.group {
            self.house = Arc::new(House { operator_group: operators.group, ..House::clone(&self.house) });
        }
        let (house, peers, places) = (Arc::clone(&self.house), operators.peers, Arc::clone(&self.places));
        self.tracker.spawn(async move {
            let peer = peers.identify(&stream).await;
            house.budgets.of(peer.access).first_turn().await;
            let place = places.take_in_time(peer.access).await;
            drop(newcomer);
            match place {
                Ok(_place) => client::serve(stream, peer, house, door).await,
                Err(Full { clients }) => turn_away(&stream, clients),
            }
        });
    }

    async fn pause(&self, error: &io::Error) {
        log_limited!(warn, %error, "cannot accept a client");
        tokio::select! {
            () = tokio::time::sleep(ACCEPT_PAUSE) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// The places there are. Who comes has none before it is known who that is: the surplus of those who may look takes none from those who
/// may operate, however many come at once.
struct Places {
    all: Arc<Semaphore>,
    view: Arc<Semaphore>,
}

/// A client's place.
struct Place {
    _any: OwnedSemaphorePermit,
    _view: Option<OwnedSemaphorePermit>,
}

/// No place: that many clients are there already.
struct Full {
    clients: usize,
}

impl Places {
    fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(CLIENTS_MAX)), view: Arc::new(Semaphore::new(CLIENTS_MAX - OPERATE_PLACES)) }
    }

    /// The same where the places may be those of clients that have gone, of which nobody has taken notice yet.
    async fn take_in_time(&self, access: Access) -> Result<Place, Full> {
        for _ in 0..TURNS_FOR_THE_GONE {
            if let Ok(place) = self.take(access) {
                return Ok(place);
            }
            yield_now().await;
        }
        self.take(access)
    }

    fn take(&self, access: Access) -> Result<Place, Full> {
        let view = match access {
            Access::Operate => None,
            Access::View => Some(Arc::clone(&self.view).try_acquire_owned().map_err(|_| Full { clients: CLIENTS_MAX - OPERATE_PLACES })?),
        };
        let any = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full { clients: CLIENTS_MAX })?;
        Ok(Place { _any: any, _view: view })
    }
}

/// Says once that there is no place. A client that was just taken has room for a line; one that has not is told nothing.
fn turn_away(stream: &UnixStream, clients: usize) {
    let mut line = Vec::new();
    let error = Error::too_many_clients(clients);
    if write_answer(&mut line, &ReplyTo::Null, Err::<&(), _>(&error)).is_ok() {
        // Past tokio, which knows a socket as writable only after it was polled once.
        let sent = rustix::io::write(stream, &line);
        log_limited!(warn, ?sent, clients, "turned a client away: too many clients");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_operate_finds_a_place_where_others_do_not() {
        let places = Places::new();
        let mut viewers: Vec<Place> = Vec::new();
        while let Ok(place) = places.take(Access::View) {
            viewers.push(place);
        }
        assert_eq!(viewers.len(), CLIENTS_MAX - OPERATE_PLACES);
        let operators: Vec<Place> = (0..OPERATE_PLACES).map_while(|_| places.take(Access::Operate).ok()).collect();
        assert_eq!(operators.len(), OPERATE_PLACES);
        assert!(matches!(places.take(Access::Operate), Err(Full { clients: CLIENTS_MAX })));
        viewers.pop();
        assert!(places.take(Access::Operate).is_ok(), "a place that became free is anybody's");
        let last = places.take(Access::View);
        assert!(last.is_ok() && places.take(Access::View).is_err());
    }
}
