//! What a client has not read yet.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use soramode_protocol::envelope::{ReplyTo, write_answer, write_line};
use soramode_protocol::error::Error;

use super::stream::Stream;

/// Unread answers at which a client is not read any more, in bytes.
pub const UNREAD_BYTES_MAX: usize = 1024 * 1024;

/// Memory that a client's output keeps when everything was read, in bytes; and what was sent is dropped once it is as long.
const KEPT_BYTES: usize = 64 * 1024;

/// Lines on their way to a client.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// What others are sent as well, and comes before all that follows.
    shared: Bytes,
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    /// What is unread, for tests.
    #[cfg(test)]
    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        let all = [self.shared.as_ref(), self.bytes.as_slice()].concat();
        all.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.bytes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.shared.len() + self.bytes.len() - self.sent >= UNREAD_BYTES_MAX
    }

    /// An answer; nothing where none is wanted.
    pub(super) fn answer<R: Serialize>(&mut self, reply_to: Option<&ReplyTo>, answer: Result<&R, &Error>) {
        if let Some(reply_to) = reply_to {
            self.write(|line| write_answer(line, reply_to, answer));
        }
    }

    pub(super) fn refuse(&mut self, reply_to: Option<&ReplyTo>, error: &Error) {
        self.answer::<()>(reply_to, Err(error));
    }

    pub(super) fn message(&mut self, message: &impl Serialize) {
        self.write(|line| write_line(line, message));
    }

    fn write(&mut self, message: impl FnOnce(&mut Vec<u8>) -> Result<(), serde_json::Error>) {
        let before = self.bytes.len();
        if let Err(error) = message(&mut self.bytes) {
            // Nothing that is said here can fail to be written. If it does, no half line may stand in what follows.
            self.bytes.truncate(before);
            tracing::error!(%error, "a message cannot be written");
        }
    }

    /// Whole lines that others are sent as well: where nothing waits before them they are sent from where they are.
    pub(super) fn share(&mut self, lines: Bytes) {
        if self.is_empty() {
            self.shared = lines;
        } else {
            self.bytes.extend_from_slice(&lines);
        }
    }

    /// Room for a line that is written aside: what was sent has left some, unless something waits there by now.
    pub(super) fn lend_room(&mut self) -> Vec<u8> {
        if self.bytes.is_empty() { std::mem::take(&mut self.bytes) } else { Vec::new() }
    }

    /// A whole line that was written aside, in room that was lent.
    pub(super) fn line(&mut self, line: Vec<u8>) {
        if self.bytes.is_empty() {
            self.bytes = line;
        } else {
            self.bytes.extend_from_slice(&line);
        }
    }

    /// Sends what the socket takes now.
    pub(super) fn send(&mut self, stream: &mut Stream) -> io::Result<()> {
        while let Some(unsent) = self.unsent() {
            match stream.try_write(unsent) {
                Ok(written) if self.shared.is_empty() => self.sent += written,
                // Not only passed over: the memory of what was sent whole is to go.
                Ok(written) => drop(self.shared.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.forget_sent();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        stream.all_written();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.sent = 0;
        Ok(())
    }

    /// What is to be sent next.
    fn unsent(&self) -> Option<&[u8]> {
        let own = self.bytes.get(self.sent..).unwrap_or_default();
        let next = if self.shared.is_empty() { own } else { &self.shared };
        (!next.is_empty()).then_some(next)
    }

    /// A reader that is always a little behind never has read everything: what it has read goes all the same.
    fn forget_sent(&mut self) {
        if self.sent >= KEPT_BYTES && self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Read;

    use tokio::net::UnixStream;

    #[tokio::test]
    async fn a_reader_that_is_always_a_little_behind_costs_no_more_than_it_has_unread() {
        static LINE: [u8; 1_000] = [b'x'; 1_000];

        let (stream, reader) = UnixStream::pair().unwrap();
        let (mut stream, mut reader) = (Stream::new(stream).unwrap(), reader.into_std().unwrap());
        let mut out = Output::default();
        while !out.is_full() {
            out.share(Bytes::from_static(&LINE));
        }
        let (mut taken, mut said) = (0, out.bytes.len());
        for _ in 0..20_000 {
            out.send(&mut stream).unwrap();
            taken += reader.read(&mut [0; 1_000]).unwrap();
            // Lets the runtime see whether the socket takes more.
            tokio::task::yield_now().await;
            let more = usize::from(!out.is_full()) * LINE.len();
            out.share(Bytes::from_static(&LINE[..more]));
            said += more;
            assert!(!out.is_empty() && out.bytes.capacity() <= 4 * UNREAD_BYTES_MAX, "{}", out.bytes.capacity());
        }
        assert!(taken > 8 * UNREAD_BYTES_MAX && said > taken);
    }

    #[tokio::test]
    async fn what_is_shared_and_what_is_not_arrive_in_their_order() {
        let (stream, reader) = UnixStream::pair().unwrap();
        let (mut stream, mut reader) = (Stream::new(stream).unwrap(), reader.into_std().unwrap());
        reader.set_nonblocking(false).unwrap();
        let block = Bytes::from(vec![b'x'; UNREAD_BYTES_MAX]);
        let (mut out, mut said) = (Output::default(), Vec::new());
        for piece in [Bytes::from_static(b"a"), block.clone(), Bytes::from_static(b"b"), Bytes::from_static(b"c")] {
            said.extend_from_slice(&piece);
            out.share(piece);
            out.message(&said.len());
            said.extend_from_slice(format!("{}\n", said.len()).as_bytes());
            out.send(&mut stream).unwrap();
        }
        assert!(!out.is_empty());
        let mut heard = vec![0; said.len()];
        let reading = std::thread::spawn(move || reader.read_exact(&mut heard).map(|()| heard));
        while !out.is_empty() {
            std::future::poll_fn(|cx| stream.poll_writable(cx)).await;
            out.send(&mut stream).unwrap();
        }
        assert!(reading.join().unwrap().unwrap() == said);
        assert!(block.is_unique(), "what was sent is let go");
    }

    #[tokio::test]
    async fn a_line_that_was_written_aside_comes_behind_what_was_said_meanwhile() {
        let (stream, _reader) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(stream).unwrap();
        let mut out = Output::default();
        out.message(&1);
        out.send(&mut stream).unwrap();
        let mut line = out.lend_room();
        assert!(line.is_empty() && line.capacity() > 0, "what was sent left its room");
        out.message(&2);
        assert_eq!(out.lend_room().capacity(), 0, "what waits keeps its room");
        line.extend_from_slice(b"3\n");
        out.line(line);
        assert_eq!(out.lines(), [2, 3]);
    }
}
