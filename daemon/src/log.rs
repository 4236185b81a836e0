//! The log: one short line an event on standard error, for people or as JSON.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal};
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;

use soramode_protocol::event::EventKind;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{LogFormat, LogLevel};
use crate::clock;
pub(crate) use crate::failed_deliveries::FailedDeliveries;
use queue::Queue;
pub(crate) use queue::dropped;
pub use queue::{FLUSH_TIME, WAITING_BYTES_MAX, finish};

/// Our own crates, all of them. Of others' only warnings are logged.
const OWN_TARGETS: &str = "soramode";

/// The level of the log that was started.
static LEVEL: OnceLock<Handle<Targets, Registry>> = OnceLock::new();

/// Starts the log of this process, and its thread. The second call in one process changes nothing.
pub fn start(format: LogFormat, level: LogLevel) -> io::Result<()> {
    let queue = Queue::of_process()?;
    let (filter, handle) = reload::Layer::new(filter(level));
    // The first subscriber wins: if the daemon runs inside a test, the test's own.
    if Registry::default()
        .with(lines(format, filter, queue))
        .try_init()
        .is_err()
        || LEVEL.set(handle).is_err()
    {
        tracing::debug!("the log had been started already");
    } else {
        panic::set_hook(Box::new(log_panic));
    }
    Ok(())
}

/// Logs a panic: the standard hook would wait for the reader of standard error.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(place, backtrace, "panicked: {message}");
}

/// Logs so much from now on.
pub(crate) fn set_level(level: LogLevel) -> Result<(), String> {
    let handle = LEVEL.get().ok_or("the log is not this daemon's")?;
    handle
        .reload(filter(level))
        .map_err(|problem| problem.to_string())
}

fn filter(level: LogLevel) -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN.min(max_level(level).into()))
        .with_target(OWN_TARGETS, max_level(level))
}

fn lines<F, W>(format: LogFormat, filter: F, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    F: Filter<Registry> + Send + Sync + 'static,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let base = tracing_subscriber::fmt::layer()
        .with_timer(WallClock)
        .with_target(false)
        .with_writer(writer);
    match format {
        LogFormat::Text => base.with_ansi(wants_colour()).with_filter(filter).boxed(),
        LogFormat::Json => base
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    }
}

fn max_level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

fn wants_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Times in the log look like those on the socket.
struct WallClock;

impl FormatTime for WallClock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", clock::now().wall)
    }
}

/// Logs an event that operators look for afterwards. Sessions and connections are too frequent for
/// that. `etcd_problems` are those of members of etcd, with their URLs.
pub(crate) fn log_event(kind: &EventKind, etcd_problems: impl FnOnce() -> Option<String>) {
    match kind {
        EventKind::ModeChanged(change) => {
            let reason = change.reason.as_deref();
            tracing::info!(generation = change.generation, actor = change.actor, reason, "mode changed: {} -> {}", change.previous_mode, change.mode);
        }
        EventKind::SessionVanished => tracing::info!("drained: the last session has ended"),
        EventKind::PlanCreated(plan) => {
            let reason = plan.reason.as_deref();
            tracing::info!(plan = %plan.plan_id, actor = plan.actor, reason, closes_at = %plan.closes_at, "maintenance plan started");
        }
        EventKind::PlanStep(step) => {
            let (plan, late_seconds) = (&step.plan_id, step.late_seconds);
            tracing::info!(%plan, late_seconds, "maintenance plan: step {} done: {}", step.step, step.done.action());
        }
        EventKind::PlanStalled { plan_id, cause } => {
            tracing::warn!(plan = %plan_id, %cause, "the maintenance plan does not progress");
        }
        EventKind::PlanOver(plan) => {
            let (reason, why) = (plan.reason.as_deref(), plan.why.as_deref());
            tracing::info!(plan = %plan.plan_id, actor = plan.actor, reason, why, "maintenance plan is over: {}", plan.outcome);
        }
        EventKind::MaintenanceAnnounced(it) => {
            tracing::info!(announcement = %it.announcement_id, actor = it.actor, channels = it.channels, "announcing maintenance");
        }
        EventKind::EndRequested(end) => {
            if let Some(plan) = &end.plan_id {
                tracing::warn!(%plan, actor = end.actor, sessions = end.sessions, "ending sessions, as the maintenance plan says");
            }
        }
        EventKind::NodeJoined { mode, .. } => tracing::info!(%mode, "joined the cluster"),
        EventKind::NodeIsolated { mode, .. } => tracing::warn!(%mode, problem = etcd_problems(), "isolated: etcd could not be read in time; new clients are rejected. Run: soramode doctor"),
        EventKind::NodeFenced { mode, .. } => tracing::warn!(%mode, problem = etcd_problems(), "fenced: the ownership lease has expired; all sessions are being ended. Run: soramode doctor"),
        EventKind::SessionCreated { .. }
        | EventKind::SessionDestroyed { .. }
        | EventKind::ConnectionCreated { .. }
        | EventKind::ConnectionDestroyed { .. }
        | EventKind::WebhookReceived { .. }
        | EventKind::DeliverySucceeded(_)
        // These are reported together.
        | EventKind::DeliveryFailed(_)
        | EventKind::Unknown => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{Arc, Mutex};

    use soramode_protocol::time::Time;

    /// Returns the log output of `say`.
    fn logged(format: LogFormat, level: LogLevel, say: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Page(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Page {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let page = Page::default();
        let writer = page.clone();
        let subscriber =
            Registry::default().with(lines(format, filter(level), move || writer.clone()));
        tracing::subscriber::with_default(subscriber, say);
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_has_time_level_and_words() {
        let line = logged(LogFormat::Text, LogLevel::Info, || {
            tracing::info!(sessions = 3, "mode changed");
        });
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.len() == 27 && time.parse::<Time>().is_ok(), "{time}");
        assert_eq!(rest, " INFO mode changed sessions=3\n");
    }

    #[test]
    fn a_json_line_is_flat() {
        let line = logged(LogFormat::Json, LogLevel::Info, || {
            tracing::info!(sessions = 3, "mode changed");
        });
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["level"], &line["message"], &line["sessions"]),
            (&"INFO".into(), &"mode changed".into(), &3.into())
        );
        assert!(line["timestamp"].as_str().unwrap().parse::<Time>().is_ok());
    }

    #[test]
    fn the_level_is_for_our_own_lines_and_others_may_only_warn() {
        let say = || {
            tracing::debug!("ours");
            tracing::debug!(target: "hyper", "theirs");
            tracing::warn!(target: "hyper", "their warning");
        };
        let words = |level| logged(LogFormat::Text, level, say);
        assert!(words(LogLevel::Debug).contains("ours"));
        assert!(!words(LogLevel::Debug).contains("theirs"));
        assert!(words(LogLevel::Debug).contains("their warning"));
        assert_eq!(words(LogLevel::Error), "");
    }
}
