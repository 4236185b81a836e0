//! Progress of a wait: a bar on a terminal, lines elsewhere.

use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use serde::Serialize;
use soramode_protocol::mode::InForce;
use soramode_protocol::node::Status;
use soramode_protocol::number::is_zero;
use soramode_protocol::plan::{Plan, Stalled};
use soramode_protocol::time::Time;
use soramode_protocol::wait::WaitFor;
use tokio::time::timeout;

use super::count::{counted, counted_connections};
use super::live_lines::LiveLines;
use super::rate::Rate;
use super::{Format, Output, cells, escape, terminal, times};
use crate::error::Failure;
use crate::plan::describe::{describe_stalled, progress_parts};
use crate::session_info::SessionInfo;
use crate::sfu::{FailingApi, awaited_end, describe_not_in_force};

/// Pause between two updates of the bar.
const DRAW_PAUSE: Duration = Duration::from_secs(1);

/// Pause between two lines.
const LINE_PAUSE: Duration = Duration::from_secs(10);

/// The display of one wait, over all its connections.
pub(crate) struct ProgressDisplay {
    goal: WaitFor,
    allowed: u64,
    /// Time for which the condition must stay true.
    settle: Duration,
    limit: Option<Duration>,
    bar: Option<LiveLines>,
    /// The most important part of the last progress.
    last: Option<String>,
    began: Instant,
    /// The most sessions at a time, plus those that ended.
    total: u64,
    rate: Rate,
    /// The SFU's API that cannot confirm the sessions.
    failing_api: Option<FailingApi>,
}

/// Progress at one moment.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct ProgressSnapshot<'a> {
    /// Remaining sessions.
    pub(crate) sessions: u64,
    /// Remaining connections.
    pub(crate) connections: u64,
    /// Pending ones of these.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) pending: u64,
    /// Ended sessions, as far as reported.
    pub(crate) ended: u64,
    /// Remaining sessions of the requests that a wait for `ended` is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) awaited: Option<u64>,
    /// The oldest remaining session.
    #[serde(rename = "oldest_session", skip_serializing_if = "Option::is_none")]
    pub(crate) oldest: Option<&'a SessionInfo>,
    /// The plan that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<&'a Plan>,
    /// The drain does not progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stalled: Option<&'a Stalled>,
    /// The state of the mode on an SFU that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) in_force: Option<InForce>,
}

/// The JSON line of progress.
#[derive(Serialize)]
struct Line<'a> {
    r#type: &'static str,
    #[serde(flatten)]
    progress: ProgressSnapshot<'a>,
    elapsed_seconds: f64,
}

impl ProgressDisplay {
    pub(crate) fn new(
        output: &Output,
        goal: WaitFor,
        allowed: u64,
        settle: Duration,
        limit: Option<Duration>,
    ) -> Self {
        let bar = output.can_draw().then(LiveLines::start);
        Self {
            goal,
            allowed,
            settle,
            limit,
            // Without its thread there are lines.
            bar: bar.and_then(Result::ok),
            last: None,
            began: Instant::now(),
            total: 0,
            rate: Rate::default(),
            failing_api: None,
        }
    }

    /// Returns the pause between two progress reports.
    pub(crate) const fn every(&self) -> Duration {
        if self.bar.is_some() {
            DRAW_PAUSE
        } else {
            LINE_PAUSE
        }
    }

    /// Returns the time since the wait began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Returns the number of sessions that ended meanwhile.
    pub(crate) const fn ended(&self, left: u64) -> u64 {
        self.total.saturating_sub(left)
    }

    /// Counts sessions that were present.
    pub(crate) fn add_seen(&mut self, sessions: u64) {
        self.total = self.total.max(sessions);
    }

    /// Counts the sessions of a progress as seen. Returns the number of those that ended.
    fn count(&mut self, progress: &ProgressSnapshot<'_>) -> u64 {
        let of_node = progress.sessions.saturating_add(progress.ended);
        // Sessions that another client adds to the request are awaited too.
        self.add_seen(progress.awaited.unwrap_or(of_node));
        self.ended(progress.awaited.unwrap_or(progress.sessions))
    }

    /// Shows the progress.
    pub(crate) fn show(
        &mut self,
        output: &mut Output,
        progress: &ProgressSnapshot<'_>,
    ) -> Result<(), Failure> {
        let elapsed = self.elapsed();
        let ended = self.count(progress);
        self.rate.add(elapsed, ended);
        let parts = self.describe(progress, elapsed);
        match &self.bar {
            Some(bar) => {
                bar.draw(vec![self.drawn(&parts, ended, width_of_bar())]);
                self.last = parts.into_iter().next();
            }
            None => output.note(&parts.join("; ")),
        }
        if output.format() == Format::Jsonl {
            let line = Line {
                r#type: "progress",
                progress: ProgressSnapshot { ended, ..*progress },
                elapsed_seconds: elapsed.as_secs_f64(),
            };
            output.json(&line)?;
            output.flush()?;
        }
        Ok(())
    }

    /// Describes the progress in parts, the most important first.
    fn describe(&self, progress: &ProgressSnapshot<'_>, elapsed: Duration) -> Vec<String> {
        let limit = self
            .limit
            .map(|limit| format!(" of {}", times::span(limit)))
            .unwrap_or_default();
        let elapsed = format!("{}{limit}", times::span(elapsed));
        match self.goal {
            WaitFor::Drained => self.describe_drain(progress, elapsed),
            WaitFor::Ended => {
                let total = counted(self.total, "session");
                let left = match progress.awaited {
                    Some(awaited) => format!("{awaited} of {total} left"),
                    // An older daemon counts the whole node.
                    None => format!("{} left on the node", counted(progress.sessions, "session")),
                };
                vec![left, elapsed]
            }
            WaitFor::Mode => vec!["not in this mode yet".to_owned(), elapsed],
            WaitFor::Joined => vec!["not joined yet".to_owned(), elapsed],
        }
    }

    fn describe_drain(&self, progress: &ProgressSnapshot<'_>, elapsed: String) -> Vec<String> {
        let connections = counted_connections(progress.connections, progress.pending);
        if progress.sessions <= self.allowed {
            let left = counted(progress.sessions, "session");
            let why = if let Some(api) = &self.failing_api {
                format!("{left} left, waiting for {} to confirm it", api.name)
            } else if progress.plan.is_some() {
                format!("{left} left")
            } else if let Some(why) = progress
                .in_force
                .and_then(|it| describe_not_in_force(it, None))
            {
                format!("{left} left, mode not in force: {why}")
            } else if self.settle.is_zero() {
                format!("{left} left, waiting for a complete session list")
            } else {
                format!(
                    "{left} left, waiting until that has lasted {}",
                    times::limit(self.settle)
                )
            };
            let plan = progress.plan.map(progress_parts).unwrap_or_default();
            return std::iter::once(why)
                .chain(plan)
                .chain([connections, elapsed])
                .collect();
        }
        let total = counted(self.total, "session");
        let left = format!("{} of {total} left", progress.sessions);
        let age = |since: Option<Time>| {
            since
                .map(|since| format!(", {}", times::age(since)))
                .unwrap_or_default()
        };
        let oldest = progress.oldest.map(|it| {
            format!(
                "oldest {}{}",
                escape::shortened(it.channel_id()),
                age(it.created_at())
            )
        });
        let to_go = progress.sessions.saturating_sub(self.allowed);
        let rate = match (self.rate.per_minute(), self.rate.until(to_go)) {
            (Some(rate), Some(rest)) => {
                format!("{rate:.1} a minute, about {} to go", times::span(rest))
            }
            (_, _) => "no estimate yet".to_owned(),
        };
        let stalled = progress
            .stalled
            .map(|stalled| format!("STALLED {}", describe_stalled(stalled)));
        let plan = progress.plan.map(progress_parts).unwrap_or_default();
        let connections = connections + awaited_end(progress.connections);
        let parts = [Some(connections), Some(elapsed), oldest, Some(rate)];
        std::iter::once(left)
            .chain(stalled)
            .chain(plan)
            .chain(parts.into_iter().flatten())
            .collect()
    }

    /// Returns the bar, if it fits, and as many parts as fit beside it.
    fn drawn(&self, parts: &[String], ended: u64, width: usize) -> String {
        const BAR_CELLS: usize = 16;
        const WIDTH_WITH_BAR_MIN: usize = 70;
        let has_bar = self.goal == WaitFor::Drained && width >= WIDTH_WITH_BAR_MIN;
        let done = usize::try_from(
            ended
                .saturating_mul(BAR_CELLS as u64)
                .checked_div(self.total)
                .unwrap_or(0),
        )
        .unwrap_or(BAR_CELLS);
        let head = if done < BAR_CELLS { ">" } else { "" };
        let bar = format!(
            "[{:<BAR_CELLS$}] ",
            format!("{}{head}", "#".repeat(done.min(BAR_CELLS)))
        );
        cells::joined(if has_bar { bar } else { String::new() }, parts, width)
    }

    /// Waits for the node. In place of the bar stands each second what is awaited, if `parts` has it after this time, and the last progress after its first part.
    pub(crate) async fn until_answer<T>(
        &self,
        parts: impl Fn(Duration) -> Option<Vec<String>>,
        answer: impl Future<Output = T>,
    ) -> T {
        let began = Instant::now();
        let mut answer = pin!(answer);
        // At once for the first time: each of many waits may be shorter than a pause.
        let mut pause = Duration::ZERO;
        loop {
            let waited = timeout(pause, &mut answer).await;
            pause = DRAW_PAUSE;
            match (waited, parts(began.elapsed())) {
                (Ok(answer), _) => return answer,
                (Err(_), Some(parts)) => self.draw_absence(parts),
                (Err(_), None) => {}
            }
        }
    }

    fn draw_absence(&self, mut parts: Vec<String>) {
        let Some(bar) = &self.bar else { return };
        if let Some(last) = &self.last {
            parts.insert(parts.len().min(1), format!("before: {last}"));
        }
        bar.draw(vec![cells::joined(String::new(), &parts, width_of_bar())]);
    }

    /// Notes when the SFU's API stops confirming the sessions, and when it answers again.
    pub(crate) fn note_api(&mut self, output: &Output, status: &Status) {
        let before = std::mem::replace(&mut self.failing_api, FailingApi::of(status));
        let now = self.failing_api.as_ref();
        let change = FailingApi::describe_change(before.as_ref(), now, |at| output.time(at));
        if let Some(text) = change {
            self.note(output, &text);
        }
    }

    /// Prints a note beside the bar.
    pub(crate) fn note(&self, output: &Output, text: &str) {
        match &self.bar {
            Some(bar) => bar.add(text),
            None => output.note(text),
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&mut self) {
        if let Some(mut bar) = self.bar.take() {
            bar.draw(Vec::new());
            bar.finish();
        }
    }
}

/// Returns the width of the bar. The last cell stays free: some terminals wrap when it is written to.
fn width_of_bar() -> usize {
    terminal::columns(io::stderr()) - 1
}

#[cfg(test)]
mod tests {
    use soramode_protocol::id::ChannelId;

    use super::*;
    use crate::session_info::ListedSession;

    fn display(goal: WaitFor) -> ProgressDisplay {
        ProgressDisplay {
            goal,
            allowed: 0,
            settle: Duration::ZERO,
            limit: Some(Duration::from_mins(30)),
            bar: None,
            last: None,
            began: Instant::now(),
            total: 30,
            rate: Rate::default(),
            failing_api: None,
        }
    }

    fn line(display: &ProgressDisplay, progress: &ProgressSnapshot<'_>, seconds: u64) -> String {
        let parts = display.describe(progress, Duration::from_secs(seconds));
        parts.join("; ")
    }

    #[test]
    fn a_line_has_the_remaining_sessions_and_no_estimate_without_data() {
        let progress = half_drained(None);
        let mut display = display(WaitFor::Drained);
        assert_eq!(
            line(&display, &progress, 200),
            "12 of 30 sessions left; 45 connections; 3 min 20 s of 30 min; no estimate yet"
        );
        display.rate.add(Duration::ZERO, 0);
        display.rate.add(Duration::from_mins(3), 18);
        assert_eq!(
            line(&display, &progress, 200),
            "12 of 30 sessions left; 45 connections; 3 min 20 s of 30 min; 6.0 a minute, about 2 min to go"
        );
        display.limit = None;
        assert!(
            line(&display, &progress, 200).contains("; 3 min 20 s; "),
            "without a limit there is none to tell"
        );
    }

    #[test]
    fn an_empty_node_that_is_not_drained_has_a_reason() {
        let progress = ProgressSnapshot {
            sessions: 0,
            connections: 0,
            ..half_drained(None)
        };
        let display = ProgressDisplay {
            settle: Duration::from_secs(30),
            total: 0,
            ..display(WaitFor::Drained)
        };
        assert_eq!(
            line(&display, &progress, 2),
            "0 sessions left, waiting until that has lasted 30 s; 0 connections; 2 s of 30 min"
        );
        let display = ProgressDisplay {
            settle: Duration::ZERO,
            ..display
        };
        assert_eq!(
            line(&display, &progress, 2),
            "0 sessions left, waiting for a complete session list; 0 connections; 2 s of 30 min"
        );
        let progress = ProgressSnapshot {
            in_force: Some(InForce::Partial),
            ..progress
        };
        assert_eq!(
            line(&display, &progress, 2),
            "0 sessions left, mode not in force: some rooms cannot be locked or unlocked; 0 connections; 2 s of 30 min"
        );
    }

    #[test]
    fn ends_are_counted_by_their_request() {
        let mut display = display(WaitFor::Ended);
        let mut progress = half_drained(None);
        assert_eq!(
            line(&display, &progress, 5),
            "12 sessions left on the node; 5 s of 30 min"
        );
        progress.awaited = Some(2);
        assert_eq!(
            line(&display, &progress, 5),
            "2 of 30 sessions left; 5 s of 30 min"
        );
        progress.awaited = Some(37);
        assert_eq!(display.count(&progress), 0);
        assert_eq!(
            line(&display, &progress, 5),
            "37 of 37 sessions left; 5 s of 30 min",
            "another client's request has joined"
        );
    }

    #[test]
    fn the_bar_fits_for_every_channel_name() {
        let names = [
            "spam",
            "会議室-東京",
            "第一会議室・営業本部・週次定例ミーティング・その一",
            "cafe\u{301}",
            "ᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀᄀ",
        ];
        let display = display(WaitFor::Drained);
        for (name, width) in names
            .into_iter()
            .flat_map(|name| (39..200).map(move |width| (name, width)))
        {
            let oldest = session(name);
            let progress = half_drained(Some(&oldest));
            let drawn = display.drawn(
                &display.describe(&progress, Duration::from_secs(200)),
                18,
                width,
            );
            assert!(cells::width(&drawn) <= width, "{width}: {drawn}");
            assert!(drawn.contains("12 of 30 sessions left"), "{drawn}");
        }
        let progress = half_drained(None);
        let drawn = display.drawn(
            &display.describe(&progress, Duration::from_secs(200)),
            18,
            79,
        );
        assert_eq!(
            drawn,
            "[#########>      ] 12 of 30 sessions left; 45 connections; 3 min 20 s of 30 min"
        );
    }

    /// 12 of 30 sessions are left.
    fn half_drained(oldest: Option<&SessionInfo>) -> ProgressSnapshot<'_> {
        ProgressSnapshot {
            sessions: 12,
            connections: 45,
            pending: 0,
            oldest,
            ended: 18,
            awaited: None,
            plan: None,
            stalled: None,
            in_force: None,
        }
    }

    fn session(channel: &str) -> SessionInfo {
        SessionInfo::Listed(ListedSession {
            channel_id: ChannelId::new(channel).unwrap(),
            session_id: None,
            created_at: Some(times::now()),
            connections: 1,
        })
    }
}
