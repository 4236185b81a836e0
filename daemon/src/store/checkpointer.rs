//! The thread that copies the write-ahead log into the database, while the writer goes on: it waits for the disk twice each time, and
//! nobody waits for it.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use rustix::process::setpriority_process;

/// How far it stands back for the threads that answer, where they share a core: at the usual priority it would keep them from it for some
/// milliseconds each time.
const NICENESS: i32 = 5;

/// Dropping it waits for its end.
#[derive(Debug)]
pub(super) struct Checkpointer {
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Copies over a connection of its own, each time that it is asked, and says what came of it.
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

    /// Asks for a copy; whether it will come.
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
    // Of this thread alone, on Linux. Where it is refused the copy only takes its turn like everything else.
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of copying the write-ahead log");
    }
    while receiver.recv().is_ok() {
        report(checkpoint(connection));
    }
}

/// Copies the write-ahead log into the database, as far as nobody reads it.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
