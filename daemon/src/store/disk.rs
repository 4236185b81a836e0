//! The thread that writes: a slow disk holds up answers, and nothing else.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use soramode_core::effect::Record;
use tokio::sync::oneshot;

use super::copier::Copier;
use super::write::Writer;

/// So many pages (of 4 KiB) may wait to be copied from the write-ahead log into the database.
const PAGES_WAITING_MAX: i32 = 8_192;

/// And so many before the writer waits until they are: a start after a kill reads them all.
pub(super) const PAGES_MAX: i32 = 2 * PAGES_WAITING_MAX;

/// So many the writer copies itself: the disk has them in no time.
const FEW_PAGES: i32 = 256;

/// What was written waits no longer than this to be copied.
const COPIED_AFTER: Duration = Duration::from_secs(30);

/// Why records were not committed: none of them was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The database refused.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// The thread that writes has ended: a bug.
    #[error("nobody writes any more")]
    NobodyWrites,
}

/// Records, and what became of them.
type Written = (Vec<Record>, Result<(), WriteError>);

enum Order {
    Commit(Vec<Record>, oneshot::Sender<Written>),
    /// The write-ahead log was copied into the database, up to where it was then.
    Copied(rusqlite::Result<()>),
    Close,
}

/// The writing thread, as the driver sees it.
#[derive(Debug)]
pub struct Disk {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Writes until it is dropped, and holds the lock as long. The second connection is for copying.
    pub(super) fn start(writer: Writer, copies: Connection, lock: File) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let desk = Desk {
            writer,
            copier: Copier::start(copies, tell_copied(orders.clone()))?,
            copied_from: None,
            copied_pages: 0,
            copy_at: None,
            held: VecDeque::new(),
        };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
            desk.run(&inbox);
            drop(lock);
        })?;
        Ok(Self { orders, thread: Some(thread) })
    }

    /// Commits records, all or none, and gives them back.
    pub(super) async fn commit(&self, records: Vec<Record>) -> Written {
        let (done, outcome) = oneshot::channel();
        if let Err(refused) = self.orders.send(Order::Commit(records, done)) {
            let records = if let Order::Commit(records, _) = refused.0 { records } else { Vec::new() };
            return (records, Err(WriteError::NobodyWrites));
        }
        outcome.await.unwrap_or((Vec::new(), Err(WriteError::NobodyWrites)))
    }
}

impl Drop for Disk {
    /// Waits until everything is on the disk.
    fn drop(&mut self) {
        let is_asked = self.orders.send(Order::Close).is_ok();
        if let Some(thread) = self.thread.take()
            && (thread.join().is_err() || !is_asked)
        {
            tracing::error!("the thread that writes the state ended before its time");
        }
    }
}

fn tell_copied(orders: Sender<Order>) -> impl Fn(rusqlite::Result<()>) + Send {
    // Once nobody writes any more, nobody needs to know.
    move |outcome| orders.send(Order::Copied(outcome)).unwrap_or_default()
}

/// Where the thread that writes is.
struct Desk {
    writer: Writer,
    copier: Copier,
    /// Pages in the write-ahead log when the copy began that is under way.
    copied_from: Option<i32>,
    /// Pages in the write-ahead log when it was copied last; a reader may have kept it from beginning anew since.
    copied_pages: i32,
    /// When what was written has waited long enough to be copied.
    copy_at: Option<Instant>,
    /// Orders that came while it waited for a copy.
    held: VecDeque<Order>,
}

impl Desk {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match self.next(orders) {
                Ok(Order::Commit(records, done)) => {
                    let outcome = self.writer.commit(&records).map_err(WriteError::from);
                    // Whoever asked may be gone: what is written is written.
                    done.send((records, outcome)).unwrap_or_default();
                    self.look_at_pages(orders);
                }
                Ok(Order::Copied(outcome)) => self.copied(outcome),
                Err(RecvTimeoutError::Timeout) => self.copy(),
                Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
        }
    }

    fn next(&mut self, orders: &Receiver<Order>) -> Result<Order, RecvTimeoutError> {
        if let Some(order) = self.held.pop_front() {
            return Ok(order);
        }
        match self.copy_at {
            Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => orders.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn look_at_pages(&mut self, orders: &Receiver<Order>) {
        let pages = Writer::pages_waiting();
        if pages < self.copied_pages {
            self.copied_pages = 0;
        }
        if self.copied_from.is_some() {
            if pages - self.copied_pages >= PAGES_MAX {
                self.wait_for_copy(orders);
            }
            return;
        }
        self.copy_at = self.copy_at.or_else(|| Some(Instant::now() + COPIED_AFTER));
        if pages - self.copied_pages >= PAGES_WAITING_MAX {
            self.copy();
        }
    }

    fn wait_for_copy(&mut self, orders: &Receiver<Order>) {
        while self.copied_from.is_some() {
            match orders.recv() {
                Ok(Order::Copied(outcome)) => self.copied(outcome),
                Ok(order) => self.held.push_back(order),
                Err(_) => return,
            }
        }
    }

    fn copy(&mut self) {
        self.copy_at = None;
        self.copied_from = self.copier.copy().then(Writer::pages_waiting);
    }

    /// What was written meanwhile is copied too, in the same way while it is much. The little that is left is copied here: so the next
    /// commit finds the log copied whole, and begins it anew.
    fn copied(&mut self, outcome: rusqlite::Result<()>) {
        let pages = Writer::pages_waiting();
        let from = self.copied_from.take().unwrap_or(pages);
        if outcome.is_ok() && pages - from > FEW_PAGES {
            return self.copy();
        }
        if let Err(error) = outcome.and_then(|()| self.writer.copy_back()) {
            // Nothing is lost by it: the write-ahead log only grows.
            tracing::warn!(%error, "the state's write-ahead log cannot be copied back");
            self.copy_at = Some(Instant::now() + COPIED_AFTER);
        }
        self.copied_pages = pages;
    }

    fn close(self) {
        drop(self.copier);
        if let Err(error) = self.writer.close() {
            tracing::error!(%error, "the state was not closed in order");
        }
    }
}
