//! `soramode status`

use soramode_protocol::actor::SystemActor;
use soramode_protocol::mode::{InForce, ModeState};
use soramode_protocol::node::{GetStatus, Membership, Source, Status, StorageState, Upstream};
use soramode_protocol::plan::PlanState;

use crate::api::{Detail, needs_soramoded};
use crate::cluster_status;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::fleet::host_answer::HostAnswer;
use crate::last_status::{LastStatus, SHADOW, shadow_warning};
use crate::live;
use crate::mode_info::closed_by;
use crate::node::{Feature, Node};
use crate::opening::Closing;
use crate::output::color::Emphasis;
use crate::output::escape::{escape, quoted};
use crate::output::{Cell, Column, Format, Output, Row, colored_groups, with_pending};
use crate::plan::describe::{describe_ended, describe_next, describe_plan_state, describe_stalled};
use crate::reservation::describe_roll;
use crate::sfu::{describe_in_force, source_name};

/// Show mode, sessions, connections and daemon health
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Update the view as the node changes
    ///
    /// Shows the oldest sessions and the latest events too. Keys: q quits, p pauses, f filters the events. Not over --api-url.
    #[arg(short, long)]
    watch: bool,
}

/// The columns on several hosts.
pub(crate) const HOST_COLUMNS: [Column; 8] = [
    Column::id("NODE").optional(3),
    Column::word("MODE").answer(),
    Column::word("SINCE").optional(1),
    Column::word("SESSIONS"),
    Column::word("CONNECTIONS").optional(2),
    Column::word("MEMBERSHIP").optional(4),
    Column::text("ROLL"),
    Column::word("WARNINGS"),
];

/// Asks one of several hosts.
pub(super) async fn ask_host(node: Node<'_>, output: &Output) -> Result<HostAnswer, Failure> {
    let status = node.connect().await?.call(&GetStatus {}).await?;
    let row = host_row(&status, output);
    HostAnswer::one_row(status.node_name.as_str(), &status, row)
}

/// Returns the cells after the host.
pub(crate) fn host_row(status: &Status, output: &Output) -> Vec<Cell<'static>> {
    let warnings = status.warnings.len() as u64;
    let warnings = Some(warnings).filter(|count| *count > 0);
    vec![
        status.node_name.to_string().into(),
        status.mode.mode.into(),
        output.time_cell(status.mode.since),
        status.sessions.into(),
        status.connections.into(),
        status.membership_words().into(),
        describe_roll(status, |_| true).into(),
        Cell::from(warnings).colored(warnings.map(|_| Emphasis::Bad)),
    ]
}

impl Args {
    pub(crate) const fn is_watch(&self) -> bool {
        self.watch
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    if args.watch {
        let node = context.node;
        node.require(Feature::ControlSocket, "status --watch")?;
        return live::run(node.endpoint()?, &context.output).await;
    }
    let LastStatus::Daemon(status) = context.node.status(Detail::Mode).await? else {
        return Err(needs_soramoded("status"));
    };
    let closing = Closing::of_closed(status.mode.mode, context.node).await;
    if status.shadow {
        context
            .output
            .warn(&shadow_warning(&escape(status.node_name.as_str())));
    }
    match context.output.format() {
        Format::Json | Format::Jsonl => context.output.json(&*status)?,
        Format::Table | Format::Plain => {
            let output = &context.output;
            let open = context.node.command("set normal");
            let groups = [
                ("WARNINGS", warning_rows(&status)),
                ("MODE", mode_rows(&status, &closing, &open, output)),
                ("PLAN", plan_rows(&status, context.node, output)),
                ("SESSIONS", session_rows(&status, output)),
                ("SOURCES", source_rows(&status, output)),
                ("DELIVERIES", delivery_rows(&status, context.node, output)),
                ("CLUSTER", cluster_rows(&status, output)),
                ("DAEMON", daemon_rows(&status, output)),
            ];
            colored_groups(&mut context.output, &groups, |name| emphasis(name, &status))?;
        }
    }
    Ok(Exit::Done)
}

/// Returns the emphasis of a value that needs attention; its text has it too.
fn emphasis(name: &str, status: &Status) -> Option<Emphasis> {
    let fails = |names: &[&str]| {
        status
            .upstreams
            .iter()
            .any(|it| names.contains(&it.name.as_str()) && it.problem.is_some())
    };
    let bad = match name {
        "warning" | "problem" | "published" | "stalled" => true,
        "complete" => !status.sessions_complete,
        "membership" => matches!(status.membership, Membership::Isolated | Membership::Fenced),
        "state" => status.storage.state == StorageState::Failed,
        "deliveries" => status.deliveries.failed > 0,
        "shadow" | "to open" | "to cancel" => return Some(Emphasis::Careful),
        "socket" | "sora" | "janus" => status
            .sources
            .iter()
            .any(|it| it.name == name && (it.problem.is_some() || it.incomplete_reason.is_some())),
        "in force" => status.in_force.is_some_and(|it| it != InForce::Yes),
        "sora-api" | "janus-admin" => {
            fails(&[name]) || status.sources.iter().any(|it| it.problem.is_some())
        }
        "auth" | "session" | "event" | "etcd" | "webhook" => fails(&[name]),
        _ => false,
    };
    bad.then_some(Emphasis::Bad)
}

fn warning_rows(status: &Status) -> Vec<Row> {
    let shadow = status.shadow.then(|| SHADOW.to_owned());
    let warnings = status
        .warnings
        .iter()
        .map(|warning| ("warning", Some(warning.clone())));
    std::iter::once(("shadow", shadow))
        .chain(warnings)
        .collect()
}

fn mode_rows(status: &Status, closing: &Closing, open: &str, output: &Output) -> Vec<Row> {
    let mode = &status.mode;
    let expected_end = mode.expected_end_at.map(|time| output.time_ahead(time));
    let to_open = mode
        .mode
        .is_block()
        .then(|| closing.how_to_open(status, open));
    vec![
        ("node", Some(status.node_name.to_string())),
        ("mode", Some(mode.mode.to_string())),
        ("since", Some(output.time(mode.since))),
        ("by", Some(by(mode))),
        ("reason", mode.reason.clone()),
        (
            "reopens at",
            mode.expires_at.map(|time| output.time_ahead(time)),
        ),
        ("expected end", expected_end),
        ("generation", Some(mode.generation.to_string())),
        (
            "roll",
            describe_roll(status, |it| closing.is_of_closing(it)),
        ),
        ("to open", to_open),
    ]
}

/// Lists the plan that runs: soramode plan shows its steps.
fn plan_rows(status: &Status, node: Node<'_>, output: &Output) -> Vec<Row> {
    let Some(plan) = status.plan.as_deref() else {
        return Vec::new();
    };
    let end = plan
        .sessions_end_at()
        .filter(|_| plan.state != PlanState::Ending);
    vec![
        (
            "plan",
            Some(format!("{}, {}", plan.id, describe_plan_state(plan))),
        ),
        ("next", describe_next(plan)),
        ("ends", end.map(|end| output.time_ahead(end))),
        ("ended", (plan.asked > 0).then(|| describe_ended(plan))),
        (
            "to cancel",
            Some(node.command(&format!("plan cancel {}", plan.id))),
        ),
    ]
}

/// Names the actor of the mode, soramoded itself also as `history` does: `system:expired, the timer of --for`.
fn by(mode: &ModeState) -> String {
    let words = closed_by(mode);
    match SystemActor::from_name(&mode.actor) {
        Some(_) => format!("{}, {words}", mode.actor),
        None => words,
    }
}

fn session_rows(status: &Status, output: &Output) -> Vec<Row> {
    let oldest = status.oldest_session.as_ref();
    let rejected: Vec<String> = status
        .rejected
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    let complete = if status.sessions_complete {
        "yes: every session on the node is listed"
    } else {
        "no: clients may be connected that are not listed"
    };
    vec![
        ("sessions", Some(status.sessions.to_string())),
        (
            "oldest",
            oldest.map(|session| {
                format!(
                    "{}, {}",
                    quoted(session.channel_id.as_str()),
                    output.time(session.created_at)
                )
            }),
        ),
        (
            "connections",
            Some(with_pending(status.connections, status.pending)),
        ),
        ("complete", Some(complete.to_owned())),
        (
            "in force",
            status
                .in_force
                .map(|it| describe_in_force(it, status.rooms)),
        ),
        ("stalled", status.stalled.as_ref().map(describe_stalled)),
        (
            "rejected",
            Some(rejected.join(", ")).filter(|words| !words.is_empty()),
        ),
    ]
}

fn source_rows(status: &Status, output: &Output) -> Vec<Row> {
    let sources = status
        .sources
        .iter()
        .map(|source| (source_name(source), Some(describe_source(source, output))));
    let upstreams = upstreams(status);
    sources
        .chain(upstream_rows(
            &upstreams,
            &["auth", "session", "event", "sora-api", "janus-admin"],
            output,
        ))
        .collect()
}

/// Lists the servers that soramoded calls. For Sora's API its own polls count more than the
/// requests that it passes on.
fn upstreams(status: &Status) -> Vec<Upstream> {
    let polls = status
        .sources
        .iter()
        .find_map(|source| source.problem.clone());
    let mut upstreams = status.upstreams.clone();
    for api in upstreams
        .iter_mut()
        .filter(|upstream| matches!(upstream.name.as_str(), "sora-api" | "janus-admin"))
    {
        api.problem = polls.clone().or(api.problem.take());
    }
    upstreams
}

fn describe_source(source: &Source, output: &Output) -> String {
    let last_contact = source
        .last_contact
        .map(|at| format!(" (last contact {})", output.time(at)))
        .unwrap_or_default();
    match (&source.incomplete_reason, source.complete) {
        // The first row has the reason.
        (Some(missing), _) => {
            let remedy = source
                .hint
                .as_ref()
                .map(|hint| format!(". {hint}"))
                .unwrap_or_default();
            format!("incomplete: {missing}{last_contact}{remedy}")
        }
        (None, true) => format!("complete{last_contact}"),
        (None, false) => format!("incomplete: soramoded is asking for the rest{last_contact}"),
    }
}

/// Returns a row for each server of these names.
fn upstream_rows(upstreams: &[Upstream], names: &[&'static str], output: &Output) -> Vec<Row> {
    let rows = names.iter().flat_map(|name| {
        upstreams
            .iter()
            .filter(move |it| it.name == **name)
            .map(move |it| (*name, it))
    });
    rows.map(|(name, upstream)| (name, Some(describe_upstream(upstream, output))))
        .collect()
}

/// `http://127.0.0.1:8080/auth: answered 2 s ago`
pub(super) fn describe_upstream(upstream: &Upstream, output: &Output) -> String {
    let how = match (&upstream.problem, upstream.last_success) {
        (Some(problem), Some(success)) => {
            format!("{problem} (last success {})", output.time(success))
        }
        (Some(problem), None) => problem.clone(),
        (None, Some(success)) => format!("answered {}", output.time(success)),
        (None, None) => "not asked yet".to_owned(),
    };
    format!("{}: {how}", upstream.url)
}

fn delivery_rows(status: &Status, node: Node<'_>, output: &Output) -> Vec<Row> {
    let counts = status.deliveries;
    let list = if counts.failed > 0 {
        node.completed(". List them with: soramode deliveries --state failed")
    } else {
        String::new()
    };
    let receivers = upstream_rows(&status.upstreams, &["webhook"], output);
    let has_any = counts.pending + counts.failed > 0 || !receivers.is_empty();
    let counts =
        has_any.then(|| format!("{} pending, {} failed{list}", counts.pending, counts.failed));
    std::iter::once(("deliveries", counts))
        .chain(receivers)
        .collect()
}

fn cluster_rows(status: &Status, output: &Output) -> Vec<Row> {
    let mut rows = cluster_status::rows(status, output);
    rows.extend(upstream_rows(&status.upstreams, &["etcd"], output));
    rows
}

fn daemon_rows(status: &Status, output: &Output) -> Vec<Row> {
    let state = match status.storage.state {
        StorageState::Memory if status.cluster.is_some() => {
            "in memory: lost when soramoded ends, which orphans the node's channels"
        }
        StorageState::Memory => "in memory: lost when soramoded ends",
        StorageState::Ok => "on disk",
        StorageState::Failed => "CANNOT BE WRITTEN",
    };
    let state = match &status.storage.path {
        Some(path) => format!("{state} ({path})"),
        None => state.to_owned(),
    };
    vec![
        ("state", Some(state)),
        (
            "soramoded",
            Some(format!("{} (protocol {})", status.version, status.protocol)),
        ),
        ("started", Some(output.time(status.started_at))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_status::status_of;

    #[test]
    fn an_api_that_fails_for_soramoded_has_not_answered() {
        let mut status = status_of("normal", r#","sessions_complete":true"#);
        status.sources = serde_json::from_str(
            r#"[{"name":"sora","complete":true,"problem":"no answer in time"}]"#,
        )
        .unwrap();
        status.upstreams = serde_json::from_str(
            r#"[{"name":"auth","url":"http://a/"},{"name":"sora-api","url":"http://s/"}]"#,
        )
        .unwrap();
        let problems: Vec<_> = upstreams(&status)
            .into_iter()
            .map(|upstream| upstream.problem)
            .collect();
        assert_eq!(problems, [None, Some("no answer in time".to_owned())]);
    }
}
