//! Thread that checkpoints the write-ahead log while the writer continues: each checkpoint waits
//! for the disk twice, and delays no commit.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use rustix::process::setpriority_process;

/// Priority below the threads that answer, where they share a core: at the usual priority each of
/// its turns delays them by 3 ms. Too low a priority (niceness 10) lets the log grow faster than it
/// is copied.
const NICENESS: i32 = 5;

/// Dropping it waits for its end.
#[derive(Debug)]
pub(super) struct Checkpointer {
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Starts the thread, which checkpoints over a connection of its own on each request, and
    /// reports the result.
    pub(super) fn start(
        connection: Connection,
        report: impl Fn(rusqlite::Result<()>) + Send + 'static,
    ) -> io::Result<Self> {
        let (requests, receiver) = channel();
        let thread = thread::Builder::new()
            .name("copier".to_owned())
            .spawn(move || run(&connection, &receiver, report))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Requests a checkpoint; returns true if one will come.
    pub(super) fn start_checkpoint(&self) -> bool {
        self.requests
            .as_ref()
            .is_some_and(|requests| requests.send(()).is_ok())
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.requests = None;
        if self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err())
        {
            tracing::error!(
                "the thread that copies the write-ahead log ended early; restart soramoded"
            );
        }
    }
}

fn run(connection: &Connection, receiver: &Receiver<()>, report: impl Fn(rusqlite::Result<()>)) {
    // Affects this thread alone, on Linux. If it fails, the checkpoint has the usual priority.
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of copying the write-ahead log");
    }
    while receiver.recv().is_ok() {
        report(checkpoint(connection));
    }
}

/// Copies the write-ahead log into the database, as far as no reader uses it.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
