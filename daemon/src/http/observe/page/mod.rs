//! The status page: HTML without scripts, which refreshes itself. maud escapes every value.

mod chart;
mod fragments;
mod language;
mod messages;
mod nodes;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use maud::{DOCTYPE, Markup, html};
use soramode_protocol::mode::{InForce, ModeState};
use soramode_protocol::node::{ClusterNode, Status};
use soramode_protocol::plan::Plan;
use soramode_protocol::session::Session;
use soramode_protocol::text::shorten;
use soramode_protocol::time::Time;

use super::load_history::Chart;
use super::peers::PeerState;
use fragments::{by, omitted, short, worded};
use language::{Language, Texts};

/// Style sheet of the page.
pub(super) const STYLE: &str = include_str!("style.css");

/// The page fetches its style sheet and its icon from this listener, and nothing else from anywhere.
pub(super) const SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Length of the page, at most.
#[cfg(test)]
const PAGE_BYTES_MAX: usize = 30 * 1024;

/// Time between two refreshes of the page.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// Number of sessions that the page lists.
pub(super) const SESSIONS_SHOWN: u32 = 8;

/// Time for which a plan that is over is shown.
const OVER_PLAN_SHOWN: Duration = Duration::from_hours(1);

/// Number of warnings shown.
const WARNINGS_SHOWN: usize = 8;

/// Length of a text on the page that soramoded has not worded, in bytes.
const TEXT_BYTES_SHOWN: usize = 256;

/// Everything that the page shows.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) now: Time,
    pub(super) status: Box<Status>,
    /// The plan that runs, or the last one.
    pub(super) plan: Option<Plan>,
    pub(super) members: Vec<ClusterNode>,
    /// The oldest sessions.
    pub(super) sessions: Vec<Session>,
    pub(super) peers: Vec<PeerState>,
    pub(super) chart: Arc<Chart>,
}

/// Refresh of the page by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    On,
    Off,
}

impl Refresh {
    /// Returns the choice of a request: `?refresh=off` leaves time to read.
    pub(super) fn of(query: Option<&str>) -> Self {
        match query {
            Some("refresh=off") => Self::Off,
            _ => Self::On,
        }
    }
}

/// Returns the page in the language that the headers ask for.
pub(super) fn render(snapshot: &Snapshot, headers: &HeaderMap, refresh: Refresh) -> String {
    let language = Language::of(headers);
    let texts = language.texts();
    let (status, now) = (&snapshot.status, snapshot.now);
    let headline = texts.headline(status);
    let name = short(status.node_name.as_str());
    html! {
        (DOCTYPE)
        html lang=(texts.language) {
            head {
                meta charset="utf-8";
                @if refresh == Refresh::On {
                    meta http-equiv="refresh" content=(REFRESH_PAUSE.as_secs());
                }
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (headline.word) " - " (name) }
                link rel="stylesheet" href="status.css";
            }
            body {
                header {
                    h1 { (name) }
                    span {
                        (texts.updated) " " (time(now)) (texts.comma) "soramoded " (status.version) " "
                        @match refresh {
                            Refresh::On => a href="?refresh=off" { (texts.stop_refresh) },
                            Refresh::Off => a href="." { (texts.refresh) },
                        }
                    }
                }
                main {
                (warnings(status, language))
                section class={ "mode " (headline.class) } {
                    p.word { (headline.word) }
                    p { (status.mode.mode.name()) (texts.colon) (headline.sentence) }
                    (mode_facts(&status.mode, now, language))
                }
                @if let Some(plan) = snapshot.plan.as_ref().filter(|plan| is_recent(plan, now)) {
                    (plan_section(plan, now, language))
                }
                (chart::load(status, &snapshot.chart, now, texts))
                div.columns {
                    (oldest_sessions(&snapshot.sessions, now, language))
                    (rejections(status, texts))
                    @if status.cluster.is_some() {
                        (nodes::members(status, &snapshot.members, language))
                    }
                    @if !snapshot.peers.is_empty() {
                        (nodes::peers(&snapshot.peers, language))
                    }
                    section {
                        h2 { (texts.deliveries) }
                        dl.facts {
                            dt { (texts.pending_deliveries) } dd { (status.deliveries.pending) }
                            dt { (texts.failed) } dd { (status.deliveries.failed) }
                        }
                    }
                }
                }
            }
        }
    }
    .into_string()
}

/// Warning, or another finding that needs attention.
struct Warning<'status> {
    /// Name of the server that it concerns.
    about: Option<&'status str>,
    text: Cow<'status, str>,
    remedy: Option<Cow<'status, str>>,
}

impl<'status> Warning<'status> {
    /// Creates a warning in the language of the page.
    fn of_page(text: impl Into<Cow<'status, str>>, remedy: Option<&'static str>) -> Self {
        Self {
            about: None,
            text: text.into(),
            remedy: remedy.map(Cow::Borrowed),
        }
    }

    /// Creates a warning about a server, or one of soramoded itself, as the status has it.
    fn of_status(
        about: Option<&'status str>,
        text: &'status str,
        remedy: Option<&'status str>,
    ) -> Self {
        Self {
            about,
            text: text.into(),
            remedy: remedy.map(Cow::Borrowed),
        }
    }
}

/// Returns what needs attention, each with its remedy if that is known.
fn findings(status: &Status, language: Language) -> Vec<Warning<'_>> {
    let texts = language.texts();
    let mut rows = Vec::new();
    if status.shadow {
        rows.push(Warning::of_page(texts.shadow, None));
    }
    if let Some((warning, remedy)) = texts.membership_warning(status) {
        rows.push(Warning::of_page(warning, Some(remedy)));
    }
    let problem = status
        .cluster
        .as_deref()
        .and_then(|it| it.problem.as_deref());
    rows.extend(problem.map(|problem| Warning::of_status(None, problem, None)));
    if let Some(stalled) = status.stalled {
        let warning = format!(
            "{}{}{}",
            texts.stalled,
            texts.colon,
            language.cause(stalled.cause)
        );
        rows.push(Warning::of_page(warning, Some(texts.stalled_remedy)));
    }
    if status.in_force.is_some_and(|it| it != InForce::Yes) {
        let remedy = Some(texts.not_in_force_remedy);
        rows.push(Warning::of_page(texts.not_in_force, remedy));
    }
    let warnings = status.warnings.iter();
    rows.extend(warnings.map(|warning| Warning::of_status(None, warning, None)));
    for source in &status.sources {
        let name = Some(source.name.as_str());
        if let Some(reason) = &source.incomplete_reason {
            rows.push(Warning::of_status(name, reason, source.hint.as_deref()));
        }
        let reason = source.incomplete_reason.as_deref().unwrap_or_default();
        if let Some(problem) = source.problem.as_ref().filter(|it| !reason.contains(*it)) {
            rows.push(Warning::of_status(name, problem, None));
        }
    }
    let failing = status.upstreams.iter().filter_map(|upstream| {
        let problem = upstream.problem.as_ref()?;
        Some(Warning::of_status(Some(&upstream.name), problem, None))
    });
    rows.extend(failing);
    rows
}

fn warnings(status: &Status, language: Language) -> Markup {
    let texts = language.texts();
    let rows = findings(status, language);
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section.warnings {
            h2 { (texts.warnings) }
            ul {
                @for Warning { about, text, remedy } in rows.iter().take(WARNINGS_SHOWN) {
                    li {
                        @if let Some(about) = about { (short(about)) (texts.colon) }
                        (worded(text, TEXT_BYTES_SHOWN, language))
                        @if let Some(remedy) = remedy {
                            span.remedy { (worded(remedy, TEXT_BYTES_SHOWN, language)) }
                        }
                    }
                }
            }
            (omitted(rows.len(), WARNINGS_SHOWN, texts))
        }
    }
}

fn mode_facts(mode: &ModeState, now: Time, language: Language) -> Markup {
    let texts = language.texts();
    html! {
        dl.facts {
            dt { (texts.since) } dd { (time(mode.since)) " (" (age(now, mode.since, language)) ")" }
            dt { (texts.by) } dd { (by(&mode.actor, mode.on_behalf_of.as_deref(), language)) }
            @if let Some(reason) = &mode.reason {
                dt { (texts.reason) } dd { (shorten(reason, TEXT_BYTES_SHOWN)) }
            }
            @if let Some(until) = mode.expires_at {
                dt { (texts.until) } dd { (ahead(until, now, language)) }
            }
            @if let Some(end) = mode.expected_end_at {
                dt { (texts.expected_end) } dd {
                    @if end < now {
                        (time(end)) " " strong { (texts.overdue) " " (age(now, end, language)) }
                    } @else {
                        (ahead(end, now, language))
                    }
                }
            }
        }
    }
}

/// Returns true if the plan runs, or was over a short time ago.
fn is_recent(plan: &Plan, now: Time) -> bool {
    plan.over_at
        .is_none_or(|over| now.since(over) < OVER_PLAN_SHOWN)
}

fn plan_section(plan: &Plan, now: Time, language: Language) -> Markup {
    let texts = language.texts();
    let operator = plan
        .on_behalf_of
        .as_deref()
        .filter(|_| plan.over_by.is_none());
    html! {
        section {
            h2 { (texts.plan) }
            dl.facts {
                dt { (texts.state) } dd {
                    (language.plan_state(plan.state, plan.outcome))
                    @if let Some(over) = plan.over_at { " (" (time(over)) ")" }
                }
                @if let Some(next) = plan.next_step() {
                    dt { (texts.next_step) } dd {
                        (language.step(&next.step)) (texts.comma) (ahead(next.due_at, now, language))
                    }
                }
                @if let Some(end) = plan.sessions_end_at().filter(|_| plan.outcome.is_none()) {
                    dt { (texts.sessions_end) } dd { (ahead(end, now, language)) }
                }
                @if plan.asked > 0 {
                    dt { (texts.ended) } dd { (plan.ended) " / " (plan.asked) }
                }
                @if plan.delay_seconds > 0 {
                    dt { (texts.delay) } dd { (language.span(Duration::from_secs(plan.delay_seconds))) }
                }
                @if let Some(hold) = plan.held {
                    dt { (texts.held) } dd { (language.held(hold)) }
                }
                dt { (texts.by) } dd { (by(plan.over_by.as_ref().unwrap_or(&plan.owner), operator, language)) }
                @if let Some(why) = &plan.why {
                    dt { (texts.cause) } dd { (worded(why, TEXT_BYTES_SHOWN, language)) }
                }
                @if let Some(reason) = plan.over_reason.as_ref().or(plan.reason.as_ref()) {
                    dt { (texts.reason) } dd { (shorten(reason, TEXT_BYTES_SHOWN)) }
                }
            }
        }
    }
}

fn oldest_sessions(sessions: &[Session], now: Time, language: Language) -> Markup {
    let texts = language.texts();
    html! {
        section {
            h2 { (texts.oldest_sessions) }
            @if sessions.is_empty() {
                p.none { (texts.none) }
            } @else {
                table {
                    tr { th { (texts.channel) } th.n { (texts.connections) } th.n { (texts.age) } }
                    @for session in sessions {
                        tr {
                            td { (short(session.channel_id.as_str())) }
                            td.n {
                                (session.connections)
                                @if session.pending > 0 { " (" (texts.pending) (texts.colon) (session.pending) ")" }
                            }
                            td.n { (age(now, session.created_at, language)) }
                        }
                    }
                }
            }
        }
    }
}

fn rejections(status: &Status, texts: &Texts) -> Markup {
    let rejected: Vec<_> = status
        .rejected
        .iter()
        .filter(|(_, count)| **count > 0)
        .collect();
    html! {
        section {
            h2 { @if status.shadow { (texts.shadow_rejections) } @else { (texts.rejections) } }
            @if rejected.is_empty() {
                p.none { (texts.none) }
            } @else {
                table {
                    @for (reason, count) in rejected {
                        tr { td { (reason.name()) } td.n { (count) } }
                    }
                }
            }
        }
    }
}

/// Writes a time to the second.
fn time(time: Time) -> Markup {
    let text = time.to_string();
    let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
    let clock = rest.split('.').next().unwrap_or_default();
    html! { time datetime=(text) { (date) " " (clock) " UTC" } }
}

/// Writes a time to come, and how far ahead it is.
fn ahead(at: Time, now: Time, language: Language) -> Markup {
    html! { (time(at)) " (" (language.texts().ahead) (age(at, now, language)) ")" }
}

/// Writes the time from one to the other.
fn age(later: Time, earlier: Time, language: Language) -> String {
    language.span(later.since(earlier))
}

#[cfg(test)]
mod tests;
