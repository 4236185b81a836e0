//! One client's task: its socket on one side, the engine on the other.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::net::Shutdown;
use soramode_core::input::SocketId;
use soramode_protocol::codec::{LineBuffer, REQUEST_BYTES_MAX};
use soramode_protocol::error::{Error, ErrorType};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::House;
use super::budget::Budget;
use super::hangup::HangUp;
use super::peer::Peer;
use super::pipeline::RequestPipeline;
use super::stream::Stream;
use super::subscription::Subscription;
use crate::engine::{Connected, Engine, SerialRequest, Stopped};
use crate::outputs::Response;
use crate::rate_limit::log_limited;

/// How long a line may take from its first byte to its line feed.
pub const LINE_TIME: Duration = Duration::from_secs(30);

/// How long a client that is being closed may take to read what it is pending.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// A client.
pub(super) struct Client {
    connected: Connected,
    stream: Stream,
    actor: Arc<str>,
    /// Responses that were not there at once.
    late: mpsc::UnboundedReceiver<Response>,
    /// Requests and responses of a turn. Kept allocated.
    requests: Vec<SerialRequest>,
    responses: Vec<Response>,
    lines: LineBuffer,
    pipeline: RequestPipeline,
    budget: Arc<Budget>,
    /// Which line has begun, and until when it may take.
    line_due: Option<(u64, Instant)>,
    /// What of its lines may be read before the others have their turn, in bytes; nothing once it was told a turn's events.
    turn_bytes: usize,
    /// Set once the client has said all it wants to say.
    hang_up: Option<HangUp>,
    is_first_byte_seen: bool,
    /// Until when a stop waits for it.
    first_word_due: Instant,
    stopping: Stopping,
}

/// How far a client is when the daemon stops: whatever it could still send is heard and answered, and what it could not, it knows of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
    /// The daemon goes on.
    NotYet,
    /// It has just come and has not said anything; it may until then.
    FirstWord(Instant),
    /// It can send no more. What it had sent is heard until then.
    HearingOut(Instant),
}

/// What a client's task woke up for.
enum Woken {
    Response(Response),
    Read(io::Result<usize>),
    Writable,
    News,
    LineOverdue,
    Gone,
    Stop,
    StopOverdue,
}

/// Serves a client until it is gone, has been refused, or the daemon stops.
pub(super) async fn serve(stream: UnixStream, peer: Peer, house: Arc<House>, door: Door) {
    let Door {
        socket,
        engine,
        stop,
        first_word_due,
    } = door;
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
    let budget = Arc::clone(house.budgets.of(peer.access));
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
        pipeline: RequestPipeline::new(house, peer),
        line_due: None,
        hang_up: None,
        is_first_byte_seen: false,
        first_word_due,
        stopping: Stopping::NotYet,
    };
    let ended = client.run(&stop).await;
    tracing::debug!(socket = socket.0, ?ended, "client disconnected");
}

/// What connects a client's task with the rest of the daemon.
pub(super) struct Door {
    pub(super) socket: SocketId,
    pub(super) engine: Engine,
    pub(super) stop: CancellationToken,
    pub(super) first_word_due: Instant,
}

impl Client {
    async fn run(&mut self, stop: &CancellationToken) -> io::Result<()> {
        let mut stopped = pin!(stop.cancelled());
        loop {
            self.let_others_in(stop).await;
            // Responses that are there at once may let the next lines be taken.
            while self.take_lines() {
                self.ask().await?;
            }
            if self.is_heard_out() {
                self.pipeline.close();
            }
            let was_open = self.pipeline.is_open();
            self.pipeline.out.send(&mut self.stream)?;
            if self.pipeline.is_open() && (!was_open || self.turn_bytes == 0) {
                // Lines that had to wait until the client read, or for its next turn, go on now: nothing else would wake us for them.
                continue;
            }
            self.watch_line();
            if self.is_over() {
                return self.say_farewell().await;
            }
            match self.wake(stopped.as_mut()).await {
                Woken::Response(response) => self.take_responses(response).await?,
                Woken::Read(bytes) => self.take_bytes(bytes?)?,
                Woken::Writable => {}
                Woken::News => self.tell_events(),
                Woken::LineOverdue => self.pipeline.refuse_and_close(line_overdue()),
                Woken::Gone => return Ok(()),
                Woken::Stop => self.begin_to_stop()?,
                Woken::StopOverdue => self.stop_overdue()?,
            }
        }
    }

    /// A socket that can be read is never waited for, nor are events that are there: without this a flood of either would hold the thread,
    /// and never hear of a stop.
    async fn let_others_in(&mut self, stop: &CancellationToken) {
        if self.connected.engine.is_crowded() {
            tokio::select! {
                () = self.connected.engine.room() => {}
                () = stop.cancelled() => {}
            }
        }
        if self.turn_bytes > 0 {
            return;
        }
        self.turn_bytes = self.budget.turn_bytes;
        self.budget.next_turn().await;
        if stop.is_cancelled() && self.stopping == Stopping::NotYet {
            self.begin_to_stop()
                .unwrap_or_else(|_| self.pipeline.close());
        }
        // One that has much to say is not waited for to its end.
        if let Stopping::HearingOut(due) = self.stopping
            && due <= Instant::now()
        {
            self.pipeline.close();
        }
    }

    fn begin_to_stop(&mut self) -> io::Result<()> {
        if self.is_first_byte_seen
            || self.hang_up.is_some()
            || self.first_word_due <= Instant::now()
        {
            return self.hear_out();
        }
        self.stopping = Stopping::FirstWord(self.first_word_due);
        Ok(())
    }

    /// The client can send no more, which it notices when it tries; what it sent before is still to be read.
    fn hear_out(&mut self) -> io::Result<()> {
        rustix::net::shutdown(&self.stream, Shutdown::Read)?;
        self.stopping = Stopping::HearingOut(Instant::now() + FAREWELL_TIME);
        Ok(())
    }

    fn stop_overdue(&mut self) -> io::Result<()> {
        match self.stopping {
            Stopping::NotYet => Ok(()),
            Stopping::FirstWord(_) => self.hear_out(),
            Stopping::HearingOut(_) => {
                self.pipeline.close();
                Ok(())
            }
        }
    }

    fn is_heard_out(&self) -> bool {
        // A line that is only here in part was cut off by the stop: it asks for nothing.
        let has_no_line = self.pipeline.is_open() || !self.lines.has_partial();
        matches!(self.stopping, Stopping::HearingOut(_)) && self.hang_up.is_some() && has_no_line
    }

    async fn wake(&mut self, mut stopped: Pin<&mut WaitForCancellationFuture<'_>>) -> Woken {
        let Self {
            stream,
            late,
            lines,
            pipeline,
            line_due,
            hang_up,
            stopping,
            ..
        } = self;
        let reads = hang_up.is_none() && pipeline.is_open();
        let has_output = !pipeline.out.is_empty();
        let (is_closing, is_full) = (pipeline.is_closing(), pipeline.out.is_full());
        let stop_due = match *stopping {
            Stopping::NotYet => None,
            Stopping::FirstWord(due) | Stopping::HearingOut(due) => Some(due),
        };
        // What wakes a busy client is polled by hand: it leaves nothing behind that would have to be taken back each time.
        let usual = poll_fn(|cx| {
            if let Poll::Ready(Some(response)) = late.poll_recv(cx) {
                return Poll::Ready(Woken::Response(response));
            }
            if reads && let Poll::Ready(bytes) = stream.poll_read(cx, lines.space()) {
                return Poll::Ready(Woken::Read(bytes));
            }
            if has_output && stream.poll_writable(cx).is_ready() {
                return Poll::Ready(Woken::Writable);
            }
            Poll::Pending
        });
        tokio::select! {
            biased;
            woken = usual => woken,
            () = news(pipeline.subscription.as_mut()), if pipeline.subscription.is_some() && !is_full => Woken::News,
            () = overdue(line_due.map(|(_, due)| due)), if line_due.is_some() => Woken::LineOverdue,
            () = gone(hang_up.as_ref()), if hang_up.is_some() => Woken::Gone,
            () = stopped.as_mut(), if !is_closing && stop_due.is_none() => Woken::Stop,
            () = overdue(stop_due), if !is_closing && stop_due.is_some() => Woken::StopOverdue,
        }
    }

    /// Takes lines as far as this client may go on. Returns whether there are requests for the engine.
    fn take_lines(&mut self) -> bool {
        self.pipeline
            .take_lines(&mut self.lines, &mut self.turn_bytes, &mut self.requests);
        !self.requests.is_empty()
    }

    /// Takes in responses that were not there at once.
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

    /// Has the turn's requests decided, and takes in the responses that are there at once.
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
                // A list goes on, but clients whose sockets can be read by now come first: the runtime looks there once nothing else goes on.
                self.budget.next_turn().await;
            }
        }
        Ok(())
    }

    fn take_bytes(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return self.end_of_lines();
        }
        self.look_at_first_byte();
        if matches!(self.stopping, Stopping::FirstWord(_)) {
            self.hear_out()
        } else {
            Ok(())
        }
    }

    fn tell_events(&mut self) {
        if self.pipeline.tell_events() {
            // That was a turn, however few bytes they had.
            self.turn_bytes = 0;
        }
    }

    /// The client writes no more. It may still read.
    fn end_of_lines(&mut self) -> io::Result<()> {
        if self.stopping == Stopping::NotYet {
            self.lines.end();
        }
        self.hang_up = Some(HangUp::of(&self.stream)?);
        Ok(())
    }

    /// Something that is not this protocol at all, an HTTP request say, is told so once.
    fn look_at_first_byte(&mut self) {
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

    fn is_over(&self) -> bool {
        // One that only said all it wants to say takes its time to read; who is being closed gets the farewell's.
        let says_no_more =
            self.pipeline.is_closing() || self.hang_up.is_some() && self.pipeline.out.is_empty();
        says_no_more
            && self.pipeline.is_answered()
            && !self.pipeline.is_following()
            && !self.has_lines()
    }

    /// Whether lines wait that have not been looked at.
    fn has_lines(&self) -> bool {
        self.lines.has_partial() && !self.pipeline.is_closing()
    }

    /// Lets the client read what it is pending.
    async fn say_farewell(&mut self) -> io::Result<()> {
        let farewell = async {
            while !self.pipeline.out.is_empty() {
                poll_fn(|cx| self.stream.poll_writable(cx)).await;
                self.pipeline.out.send(&mut self.stream)?;
            }
            Ok(())
        };
        timeout(FAREWELL_TIME, farewell).await.unwrap_or(Ok(()))
    }
}

async fn news(subscription: Option<&mut Subscription>) {
    match subscription {
        Some(subscription) => subscription.news().await,
        None => std::future::pending().await,
    }
}

async fn overdue(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn gone(hang_up: Option<&HangUp>) {
    match hang_up {
        Some(hang_up) => hang_up.gone().await,
        None => std::future::pending().await,
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
