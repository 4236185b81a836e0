//! Colours for words, and the one rule for where they are painted.

use anstream::AutoStream;
use anstream::stream::RawStream;
use anstyle::{AnsiColor, Effects, Style};
use soramode_protocol::mode::Mode;

use super::flags::Color;

/// What a word is to be taken as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emphasis {
    /// As it should be.
    Good,
    /// Worth knowing.
    Careful,
    /// Not as it should be.
    Bad,
    /// What the rest is about.
    Heading,
    /// What can be left unread.
    Aside,
}

impl Emphasis {
    /// The colour of a mode.
    pub(crate) const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Normal => Self::Good,
            Mode::BlockNewSession | Mode::BlockNewConnection => Self::Careful,
            Mode::Initial => Self::Bad,
        }
    }

    /// The text in this colour.
    pub(super) fn on(self, text: &str) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }

    const fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Careful => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default().effects(Effects::BOLD),
            Self::Heading => Style::new().effects(Effects::BOLD),
            Self::Aside => Style::new().effects(Effects::DIMMED),
        }
    }
}

/// Whether what goes to this stream is painted: as `--color` says, else on a terminal unless `NO_COLOR` or a `TERM` says no.
pub(crate) fn is_used(color: Color, stream: &impl RawStream) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => AutoStream::choice(stream) != anstream::ColorChoice::Never,
    }
}
