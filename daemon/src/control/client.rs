//! Task of one client: its socket on one side, the engine on the other.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use soramode_core::handles::SocketId;
use soramode_protocol::codec::{LineBuffer, REQUEST_BYTES_MAX};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::or_pending::or_pending;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::budget::Budget;
use super::hangup::HangUp;
use super::peer::Peer;
use super::pipeline::RequestPipeline;
use super::state::ControlState;
use super::stream::Stream;
use super::subscription::Subscription;
use crate::engine::{Connected, Engine, SerialRequest, Stopped};
use crate::outputs::Response;
use crate::rate_limit::log_limited;

/// Timeout of a line, from its first byte to its line feed.
pub const LINE_TIME: Duration = Duration::from_secs(30);

/// Time in which a client that is being closed may read its pending answers, and its earlier requests are read in a shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Client of the control socket.
pub(super) struct Client {
    /// Dropped before `connected`, which tells the gate that its subscription has ended.
    pipeline: RequestPipeline,
    connected: Connected,
    stream: Stream,
    actor: Arc<str>,
    /// Receiver of responses that were not ready at once.
    late: mpsc::UnboundedReceiver<Response>,
    /// Requests and responses of a turn. Kept allocated.
    requests: Vec<SerialRequest>,
    responses: Vec<Response>,
    lines: LineBuffer,
    budget: Arc<Budget>,
    /// Number and deadline of the line that has begun.
    line_due: Option<(u64, Instant)>,
    /// Bytes of its lines that may still be read in this turn; 0 after a turn's events were sent.
    turn_bytes: usize,
    /// Set once the client has closed its sending side.
    hang_up: Option<HangUp>,
    is_first_byte_seen: bool,
    /// Deadline until which a shutdown waits for the first request.
    first_request_deadline: Instant,
    shutdown: Shutdown,
}

/// State of a client during a shutdown. Every request that the client could send is answered;
/// requests it could not send fail visibly.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shutdown {
    /// The daemon is running.
    Running,
    /// The client has just connected and sent nothing yet; it may until then.
    AwaitFirstRequest(Instant),
    /// The client can send no more. Its earlier requests are read until then.
    ReadEarlier(Instant),
}

/// Reason for waking the client's task.
enum Wakeup {
    Response(Response),
    Read(io::Result<usize>),
    Writable,
    EventsAvailable,
    LineOverdue,
    Closed,
    Stop,
    ShutdownOverdue,
}

/// Serves a client until it disconnects, is refused, or the daemon stops.
pub(super) async fn serve(
    stream: UnixStream,
    peer: Peer,
    state: Arc<ControlState>,
    context: ClientContext,
) {
    let ClientContext {
        socket,
        engine,
        stop,
        first_request_deadline,
    } = context;
    let stream = match Stream::new(stream) {
        Ok(stream) => stream,
        Err(error) => {
            log_limited!(warn, %error, "cannot serve a client");
            return;
        }
    };
    let Ok((connected, late)) = engine.connect(socket) else {
        return;
    };
    let budget = Arc::clone(state.budgets.of(peer.access));
    let mut client = Client {
        connected,
        stream,
        actor: Arc::clone(&peer.actor),
        late,
        requests: Vec::new(),
        responses: Vec::new(),
        lines: LineBuffer::new(REQUEST_BYTES_MAX),
        turn_bytes: budget.turn_bytes,
        budget,
        pipeline: RequestPipeline::new(state, peer),
        line_due: None,
        hang_up: None,
        is_first_byte_seen: false,
        first_request_deadline,
        shutdown: Shutdown::Running,
    };
    let ended = client.run(&stop).await;
    tracing::debug!(socket = socket.0, ?ended, "client disconnected");
}

/// Connections of a client's task to the rest of the daemon.
pub(super) struct ClientContext {
    pub(super) socket: SocketId,
    pub(super) engine: Engine,
    pub(super) stop: CancellationToken,
    pub(super) first_request_deadline: Instant,
}

impl Client {
    async fn run(&mut self, stop: &CancellationToken) -> io::Result<()> {
        let mut stopped = pin!(stop.cancelled());
        loop {
            self.yield_if_over_budget(stop).await;
            // Responses that are ready at once may unblock the next lines.
            while self.take_lines() {
                self.ask().await?;
            }
            if self.is_all_read() {
                self.pipeline.close();
            }
            let was_open = self.pipeline.is_open();
            self.pipeline.out.send(&mut self.stream)?;
            if self.pipeline.is_open() && (!was_open || self.turn_bytes == 0) {
                // Lines that had to wait until the client read, or for its next turn, go on now: nothing else would wake us for them.
                continue;
            }
            self.watch_line();
            if self.is_finished() {
                return self.flush_before_close().await;
            }
            match self.wake(stopped.as_mut()).await {
                Wakeup::Response(response) => self.take_responses(response).await?,
                Wakeup::Read(bytes) => self.take_bytes(bytes?)?,
                Wakeup::Writable => {}
                Wakeup::EventsAvailable => self.send_events(),
                Wakeup::LineOverdue => self.pipeline.refuse_and_close(line_overdue()),
                Wakeup::Closed => return Ok(()),
                Wakeup::Stop => self.begin_shutdown()?,
                Wakeup::ShutdownOverdue => self.shutdown_overdue()?,
            }
        }
    }

    /// Yields to other tasks once the turn is used up. Readable sockets and available events never
    /// make the task wait, so a flood of either would hold the thread and delay a shutdown.
    async fn yield_if_over_budget(&mut self, stop: &CancellationToken) {
        if self.connected.engine.is_crowded() {
            tokio::select! {
                () = self.connected.engine.not_crowded() => {}
                () = stop.cancelled() => {}
            }
        }
        if self.turn_bytes > 0 {
            return;
        }
        self.turn_bytes = self.budget.turn_bytes;
        self.budget.next_turn().await;
        if stop.is_cancelled() && self.shutdown == Shutdown::Running {
            self.begin_shutdown()
                .unwrap_or_else(|_| self.pipeline.close());
        }
        // A client that keeps sending is not read past its deadline.
        if let Shutdown::ReadEarlier(due) = self.shutdown
            && due <= Instant::now()
        {
            self.pipeline.close();
        }
    }

    fn begin_shutdown(&mut self) -> io::Result<()> {
        if self.is_first_byte_seen
            || self.hang_up.is_some()
            || self.first_request_deadline <= Instant::now()
        {
            return self.shut_down_receiving();
        }
        self.shutdown = Shutdown::AwaitFirstRequest(self.first_request_deadline);
        Ok(())
    }

    /// Shuts down the receiving side: the client notices at its next write. Earlier input is still
    /// read.
    fn shut_down_receiving(&mut self) -> io::Result<()> {
        rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Read)?;
        self.shutdown = Shutdown::ReadEarlier(Instant::now() + CLOSE_TIMEOUT);
        Ok(())
    }

    fn shutdown_overdue(&mut self) -> io::Result<()> {
        match self.shutdown {
            Shutdown::Running => Ok(()),
            Shutdown::AwaitFirstRequest(_) => self.shut_down_receiving(),
            Shutdown::ReadEarlier(_) => {
                self.pipeline.close();
                Ok(())
            }
        }
    }

    /// Returns whether a client that can send no more has no request left to read.
    fn is_all_read(&self) -> bool {
        // A line that is only here in part was cut off by the stop: it asks for nothing.
        let has_no_line = self.pipeline.is_open() || !self.lines.has_partial();
        matches!(self.shutdown, Shutdown::ReadEarlier(_)) && self.hang_up.is_some() && has_no_line
    }

    async fn wake(&mut self, mut stopped: Pin<&mut WaitForCancellationFuture<'_>>) -> Wakeup {
        let Self {
            stream,
            late,
            lines,
            pipeline,
            line_due,
            hang_up,
            shutdown,
            ..
        } = self;
        let reads = hang_up.is_none() && pipeline.is_open();
        let has_output = !pipeline.out.is_empty();
        let (is_closing, is_full) = (pipeline.is_closing(), pipeline.out.is_full());
        let stop_due = match *shutdown {
            Shutdown::Running => None,
            Shutdown::AwaitFirstRequest(due) | Shutdown::ReadEarlier(due) => Some(due),
        };
        let overflow = pipeline.subscription.as_ref().map(Subscription::overflow);
        // The usual wakeups of a busy client are polled by hand: registering and dropping a future
        // for each costs more.
        let usual = poll_fn(|cx| {
            if let Poll::Ready(Some(response)) = late.poll_recv(cx) {
                return Poll::Ready(Wakeup::Response(response));
            }
            if reads && let Poll::Ready(bytes) = stream.poll_read(cx, lines.read_buf()) {
                return Poll::Ready(Wakeup::Read(bytes));
            }
            if has_output && stream.poll_writable(cx).is_ready() {
                return Poll::Ready(Wakeup::Writable);
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            wakeup = usual => wakeup,
            () = or_pending(pipeline.subscription.as_mut().map(Subscription::changed)), if !is_full => Wakeup::EventsAvailable,
            () = or_pending(overflow) => Wakeup::Closed,
            () = or_pending(line_due.map(|(_, due)| sleep_until(due))) => Wakeup::LineOverdue,
            () = or_pending(hang_up.as_ref().map(HangUp::closed)) => Wakeup::Closed,
            () = stopped.as_mut(), if !is_closing && stop_due.is_none() => Wakeup::Stop,
            () = or_pending(stop_due.map(sleep_until)), if !is_closing => Wakeup::ShutdownOverdue,
        }
    }

    /// Takes lines as far as this client may go on. Returns whether there are requests for the engine.
    fn take_lines(&mut self) -> bool {
        self.pipeline
            .take_lines(&mut self.lines, &mut self.turn_bytes, &mut self.requests);
        if self.pipeline.take_subscription_change() {
            self.connected.engine.subscribers_changed();
        }
        !self.requests.is_empty()
    }

    /// Takes in responses that were not ready at once.
    async fn take_responses(&mut self, first: Response) -> io::Result<()> {
        let mut next = Some(first);
        while let Some(response) = next {
            if let Some(next_slice) = self.pipeline.take_response(response) {
                self.requests.push(next_slice);
                self.budget.next_turn().await;
                self.ask().await?;
            }
            next = self.late.try_recv().ok();
        }
        Ok(())
    }

    /// Submits the turn's requests, and takes in the responses that are ready at once.
    async fn ask(&mut self) -> io::Result<()> {
        while !self.requests.is_empty() {
            let Connected { engine, socket } = &self.connected;
            engine
                .ask(
                    *socket,
                    &self.actor,
                    &mut self.requests,
                    &mut self.responses,
                )
                .map_err(|Stopped| io::Error::other("soramoded is stopping"))?;
            for response in self.responses.drain(..) {
                self.requests.extend(self.pipeline.take_response(response));
            }
            if !self.requests.is_empty() {
                // A list continues, but clients with readable sockets come first: the runtime polls
                // sockets once no task is ready.
                self.budget.next_turn().await;
            }
        }
        Ok(())
    }

    fn take_bytes(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return self.end_of_lines();
        }
        self.check_first_byte();
        if matches!(self.shutdown, Shutdown::AwaitFirstRequest(_)) {
            self.shut_down_receiving()
        } else {
            Ok(())
        }
    }

    fn send_events(&mut self) {
        if self.pipeline.send_events() {
            // That was a turn, however few bytes they had.
            self.turn_bytes = 0;
        }
    }

    /// The client writes no more. It may still read.
    fn end_of_lines(&mut self) -> io::Result<()> {
        if self.shutdown == Shutdown::Running {
            self.lines.end();
        }
        self.hang_up = Some(HangUp::of(&self.stream)?);
        Ok(())
    }

    /// Reports input of another protocol, such as an HTTP request, once.
    fn check_first_byte(&mut self) {
        if self.is_first_byte_seen {
            return;
        }
        self.is_first_byte_seen = true;
        let first = self.lines.first_byte();
        if let Some(byte) =
            first.filter(|byte| !matches!(byte, b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n'))
        {
            let message = format!("not JSON-RPC 2.0: a line begins with the byte 0x{byte:02x}");
            self.pipeline
                .refuse_and_close(Error::new(ErrorType::ParseError, message));
        }
    }

    fn watch_line(&mut self) {
        // A line that is here in part is overdue only while it is waited for.
        let waits_for_line =
            self.lines.has_partial() && self.pipeline.is_open() && self.hang_up.is_none();
        let line = self.pipeline.lines_taken();
        let begun = self.line_due.filter(|(begun, _)| *begun == line);
        self.line_due =
            waits_for_line.then(|| begun.unwrap_or_else(|| (line, Instant::now() + LINE_TIME)));
    }

    fn is_finished(&self) -> bool {
        // A client that closed its sending side has unlimited time to read; a client that is being
        // closed has [`CLOSE_TIMEOUT`].
        let is_finishing =
            self.pipeline.is_closing() || self.hang_up.is_some() && self.pipeline.out.is_empty();
        is_finishing
            && self.pipeline.is_answered()
            && !self.pipeline.is_following()
            && !self.has_lines()
    }

    /// Returns true if unparsed lines are buffered.
    fn has_lines(&self) -> bool {
        self.lines.has_partial() && !self.pipeline.is_closing()
    }

    /// Lets the client read its pending answers.
    async fn flush_before_close(&mut self) -> io::Result<()> {
        let flush = async {
            while !self.pipeline.out.is_empty() {
                poll_fn(|cx| self.stream.poll_writable(cx)).await;
                self.pipeline.out.send(&mut self.stream)?;
            }
            Ok(())
        };
        timeout(CLOSE_TIMEOUT, flush).await.unwrap_or(Ok(()))
    }
}

fn line_overdue() -> Error {
    Error::new(
        ErrorType::InvalidRequest,
        format!("a line was not completed within {} s", LINE_TIME.as_secs()),
    )
}

#[cfg(test)]
mod tests;
