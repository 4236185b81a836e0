//! How a wait is going: a bar on a terminal, a line now and then elsewhere.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use soramode_protocol::session::Session;
use soramode_protocol::time::Time;
use soramode_protocol::wait::WaitFor;

use super::pace::Pace;
use super::{Output, escape, times};
use crate::args::Format;
use crate::error::Failure;

/// How often the daemon tells, where a bar is drawn.
const DRAWN_EVERY: Duration = Duration::from_secs(1);

/// How often a line is printed elsewhere.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The progress of one wait, over all the connections to the daemon that it takes.
pub(crate) struct Meter {
    goal: WaitFor,
    allowed: u64,
    bar: Option<ProgressBar>,
    began: Instant,
    /// The most sessions that were there, counting those that ended.
    total: u64,
    pace: Pace,
}

/// A session, whoever tells of it.
pub(crate) trait Lasting {
    /// Its channel.
    fn channel(&self) -> &str;
    /// Connections in it.
    fn connections(&self) -> u64;
    /// Since when, where that is known.
    fn since(&self) -> Option<Time>;
}

impl Lasting for Session {
    fn channel(&self) -> &str {
        self.channel_id.as_str()
    }

    fn connections(&self) -> u64 {
        self.connections
    }

    fn since(&self) -> Option<Time> {
        Some(self.created_at)
    }
}

/// How it goes.
pub(crate) struct Going<'a, S> {
    /// Sessions left.
    pub(crate) sessions: u64,
    /// Connections left.
    pub(crate) connections: u64,
    /// Sessions that ended, as far as that was told.
    pub(crate) ended: u64,
    /// The oldest session left.
    pub(crate) oldest: Option<&'a S>,
}

/// Progress as `jsonl` has it.
#[derive(Serialize)]
struct Line<'a, S> {
    r#type: &'static str,
    sessions: u64,
    connections: u64,
    ended: u64,
    elapsed_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_session: Option<&'a S>,
}

impl Meter {
    /// For a wait for this, where so many sessions may be left.
    pub(crate) fn new(output: &Output, goal: WaitFor, allowed: u64) -> Self {
        let bar = output.can_draw().then(|| draw(goal));
        Self { goal, allowed, bar, began: Instant::now(), total: 0, pace: Pace::default() }
    }

    /// How often the daemon should tell.
    pub(crate) const fn every(&self) -> Duration {
        if self.bar.is_some() { DRAWN_EVERY } else { TOLD_EVERY }
    }

    /// Since the wait began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sessions that ended while this watched.
    pub(crate) const fn ended(&self, left: u64) -> u64 {
        self.total.saturating_sub(left)
    }

    /// So many sessions were there.
    pub(crate) fn saw(&mut self, sessions: u64) {
        self.total = self.total.max(sessions);
    }

    /// Shows how it goes.
    pub(crate) fn show<S: Lasting + Serialize>(&mut self, output: &mut Output, progress: &Going<'_, S>) -> Result<(), Failure> {
        let elapsed = self.elapsed();
        self.saw(progress.sessions.saturating_add(progress.ended));
        self.pace.add(elapsed, self.ended(progress.sessions));
        let words = self.words(progress, elapsed);
        match &self.bar {
            Some(bar) => {
                bar.set_message(words);
                bar.update(|state| {
                    state.set_len(self.total);
                    state.set_pos(self.ended(progress.sessions));
                });
            }
            None => output.note(&words),
        }
        if output.format() == Format::Jsonl {
            let line = Line {
                r#type: "progress",
                sessions: progress.sessions,
                connections: progress.connections,
                ended: self.ended(progress.sessions),
                elapsed_seconds: elapsed.as_secs_f64(),
                oldest_session: progress.oldest,
            };
            output.json(&line)?;
            output.flush()?;
        }
        Ok(())
    }

    fn words<S: Lasting>(&self, progress: &Going<'_, S>, elapsed: Duration) -> String {
        match self.goal {
            WaitFor::Drained => self.drain_words(progress),
            WaitFor::Mode | WaitFor::Joined => format!("still waiting after {}", times::span(elapsed)),
        }
    }

    fn drain_words<S: Lasting>(&self, progress: &Going<'_, S>) -> String {
        let left = format!("{} of {} left", progress.sessions, counted(self.total, "session"));
        let age = |since: Option<Time>| since.map(|since| format!(", {}", times::age(since))).unwrap_or_default();
        let oldest = progress.oldest.map(|it| format!("oldest {}{}", shortened(it.channel()), age(it.since())));
        let to_go = progress.sessions.saturating_sub(self.allowed);
        let pace = match (self.pace.per_minute(), self.pace.until(to_go)) {
            (Some(rate), Some(rest)) => format!("{rate:.1} a minute, about {} to go", times::span(rest)),
            (_, _) => "no estimate yet".to_owned(),
        };
        [Some(left), oldest, Some(pace)].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Says something beside the bar.
    pub(crate) fn note(&self, output: &Output, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output.note(text)),
            None => output.note(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn draw(goal: WaitFor) -> ProgressBar {
    let template = match goal {
        WaitFor::Drained => "[{bar:16}] {wide_msg}",
        WaitFor::Mode | WaitFor::Joined => "{wide_msg}",
    };
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template(template).map(|style| style.progress_chars("#> "));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// `1 session`, `2 sessions`
pub(crate) fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// An id in quotes, cut where it would fill the line.
fn shortened(id: &str) -> String {
    const CHARACTERS_MAX: usize = 32;
    let id = match id.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => Cow::Owned(format!("{}…", id.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(id),
    };
    escape::quoted(&id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(goal: WaitFor) -> Meter {
        Meter { goal, allowed: 0, bar: None, began: Instant::now(), total: 30, pace: Pace::default() }
    }

    #[test]
    fn a_line_says_how_many_are_left_and_does_not_promise_what_it_cannot_know() {
        let progress = Going::<Session> { sessions: 12, connections: 45, oldest: None, ended: 18 };
        let mut meter = meter(WaitFor::Drained);
        assert_eq!(meter.drain_words(&progress), "12 of 30 sessions left; no estimate yet");
        meter.pace.add(Duration::ZERO, 0);
        meter.pace.add(Duration::from_mins(3), 18);
        assert_eq!(meter.drain_words(&progress), "12 of 30 sessions left; 6.0 a minute, about 2 min to go");
    }

    #[test]
    fn long_ids_are_cut() {
        assert_eq!(shortened("spam"), "\"spam\"");
        assert_eq!(shortened(&"é".repeat(40)), format!("\"{}…\"", "é".repeat(32)));
    }

    #[test]
    fn words_are_counted() {
        assert_eq!(counted(1, "session"), "1 session");
        assert_eq!(counted(0, "session"), "0 sessions");
    }
}
