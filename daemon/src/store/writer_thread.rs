//! The thread that writes: a slow disk holds up answers, and nothing else.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use os_display::Quotable;
use rusqlite::Connection;
use soramode_core::effect::Record;
use tokio::sync::oneshot;

use super::archive::Archive;
use super::checkpointer::Checkpointer;
use super::connections::{Connections, reopen};
use super::durability::Durability;
use super::files::{Files, Presence};
use super::write::Writer;
use super::write_error::WriteError;

/// Pages (of 4 KiB) in the write-ahead log at which a checkpoint starts.
const CHECKPOINT_AFTER_PAGES: i32 = 8_192;

/// Hard limit of these pages: the writer waits for the checkpoint. A start after a crash reads them
/// all.
pub(super) const PAGES_MAX: i32 = 2 * CHECKPOINT_AFTER_PAGES;

/// Pages (256 MiB) at which operators are warned: another process reads the database without end,
/// so that the log cannot restart.
const WARNING_PAGES: i32 = 65_536;

/// Bytes in a page.
const PAGE_BYTES: i32 = 4_096;

const BYTES_IN_A_MIB: i32 = 1_048_576;

/// Pages that the writer copies itself: the disk has them in no time.
const FEW_PAGES: i32 = 256;

/// Time after which written pages are checkpointed.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(30);

/// Records, and the result of writing them.
type Written = (Vec<Record>, Result<(), WriteError>);

enum WriterCommand {
    Commit(Vec<Record>, oneshot::Sender<Written>),
    /// The write-ahead log was copied into the database, up to where it was then.
    Checkpointed(rusqlite::Result<()>),
    Close,
}

/// The writing thread, as the committer sees it.
#[derive(Debug)]
pub struct Disk {
    commands: Sender<WriterCommand>,
    thread: Option<JoinHandle<()>>,
    wal_size: WalSize,
}

/// Size of the write-ahead log, as the writing thread last saw it.
#[derive(Clone, Debug)]
pub struct WalSize {
    pages: Arc<AtomicI32>,
    database: PathBuf,
}

impl WalSize {
    /// Returns a warning for the operator, if it is too long.
    pub fn warning(&self) -> Option<String> {
        let pages = self.pages.load(Ordering::Relaxed);
        (pages >= WARNING_PAGES).then(|| long_log(pages, &self.database))
    }
}

/// Context of the writing thread.
#[derive(Debug)]
pub(super) struct WriterDeps {
    pub(super) writer: Writer,
    /// Connection of the checkpointer.
    pub(super) checkpoints: Connection,
    /// Reader of the events, outside the thread.
    pub(super) archive: Archive,
    pub(super) files: Files,
}

impl Disk {
    /// Writes until it is dropped, and holds the lock as long.
    pub(super) fn start(deps: WriterDeps) -> io::Result<Self> {
        let (commands, receiver) = channel();
        let WriterDeps {
            writer,
            checkpoints,
            archive,
            files,
        } = deps;
        let (pages, database) = (Arc::default(), files.database().to_owned());
        let writer_thread = WriterThread {
            writer,
            checkpointer: Checkpointer::start(checkpoints, report_checkpoint(commands.clone()))?,
            commands: commands.clone(),
            archive,
            files,
            pages: Arc::clone(&pages),
            checkpoint_from: None,
            checkpointed_pages: 0,
            checkpoint_at: None,
            held: VecDeque::new(),
        };
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer_thread.run(&receiver))?;
        Ok(Self {
            commands,
            thread: Some(thread),
            wal_size: WalSize { pages, database },
        })
    }

    pub(super) fn wal_size(&self) -> WalSize {
        self.wal_size.clone()
    }

    pub(super) fn database(&self) -> &Path {
        &self.wal_size.database
    }

    /// Commits records, all or none, and returns them. Without any, checks whether the database is still there.
    ///
    /// Panics if the writing thread has panicked: nothing can be promised any more, and the daemon ends.
    pub(super) async fn commit(&self, records: Vec<Record>) -> Written {
        let (done, outcome) = oneshot::channel();
        // If sending fails, waiting fails too.
        let _ = self.commands.send(WriterCommand::Commit(records, done));
        let Ok(written) = outcome.await else {
            unreachable!("the thread that writes the state has ended");
        };
        written
    }
}

impl Drop for Disk {
    /// Waits until everything is on the disk.
    fn drop(&mut self) {
        let is_sent = self.commands.send(WriterCommand::Close).is_ok();
        if let Some(thread) = self.thread.take()
            && (thread.join().is_err() || !is_sent)
        {
            tracing::error!(
                "the thread that writes the state ended early: the last changes may be lost"
            );
        }
    }
}

fn long_log(pages: i32, database: &Path) -> String {
    format!(
        "the state's write-ahead log has grown to {} MiB, because another process keeps reading the database. Find it with: fuser -v {}; \
         and end it before the disk is full",
        pages / (BYTES_IN_A_MIB / PAGE_BYTES),
        database.maybe_quote()
    )
}

fn report_checkpoint(commands: Sender<WriterCommand>) -> impl Fn(rusqlite::Result<()>) + Send {
    // The writer may have ended.
    move |outcome| {
        commands
            .send(WriterCommand::Checkpointed(outcome))
            .unwrap_or_default();
    }
}

/// State of the writer thread.
struct WriterThread {
    writer: Writer,
    checkpointer: Checkpointer,
    /// Sender for the checkpointer.
    commands: Sender<WriterCommand>,
    archive: Archive,
    files: Files,
    /// Pages in the write-ahead log, for the others.
    pages: Arc<AtomicI32>,
    /// Pages in the write-ahead log when the copy began that is under way.
    checkpoint_from: Option<i32>,
    /// Pages in the write-ahead log at the last checkpoint; a reader may have kept it from
    /// restarting since.
    checkpointed_pages: i32,
    /// Time of the next checkpoint.
    checkpoint_at: Option<Instant>,
    /// Commands that arrived while it waited for a checkpoint.
    held: VecDeque<WriterCommand>,
}

impl WriterThread {
    fn run(mut self, commands: &Receiver<WriterCommand>) {
        loop {
            match self.next(commands) {
                Ok(WriterCommand::Commit(records, done)) => {
                    let outcome = self.commit(&records);
                    self.files.note_commit(outcome.is_ok());
                    // The caller may be gone; its records are written nevertheless.
                    let _ = done.send((records, outcome));
                    self.check_pages(commands);
                }
                Ok(WriterCommand::Checkpointed(outcome)) => self.checkpointed(outcome),
                Err(RecvTimeoutError::Timeout) => self.start_checkpoint(),
                Ok(WriterCommand::Close) | Err(RecvTimeoutError::Disconnected) => {
                    return self.close();
                }
            }
        }
    }

    /// Commits records. A durable commit checks first that the files were not deleted.
    fn commit(&mut self, records: &[Record]) -> Result<(), WriteError> {
        let durability = self.writer.durability_of(records);
        if durability == Durability::PowerLoss || records.is_empty() {
            self.check_files()?;
        }
        if !records.is_empty() {
            self.writer.commit(records, durability)?;
        }
        Ok(())
    }

    /// Checks that the database is where it was opened; a deleted one is written again from the
    /// open file.
    fn check_files(&mut self) -> Result<(), WriteError> {
        let path = self.files.database().to_owned();
        match self.files.presence() {
            Ok(Presence::Same) => return Ok(()),
            Ok(Presence::Lost) => {}
            Ok(Presence::Replaced) => return Err(WriteError::Replaced(path)),
            Err(error) => return Err(WriteError::Unseen { path, error }),
        }
        self.files.rewrite(self.writer.connection())?;
        let Connections {
            writer,
            checkpoints,
            reader,
        } = reopen(&path)?;
        let lost = |error: io::Error| WriteError::Lost {
            path: path.clone(),
            problem: error.to_string(),
        };
        self.checkpointer =
            Checkpointer::start(checkpoints, report_checkpoint(self.commands.clone()))
                .map_err(lost)?;
        self.writer.switch_to(writer)?;
        self.archive.switch_to(reader);
        (
            self.checkpoint_from,
            self.checkpointed_pages,
            self.checkpoint_at,
        ) = (None, 0, None);
        self.files.reopened().map_err(lost)?;
        tracing::error!(path = %path.display(), "the state was deleted or moved while soramoded was running; it was written again");
        Ok(())
    }

    fn next(
        &mut self,
        commands: &Receiver<WriterCommand>,
    ) -> Result<WriterCommand, RecvTimeoutError> {
        if let Some(command) = self.held.pop_front() {
            return Ok(command);
        }
        match self.checkpoint_at {
            Some(at) => commands.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => commands.recv().map_err(RecvTimeoutError::from),
        }
    }

    fn check_pages(&mut self, commands: &Receiver<WriterCommand>) {
        let pages = Writer::log_pages();
        if pages >= WARNING_PAGES && self.pages.load(Ordering::Relaxed) < WARNING_PAGES {
            tracing::warn!("{}", long_log(pages, self.files.database()));
        }
        self.pages.store(pages, Ordering::Relaxed);
        if pages < self.checkpointed_pages {
            self.checkpointed_pages = 0;
        }
        if self.checkpoint_from.is_some() {
            if pages - self.checkpointed_pages >= PAGES_MAX {
                self.wait_for_checkpoint(commands);
            }
            return;
        }
        self.checkpoint_at = self
            .checkpoint_at
            .or_else(|| Some(Instant::now() + CHECKPOINT_AFTER));
        if pages - self.checkpointed_pages >= CHECKPOINT_AFTER_PAGES {
            self.start_checkpoint();
        }
    }

    fn wait_for_checkpoint(&mut self, commands: &Receiver<WriterCommand>) {
        while self.checkpoint_from.is_some() {
            match commands.recv() {
                Ok(WriterCommand::Checkpointed(outcome)) => self.checkpointed(outcome),
                Ok(command) => self.held.push_back(command),
                Err(_) => return,
            }
        }
    }

    fn start_checkpoint(&mut self) {
        self.checkpoint_at = None;
        self.checkpoint_from = self.checkpointer.start_checkpoint().then(Writer::log_pages);
    }

    /// Handles a finished checkpoint. Pages written since are checkpointed too, in the same way
    /// while there are many. The last few are copied here, so that the next commit finds the log
    /// copied whole and restarts it: a durable commit takes a quarter less then.
    fn checkpointed(&mut self, outcome: rusqlite::Result<()>) {
        let pages = Writer::log_pages();
        let from = self.checkpoint_from.take().unwrap_or(pages);
        if outcome.is_ok() && pages - from > FEW_PAGES {
            return self.start_checkpoint();
        }
        if let Err(error) = outcome.and_then(|()| self.writer.checkpoint()) {
            // No data is lost: the write-ahead log only grows.
            tracing::warn!(%error, "cannot copy the state's write-ahead log into the database; trying again in 30 s");
            self.checkpoint_at = Some(Instant::now() + CHECKPOINT_AFTER);
        }
        self.checkpointed_pages = pages;
    }

    fn close(self) {
        drop(self.checkpointer);
        if let Err(error) = self.writer.close() {
            tracing::error!(%error, "cannot close the state cleanly; the next start reads it from its write-ahead log");
        }
    }
}
