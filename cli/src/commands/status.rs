//! `soramode status`

use std::time::Duration;

use soramode_protocol::node::{GetStatus, Membership, Source, Status, StorageState, Upstream};

use crate::Context;
use crate::api::{needs_socket, needs_soramoded};
use crate::args::Format;
use crate::cluster_status;
use crate::error::{Exit, Failure};
use crate::live;
use crate::output::escape::escape;
use crate::output::paint::Paint;
use crate::output::{Output, Row, painted_pairs, times};
use crate::seen::shadow_words;

/// Show mode, sessions, connections and daemon health
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Update the view as the node changes
    ///
    /// Shows the oldest sessions and the latest events too. Keys: q quits, p pauses, f filters the events. Not over --api-url.
    #[arg(short, long)]
    watch: bool,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if args.watch {
        if context.api.is_some() {
            return Err(needs_socket("status --watch"));
        }
        return live::run(context).await;
    }
    let status = match context.api {
        Some(api) => *api.status().await?.ok_or_else(|| needs_soramoded("status"))?,
        None => context.socket.connect().await?.call(&GetStatus {}).await?,
    };
    if status.shadow {
        context.output.warn(&shadow_words(&escape(status.node_name.as_str())));
    }
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(&status)?,
        Format::Table | Format::Plain => {
            let membership = cluster_status::rows(&status, &context.output);
            let rows = [
                mode_rows(&status, &context.output),
                membership,
                session_rows(&status, &context.output),
                daemon_rows(&status, &context.output),
            ];
            painted_pairs(&mut context.output, &rows.concat(), |name| paint(name, &status))?;
        }
    }
    Ok(Exit::Done)
}

/// The colour of what is not as it should be; the words say so too.
fn paint(name: &str, status: &Status) -> Option<Paint> {
    let bad = match name {
        "warnings" | "problem" | "published" => true,
        "complete" => !status.sessions_complete,
        "membership" => matches!(status.membership, Membership::Isolated | Membership::Fenced),
        "upstreams" => status.upstreams.iter().any(|upstream| upstream.problem.is_some()),
        "sources" => status.sources.iter().any(|source| source.problem.is_some() || source.incomplete_reason.is_some()),
        "state" => status.storage.state == StorageState::Failed,
        "deliveries" => status.deliveries.failed > 0,
        "shadow" => return Some(Paint::Careful),
        _ => false,
    };
    bad.then_some(Paint::Bad)
}

fn mode_rows(status: &Status, output: &Output) -> Vec<Row> {
    let mode = &status.mode;
    vec![
        ("node", Some(status.node_name.to_string())),
        ("mode", Some(mode.mode.to_string())),
        ("since", Some(output.time(mode.since))),
        ("by", Some(mode.actor.clone())),
        ("reason", mode.reason.clone()),
        ("until", mode.expires_at.map(|time| output.time_ahead(time))),
        ("generation", Some(mode.generation.to_string())),
    ]
}

fn session_rows(status: &Status, output: &Output) -> Vec<Row> {
    let oldest = status.oldest_session.as_ref();
    let rejected: Vec<String> = status.rejected.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    vec![
        ("sessions", Some(status.sessions.to_string())),
        ("connections", Some(status.connections.to_string())),
        ("shadow", status.shadow.then(|| "yes: a Sora's clients get in whatever is decided".to_owned())),
        ("pending", Some(status.pending.to_string())),
        ("complete", Some(if status.sessions_complete { "yes" } else { "no" }.to_owned())),
        ("sources", Some(status.sources.iter().map(|source| source_words(source, output)).collect::<Vec<_>>().join("; "))),
        ("oldest", oldest.map(|session| format!("{}, {}", session.channel_id, output.time(session.created_at)))),
        ("rejected", Some(rejected.join(", ")).filter(|words| !words.is_empty())),
    ]
}

fn source_words(source: &Source, output: &Output) -> String {
    let state = match (&source.incomplete_reason, source.complete) {
        (Some(missing), _) => format!("{}: {missing}", source.name),
        (None, true) => source.name.clone(),
        (None, false) => format!("{}: has not told everything yet", source.name),
    };
    let heard = source.last_contact.map(|heard| format!(" (heard {})", output.time(heard))).unwrap_or_default();
    // What is missing says why.
    let problem = source.problem.as_ref().filter(|_| source.incomplete_reason.is_none());
    let problem = problem.map(|problem| format!(", but: {problem}")).unwrap_or_default();
    format!("{state}{heard}{problem}")
}

/// `auth http://127.0.0.1:8080/auth: answered 2 s ago`
pub(super) fn upstream_words(upstream: &Upstream, output: &Output) -> String {
    let how = match (&upstream.problem, upstream.last_success) {
        (Some(problem), _) => problem.clone(),
        (None, Some(success)) => format!("answered {}", output.time(success)),
        (None, None) => "not asked yet".to_owned(),
    };
    format!("{} {}: {how}", upstream.name, upstream.url)
}

fn daemon_rows(status: &Status, output: &Output) -> Vec<Row> {
    let state = match status.storage.state {
        StorageState::Memory if status.cluster.is_some() => "in memory: lost when soramoded ends, which orphans the node's channels",
        StorageState::Memory => "in memory: it ends with the daemon",
        StorageState::Ok => "on disk",
        StorageState::Failed => "cannot be written",
    };
    let state = match &status.storage.path {
        Some(path) => format!("{state} ({path})"),
        None => state.to_owned(),
    };
    let owed = status.deliveries;
    let deliveries = (owed.pending + owed.failed > 0).then(|| format!("{} pending, {} failed", owed.pending, owed.failed));
    let upstreams: Vec<String> = status.upstreams.iter().map(|upstream| upstream_words(upstream, output)).collect();
    vec![
        ("warnings", Some(status.warnings.join("; ")).filter(|words| !words.is_empty())),
        ("upstreams", Some(upstreams.join("; ")).filter(|words| !words.is_empty())),
        ("deliveries", deliveries),
        ("state", Some(state)),
        ("soramoded", Some(format!("{} (protocol {})", status.version, status.protocol))),
        ("started", Some(output.time(status.started_at))),
        ("uptime", Some(times::span(Duration::from_secs(status.uptime_seconds)))),
    ]
}
