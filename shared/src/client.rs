//! Async client: one socket, many requests in flight, subscriptions. [`call_blocking`] sends one
//! request without a runtime.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::codec::{ANSWER_BYTES_MAX, LineBuffer, LineTooLong};
use crate::envelope::{Notification, Outgoing, ServerMessage, read_server_message, write_line};
use crate::error::Error;
use crate::request::{Call, RequestId};
use serde_json::value::RawValue;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket cannot be opened.
    #[error("cannot open {path}")]
    Connect {
        /// Path of the socket.
        path: PathBuf,
        /// Cause of the failure.
        source: io::Error,
    },
    /// The daemon has closed the socket.
    #[error("soramoded closed the connection")]
    Closed,
    /// Connection to the socket was lost.
    #[error("the connection to soramoded was lost")]
    Io(#[from] io::Error),
    /// Received a message that is not of this protocol.
    #[error("soramoded sent an answer that this version cannot read")]
    Unreadable(#[from] serde_json::Error),
    /// Received a line longer than any valid answer.
    #[error("soramoded sent an invalid answer")]
    TooLong(#[from] LineTooLong),
    /// The daemon answered with an error.
    #[error(transparent)]
    Refused(Error),
}

/// Message received from the daemon.
#[derive(Debug)]
pub enum Message {
    /// The answer to the request of this number, still as JSON.
    Answer(i64, Result<Box<RawValue>, Error>),
    /// Notification that no request asked for.
    Notification(Notification),
}

/// Connection to the daemon.
///
/// [`call`](Self::call) sends a request and waits for its answer. For many requests in flight,
/// [`send`](Self::send) each and [`receive`](Self::receive) the answers. Every method is cancel
/// safe: no input is lost, and the next `send` completes one that was dropped.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    lines: LineBuffer,
    unsent: Vec<u8>,
    early: VecDeque<Message>,
    last_id: i64,
}

impl Client {
    /// Connects to the socket at `path`.
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ClientError::Connect {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self::over(stream))
    }

    /// Speaks over a stream that leads to a daemon.
    pub fn over(stream: UnixStream) -> Self {
        Self {
            stream,
            lines: LineBuffer::new(ANSWER_BYTES_MAX),
            unsent: Vec::new(),
            early: VecDeque::new(),
            last_id: 0,
        }
    }

    /// Returns the user that the server runs as, as the kernel reports it.
    pub fn server_uid(&self) -> io::Result<u32> {
        self.stream.peer_cred().map(|credentials| credentials.uid())
    }

    /// Sends a request and waits for its answer. Other messages that arrive meanwhile are kept for
    /// [`receive`](Self::receive).
    pub async fn call<C: Call>(&mut self, params: &C) -> Result<C::Reply, ClientError> {
        read_answer::<C>(self.call_raw(params).await?)
    }

    /// Makes a call, as [`call`](Self::call) does; its answer stays JSON.
    pub async fn call_raw<C: Call>(
        &mut self,
        params: &C,
    ) -> Result<Result<Box<RawValue>, Error>, ClientError> {
        let id = self.send(params).await?;
        loop {
            match self.read_message().await? {
                Message::Answer(answered, answer) if answered == id => return Ok(answer),
                other @ (Message::Answer(..) | Message::Notification(_)) => {
                    self.early.push_back(other);
                }
            }
        }
    }

    /// Puts a request into the buffer that the next [`flush`](Self::flush) sends; gives the number that its answer will have.
    pub fn enqueue<C: Call>(&mut self, params: &C) -> Result<i64, ClientError> {
        self.last_id += 1;
        write_line(
            &mut self.unsent,
            &Outgoing::new(self.last_id, C::METHOD, params),
        )?;
        Ok(self.last_id)
    }

    /// Sends the requests that were enqueued.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        while !self.unsent.is_empty() {
            let written = self.stream.write(&self.unsent).await?;
            self.unsent.drain(..written);
        }
        Ok(())
    }

    /// Sends a request; gives the number that its answer will have.
    pub async fn send<C: Call>(&mut self, params: &C) -> Result<i64, ClientError> {
        let id = self.enqueue(params)?;
        self.flush().await?;
        Ok(id)
    }

    /// The next answer or notification.
    pub async fn receive(&mut self) -> Result<Message, ClientError> {
        match self.early.pop_front() {
            Some(message) => Ok(message),
            None => self.read_message().await,
        }
    }

    async fn read_message(&mut self) -> Result<Message, ClientError> {
        loop {
            if let Some(message) = next_message(&mut self.lines)? {
                return Ok(message);
            }
            if self.stream.read_buf(self.lines.read_buf()).await? == 0 {
                return Err(ClientError::Closed);
            }
        }
    }
}

/// Sends one request on a connection of its own and waits for the answer. After `limit` the I/O
/// error is [`ErrorKind::TimedOut`].
pub fn call_blocking<C: Call>(
    mut stream: net::UnixStream,
    params: &C,
    limit: Duration,
) -> Result<Result<Box<RawValue>, Error>, ClientError> {
    /// Bytes to read per system call.
    const READ_BYTES: usize = 4 * 1024;
    let began = Instant::now();
    let mut request = Vec::new();
    write_line(&mut request, &Outgoing::new(1, C::METHOD, params))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(&request).map_err(timed_out)?;
    let (mut lines, mut read) = (LineBuffer::new(ANSWER_BYTES_MAX), [0; READ_BYTES]);
    loop {
        while let Some(message) = next_message(&mut lines)? {
            if let Message::Answer(1, answer) = message {
                return Ok(answer);
            }
        }
        let left = limit
            .checked_sub(began.elapsed())
            .filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(io::Error::from(ErrorKind::TimedOut))?))?;
        match stream.read(&mut read) {
            Ok(0) => return Err(ClientError::Closed),
            Ok(bytes) => lines
                .read_buf()
                .extend_from_slice(read.get(..bytes).unwrap_or_default()),
            // A read with a timeout is also interrupted when the process is stopped and continued.
            Err(problem) if problem.kind() == ErrorKind::Interrupted => {}
            Err(problem) => return Err(timed_out(problem).into()),
        }
    }
}

/// Maps an expired socket timeout, which reads as `WouldBlock`, to `TimedOut`.
fn timed_out(problem: io::Error) -> io::Error {
    if problem.kind() == ErrorKind::WouldBlock {
        ErrorKind::TimedOut.into()
    } else {
        problem
    }
}

fn next_message(lines: &mut LineBuffer) -> Result<Option<Message>, ClientError> {
    while let Some(line) = lines.next_line()? {
        match read_server_message(line)? {
            ServerMessage::Answer(Some(RequestId::Number(id)), answer) => {
                return Ok(Some(Message::Answer(id, answer)));
            }
            // An error without an id of ours speaks of the connection as a whole.
            ServerMessage::Answer(_, Err(error)) => return Err(ClientError::Refused(error)),
            ServerMessage::Notification(Some(notification)) => {
                return Ok(Some(Message::Notification(notification)));
            }
            ServerMessage::Answer(_, Ok(_)) | ServerMessage::Notification(None) => {}
        }
    }
    Ok(None)
}

/// Parses an answer as the reply to `C`.
pub fn read_answer<C: Call>(answer: Result<Box<RawValue>, Error>) -> Result<C::Reply, ClientError> {
    let result = answer.map_err(ClientError::Refused)?;
    Ok(serde_json::from_str(result.get())?)
}
