//! Output that a client has not read yet.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use soramode_protocol::envelope::{ReplyTo, write_answer, write_line};
use soramode_protocol::error::Error;

use super::budget::Unread;
use super::stream::Stream;

/// Unread answers at which a client is not read any more, in bytes.
pub const UNREAD_BYTES_MAX: usize = 1024 * 1024;

/// Unread answers of a client that has its fair share, in bytes: with more it is not read any more once the memory of all clients of its
/// kind is used up.
pub const UNREAD_BYTES_FAIR: usize = 16 * 1024;

/// Step of counting memory, in bytes: small answers that are sent at once are not counted.
const COUNTED_BYTES: usize = 4 * 1024;

/// Memory that an output retains when everything was read, in bytes. Sent bytes are dropped when
/// they reach this length.
const RETAINED_BYTES: usize = 64 * 1024;

/// Lines on their way to a client.
#[derive(Debug)]
pub(super) struct Output {
    /// Bytes that other clients are sent as well; they precede all others.
    shared: Bytes,
    bytes: Vec<u8>,
    sent: usize,
    /// The memory of all clients of its kind, and how much of it this one was counted with.
    unread: Arc<Unread>,
    counted: usize,
}

impl Output {
    pub(super) const fn new(unread: Arc<Unread>) -> Self {
        Self {
            shared: Bytes::new(),
            bytes: Vec::new(),
            sent: 0,
            unread,
            counted: 0,
        }
    }

    /// Returns the unread lines, for tests.
    #[cfg(test)]
    pub(super) fn lines(&self) -> Vec<serde_json::Value> {
        let all = [self.shared.as_ref(), self.bytes.as_slice()].concat();
        all.split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.bytes.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        let unread = self.shared.len() + self.bytes.len() - self.sent;
        unread >= UNREAD_BYTES_MAX || unread >= UNREAD_BYTES_FAIR && self.unread.is_used_up()
    }

    fn count(&mut self) {
        let bytes = self.shared.len() + self.bytes.capacity();
        if bytes.abs_diff(self.counted) >= COUNTED_BYTES {
            self.unread.change(self.counted, bytes);
            self.counted = bytes;
        }
    }

    /// An answer; nothing where none is wanted.
    pub(super) fn answer<R: Serialize>(
        &mut self,
        reply_to: Option<&ReplyTo>,
        answer: Result<&R, &Error>,
    ) {
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
            // Serializing cannot fail. If it does, no half line may remain.
            self.bytes.truncate(before);
            tracing::error!(%error, "cannot write a message");
        }
        self.count();
    }

    /// Whole lines that others are sent as well: where nothing waits before them they are sent from where they are.
    pub(super) fn push_shared(&mut self, lines: Bytes) {
        if self.is_empty() {
            self.shared = lines;
        } else {
            self.bytes.extend_from_slice(&lines);
        }
        self.count();
    }

    /// Takes a buffer for a line that is written elsewhere: the one that sent bytes have left, if
    /// it is empty.
    pub(super) fn take_buffer(&mut self) -> Vec<u8> {
        if self.bytes.is_empty() {
            std::mem::take(&mut self.bytes)
        } else {
            Vec::new()
        }
    }

    /// A whole line that was written aside, in room that was lent.
    pub(super) fn push_line(&mut self, line: Vec<u8>) {
        if self.bytes.is_empty() {
            self.bytes = line;
        } else {
            self.bytes.extend_from_slice(&line);
        }
        self.count();
    }

    /// Sends as many bytes as the socket takes now.
    pub(super) fn send(&mut self, stream: &mut Stream) -> io::Result<()> {
        while let Some(unsent) = self.unsent() {
            match stream.try_write(unsent) {
                Ok(written) if self.shared.is_empty() => self.sent += written,
                // Dropped, not skipped: memory of sent bytes must be released.
                Ok(written) => drop(self.shared.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.compact();
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        stream.all_written();
        self.bytes.clear();
        self.bytes.shrink_to(if self.unread.is_used_up() {
            0
        } else {
            RETAINED_BYTES
        });
        self.sent = 0;
        self.count();
        Ok(())
    }

    /// Returns the next bytes to send.
    fn unsent(&self) -> Option<&[u8]> {
        let own = self.bytes.get(self.sent..).unwrap_or_default();
        let next = if self.shared.is_empty() {
            own
        } else {
            &self.shared
        };
        (!next.is_empty()).then_some(next)
    }

    /// Drops the bytes that were sent. A reader that is always a little behind never has read
    /// everything.
    fn compact(&mut self) {
        if self.sent >= RETAINED_BYTES && self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
            self.bytes.shrink_to(self.bytes.len().max(RETAINED_BYTES));
            self.count();
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.unread.change(self.counted, 0);
    }
}

#[cfg(test)]
impl Output {
    /// Creates an output without other clients.
    pub(super) fn for_test() -> Self {
        Self::new(Arc::new(Unread::new(usize::MAX)))
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
        let mut out = Output::for_test();
        while !out.is_full() {
            out.push_shared(Bytes::from_static(&LINE));
        }
        let (mut taken, mut said) = (0, out.bytes.len());
        for _ in 0..20_000 {
            out.send(&mut stream).unwrap();
            taken += reader.read(&mut [0; 1_000]).unwrap();
            // Lets the runtime see whether the socket takes more.
            tokio::task::yield_now().await;
            let more = usize::from(!out.is_full()) * LINE.len();
            out.push_shared(Bytes::from_static(&LINE[..more]));
            said += more;
            assert!(
                !out.is_empty() && out.bytes.capacity() <= 4 * UNREAD_BYTES_MAX,
                "{}",
                out.bytes.capacity()
            );
        }
        assert!(taken > 8 * UNREAD_BYTES_MAX && said > taken);
    }

    #[tokio::test]
    async fn shared_and_own_lines_arrive_in_order() {
        let (stream, reader) = UnixStream::pair().unwrap();
        let (mut stream, mut reader) = (Stream::new(stream).unwrap(), reader.into_std().unwrap());
        reader.set_nonblocking(false).unwrap();
        let block = Bytes::from(vec![b'x'; UNREAD_BYTES_MAX]);
        let (mut out, mut said) = (Output::for_test(), Vec::new());
        for piece in [
            Bytes::from_static(b"a"),
            block.clone(),
            Bytes::from_static(b"b"),
            Bytes::from_static(b"c"),
        ] {
            said.extend_from_slice(&piece);
            out.push_shared(piece);
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
    async fn a_line_in_a_buffer_of_its_own_comes_behind_the_lines_sent_meanwhile() {
        let (stream, _reader) = UnixStream::pair().unwrap();
        let mut stream = Stream::new(stream).unwrap();
        let mut out = Output::for_test();
        out.message(&1);
        out.send(&mut stream).unwrap();
        let mut line = out.take_buffer();
        assert!(
            line.is_empty() && line.capacity() > 0,
            "what was sent left its room"
        );
        out.message(&2);
        assert_eq!(out.take_buffer().capacity(), 0, "what waits keeps its room");
        line.extend_from_slice(b"3\n");
        out.push_line(line);
        assert_eq!(out.lines(), [2, 3]);
    }

    #[test]
    fn clients_share_their_memory_and_one_with_a_fair_share_is_read_all_the_same() {
        let unread = Arc::new(Unread::new(2 * UNREAD_BYTES_MAX));
        let text = "x".repeat(UNREAD_BYTES_FAIR);
        let mut clients: Vec<Output> = Vec::new();
        while !unread.is_used_up() {
            let mut out = Output::new(Arc::clone(&unread));
            while !out.is_full() {
                out.message(&text);
            }
            clients.push(out);
        }
        assert!(clients.len() <= 2);
        let mut late = Output::new(Arc::clone(&unread));
        late.message(&1);
        assert!(!late.is_full(), "it has next to nothing unread");
        late.message(&text);
        assert!(late.is_full());
        clients.clear();
        assert!(!late.is_full(), "what a client leaves is free again");
        drop(late);
        assert_eq!(unread.bytes(), 0);
    }
}
