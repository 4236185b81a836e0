//! ssh's stderr: its words go to ours until the host has answered, and the last ones explain a failure.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::output::relay;

/// Limit of a line, in bytes. A longer one is cut.
const LINE_BYTES_MAX: u64 = 4 * 1024;

/// Number of the last lines to keep.
const LINES_KEPT: usize = 3;

/// Limit of the time for the rest of the words of an ssh that has ended: a process that it left behind may hold the pipe open.
const REST_MAX: Duration = Duration::from_secs(1);

/// The reader of an ssh's stderr.
pub(super) struct Stderr {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    /// The lines are printed, and not only kept.
    is_shown: AtomicBool,
    last: Mutex<VecDeque<String>>,
}

impl Stderr {
    /// Reads from now on. `prefix` stands before each line that is printed; `None` prints nothing.
    #[expect(
        clippy::disallowed_methods,
        reason = "the command has no TaskTracker: this task ends with its ssh"
    )]
    pub(super) fn read(stderr: ChildStderr, prefix: Option<String>) -> Self {
        let shared = Arc::new(Shared {
            is_shown: AtomicBool::new(prefix.is_some()),
            last: Mutex::default(),
        });
        let task = tokio::spawn(follow(
            stderr,
            Arc::clone(&shared),
            prefix.unwrap_or_default(),
        ));
        Self { shared, task }
    }

    /// Prints no further line: the host has answered, and the command draws on the terminal.
    pub(super) fn hide(&self) {
        self.shared.is_shown.store(false, Ordering::Relaxed);
    }

    /// Waits for the rest of the words; returns the last lines, unless they were printed.
    pub(super) async fn unprinted(self) -> Vec<String> {
        // Without the rest, the lines up to now are used.
        let _ = timeout(REST_MAX, self.task).await;
        if self.shared.is_shown.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut last = self
            .shared
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.drain(..).collect()
    }
}

async fn follow(stderr: ChildStderr, shared: Arc<Shared>, prefix: String) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() || is_about_sharing(text) {
            continue;
        }
        if shared.is_shown.load(Ordering::Relaxed) {
            relay(&format!("{prefix}{text}"));
        }
        let mut last = shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LINES_KEPT {
            last.pop_front();
        }
        last.push_back(text.to_owned());
    }
}

/// Returns whether a line says that another ssh became the master at the same moment, which changes nothing.
fn is_about_sharing(line: &str) -> bool {
    line.starts_with("ControlSocket ") && line.contains("disabling multiplexing")
}
