//! Queue of log lines, written by a thread of its own: a reader of standard error that stops
//! reading must not stop the daemon.
//!
//! Lines wait in memory up to [`WAITING_BYTES_MAX`]. Further lines are dropped and counted, which
//! one line reports once the waiting ones are written.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that may wait to be written.
pub const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// Memory of a waiting line in addition to its text, in bytes: limits the number of short lines
/// too.
const LINE_OVERHEAD: usize = 64;

/// Time that the process waits at its exit for the last lines.
pub const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The queue of this process.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The way of a line to the thread that writes it. Never waits.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    messages: Sender<Message>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    waiting_bytes: AtomicUsize,
    /// Lines dropped since the last report of them.
    unreported: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Asks for a reply once everything before it is written.
    Flush(SyncSender<()>),
}

impl Queue {
    /// Returns the queue to standard error, starting its thread at the first call.
    pub(super) fn of_process() -> io::Result<Self> {
        if let Some(queue) = QUEUE.get() {
            return Ok(queue.clone());
        }
        let queue = Self::start(io::stderr())?;
        Ok(QUEUE.get_or_init(|| queue).clone())
    }

    fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, received) = channel();
        let queue = Self {
            messages,
            counts: Arc::default(),
        };
        let counts = Arc::clone(&queue.counts);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&received, &counts, out))?;
        Ok(queue)
    }

    fn push(&self, line: &[u8]) {
        let cost = line.len() + LINE_OVERHEAD;
        let waiting = self.counts.waiting_bytes.fetch_add(cost, Ordering::Relaxed);
        let has_room = waiting + cost <= WAITING_BYTES_MAX;
        if !has_room || self.messages.send(Message::Line(line.to_vec())).is_err() {
            self.counts.waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
            self.counts.unreported.fetch_add(1, Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was pushed is written, at most for [`FLUSH_TIME`].
    fn flush(&self) {
        let (written, is_written) = sync_channel(1);
        if self.messages.send(Message::Flush(written)).is_ok()
            && is_written.recv_timeout(FLUSH_TIME).is_err()
        {
            tracing::debug!("the log is not being read");
        }
    }
}

/// Writes a last line, such as an error that ends the process, and waits until all lines are
/// written, at most for [`FLUSH_TIME`].
pub fn finish(line: Option<&str>) {
    match (QUEUE.get(), line) {
        (Some(queue), _) => {
            if let Some(line) = line {
                queue.push(format!("{line}\n").as_bytes());
            }
            queue.flush();
        }
        // The log was not started: nothing runs yet that a blocked write could hold up.
        (None, Some(line)) => writeln!(io::stderr(), "{line}").unwrap_or_default(),
        (None, None) => {}
    }
}

/// Lines dropped since the process started.
pub(crate) fn dropped() -> u64 {
    QUEUE
        .get()
        .map_or(0, |queue| queue.counts.dropped.load(Ordering::Relaxed))
}

fn write_all(messages: &Receiver<Message>, counts: &Counts, mut out: impl Write) {
    loop {
        let message = match messages.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                report_dropped(counts);
                let Ok(message) = messages.recv() else { return };
                message
            }
        };
        match message {
            Message::Line(line) => {
                // There is nowhere to report that the log cannot be written.
                let _ = out.write_all(&line);
                counts
                    .waiting_bytes
                    .fetch_sub(line.len() + LINE_OVERHEAD, Ordering::Relaxed);
            }
            Message::Flush(written) => written.send(()).unwrap_or_default(),
        }
    }
}

fn report_dropped(counts: &Counts) {
    let lines = counts.unreported.swap(0, Ordering::Relaxed);
    if lines > 0 {
        tracing::warn!(
            lines,
            "log lines were dropped, because standard error is not being read"
        );
    }
}

/// Takes in one line; the formatter writes each with one call.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::{BufRead, BufReader, PipeReader, pipe};

    fn queue() -> (Queue, BufReader<PipeReader>) {
        let (reader, writer) = pipe().unwrap();
        (Queue::start(writer).unwrap(), BufReader::new(reader))
    }

    #[test]
    fn a_reader_that_stops_reading_costs_bounded_memory_and_no_time() {
        let (queue, mut reader) = queue();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        let pushed = 4 * WAITING_BYTES_MAX / line.len();
        for _ in 0..pushed {
            queue.push(&line);
        }
        assert!(queue.counts.waiting_bytes.load(Ordering::Relaxed) <= WAITING_BYTES_MAX);
        let dropped = usize::try_from(queue.counts.dropped.load(Ordering::Relaxed)).unwrap();
        assert!(dropped >= 2 * pushed / 3, "{dropped} of {pushed}");
        let mut read = Vec::new();
        for _ in dropped..pushed {
            reader.read_until(b'\n', &mut read).unwrap();
        }
        assert_eq!(
            read.len(),
            (pushed - dropped) * line.len(),
            "the lines that were kept are whole"
        );
        queue.flush();
        assert_eq!(queue.counts.waiting_bytes.load(Ordering::Relaxed), 0);
        queue.push(b"again\n");
        read.clear();
        reader.read_until(b'\n', &mut read).unwrap();
        assert_eq!(read, b"again\n");
    }

    #[test]
    fn short_lines_are_bounded_too() {
        let (queue, _reader) = queue();
        for _ in 0..WAITING_BYTES_MAX {
            queue.push(b"\n");
        }
        assert!(queue.counts.waiting_bytes.load(Ordering::Relaxed) <= WAITING_BYTES_MAX);
        assert!(queue.counts.dropped.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn a_flush_waits_for_the_pushed_lines_and_not_for_ever() {
        let (queue, mut reader) = queue();
        queue.push(b"last\n");
        queue.flush();
        let mut read = Vec::new();
        reader.read_until(b'\n', &mut read).unwrap();
        assert_eq!(read, b"last\n");
        for _ in 0..WAITING_BYTES_MAX / 1024 {
            queue.push(&[b'x'; 1024]);
        }
        let began = std::time::Instant::now();
        queue.flush();
        assert!(began.elapsed() >= FLUSH_TIME, "the pipe is full");
    }
}
