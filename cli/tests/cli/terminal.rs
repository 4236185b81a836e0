//! A real terminal, tmux's: what a person sees of the program, and what they type.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use soramode_testkit::PATIENCE;

use crate::support::PROGRAM;

/// Reads of the screen after which a key is pressed again.
const POLLS_PER_KEY: u32 = 200;

/// A terminal with a shell that runs a script in it.
pub(crate) struct Terminal {
    folder: tempfile::TempDir,
}

impl Terminal {
    /// Opens a terminal of this size. The script runs in the terminal's folder, with the program in
    /// `PATH`.
    pub(crate) fn open(script: &str, (columns, rows): (u16, u16)) -> Self {
        let terminal = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let programs = Path::new(PROGRAM).parent().unwrap().display();
        let file = terminal.folder().join("script");
        fs::write(
            &file,
            format!(
                "cd {}; PATH={programs}:$PATH\n{script}",
                terminal.folder().display()
            ),
        )
        .unwrap();
        let (columns, rows) = (columns.to_string(), rows.to_string());
        terminal.tmux(&[
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
            "sh",
            file.to_str().unwrap(),
        ]);
        terminal
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn tmux(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command
            .env("TERM", "xterm")
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .env_remove("TMUX");
        let ended = command
            .arg("-f/dev/null")
            .arg("-S")
            .arg(self.folder().join("tmux"))
            .args(words)
            .output()
            .unwrap();
        assert!(ended.status.success(), "{words:?}: {ended:?}");
        String::from_utf8(ended.stdout).unwrap()
    }

    pub(crate) fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Returns whether a line was too long and wrapped.
    pub(crate) fn has_wrapped(&self) -> bool {
        let joined = self.tmux(&["capture-pane", "-p", "-J"]);
        joined.lines().count() != self.screen().lines().count()
    }

    /// Looks until the screen is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(began.elapsed() < PATIENCE, "never {what}:\n{screen}");
        }
    }

    pub(crate) fn until_shown(&self, words: &str) -> String {
        self.until(words, |screen| screen.contains(words))
    }

    /// Presses a key until the screen shows the words: a completion that takes long gives up.
    pub(crate) fn press_until_shown(&self, key: &str, words: &str) -> String {
        let polls = Cell::new(0_u32);
        self.until(words, |screen| {
            if polls.replace(polls.get() + 1).is_multiple_of(POLLS_PER_KEY) {
                self.press(key);
            }
            screen.contains(words)
        })
    }

    pub(crate) fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}
