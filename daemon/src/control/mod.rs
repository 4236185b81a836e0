//! The control socket: access of its clients, and a task for each.

mod budget;
mod client;
mod credentials;
mod discover;
mod hangup;
mod listing;
mod operators;
mod output;
pub mod peer;
mod pipeline;
mod shares;
mod slots;
mod state;
mod stream;
mod subscription;
mod turns;
mod users;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;
use soramode_core::handles::SocketId;
use soramode_protocol::envelope::{ReplyTo, write_answer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub(crate) use budget::Budgets;
pub use budget::{
    IN_FLIGHT_MAX, OPERATE_UNREAD_BYTES_MAX, OPERATE_WAITS_MAX, READINGS_MAX, VIEW_IN_FLIGHT_MAX,
    VIEW_UNREAD_BYTES_MAX, VIEW_WAITS_MAX,
};
pub use client::LINE_TIME;
pub use listing::{PAGE_BYTES_MAX, SLICE_ROWS_MAX};
pub(crate) use operators::Operators;
pub use output::{UNREAD_BYTES_FAIR, UNREAD_BYTES_MAX};
pub use slots::{
    CLIENTS_MAX, OPERATOR_SLOTS, UNIDENTIFIED_CLIENTS_MAX, UNIDENTIFIED_CLIENTS_OF_USER_MAX,
    VIEWER_SLOTS_OF_USER_MAX,
};
pub(crate) use state::ControlState;
pub use turns::TURNS_PER_PASS;

use crate::engine::Engine;
use crate::rate_limit::log_limited;
use crate::socket_file::SocketFile;
use client::ClientContext;
use peer::Peer;
use slots::{ClientSlots, Full, UnidentifiedClients};

/// Clients to accept before other tasks run. Most of a flood are rejected, which costs little, and
/// operators wait behind them in the kernel's queue.
const ACCEPTS_PER_PASS: usize = 16;

/// Pause after a failed `accept`, for example without free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
}
