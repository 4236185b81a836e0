//! The control socket: access of its clients, and a task for each.

mod budget;
mod client;
mod credentials;
mod discover;
mod hangup;
mod listing;
mod output;
pub mod peer;
mod pipeline;
mod shares;
mod stream;
mod subscription;
mod turns;
mod users;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;
use soramode_core::handles::SocketId;
use soramode_protocol::access::Access;
use soramode_protocol::envelope::{ReplyTo, write_answer};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::id::NodeName;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use budget::{
    OPERATE_UNREAD_BYTES_MAX, OPERATE_WAITS_MAX, READINGS_MAX, VIEW_IN_FLIGHT_MAX,
    VIEW_UNREAD_BYTES_MAX, VIEW_WAITS_MAX,
};
pub use client::LINE_TIME;
pub use listing::{PAGE_BYTES_MAX, SLICE_ROWS_MAX};
pub use output::{UNREAD_BYTES_FAIR, UNREAD_BYTES_MAX};
pub use pipeline::IN_FLIGHT_MAX;
pub use turns::TURNS_PER_PASS;

use crate::engine::Engine;
use crate::event_log::EventLog;
use crate::rate_limit::log_limited;
use crate::sfu::announcer::Announcer;
use crate::sfu::terminator::SessionTerminator;
use crate::socket_file::{self, SocketError, SocketFile};
pub(crate) use budget::Budgets;
use client::ClientContext;
use peer::{Peer, Peers};
use shares::{Share, Shares};

/// Maximum number of clients.
pub const CLIENTS_MAX: usize = 1_024;

/// Places among [`CLIENTS_MAX`] that are kept for clients that may operate.
pub const OPERATOR_SLOTS: usize = 16;

/// Places that viewers of one user may have.
pub const VIEWER_SLOTS_OF_USER_MAX: usize = 512;

/// Maximum number of clients with a user look-up in progress. They have no slot; more are rejected.
pub const UNIDENTIFIED_CLIENTS_MAX: usize = 256;

/// Maximum number of clients of one user that are being looked up.
pub const UNIDENTIFIED_CLIENTS_OF_USER_MAX: usize = 128;

/// Clients to accept before other tasks run. Most of a flood are rejected, which costs little, and
/// operators wait behind them in the kernel's queue.
const ACCEPTS_PER_PASS: usize = 16;

/// Passes of the runtime before an operator is rejected for want of a slot. Viewers, which may come
/// in a flood, are rejected after one.
const OPERATOR_SLOT_RETRIES: usize = 32;

/// Pause after a failed `accept`, for example without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// State that all clients share.
#[derive(Clone, Debug)]
pub(crate) struct ControlState {
    pub(crate) log: Arc<EventLog>,
    pub(crate) announcer: Announcer,
    pub(crate) terminator: SessionTerminator,
    pub(crate) node_name: NodeName,
    pub(crate) operator_group: Option<String>,
    pub(crate) budgets: Budgets,
    /// The SFU holds the mode by locks of its rooms, so that a change of the mode is answered late.
    pub(crate) sfu_holds_mode: bool,
}

#[cfg(test)]
impl ControlState {
    /// Creates a state without events.
    fn new() -> Self {
        use soramode_protocol::id::LogId;
        let log = Arc::new(EventLog::new(LogId::generate([0; 16]), 10_000));
        let node_name = NodeName::new("node-01").unwrap();
        let (terminator, budgets) = (
            SessionTerminator::new(None, Default::default()),
            Budgets::new(),
        );
        Self {
            log,
            announcer: Announcer::new(None),
            terminator,
            node_name,
            operator_group: Some("operators".to_owned()),
            budgets,
            sfu_holds_mode: false,
        }
    }
}

/// Users with the access `operate`, in addition to root and the daemon's own user. A change applies
/// to new clients.
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

    /// Takes the members of a group that was looked up.
    pub(crate) fn of(group: Option<String>, gid: Option<u32>) -> Self {
        Self {
            group,
            peers: Arc::new(Peers::new(gid)),
        }
    }

    /// Identifies the client of another Unix socket.
    pub(crate) async fn identify(&self, stream: &UnixStream) -> Peer {
        self.peers.identify(stream).await
    }

    /// Returns the id of the group.
    pub(crate) fn gid(&self) -> Option<u32> {
        self.peers.operator_gid()
    }
}

/// Server of the control socket.
pub(crate) struct Control {
    pub(crate) state: Arc<ControlState>,
    operators: watch::Receiver<Operators>,
    pub(crate) engine: Engine,
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
    unidentified: UnidentifiedClients,
    slots: Arc<ClientSlots>,
    last_socket: u64,
}

impl Control {
    pub(crate) fn new(
        state: ControlState,
        operators: watch::Receiver<Operators>,
        engine: Engine,
        stop: CancellationToken,
    ) -> Self {
        Self {
            state: Arc::new(state),
            operators,
            engine,
            stop,
            tracker: TaskTracker::new(),
            unidentified: UnidentifiedClients::new(),
            slots: Arc::new(ClientSlots::new()),
            last_socket: 0,
        }
    }

    /// Serves clients until the daemon stops; returns when the last has disconnected.
    pub(crate) async fn serve(mut self, socket: &SocketFile) {
        let _turns =
            AbortOnDropHandle::new(TaskTracker::new().spawn(self.state.budgets.clone().refill()));
        for accepted in 1_usize.. {
            let stream = tokio::select! {
                stream = accept(socket.listener()) => stream,
                () = self.stop.cancelled() => break,
            };
            match stream {
                Ok(stream) => self.accept_client(stream, socket.owner().first_request_deadline()),
                Err(error) => self.pause(&error).await,
            }
            if accepted.is_multiple_of(ACCEPTS_PER_PASS) {
                yield_now().await;
            }
        }
        self.tracker.close();
        self.tracker.wait().await;
    }

    fn accept_client(&mut self, stream: UnixStream, first_request_deadline: Instant) {
        if has_left(&stream) {
            return;
        }
        self.last_socket += 1;
        let context = ClientContext {
            socket: SocketId(self.last_socket),
            engine: self.engine.clone(),
            stop: self.stop.clone(),
            first_request_deadline,
        };
        let operators = self.operators.borrow_and_update().clone();
        if self.state.operator_group != operators.group {
            self.state = Arc::new(ControlState {
                operator_group: operators.group,
                ..ControlState::clone(&self.state)
            });
        }
        let (state, peers, slots) = (
            Arc::clone(&self.state),
            operators.peers,
            Arc::clone(&self.slots),
        );
        // Root and our own user do not wait for other users' look-ups.
        let unknown = match peers.recognise(&stream) {
            Ok(peer) => {
                self.tracker
                    .spawn(serve_identified((stream, peer), slots, state, context));
                return;
            }
            Err(unknown) => unknown,
        };
        let permit = match self.unidentified.take(unknown.uid()) {
            Ok(permit) => permit,
            Err(full) => return reject(&stream, full),
        };
        self.tracker.spawn(async move {
            let peer = peers.look_up(&stream, &unknown).await;
            drop(permit);
            serve_identified((stream, peer), slots, state, context).await;
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

async fn accept(listener: &UnixListener) -> io::Result<UnixStream> {
    Ok(listener.accept().await?.0)
}

/// Returns whether the client closed the connection before it sent anything. Nothing is due to it,
/// so it is not identified: a flood of such clients stays cheap.
fn has_left(stream: &UnixStream) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(stream, &mut [0_u8], flags).is_ok_and(|(bytes, _)| bytes == 0)
}

/// Serves a client that is known, if there is a place for it.
async fn serve_identified(
    (stream, peer): (UnixStream, Peer),
    slots: Arc<ClientSlots>,
    state: Arc<ControlState>,
    context: ClientContext,
) {
    match slots.take_with_retries(&peer).await {
        Ok(_slot) => {
            state.budgets.of(peer.access).first_turn().await;
            client::serve(stream, peer, state, context).await;
        }
        Err(full) => reject(&stream, full),
    }
}

/// Clients with a user look-up in progress.
struct UnidentifiedClients {
    all: Arc<Semaphore>,
    of_user: Shares,
}

/// Permit of a client with a user look-up in progress.
struct UnidentifiedClient {
    _any: OwnedSemaphorePermit,
    _share: Share,
}

impl UnidentifiedClients {
    fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(UNIDENTIFIED_CLIENTS_MAX)),
            of_user: Shares::new(UNIDENTIFIED_CLIENTS_OF_USER_MAX),
        }
    }

    fn take(&self, uid: u32) -> Result<UnidentifiedClient, Full> {
        let share = self.of_user.take(uid).ok_or(Full::UnidentifiedOfUser)?;
        let any = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Full::Unidentified)?;
        Ok(UnidentifiedClient {
            _any: any,
            _share: share,
        })
    }
}

/// Slots for identified clients. A client has none before its user is known: a surplus of viewers
/// takes no slot from operators.
struct ClientSlots {
    all: Arc<Semaphore>,
    view: Arc<Semaphore>,
    view_of_user: Shares,
}

/// Slot of one client.
struct Slot {
    _any: OwnedSemaphorePermit,
    _view: Option<(OwnedSemaphorePermit, Share)>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Full {
    Clients,
    Viewers,
    ViewersOfUser,
    Unidentified,
    UnidentifiedOfUser,
}

impl Full {
    fn error(self) -> Error {
        let unidentified = |clients| {
            let message = format!("too many clients ({clients}) are being identified");
            Error::new(ErrorType::TooManyClients, message).with_hint("Try again")
        };
        match self {
            Self::Clients => Error::too_many_clients(CLIENTS_MAX),
            Self::Viewers => Error::too_many_clients(CLIENTS_MAX - OPERATOR_SLOTS),
            Self::ViewersOfUser => Error::too_many_clients(VIEWER_SLOTS_OF_USER_MAX),
            Self::Unidentified => unidentified(UNIDENTIFIED_CLIENTS_MAX),
            Self::UnidentifiedOfUser => unidentified(UNIDENTIFIED_CLIENTS_OF_USER_MAX),
        }
    }
}

impl ClientSlots {
    fn new() -> Self {
        Self {
            all: Arc::new(Semaphore::new(CLIENTS_MAX)),
            view: Arc::new(Semaphore::new(CLIENTS_MAX - OPERATOR_SLOTS)),
            view_of_user: Shares::new(VIEWER_SLOTS_OF_USER_MAX),
        }
    }

    /// Takes a slot, giving the tasks of disconnected clients time to release theirs.
    async fn take_with_retries(&self, peer: &Peer) -> Result<Slot, Full> {
        let turns = match peer.access {
            Access::Operate => OPERATOR_SLOT_RETRIES,
            Access::View => 1,
        };
        for _ in 0..turns {
            if let Ok(slot) = self.take(peer.access, peer.uid) {
                return Ok(slot);
            }
            yield_now().await;
        }
        self.take(peer.access, peer.uid)
    }

    fn take(&self, access: Access, uid: u32) -> Result<Slot, Full> {
        let view = match access {
            Access::Operate => None,
            Access::View => {
                let share = self.view_of_user.take(uid).ok_or(Full::ViewersOfUser)?;
                let view = Arc::clone(&self.view)
                    .try_acquire_owned()
                    .map_err(|_| Full::Viewers)?;
                Some((view, share))
            }
        };
        let any = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| Full::Clients)?;
        Ok(Slot {
            _any: any,
            _view: view,
        })
    }
}

/// Rejects a client with an error line. A new client has room for one line in its buffer; nothing
/// is sent otherwise.
fn reject(stream: &UnixStream, full: Full) {
    let mut line = Vec::new();
    let error = full.error();
    if write_answer(&mut line, &ReplyTo::Null, Err::<&(), _>(&error)).is_ok() {
        // Past tokio, which knows a socket as writable only after it was polled once.
        // A client that reads nothing gets nothing.
        let _ = rustix::io::write(stream, &line);
        log_limited!(
            warn,
            "rejected a client of the control socket: {}",
            error.message
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_client_that_closed_before_it_sent_anything_has_left() {
        let (client, server) = UnixStream::pair().unwrap();
        assert!(!has_left(&server));
        client.try_write(b"x").unwrap();
        drop(client);
        assert!(!has_left(&server), "it asked for something");
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        assert!(has_left(&server));
    }

    #[test]
    fn operators_find_a_slot_when_viewers_do_not() {
        let slots = ClientSlots::new();
        let mut viewers: Vec<Slot> = Vec::new();
        for uid in 0..2 {
            while let Ok(slot) = slots.take(Access::View, uid) {
                viewers.push(slot);
            }
            assert!(
                viewers.len() <= (1 + usize::try_from(uid).unwrap()) * VIEWER_SLOTS_OF_USER_MAX,
                "no user has all places"
            );
        }
        assert_eq!(viewers.len(), CLIENTS_MAX - OPERATOR_SLOTS);
        let operators: Vec<Slot> = (0..OPERATOR_SLOTS)
            .map_while(|_| slots.take(Access::Operate, 0).ok())
            .collect();
        assert_eq!(operators.len(), OPERATOR_SLOTS);
        assert!(matches!(slots.take(Access::Operate, 0), Err(Full::Clients)));
        viewers.pop();
        assert!(
            slots.take(Access::Operate, 0).is_ok(),
            "a place that became free is anybody's"
        );
        let last = slots.take(Access::View, 2);
        assert!(last.is_ok() && slots.take(Access::View, 3).is_err());
    }
}
