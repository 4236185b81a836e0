//! The checks of one node.

use std::time::Duration;

use soramode_protocol::access::Access;
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{
    GetInfo, GetStatus, Info, ListClusterNodes, Source, Status, StorageState, Upstream,
};
use soramode_protocol::time::Time;
use soramode_protocol::version::{PROTOCOL, VERSION};

use super::super::status::describe_upstream;
use super::cluster;
use super::verdict::Check;
use crate::command_line;
use crate::error::Failure;
use crate::last_status::SHADOW;
use crate::mode_info::closed_by;
use crate::node::Node;
use crate::opening::Closing;
use crate::output::escape::{escape, quoted};
use crate::output::{Output, counted, times};
use crate::plan::describe::{describe_future, describe_owner};
use crate::sfu::{api_of, source_api, source_name};

/// Tolerated step of the wall clock since the daemon's start.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(5);

/// Checks the node; returns its name too.
pub(super) async fn check(
    node: Node<'_>,
    output: &Output,
) -> Result<(NodeName, Vec<Check>), Failure> {
    let (info, status) = node
        .connect()
        .await?
        .call_both(&GetInfo {}, &GetStatus {})
        .await?;
    let closing = Closing::of_closed(status.mode.mode, node).await;
    let mut checks = vec![
        versions(&info),
        access(&info),
        mode(&status, &closing, &node.command("set normal")),
        state(&status),
    ];
    checks.extend(plan_check(&status, node));
    checks.extend(
        status
            .sources
            .iter()
            .map(|source| source_check(source, &status, output)),
    );
    checks.extend(auth_check(&status));
    checks.extend(auth_webhooks_check(&status, output));
    if status.shadow {
        checks.push(Check::note(
            "shadow",
            SHADOW,
            "To enforce the mode, restart soramoded without --shadow",
        ));
    }
    checks.extend(
        status
            .unauthenticated_listeners
            .iter()
            .map(|listener| unauthenticated_check(listener)),
    );
    checks.extend(cluster::cluster_checks(&status));
    if status.cluster.is_some() {
        let nodes = node
            .connect()
            .await?
            .call(&ListClusterNodes {
                count_orphaned: true,
            })
            .await?;
        checks.extend(cluster::node_checks(&nodes, &status, |words| {
            node.command(words)
        }));
    }
    // Problems of Sora's API are reported for it as a source.
    let others = status
        .upstreams
        .iter()
        .filter(|upstream| !matches!(upstream.name.as_str(), "sora-api" | "janus-admin"));
    checks.extend(others.map(|upstream| upstream_check(upstream, output)));
    checks.extend(status.warnings.iter().map(|warning| warning_check(warning)));
    checks.push(end_check(&status));
    checks.push(deliveries(&status));
    checks.push(clock(&status, times::now()));
    for check in &mut checks {
        check.advice = check.advice.take().map(|advice| node.completed(&advice));
    }
    Ok((status.node_name, checks))
}

fn versions(info: &Info) -> Check {
    let how = format!(
        "soramoded {} (protocol {}), soramode {VERSION} (protocol {PROTOCOL})",
        info.version, info.protocol
    );
    if info.version == VERSION {
        Check::ok("versions", how)
    } else {
        Check::note("versions", how, "Install the same version of both")
    }
}

fn access(info: &Info) -> Check {
    match info.access {
        Access::Operate => Check::ok("access", "this user may change the mode"),
        Access::View => {
            let advice = "To change the mode, run soramode as root, as soramoded's own user or as a member of its --operator-group";
            Check::note(
                "access",
                "this user may look but not change anything",
                advice,
            )
        }
    }
}

fn mode(status: &Status, closing: &Closing, open: &str) -> Check {
    let Status {
        mode, node_name, ..
    } = status;
    let membership = status.membership_words();
    let how = format!("{node_name} is {} and {membership}", mode.mode);
    match mode.mode {
        Mode::Normal => Check::ok("mode", how),
        Mode::BlockNewSession | Mode::BlockNewConnection => {
            let since = times::age(mode.since);
            let reason = mode
                .reason
                .as_deref()
                .map(|reason| format!(" ({})", quoted(reason)))
                .unwrap_or_default();
            let how = format!("{how}, closed {since} ago by {}{reason}", closed_by(mode));
            Check::note("mode", how, closing.how_to_open(status, open))
        }
        Mode::Initial => Check::bad(
            "mode",
            how,
            "It becomes normal automatically when it joins its cluster: see the cluster line below",
        ),
    }
}

/// Names a plan that runs: it goes on without a command that waits for it.
fn plan_check(status: &Status, node: Node<'_>) -> Option<Check> {
    let plan = status.plan.as_deref().filter(|it| it.outcome.is_none())?;
    let how = format!(
        "plan {} of {} runs: {}",
        plan.id,
        describe_owner(plan),
        describe_future(plan, &escape(status.node_name.as_str()))
    );
    let cancel = node.command(&format!("plan cancel {}", plan.id));
    Some(Check::note("plan", how, format!("Cancel it: {cancel}")))
}

fn state(status: &Status) -> Check {
    match status.storage.state {
        StorageState::Ok => Check::ok("state", "on disk"),
        StorageState::Memory => match status.cluster.as_deref() {
            // The channels that the node owned when it ended are orphaned.
            Some(cluster) if cluster.no_takeover_reason.is_some() => {
                let how = "in memory, in a cluster: each end of soramoded with sessions orphans their channels";
                Check::bad(
                    "state",
                    how,
                    "Restart soramoded without --ephemeral, or set --on-fence and --dead-man to allow automatic takeover",
                )
            }
            Some(_) | None => Check::note(
                "state",
                "in memory: lost when soramoded ends",
                "To keep the mode and the sessions from then on, restart soramoded without --ephemeral. That restart still loses them, and the node opens",
            ),
        },
        StorageState::Failed => Check::bad(
            "state",
            "cannot be used, or cannot be written",
            "See the warning below for the reason and the remedy",
        ),
    }
}

fn source_check(source: &Source, status: &Status, output: &Output) -> Check {
    let name = source_name(source);
    let (api, remedy) = source_api(source);
    let last_contact = source
        .last_contact
        .map(|at| format!(" (last contact {})", output.time(at)))
        .unwrap_or_default();
    match (&source.problem, &source.incomplete_reason) {
        (Some(problem), _) => {
            let url = api_of(status).map(|it| it.url.as_str());
            let place = url.map(|url| format!(" at {url}")).unwrap_or_default();
            let how = format!("{api}{place} failed: {problem}{last_contact}");
            match url.filter(|_| name == "sora") {
                Some(url) => Check::bad(name, how, format!("{remedy}. {}", test_of_sora(url))),
                None => Check::bad(name, how, remedy),
            }
        }
        (None, Some(missing)) => {
            let remedy = source
                .hint
                .as_ref()
                .map(|hint| format!("{hint}. "))
                .unwrap_or_default();
            let advice = format!("{remedy}Until then drain and wait end with exit code 8");
            Check::bad(
                name,
                format!("session list incomplete: {missing}{last_contact}"),
                advice,
            )
        }
        (None, None) if source.complete && source.last_contact.is_none() && !status.has_sfu() => {
            let how = "no client has called Connect or Report since soramoded started";
            let advice = "Connect the signalling server (soramode-protocol(7)): sessions that are not reported do not hold up a drain";
            Check::note(name, how, advice)
        }
        (None, None) if source.complete => {
            Check::ok(name, format!("session list complete{last_contact}"))
        }
        (None, None) => Check::note(
            name,
            format!("session list incomplete{last_contact}"),
            "soramoded is asking for the rest: look again in a moment",
        ),
    }
}

/// Returns the command that asks Sora as soramoded does.
fn test_of_sora(url: &str) -> String {
    let url = command_line::word(url);
    format!(
        "Ask it on the node: curl -X POST -H 'x-sora-target: Sora_20201013.ListConnections' {url}"
    )
}

/// Splits a warning: the first sentence is the fact, the rest the remedy.
fn warning_check(warning: &str) -> Check {
    let (how, advice) = warning
        .split_once(". ")
        .unwrap_or((warning, "See soramoded's log: journalctl -u soramoded"));
    Check::bad("warning", how, advice)
}

/// Notes that Sora's auth webhook is decided by the mode alone.
fn auth_check(status: &Status) -> Option<Check> {
    let is_alone = status.sources.iter().any(|source| source.name == "sora")
        && !status
            .upstreams
            .iter()
            .any(|upstream| upstream.name == "auth");
    is_alone.then(|| {
        let how = "no --auth-upstream: every client that the mode admits is admitted";
        Check::note("auth", how, "If your application authenticates clients, set --auth-upstream to the URL of its auth webhook")
    })
}

/// Checks that Sora asks about its clients. Clients that it let in without an auth webhook are among the warnings.
fn auth_webhooks_check(status: &Status, output: &Output) -> Option<Check> {
    let source = status
        .sources
        .iter()
        .find(|source| source.without_auth == Some(0))?;
    let Some(last_auth) = source.last_auth else {
        let up = times::span(Duration::from_secs(status.uptime_seconds));
        let advice = "If clients have connected since then, Sora does not ask soramoded, and the mode keeps no client out: set --sora-listen, and \
                      auth_webhook_url in sora.conf";
        return Some(Check::note(
            "webhooks",
            format!("no auth webhook from Sora since soramoded started {up} ago"),
            advice,
        ));
    };
    let how = format!(
        "Sora asks about each client (last auth webhook {})",
        output.time(last_auth)
    );
    Some(Check::ok("webhooks", how))
}

/// Checks an SFU's API that ends sessions.
fn end_by_api(status: &Status, source: &str, api: &str) -> Check {
    if status.failing_ends > 0 {
        return failing_ends_check(status.failing_ends);
    }
    let is_failing = status
        .sources
        .iter()
        .any(|it| it.name == source && it.problem.is_some());
    if is_failing {
        Check::note(
            "end",
            format!("{api} ends sessions, but its last request has failed"),
            format!("See the {source} line above"),
        )
    } else {
        Check::ok("end", format!("{api} ends sessions"))
    }
}

/// Notes sessions that do not end; the warning about them has the cause.
fn failing_ends_check(sessions: u64) -> Check {
    let have = if sessions == 1 { "has" } else { "have" };
    let how = format!(
        "{} {have} not ended although the SFU was asked to",
        counted(sessions, "session")
    );
    Check::note(
        "end",
        how,
        "See the warning above for the cause and the remedy",
    )
}

/// Checks how `soramode end` and fences end sessions.
fn end_check(status: &Status) -> Check {
    if status.sources.iter().any(|source| source.name == "janus") {
        return end_by_api(status, "janus", "Janus's Admin API");
    }
    let asks_sora = status
        .upstreams
        .iter()
        .any(|upstream| upstream.name == "sora-api");
    let fences_by_socket = status
        .cluster
        .as_deref()
        .is_some_and(|cluster| cluster.on_fence == "socket");
    let cannot = match (status.end_subscribers, asks_sora, fences_by_socket) {
        (0, true, false) => return end_by_api(status, "sora", "Sora's API"),
        (0, true, true) => "a fence (--on-fence socket) cannot end sessions",
        (0, false, false) => "no command can end sessions",
        (0, false, true) => "neither a command nor a fence (--on-fence socket) can end sessions",
        (_, _, _) if status.failing_ends > 0 => return failing_ends_check(status.failing_ends),
        (count, _, _) => {
            return Check::ok(
                "end",
                format!("{} can end sessions", counted(count, "subscribed client")),
            );
        }
    };
    let advice =
        "Have the signalling server send Subscribe with ends: true, again after each reconnect";
    Check::note(
        "end",
        format!("no client accepts end requests: {cannot}"),
        advice,
    )
}

fn unauthenticated_check(listener: &str) -> Check {
    if listener.starts_with("sora-listen") {
        let advice = "To accept only Sora, set --sora-token-file and add the token to the webhook URLs in sora.conf";
        return Check::note(
            "access",
            format!("{listener}: every user of this machine may impersonate Sora"),
            advice,
        );
    }
    let advice = "To accept only operators, set --http-token-file, or use --api-listen unix:PATH";
    Check::note(
        "access",
        format!("{listener}: every user of this machine may change the mode"),
        advice,
    )
}

fn upstream_check(upstream: &Upstream, output: &Output) -> Check {
    let how = describe_upstream(upstream, output);
    if upstream.name == "etcd" {
        return etcd_check(upstream, how);
    }
    if upstream.name == "webhook" {
        return receiver_check(upstream, how);
    }
    let how = format!("{} {how}", upstream.name);
    match (&upstream.problem, upstream.last_success) {
        (Some(_), _) => Check::bad(
            "upstream",
            how,
            "Check its URL and that it runs: until it answers, these webhooks fail",
        ),
        (None, Some(_)) => Check::ok("upstream", how),
        (None, None) => Check::note(
            "upstream",
            how,
            "It is asked with the first webhook. If none comes, check that sora.conf names soramoded",
        ),
    }
}

/// Checks a receiver of events. Events are kept for a day and a half, so a failure loses none yet.
fn receiver_check(receiver: &Upstream, how: String) -> Check {
    match (&receiver.problem, receiver.last_success) {
        (Some(_), _) => Check::bad(
            "webhook",
            how,
            "Its deliveries are retried for 36 hours. List them with: soramode deliveries",
        ),
        (None, Some(_)) => Check::ok("webhook", how),
        (None, None) => Check::note(
            "webhook",
            how,
            format!(
                "It is called with the first event. Test it: soramode webhook test {}",
                command_line::word(&receiver.url)
            ),
        ),
    }
}

/// Checks a member of the cluster's etcd. One failure is no outage while most members answer.
fn etcd_check(member: &Upstream, how: String) -> Check {
    match (&member.problem, member.last_success) {
        (Some(_), _) => Check::bad(
            "etcd",
            how,
            "Check that this member can be reached from here: the cluster needs most of them. On its host, see whether it runs: systemctl status etcd",
        ),
        (None, Some(_)) => Check::ok("etcd", how),
        (None, None) => Check::note(
            "etcd",
            how,
            "It is asked within 10 s: look again in a moment",
        ),
    }
}

fn deliveries(status: &Status) -> Check {
    let deliveries = status.deliveries;
    let how = format!(
        "{} pending, {} failed",
        deliveries.pending, deliveries.failed
    );
    if deliveries.failed == 0 {
        Check::ok("deliveries", how)
    } else {
        Check::bad(
            "deliveries",
            how,
            "List them with: soramode deliveries --state failed. Send one again with: soramode deliveries resend ID",
        )
    }
}

/// Checks for a step of the wall clock since the start, which shows in the time since then.
fn clock(status: &Status, now: Time) -> Check {
    let by_wall = now.since(status.started_at);
    let by_boot = Duration::from_secs(status.uptime_seconds);
    if by_wall.abs_diff(by_boot) <= CLOCK_STEP_MAX {
        return Check::ok("clock", "not changed since soramoded started");
    }
    let how = format!(
        "the wall clock was changed by {} since soramoded started",
        times::span(by_wall.abs_diff(by_boot))
    );
    Check::note(
        "clock",
        how,
        "Timers are not affected, except a --for set before the last reboot; times recorded before the change are off",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warnings_remedy_is_its_hint() {
        let check = warning_check(
            "the state cannot be written. Free disk space. Then run: soramode set normal",
        );
        assert_eq!(
            (check.how.as_str(), check.advice.as_deref()),
            (
                "the state cannot be written",
                Some("Free disk space. Then run: soramode set normal")
            )
        );
        assert!(
            warning_check("no remedy")
                .advice
                .is_some_and(|advice| advice.contains("journalctl"))
        );
    }
}
