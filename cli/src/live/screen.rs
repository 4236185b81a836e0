//! The terminal of the view: taking it and restoring it.

use std::io::{self, Stdout};

use nix::sys::signal::{Signal, raise};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::model::Model;
use super::view::{Theme, draw};
use crate::output::Output;

/// The screen of the view. Dropping it restores the terminal's content.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    theme: Theme,
}

impl Screen {
    pub(super) fn open(output: &Output) -> io::Result<Self> {
        let opened = take().and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        let terminal = opened.inspect_err(|_| give_back())?;
        Ok(Self {
            terminal,
            theme: Theme {
                paints: output.uses_color(),
                speaks_utf8: speaks_utf8(|name| std::env::var(name).ok()),
            },
        })
    }

    /// Suspends the process and returns the terminal to the shell meanwhile.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        give_back();
        raise(Signal::SIGTSTP)?;
        take()?;
        // A new screen draws everything. Clearing this one would query the cursor, and the answer
        // would be read as keys.
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }

    pub(super) fn width(&self) -> usize {
        self.terminal
            .size()
            .map_or(80, |size| usize::from(size.width))
    }

    /// Draws lines of text; those below the screen are left out.
    pub(super) fn draw_lines(&mut self, lines: &[String]) -> io::Result<()> {
        let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::raw(line.as_str())).collect();
        self.terminal
            .draw(|frame| frame.render_widget(Paragraph::new(lines), frame.area()))
            .map(drop)
    }

    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        let theme = self.theme;
        self.terminal
            .draw(|frame| draw(frame, model, theme))
            .map(drop)
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Restores the terminal. If it is gone there is nothing to restore.
fn give_back() {
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Returns whether the locale is UTF-8: the first variable that is set decides.
fn speaks_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let said = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty());
    said.is_some_and(|locale| {
        locale
            .to_ascii_lowercase()
            .replace('-', "")
            .contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_what_can_be_drawn() {
        let says = |said: &[(&str, &str)]| {
            let said: Vec<(String, String)> = said
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            speaks_utf8(|name| {
                said.iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, value)| value.clone())
            })
        };
        assert!(says(&[("LANG", "ja_JP.UTF-8")]) && says(&[("LC_CTYPE", "C.utf8"), ("LANG", "C")]));
        assert!(
            !says(&[])
                && !says(&[("LANG", "C")])
                && !says(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")])
        );
    }
}
