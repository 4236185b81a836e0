//! Says at most once a minute what could be said a thousand times a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two words about the same.
pub const SAY_PAUSE: Duration = Duration::from_mins(1);

/// When something was said last, by what it was about.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<BTreeMap<&'static str, Instant>>);

impl Seldom {
    pub(crate) fn say(&self, about: &'static str, word: impl FnOnce()) {
        let now = Instant::now();
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(about).is_none_or(|said| now.duration_since(*said) >= SAY_PAUSE) {
            said.insert(about, now);
            drop(said);
            word();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_second_word_about_the_same_waits_for_a_minute() {
        let (seldom, mut words) = (Seldom::default(), 0);
        for pause in [0, 0, 59, 1, 59] {
            tokio::time::advance(Duration::from_secs(pause)).await;
            seldom.say("this", || words += 1);
        }
        assert_eq!(words, 2);
        seldom.say("that", || words += 1);
        assert_eq!(words, 3);
    }
}
