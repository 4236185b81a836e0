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
pub(super) struct Copier {
    wishes: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    /// Copies over a connection of its own, each time that it is asked, and says what came of it.
    pub(super) fn start(
        connection: Connection,
        tell: impl Fn(rusqlite::Result<()>) + Send + 'static,
    ) -> io::Result<Self> {
        let (wishes, orders) = channel();
        let thread = thread::Builder::new()
            .name("copier".to_owned())
            .spawn(move || run(&connection, &orders, tell))?;
        Ok(Self {
            wishes: Some(wishes),
            thread: Some(thread),
        })
    }

    /// Asks for a copy; whether it will come.
    pub(super) fn copy(&self) -> bool {
        self.wishes
            .as_ref()
            .is_some_and(|wishes| wishes.send(()).is_ok())
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.wishes = None;
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

fn run(connection: &Connection, orders: &Receiver<()>, tell: impl Fn(rusqlite::Result<()>)) {
    // Of this thread alone, on Linux. Where it is refused the copy only takes its turn like everything else.
    if let Err(error) = setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "cannot lower the priority of copying the write-ahead log");
    }
    while orders.recv().is_ok() {
        tell(copy_back(connection));
    }
}

/// Copies the write-ahead log into the database, as far as nobody reads it.
pub(super) fn copy_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
