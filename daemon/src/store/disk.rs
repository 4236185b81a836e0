//! The thread that writes: a slow disk holds up answers, and nothing else.

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use soramode_core::effect::Record;
use tokio::sync::oneshot;

use super::write::Writer;

/// So many pages (of 4 KiB) may wait to be copied from the write-ahead log into the database.
const PAGES_WAITING_MAX: i32 = 4_096;

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
    Close,
}

/// The writing thread, as the driver sees it.
#[derive(Debug)]
pub struct Disk {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Writes until it is dropped, and holds the lock as long.
    pub(super) fn start(writer: Writer, lock: File) -> io::Result<Self> {
        let (orders, inbox) = channel();
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
            run(writer, &inbox);
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

fn run(mut writer: Writer, orders: &Receiver<Order>) {
    let mut copy_at: Option<Instant> = None;
    loop {
        let order = match copy_at {
            Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => orders.recv().map_err(RecvTimeoutError::from),
        };
        match order {
            Ok(Order::Commit(records, done)) => {
                let outcome = writer.commit(&records).map_err(WriteError::from);
                // Whoever asked may be gone: what is written is written.
                done.send((records, outcome)).unwrap_or_default();
                copy_at = copy_at.or_else(|| Some(Instant::now() + COPIED_AFTER));
                if Writer::pages_waiting() >= PAGES_WAITING_MAX {
                    copy_at = copy_back(&mut writer);
                }
            }
            Err(RecvTimeoutError::Timeout) => copy_at = copy_back(&mut writer),
            Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return close(writer),
        }
    }
}

/// Copies the write-ahead log into the database, as far as nobody reads it; gives when to try again.
fn copy_back(writer: &mut Writer) -> Option<Instant> {
    match writer.copy_back() {
        Ok(()) => None,
        Err(error) => {
            // Nothing is lost by it: the write-ahead log only grows.
            tracing::warn!(%error, "the state's write-ahead log cannot be copied back");
            Some(Instant::now() + COPIED_AFTER)
        }
    }
}

fn close(writer: Writer) {
    if let Err(error) = writer.close() {
        tracing::error!(%error, "the state was not closed in order");
    }
}
