//! Lines that are redrawn below those that stay: the bar of a wait, the rows of a roll.
//!
//! A thread of its own writes. A terminal that is stopped (Ctrl-S) stops neither the command nor what it renews on the nodes.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::Semaphore;

use super::{cells, escape, terminal};

/// Limit of the bytes of other programs that wait to be written. A program with more of them waits.
const BYTES_MAX: u32 = 1024 * 1024;

/// Lines that stay, and rows below them.
pub(crate) struct LiveLines {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// A permit for each byte of other programs.
    permits: Semaphore,
}

#[derive(Default)]
struct State {
    /// Lines to be written, and the permits that each holds.
    lines: VecDeque<(String, u32)>,
    /// Rows that were set since they were drawn last.
    rows: Option<Vec<String>>,
    is_over: bool,
}

impl LiveLines {
    /// Starts the thread that writes to stderr.
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::new());
        let of_thread = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("live-lines".to_owned())
            .spawn(move || {
                let _end = EndOfWriter(&of_thread);
                of_thread.write_to(&mut io::stderr(), width_of_stderr);
            })?;
        Ok(Self {
            shared,
            writer: Some(writer),
        })
    }

    /// Adds a line of soramode's own.
    pub(crate) fn add(&self, line: &str) {
        self.shared.add(line, 0);
    }

    /// Returns a handle that adds lines of another program.
    pub(crate) fn adder(&self) -> OutputLines {
        OutputLines(Arc::clone(&self.shared))
    }

    /// Redraws the rows, none of which is wider than the terminal.
    pub(crate) fn draw(&self, rows: Vec<String>) {
        self.shared.lock().rows = Some(rows);
        self.shared.changed.notify_one();
    }

    /// Writes what is left, and ends. The rows stay.
    pub(crate) fn finish(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that has panicked has left the lines.
            let _ = writer.join();
        }
    }
}

/// Frees the programs that wait, also where the writer panics.
struct EndOfWriter<'a>(&'a Shared);

impl Drop for EndOfWriter<'_> {
    fn drop(&mut self) {
        self.0.permits.close();
    }
}

/// Lines of another program.
pub(crate) struct OutputLines(Arc<Shared>);

impl OutputLines {
    /// Adds a line. Waits while too many lines are not written yet.
    pub(crate) async fn add_output(&self, line: &str) {
        let bytes = u32::try_from(line.len())
            .unwrap_or(BYTES_MAX)
            .min(BYTES_MAX);
        // Without the writer no line is kept.
        if let Ok(permit) = self.0.permits.acquire_many(bytes).await {
            permit.forget();
            self.0.add(line, bytes);
        }
    }
}

impl Drop for LiveLines {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Returns the width of the terminal at stderr; `None` if it is none.
fn width_of_stderr() -> Option<usize> {
    let stderr = io::stderr();
    stderr.is_terminal().then(|| terminal::columns(stderr))
}

impl Shared {
    fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            permits: Semaphore::new(BYTES_MAX as usize),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &str, permits: u32) {
        self.lock().lines.push_back((line.to_owned(), permits));
        self.changed.notify_one();
    }

    /// Writes until all is over. Writes that fail are ignored: the terminal is gone.
    fn write_to(&self, stream: &mut impl io::Write, width: impl Fn() -> Option<usize>) {
        let mut drawn: Vec<String> = Vec::new();
        loop {
            let is_idle = |state: &mut State| {
                state.lines.is_empty() && state.rows.is_none() && !state.is_over
            };
            let waited = self.changed.wait_while(self.lock(), is_idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let lines = std::mem::take(&mut state.lines);
            let rows = state.rows.take();
            let is_over = state.is_over;
            drop(state);
            let freed: usize = lines.iter().map(|(_, permits)| *permits as usize).sum();
            let rows = rows.unwrap_or_else(|| drawn.clone());
            if !lines.is_empty() || rows != drawn {
                let lines = lines.iter().map(|(line, _)| line);
                let text = redrawn(&drawn, lines, &rows, width());
                let _ = stream.write_all(text.as_bytes());
                let _ = stream.flush();
                drawn = rows;
            }
            self.permits.add_permits(freed);
            if is_over && self.lock().lines.is_empty() {
                return;
            }
        }
    }
}

/// Returns the text that puts lines in the place of the drawn rows, and the rows below them. The cursor is on the line after the last row, where
/// the terminal shows a Ctrl-C.
fn redrawn(
    drawn: &[String],
    lines: impl Iterator<Item = impl AsRef<str>>,
    rows: &[String],
    width: Option<usize>,
) -> String {
    let mut text = String::new();
    if !drawn.is_empty() {
        // A terminal that has become narrower has wrapped them.
        let height = |row: &String| match width {
            Some(width) => cells::width(row).div_ceil(width).max(1),
            None => 1,
        };
        let up: usize = drawn.iter().map(height).sum();
        let _ = write!(text, "\r\x1b[{up}A\x1b[J");
    }
    for line in lines {
        let line = escape::neutralised(line.as_ref());
        let parts = cells::fit(&line, width.unwrap_or(usize::MAX));
        for part in parts {
            text.push_str(&part);
            text.push('\n');
        }
    }
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal of this many lines, as it shows what was written.
    fn shown(text: &str) -> Vec<String> {
        let mut lines = vec![String::new()];
        let mut at = 0;
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix("\x1b[J") {
                lines.truncate(at + 1);
                lines[at].clear();
                rest = after;
            } else if let Some(after) = rest.strip_prefix("\x1b[") {
                let (up, after) = after.split_once('A').unwrap();
                at -= up.parse::<usize>().unwrap();
                rest = after;
            } else {
                let mut letters = rest.chars();
                let letter = letters.next().unwrap();
                rest = letters.as_str();
                match letter {
                    '\r' => {}
                    '\n' => {
                        at += 1;
                        lines.truncate(at);
                        lines.push(String::new());
                    }
                    letter => lines[at].push(letter),
                }
            }
        }
        lines
    }

    fn rows(rows: &[&str]) -> Vec<String> {
        rows.iter().map(|row| (*row).to_owned()).collect()
    }

    #[test]
    fn lines_come_above_the_rows_and_the_rows_stay_at_the_end() {
        let mut text = redrawn(
            &[],
            std::iter::empty::<&str>(),
            &rows(&["a (0 s)", "b"]),
            Some(80),
        );
        // The terminal shows it where Ctrl-C is pressed.
        text.push_str("^C");
        let next = rows(&["a (1 s)", "b (0 s)"]);
        text.push_str(&redrawn(
            &rows(&["a (0 s)", "b"]),
            ["interrupted", "東京: x\ty"].into_iter(),
            &next,
            Some(80),
        ));
        let expected = ["interrupted", "東京: x\\ty", "a (1 s)", "b (0 s)", ""];
        assert_eq!(shown(&text), expected);
        text.push_str(&redrawn(&next, std::iter::empty::<&str>(), &[], Some(80)));
        assert_eq!(shown(&text), ["interrupted", "東京: x\\ty", ""]);
    }

    #[test]
    fn rows_that_a_narrower_terminal_has_wrapped_are_all_replaced() {
        let drawn = rows(&["sfu-01  running the command (3 s)", "sfu-02"]);
        let text = redrawn(&drawn, std::iter::empty::<&str>(), &rows(&["x"]), Some(20));
        assert_eq!(text, "\r\x1b[3A\x1b[Jx\n");
    }

    #[test]
    fn a_program_with_more_than_the_limit_waits_and_nothing_is_lost() {
        let runtime = crate::runtime::runtime().unwrap();
        let mut lines = LiveLines {
            shared: Arc::new(Shared::new()),
            writer: None,
        };
        runtime.block_on(async {
            let adder = lines.adder();
            let long = "x".repeat(BYTES_MAX as usize / 16);
            for _ in 0..16 {
                adder.add_output(&long).await;
            }
            assert_eq!(lines.shared.permits.available_permits(), 0);
            // No thread writes: the next line waits, and soramode's own does not.
            let next = adder.add_output("next");
            let mut next = std::pin::pin!(next);
            let is_pending = std::future::poll_fn(|context| {
                std::task::Poll::Ready(next.as_mut().poll(context).is_pending())
            });
            assert!(is_pending.await);
            lines.add("interrupted");
            let shared = Arc::clone(&lines.shared);
            let writer = thread::spawn(move || {
                let mut written = Vec::new();
                shared.write_to(&mut written, || None);
                written
            });
            next.await;
            lines.finish();
            let written = String::from_utf8(writer.join().unwrap()).unwrap();
            assert_eq!(written.lines().count(), 16 + 2);
            assert!(written.ends_with("interrupted\nnext\n"));
        });
    }
}
