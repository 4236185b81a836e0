//! `soramode status`

use std::time::Duration;

use soramode_protocol::node::{GetStatus, Source, Status, StorageState};

use crate::Context;
use crate::args::Format;
use crate::error::{Exit, Failure};
use crate::output::{Output, Row, pairs, times};

/// Print the node's mode, its sessions and connections, and how the daemon is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let status = context.socket.connect().await?.call(&GetStatus {}).await?;
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(&status)?,
        Format::Table | Format::Plain => {
            let rows = [mode_rows(&status, &context.output), session_rows(&status, &context.output), daemon_rows(&status, &context.output)];
            pairs(&mut context.output, &rows.concat())?;
        }
    }
    Ok(Exit::Done)
}

fn mode_rows(status: &Status, output: &Output) -> Vec<Row> {
    let mode = &status.mode;
    vec![
        ("node", Some(status.node_name.to_string())),
        ("mode", Some(mode.mode.to_string())),
        ("standing", Some(status.standing.to_string())),
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
        ("pending", Some(status.pending.to_string())),
        ("known", Some(if status.sessions_known { "yes" } else { "no" }.to_owned())),
        ("sources", Some(status.sources.iter().map(source_words).collect::<Vec<_>>().join("; "))),
        ("oldest", oldest.map(|session| format!("{}, {}", session.channel_id, output.time(session.created_at)))),
        ("rejected", Some(rejected.join(", ")).filter(|words| !words.is_empty())),
    ]
}

fn source_words(source: &Source) -> String {
    match (&source.missing, source.known) {
        (Some(missing), _) => format!("{}: {missing}", source.name),
        (None, true) => source.name.clone(),
        (None, false) => format!("{}: has not told everything yet", source.name),
    }
}

fn daemon_rows(status: &Status, output: &Output) -> Vec<Row> {
    let state = match status.storage.state {
        StorageState::Memory => "in memory: it ends with the daemon",
        StorageState::Ok => "on disk",
        StorageState::Failed => "cannot be written any more",
    };
    let state = match &status.storage.path {
        Some(path) => format!("{state} ({path})"),
        None => state.to_owned(),
    };
    let owed = status.deliveries;
    let deliveries = (owed.pending + owed.failed > 0).then(|| format!("{} pending, {} failed", owed.pending, owed.failed));
    vec![
        ("deliveries", deliveries),
        ("state", Some(state)),
        ("soramoded", Some(format!("{} (protocol {})", status.version, status.protocol))),
        ("started", Some(output.time(status.started_at))),
        ("uptime", Some(times::span(Duration::from_secs(status.uptime_seconds)))),
    ]
}
