//! Counters for `/metrics`. Incrementing one costs a few nanoseconds: each is looked up once, at
//! the start.

use std::time::Duration;

use hyper::StatusCode;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use soramode_core::plan::calls::SfuOutcome;
use soramode_protocol::decision::{Decision, RejectReason};
use soramode_protocol::event::{EndReason, Event, EventKind, EventType};
use soramode_protocol::plan::PlanOutcome;
use soramode_protocol::time::Time;

use crate::log;

/// Upper bounds of the decisions' times, in seconds.
const DECISION_SECONDS: &[f64] = &[
    0.000_001,
    0.000_002_5,
    0.000_005,
    0.000_01,
    0.000_025,
    0.000_05,
    0.000_1,
    0.000_25,
    0.001,
    0.005,
    0.025,
    0.1,
    1.0,
];

/// Upper bounds of the commits' times, in seconds.
const COMMIT_SECONDS: &[f64] = &[
    0.000_001, 0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0,
    5.0,
];

/// The counters. One for the whole daemon.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    offers: IntCounter,
    redirects: IntCounter,
    rejects: Vec<(RejectReason, IntCounter)>,
    decision_seconds: Histogram,
    events: Vec<(EventType, IntCounter)>,
    announcements: Announcements,
    session_ends: SessionEnds,
    plans: IntCounterVec,
    commit_seconds: Histogram,
    webhooks: IntCounterVec,
    api_calls: IntCounterVec,
    polls: IntCounterVec,
    last_poll: IntGauge,
    log_lines_dropped: IntCounter,
    bugs: IntCounter,
}

/// Announcements, by means and outcome.
#[derive(Debug)]
struct Announcements {
    told_by_api: IntCounter,
    failed_by_api: IntCounter,
    told_by_subscribers: IntCounter,
}

/// Sessions that were to be ended, by outcome.
#[derive(Debug)]
struct SessionEnds {
    asked: IntCounter,
    failed: IntCounter,
    ended: IntCounter,
}

/// Outcome of one of Sora's webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WebhookOutcome {
    /// Recorded (for auth: admitted), and forwarded if there is an upstream.
    Taken,
    /// auth: rejected by the gate.
    Rejected,
    /// The application denied an auth request.
    Denied,
    /// The upstream failed or was too slow.
    UpstreamFailed,
    /// Webhook could not be parsed.
    Unreadable,
    /// Sender's address is not listed.
    Forbidden,
}

impl WebhookOutcome {
    const ALL: [Self; 6] = [
        Self::Taken,
        Self::Rejected,
        Self::Denied,
        Self::UpstreamFailed,
        Self::Unreadable,
        Self::Forbidden,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
            Self::UpstreamFailed => "upstream_failed",
            Self::Unreadable => "unreadable",
            Self::Forbidden => "forbidden",
        }
    }
}

impl Metrics {
    /// Creates all counters, at zero.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let decisions = counters(
            &registry,
            "decisions_total",
            "Decisions about new connections, by answer and reason.",
            &["answer", "reason"],
        )?;
        let events = counters(
            &registry,
            "events_total",
            "Events written to the log, by type.",
            &["type"],
        )?;
        let webhooks = counters(
            &registry,
            "webhooks_total",
            "Webhooks received from Sora, by kind and outcome.",
            &["kind", "outcome"],
        )?;
        let polls = counters(
            &registry,
            "polls_total",
            "Polls of Sora's connections, by outcome.",
            &["outcome"],
        )?;
        let last_poll = IntGauge::new(
            "soramode_last_poll_timestamp_seconds",
            "Time of the last successful poll of Sora's connections; 0 for never.",
        )?;
        registry.register(Box::new(last_poll.clone()))?;
        for (kind, outcome) in ["auth", "session", "event"]
            .into_iter()
            .flat_map(|kind| WebhookOutcome::ALL.map(|outcome| (kind, outcome)))
        {
            webhooks.with_label_values(&[kind, outcome.name()]);
        }
        for outcome in ["succeeded", "failed"] {
            polls.with_label_values(&[outcome]);
        }
        let reject = |reason: RejectReason| {
            (
                reason,
                decisions.with_label_values(&["reject", reason.name()]),
            )
        };
        Ok(Self {
            offers: decisions.with_label_values(&["offer", ""]),
            redirects: decisions.with_label_values(&["redirect", ""]),
            rejects: RejectReason::ALL.into_iter().map(reject).collect(),
            decision_seconds: histogram(
                &registry,
                "decision_duration_seconds",
                "Time from receiving a request for a decision until sending its answer, including the commit.",
                DECISION_SECONDS,
            )?,
            events: EventType::ALL
                .into_iter()
                .map(|kind| (kind, events.with_label_values(&[kind.name()])))
                .collect(),
            announcements: announcement_counters(&registry)?,
            session_ends: session_end_counters(&registry)?,
            plans: plan_counters(&registry)?,
            commit_seconds: histogram(
                &registry,
                "commit_duration_seconds",
                "Duration of commits of records.",
                COMMIT_SECONDS,
            )?,
            api_calls: counters(
                &registry,
                "api_calls_total",
                "Calls of the API, by operation and HTTP status.",
                &["operation", "status"],
            )?,
            webhooks,
            polls,
            last_poll,
            bugs: register(
                &registry,
                IntCounter::with_opts(named(
                    "bugs_total",
                    "States that must not occur, each a bug in soramoded; the log names them.",
                ))?,
            )?,
            log_lines_dropped: register(
                &registry,
                IntCounter::with_opts(named(
                    "log_lines_dropped_total",
                    "Log lines dropped because standard error was not being read.",
                ))?,
            )?,
            registry,
        })
    }

    /// Counts a decision, answered `seconds` after the first step of its batch.
    pub(crate) fn decided(&self, decision: &Decision, seconds: f64) {
        self.counter(decision).into_iter().for_each(IntCounter::inc);
        self.decision_seconds.observe(seconds);
    }

    fn counter(&self, decision: &Decision) -> Option<&IntCounter> {
        match decision {
            Decision::Offer { .. } => Some(&self.offers),
            Decision::Redirect { .. } => Some(&self.redirects),
            Decision::Reject { reason, .. } => self
                .rejects
                .iter()
                .find(|(other, _)| other == reason)
                .map(|(_, counter)| counter),
        }
    }

    /// An event was written.
    pub(crate) fn event(&self, event: &Event) {
        let event_type = event.kind.event_type();
        if let Some((_, counter)) = self
            .events
            .iter()
            .find(|(other, _)| Some(*other) == event_type)
        {
            counter.inc();
        }
        match &event.kind {
            EventKind::SessionDestroyed {
                reason: EndReason::Ended,
                ..
            } => self.session_ends.ended.inc(),
            EventKind::PlanOver(over) => {
                self.plans.with_label_values(&[over.outcome.name()]).inc();
            }
            _ => {}
        }
    }

    /// Counts a notice to the clients of a session.
    pub(crate) fn announced(&self, outcome: &SfuOutcome) {
        match &outcome.api {
            Some(Ok(())) => self.announcements.told_by_api.inc(),
            Some(Err(_)) => self.announcements.failed_by_api.inc(),
            None => {}
        }
        if outcome.subscribers > 0 {
            self.announcements.told_by_subscribers.inc();
        }
    }

    /// Counts a request to the SFU to end a session.
    pub(crate) fn end_asked(&self, outcome: &SfuOutcome) {
        if outcome.problem().is_none() {
            self.session_ends.asked.inc();
        } else {
            self.session_ends.failed.inc();
        }
    }

    /// Events of this type since the start.
    pub(crate) fn events(&self, event_type: EventType) -> u64 {
        self.events
            .iter()
            .find(|(other, _)| *other == event_type)
            .map_or(0, |(_, counter)| counter.get())
    }

    /// Webhooks of Sora's of this kind with this outcome since the start.
    pub(crate) fn webhooks(&self, kind: &'static str, outcome: WebhookOutcome) -> u64 {
        self.webhooks
            .with_label_values(&[kind, outcome.name()])
            .get()
    }

    /// Counts a commit of records.
    pub(crate) fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts a webhook of Sora: `kind` is `auth`, `session` or `event`.
    pub(crate) fn webhook(&self, kind: &'static str, outcome: WebhookOutcome) {
        self.webhooks
            .with_label_values(&[kind, outcome.name()])
            .inc();
    }

    /// A call of the API that was answered.
    pub(crate) fn api_call(&self, operation: &'static str, status: StatusCode) {
        self.api_calls
            .with_label_values(&[operation, status.as_str()])
            .inc();
    }

    /// A poll of Sora's API; when it succeeded, if it did.
    pub(crate) fn poll(&self, succeeded: Option<Time>) {
        let outcome = if succeeded.is_some() {
            "succeeded"
        } else {
            "failed"
        };
        self.polls.with_label_values(&[outcome]).inc();
        if let Some(now) = succeeded {
            self.last_poll.set(now.as_micros() / 1_000_000);
        }
    }

    /// Counts a state that must not occur.
    pub(crate) fn bug(&self) {
        self.bugs.inc();
    }

    /// Returns the present values.
    pub(crate) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.log_lines_dropped
            .inc_by(log::dropped().saturating_sub(self.log_lines_dropped.get()));
        self.registry.gather()
    }
}

/// A metric's full name.
pub(crate) fn named(name: &str, help: &str) -> Opts {
    Opts::new(format!("soramode_{name}"), help)
}

fn announcement_counters(registry: &Registry) -> Result<Announcements, prometheus::Error> {
    let counters = counters(
        registry,
        "announcements_total",
        "Announcements to the clients of one session, by means and outcome.",
        &["means", "outcome"],
    )?;
    Ok(Announcements {
        told_by_api: counters.with_label_values(&["sora_api", "told"]),
        failed_by_api: counters.with_label_values(&["sora_api", "failed"]),
        told_by_subscribers: counters.with_label_values(&["subscribers", "told"]),
    })
}

fn plan_counters(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
    let plans = counters(
        registry,
        "plans_total",
        "Maintenance plans that are over, by outcome.",
        &["outcome"],
    )?;
    for outcome in PlanOutcome::ALL {
        plans.with_label_values(&[outcome.name()]);
    }
    Ok(plans)
}

fn session_end_counters(registry: &Registry) -> Result<SessionEnds, prometheus::Error> {
    let counters = counters(
        registry,
        "session_ends_total",
        "Requests to the SFU to end a session (asked, failed), and sessions that ended on request (ended).",
        &["outcome"],
    )?;
    Ok(SessionEnds {
        asked: counters.with_label_values(&["asked"]),
        failed: counters.with_label_values(&["failed"]),
        ended: counters.with_label_values(&["ended"]),
    })
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    register(registry, IntCounterVec::new(named(name, help), labels)?)
}

fn histogram(
    registry: &Registry,
    name: &str,
    help: &str,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    let opts = HistogramOpts {
        common_opts: named(name, help),
        buckets: buckets.to_vec(),
    };
    register(registry, Histogram::with_opts(opts)?)
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
