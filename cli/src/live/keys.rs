//! The keys, and the terminal's changes of size. No key changes anything on the node.

use std::io;
use std::thread;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The action of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    /// Ctrl-C, which sends no signal while keys are read one by one.
    Interrupt,
    Pause,
    /// Ctrl-Z, which sends no signal either.
    Suspend,
    Filter,
    /// The terminal has another size.
    Redraw,
}

/// Reads the keys on a thread of its own, which ends with the process: nothing can wake it.
pub(super) fn read() -> UnboundedReceiver<Key> {
    let (keys, reader) = unbounded_channel();
    thread::spawn(move || {
        while let Ok(event) = next() {
            if event.is_some_and(|key| keys.send(key).is_err()) {
                return;
            }
        }
    });
    reader
}

fn next() -> io::Result<Option<Key>> {
    Ok(match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => meaning(key),
        Event::Resize(..) => Some(Key::Redraw),
        Event::Key(_)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_)
        | Event::Paste(_) => None,
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a keyboard has more keys than are listened to"
)]
fn meaning(key: KeyEvent) -> Option<Key> {
    // Ctrl-Q continues a terminal after Ctrl-S: with Ctrl, no key means what it means alone.
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Key::Interrupt),
            KeyCode::Char('z') => Some(Key::Suspend),
            KeyCode::Char('l') => Some(Key::Redraw),
            _ => None,
        };
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('p' | ' ') => Some(Key::Pause),
        KeyCode::Char('f') => Some(Key::Filter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_keys_mean_something() {
        let plain = |code| meaning(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(plain(KeyCode::Char('q')), Some(Key::Quit));
        assert_eq!(plain(KeyCode::Char('p')), Some(Key::Pause));
        assert_eq!(plain(KeyCode::Char('f')), Some(Key::Filter));
        assert_eq!(
            meaning(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)),
            Some(Key::Interrupt)
        );
        for char in ['q', 's', 'p', 'f', ' '] {
            let key = KeyEvent::new(KeyCode::Char(char), KeyModifiers::CONTROL);
            assert_eq!(meaning(key), None, "Ctrl-{char}");
        }
        for code in [
            KeyCode::Enter,
            KeyCode::Char('c'),
            KeyCode::Char('n'),
            KeyCode::Char('b'),
            KeyCode::F(1),
        ] {
            assert_eq!(plain(code), None, "{code:?}");
        }
    }
}
