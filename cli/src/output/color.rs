//! Colours, and the one rule for using them.

use anstream::AutoStream;
use anstream::stream::RawStream;
use anstyle::{AnsiColor, Effects, Style};
use soramode_protocol::mode::Mode;

use super::flags::Color;

/// The meaning of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emphasis {
    /// A good state.
    Good,
    /// A state that needs attention.
    Careful,
    /// A fault.
    Bad,
    /// A heading.
    Heading,
    /// An explanation.
    Aside,
}

impl Emphasis {
    /// Returns the emphasis of a mode.
    pub(crate) const fn of(mode: Mode) -> Self {
        match mode {
            Mode::Normal => Self::Good,
            Mode::BlockNewSession | Mode::BlockNewConnection => Self::Careful,
            Mode::Initial => Self::Bad,
        }
    }

    /// Colours the text.
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

/// Returns whether output to the stream is coloured: by `--color`, else on a terminal unless
/// `NO_COLOR` or `TERM` forbids it.
pub(crate) fn is_used(color: Color, stream: &impl RawStream) -> bool {
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => AutoStream::choice(stream) != anstream::ColorChoice::Never,
    }
}
