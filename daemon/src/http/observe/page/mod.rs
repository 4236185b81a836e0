//! The status page: HTML without scripts, which refreshes itself. maud escapes every value.

mod language;

use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use maud::{DOCTYPE, Markup, html};
use soramode_protocol::chat::PAGE_URL_BYTES_MAX;
use soramode_protocol::http_client::read_url;
use soramode_protocol::mode::{InForce, ModeState};
use soramode_protocol::node::{ClusterNode, Status};
use soramode_protocol::plan::Plan;
use soramode_protocol::session::Session;
use soramode_protocol::text::shorten;
use soramode_protocol::time::Time;

use super::load_history::{CHART_HEIGHT, CHART_WIDTH, Chart};
use super::peers::PeerState;
use language::{Language, Texts};

/// Style sheet of the page.
pub(super) const STYLE: &str = include_str!("style.css");

/// The page fetches its style sheet and its icon from this listener, and nothing else from anywhere.
pub(super) const SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Length of the page, at most.
#[cfg(test)]
const PAGE_BYTES_MAX: usize = 30 * 1024;

/// Number of sessions that the page lists.
pub(super) const SESSIONS_SHOWN: u32 = 8;

/// Number of nodes that each list of nodes shows.
const NODES_SHOWN: usize = 16;

/// Time for which a plan that is over is shown.
const OVER_PLAN_SHOWN: Duration = Duration::from_hours(1);

/// Number of warnings shown.
const WARNINGS_SHOWN: usize = 8;

/// Length of a name or a text on the page, in bytes.
const NAME_BYTES_SHOWN: usize = 64;
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
                    meta http-equiv="refresh" content="5";
                }
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (headline.word) " - " (name) }
                link rel="stylesheet" href="status.css";
            }
            body {
                header {
                    h1 { (name) }
                    span {
                        (texts.updated) " " (time(now)) ", soramoded " (status.version) " "
                        @match refresh {
                            Refresh::On => a href="?refresh=off" { (texts.pause) },
                            Refresh::Off => a href="." { (texts.resume) },
                        }
                    }
                }
                main {
                (warnings(status, texts))
                section class={ "mode " (headline.class) } {
                    p.word { (headline.word) }
                    p { (status.mode.mode.name()) ": " (headline.sentence) }
                    (mode_facts(&status.mode, now, texts))
                }
                @if let Some(plan) = snapshot.plan.as_ref().filter(|plan| is_recent(plan, now)) {
                    (plan_section(plan, now, language))
                }
                (load(status, &snapshot.chart, texts))
                div.columns {
                    (oldest_sessions(&snapshot.sessions, now, texts))
                    (rejections(status, texts))
                    @if status.cluster.is_some() {
                        (members(&snapshot.members, texts))
                    }
                    @if !snapshot.peers.is_empty() {
                        (peers(&snapshot.peers, texts))
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

/// Returns what needs attention, each with its remedy if that is known.
fn warnings(status: &Status, texts: &Texts) -> Markup {
    let mut rows: Vec<(String, Option<String>)> = Vec::new();
    if status.shadow {
        rows.push((texts.shadow.to_owned(), None));
    }
    if let Some((warning, remedy)) = texts.membership_warning(status.membership) {
        rows.push((warning.to_owned(), Some(remedy.to_owned())));
    }
    if let Some(stalled) = status.stalled {
        let warning = format!("{}: {}", texts.stalled, texts.cause(stalled.cause));
        rows.push((warning, Some(texts.stalled_remedy.to_owned())));
    }
    if status.in_force.is_some_and(|it| it != InForce::Yes) {
        rows.push((
            texts.not_in_force.to_owned(),
            Some(texts.not_in_force_remedy.to_owned()),
        ));
    }
    rows.extend(
        status
            .warnings
            .iter()
            .map(|warning| (warning.clone(), None)),
    );
    for source in &status.sources {
        if let Some(reason) = &source.incomplete_reason {
            rows.push((format!("{}: {reason}", source.name), source.hint.clone()));
        }
        let reason = source.incomplete_reason.as_deref().unwrap_or_default();
        if let Some(problem) = source.problem.as_ref().filter(|it| !reason.contains(*it)) {
            rows.push((format!("{}: {problem}", source.name), None));
        }
    }
    let failing = status.upstreams.iter().filter_map(|upstream| {
        let problem = upstream.problem.as_ref()?;
        Some((format!("{}: {problem}", upstream.name), None))
    });
    rows.extend(failing);
    if rows.is_empty() {
        return html! {};
    }
    html! {
        section.warnings {
            h2 { (texts.warnings) }
            ul {
                @for (warning, remedy) in rows.iter().take(WARNINGS_SHOWN) {
                    li {
                        (shorten(warning, TEXT_BYTES_SHOWN))
                        @if let Some(remedy) = remedy {
                            span.remedy { (shorten(remedy, TEXT_BYTES_SHOWN)) }
                        }
                    }
                }
            }
            (omitted(rows.len(), WARNINGS_SHOWN, texts))
        }
    }
}

fn mode_facts(mode: &ModeState, now: Time, texts: &Texts) -> Markup {
    html! {
        dl.facts {
            dt { (texts.since) } dd { (time(mode.since)) " (" (age(now, mode.since)) ")" }
            dt { (texts.by) } dd { (short(&mode.actor)) }
            @if let Some(reason) = &mode.reason {
                dt { (texts.reason) } dd { (shorten(reason, TEXT_BYTES_SHOWN)) }
            }
            @if let Some(until) = mode.expires_at {
                dt { (texts.until) } dd { (ahead(until, now, texts)) }
            }
            @if let Some(end) = mode.expected_end_at {
                dt { (texts.expected_end) } dd {
                    @if end < now {
                        (time(end)) " " strong { (texts.overdue) " " (age(now, end)) }
                    } @else {
                        (ahead(end, now, texts))
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
                        (language.step(&next.step)) ", " (ahead(next.due_at, now, texts))
                    }
                }
                @if let Some(end) = plan.sessions_end_at().filter(|_| plan.outcome.is_none()) {
                    dt { (texts.sessions_end) } dd { (ahead(end, now, texts)) }
                }
                @if plan.asked > 0 {
                    dt { (texts.ended) } dd { (plan.ended) " / " (plan.asked) }
                }
                @if plan.delay_seconds > 0 {
                    dt { (texts.delay) } dd { (span(Duration::from_secs(plan.delay_seconds))) }
                }
                @if let Some(hold) = plan.held {
                    dt { (texts.held) } dd { (language.held(hold)) }
                }
                dt { (texts.by) } dd { (short(plan.over_by.as_ref().unwrap_or(&plan.owner))) }
                @if let Some(reason) = plan.why.as_ref().or(plan.over_reason.as_ref()).or(plan.reason.as_ref()) {
                    dt { (texts.reason) } dd { (shorten(reason, TEXT_BYTES_SHOWN)) }
                }
            }
        }
    }
}

fn load(status: &Status, drawn: &Chart, texts: &Texts) -> Markup {
    html! {
        section {
            h2 { (texts.load) }
            dl.numbers {
                div { dt { (texts.sessions) } dd { (status.sessions) } }
                div { dt { (texts.connections) } dd { (status.connections) } }
                @if status.pending > 0 {
                    div { dt { (texts.pending) } dd { (status.pending) } }
                }
            }
            (chart(drawn, status.sessions.max(status.connections), texts))
        }
    }
}

/// Shows the chart: the latest sample is on the right, and an hour is the whole width. The present load may be higher than that of each sample.
fn chart(drawn: &Chart, present: u64, texts: &Texts) -> Markup {
    html! {
        svg viewBox={ "0 -2 " (CHART_WIDTH) " " (CHART_HEIGHT + 4) } preserveAspectRatio="none" role="img" aria-label=(texts.last_hour) {
            polyline.connections-line points=(drawn.connections) {}
            polyline.sessions-line points=(drawn.sessions) {}
        }
        p.key {
            span { i {} (texts.sessions) }
            span { i.dashed {} (texts.connections) }
            span { (texts.last_hour) ", " (texts.highest) " " (drawn.highest.max(present)) }
        }
    }
}

fn oldest_sessions(sessions: &[Session], now: Time, texts: &Texts) -> Markup {
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
                            td.n { (session.connections) }
                            td.n { (age(now, session.created_at)) }
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
            h2 { (texts.rejections) }
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

fn members(members: &[ClusterNode], texts: &Texts) -> Markup {
    html! {
        section {
            h2 { (texts.members) }
            table {
                (node_heads(texts))
                @for node in members.iter().take(NODES_SHOWN) {
                    tr {
                        td {
                            @match node.cluster_page_url.as_deref().filter(|url| is_web(url)) {
                                Some(url) => a href=(url) { (short(node.node_name.as_str())) },
                                None => (short(node.node_name.as_str())),
                            }
                        }
                        td {
                            @match node.mode {
                                Some(mode) if node.connected => {
                                    @let (class, word) = texts.word(mode);
                                    span class=(class) { (word) }
                                }
                                _ => "-",
                            }
                        }
                        td.n { (count(node.sessions)) }
                        td.n { (count(node.connections)) }
                    }
                }
            }
            (omitted(members.len(), NODES_SHOWN, texts))
        }
    }
}

fn peers(peers: &[PeerState], texts: &Texts) -> Markup {
    html! {
        section {
            h2 { (texts.peers) }
            table {
                (node_heads(texts))
                @for peer in peers.iter().take(NODES_SHOWN) {
                    tr {
                        @match &peer.status {
                            Ok(status) => {
                                @let (class, word) = texts.word(status.mode);
                                td { (short(status.node_name.as_str())) }
                                td { span class=(class) { (word) } }
                                td.n { (status.sessions) }
                                td.n { (status.connections) }
                            }
                            Err(problem) => {
                                td { (short(&peer.url)) }
                                td colspan="3" { span.closed { (short(problem)) } }
                            }
                        }
                    }
                }
            }
            (omitted(peers.len(), NODES_SHOWN, texts))
        }
    }
}

fn node_heads(texts: &Texts) -> Markup {
    html! {
        tr { th { (texts.node) } th { (texts.mode) } th.n { (texts.sessions) } th.n { (texts.connections) } }
    }
}

/// Returns true for the URL of a page. Another node has published it, and a browser must run no script of it.
fn is_web(url: &str) -> bool {
    url.len() <= PAGE_URL_BYTES_MAX && read_url(url).is_ok()
}

/// Says how many rows are left out.
fn omitted(rows: usize, shown: usize, texts: &Texts) -> Markup {
    html! {
        @if rows > shown {
            p.none { (rows - shown) " " (texts.more) }
        }
    }
}

fn count(count: Option<u64>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}

fn short(name: &str) -> String {
    shorten(name, NAME_BYTES_SHOWN)
}

/// Writes a time to the second.
fn time(time: Time) -> Markup {
    let text = time.to_string();
    let (date, rest) = text.split_once('T').unwrap_or((&text, ""));
    let clock = rest.split('.').next().unwrap_or_default();
    html! { time datetime=(text) { (date) " " (clock) " UTC" } }
}

/// Writes a time to come, and how far ahead it is.
fn ahead(at: Time, now: Time, texts: &Texts) -> Markup {
    html! { (time(at)) " (" (texts.ahead) (age(at, now)) ")" }
}

/// Writes the time from one to the other, in whole minutes from an hour on.
fn age(later: Time, earlier: Time) -> String {
    span(later.since(earlier))
}

fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let whole = if seconds < 3600 {
        seconds
    } else {
        seconds - seconds % 60
    };
    humantime::format_duration(Duration::from_secs(whole)).to_string()
}

#[cfg(test)]
mod tests;
