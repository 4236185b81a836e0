//! `soramode doctor`

use std::time::Duration;

use serde::Serialize;
use soramode_protocol::access::Access;
use soramode_protocol::cluster::RISK_OF_PURGE;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{
    ClusterNode, ClusterNodes, GetInfo, GetStatus, Info, ListClusterNodes, Membership, OrphanedChannels, Source, Status, StorageState,
    Upstream,
};
use soramode_protocol::time::Time;
use soramode_protocol::version::{PROTOCOL, VERSION};

use super::status::upstream_words;
use crate::Context;
use crate::args::Format;
use crate::cluster_status;
use crate::command_line;
use crate::error::{Exit, Failure};
use crate::output::cells;
use crate::output::escape::escape;
use crate::output::paint::Paint;
use crate::output::{Output, counted, times};

/// How far the wall clock may be from where it was at the daemon's start, before that is said.
const CLOCK_STEP_MAX: Duration = Duration::from_secs(5);

/// Check the setup and say what to fix
///
/// Exit code 1 if something is wrong; notes do not count.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// As it was asked for, and worth knowing.
    Note,
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    verdict: Verdict,
    how: String,
    /// The remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Check {
    fn ok(what: &'static str, how: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, how: how.into(), advice: None }
    }

    fn note(what: &'static str, how: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Note, how: how.into(), advice: Some(advice.into()) }
    }

    fn bad(what: &'static str, how: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Bad, how: how.into(), advice: Some(advice.into()) }
    }
}

#[derive(Serialize)]
struct View<'a> {
    checks: &'a [Check],
    is_well: bool,
}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let (info, status) = context.socket.connect().await?.call_both(&GetInfo {}, &GetStatus {}).await?;
    let mut checks = vec![versions(&info), access(&info), mode(&status), state(&status)];
    checks.extend(status.sources.iter().map(|source| source_check(source, &context.output)));
    if status.shadow {
        let advice = "That is --shadow: leave it out when soramode is to decide";
        checks.push(Check::note("shadow", "a Sora's clients get in whatever is decided", advice));
    }
    checks.extend(status.unauthenticated_listeners.iter().map(|listener| unauthenticated_check(listener)));
    checks.extend(cluster_checks(&status));
    if status.cluster.is_some() {
        let nodes = context.socket.connect().await?.call(&ListClusterNodes { count_orphaned: true }).await?;
        checks.extend(node_checks(&nodes));
    }
    // What ails Sora's API is said of it as a source.
    let others = status.upstreams.iter().filter(|upstream| upstream.name != "sora-api");
    checks.extend(others.map(|upstream| upstream_check(upstream, &context.output)));
    checks.extend(status.warnings.iter().map(|warning| Check::bad("warning", warning, "See soramoded's log: journalctl -u soramoded")));
    checks.push(end_check(&status));
    checks.push(deliveries(&status));
    checks.push(clock(&status, times::now()));
    let bad = checks.iter().filter(|check| check.verdict == Verdict::Bad).count() as u64;
    show(&View { checks: &checks, is_well: bad == 0 }, &mut context.output)?;
    match bad {
        0 => Ok(Exit::Done),
        bad => {
            let rest = if bad == 1 { "is not as it should be" } else { "are not as they should be" };
            Err(Failure::new(Exit::No, format!("{} {rest}", counted(bad, "thing"))))
        }
    }
}

/// Cells before what is said of a check.
const INDENT: usize = 18;

fn show(view: &View<'_>, output: &mut Output) -> Result<(), Failure> {
    if matches!(output.format(), Format::Json | Format::Jsonl) {
        return output.json(view);
    }
    for Check { what, verdict, how, advice } in view.checks {
        let (word, paint) = match verdict {
            Verdict::Ok => ("ok", Paint::Good),
            Verdict::Note => ("note", Paint::Careful),
            Verdict::Bad => ("BAD", Paint::Bad),
        };
        let advice = advice.as_deref();
        if output.format() == Format::Plain {
            output.record(&[word, what, how, advice.unwrap_or_default()])?;
            continue;
        }
        let room = output.width().map_or(usize::MAX, |width| width.saturating_sub(INDENT));
        let lines = cells::wrap(&escape(how), room).into_iter().chain(advice.iter().flat_map(|advice| cells::wrap(&escape(advice), room)));
        for (number, line) in lines.enumerate() {
            let head =
                if number == 0 { format!("{}  {what:<10}  ", output.painted(paint, &format!("{word:<4}"))) } else { " ".repeat(INDENT) };
            output.text(&format!("{head}{line}"))?;
        }
    }
    Ok(())
}

fn versions(info: &Info) -> Check {
    let how = format!("soramoded {} speaks protocol {}, this soramode {VERSION} speaks {PROTOCOL}", info.version, info.protocol);
    if info.version == VERSION { Check::ok("versions", how) } else { Check::note("versions", how, "Install the same version of both") }
}

fn access(info: &Info) -> Check {
    match info.access {
        Access::Operate => Check::ok("access", "this user may operate"),
        Access::View => {
            let advice = "To change the mode, run soramode as root, as soramoded's own user or as a member of its --operator-group";
            Check::note("access", "this user may only view", advice)
        }
    }
}

fn mode(status: &Status) -> Check {
    let Status { mode, membership, node_name, .. } = status;
    let how = format!("{node_name} is {} and {membership}", mode.mode);
    match mode.mode {
        Mode::Normal => Check::ok("mode", how),
        Mode::BlockNewSession | Mode::BlockNewConnection => {
            let advice = match (status.storage.state, membership) {
                (StorageState::Failed, _) => "It can be opened once its state can be written",
                (_, Membership::Isolated | Membership::Fenced) => "It stays so, and can be opened once it has joined its cluster",
                (_, Membership::Standalone | Membership::Joined) => "Open it with: soramode set normal",
            };
            Check::note("mode", format!("{how}, since {}, by {}", times::age(mode.since), mode.actor), advice)
        }
        Mode::Initial => Check::bad("mode", how, "It becomes normal by itself when it joins its cluster"),
    }
}

fn state(status: &Status) -> Check {
    match status.storage.state {
        StorageState::Ok => Check::ok("state", "on disk"),
        StorageState::Memory => match status.cluster.as_deref() {
            // The channels that the node owned when it ended are orphaned.
            Some(cluster) if cluster.no_takeover_reason.is_some() => {
                let how = "in memory, in a cluster: each end of soramoded with sessions orphans their channels";
                Check::bad("state", how, "Leave --ephemeral out, or set --on-fence and --dead-man so that others take them over")
            }
            Some(_) | None => Check::note("state", "in memory", "The mode and the sessions are forgotten when soramoded ends"),
        },
        StorageState::Failed => Check::bad("state", "cannot be written", "The warning says why, and what to do"),
    }
}

fn source_check(source: &Source, output: &Output) -> Check {
    let name = if source.name == "sora" { "sora" } else { "socket" };
    let heard = source.last_contact.map(|heard| format!(", heard {}", output.time(heard))).unwrap_or_default();
    match (&source.problem, &source.incomplete_reason) {
        (Some(problem), _) => {
            Check::bad(name, format!("its API does not answer: {problem}{heard}"), "Check --sora-api, and that this Sora is up")
        }
        (None, Some(missing)) => {
            let advice = "Until then drains end with exit code 8, or take --assume-complete";
            Check::bad(name, format!("session list incomplete: {missing}{heard}"), advice)
        }
        (None, None) if source.complete => Check::ok(name, format!("all it has is known{heard}")),
        (None, None) => Check::note(name, format!("has not told everything yet{heard}"), "It is asked: look again in a moment"),
    }
}

/// Checks how `soramode end` and fences end sessions.
fn end_check(status: &Status) -> Check {
    let asks_sora = status.upstreams.iter().any(|upstream| upstream.name == "sora-api");
    let fences_by_socket = status.cluster.as_deref().is_some_and(|cluster| cluster.on_fence == "socket");
    let cannot = match (status.end_subscribers, asks_sora, fences_by_socket) {
        (0, true, false) => return Check::ok("end", "Sora's API ends sessions"),
        (0, true, true) => "a fence (--on-fence socket) cannot end sessions",
        (0, false, false) => "soramode end cannot end sessions",
        (0, false, true) => "neither soramode end nor a fence (--on-fence socket) can end sessions",
        (count, _, _) => return Check::ok("end", format!("sessions can be ended: by {}", counted(count, "subscribed client"))),
    };
    let advice = "Have the signalling server send Subscribe with ends: true, again after each reconnect";
    Check::note("end", format!("no client accepts end requests: {cannot}"), advice)
}

/// Its place, what becomes of its channels if it is lost, and what the other nodes know of it.
fn cluster_checks(status: &Status) -> Vec<Check> {
    let Some(cluster) = status.cluster.as_deref() else { return Vec::new() };
    let how = format!("{}: {}", cluster_status::name_words(cluster), cluster_status::right_words(status.membership, cluster));
    let how = cluster.problem.iter().fold(how, |how, problem| format!("{how}; {problem}"));
    let place = match (status.membership, &cluster.problem) {
        (Membership::Joined | Membership::Standalone, None) => Check::ok("cluster", how),
        (Membership::Joined | Membership::Standalone, Some(_)) => {
            Check::bad("cluster", how, "See soramoded's log: journalctl -u soramoded")
        }
        (Membership::Isolated | Membership::Fenced, _) => {
            Check::bad("cluster", how, "It joins by itself when etcd can be read and nothing stands against it: see etcd below")
        }
    };
    let takeover = match &cluster.no_takeover_reason {
        Some(_) => Check::note(
            "takeover",
            cluster_status::takeover_words(cluster),
            "soramoded takes over by itself with --on-fence and --dead-man",
        ),
        None => Check::ok("takeover", cluster_status::takeover_words(cluster)),
    };
    let mut checks = vec![place, takeover];
    if status.membership == Membership::Joined && !cluster.published {
        let how = "the other nodes do not know of this mode";
        checks.push(Check::bad("published", how, "They are told as soon as etcd can be written; until then they may send clients here"));
    }
    if cluster.signaling_url.is_none() {
        let how = "the others cannot say where this node is: --signaling-url is not set";
        checks.push(Check::note("redirects", how, "Clients that belong here are told the node's name alone"));
    }
    if cluster.api_url.is_none() {
        let how = "the others do not know where this node's API is: --api-url is not set";
        checks.push(Check::note("api", how, "soramode --node and connect --follow cannot reach it from another node"));
    }
    checks
}

/// The nodes that are gone, and the channels that wait for an incarnation that is over.
fn node_checks(nodes: &ClusterNodes) -> Vec<Check> {
    let mut checks: Vec<Check> = nodes.nodes.iter().filter_map(node_check).collect();
    match &nodes.problem {
        Some(problem) => {
            let how = format!("orphaned channels cannot be counted: {problem}");
            checks.push(Check::note("nodes", how, "Look again in a moment"));
        }
        None if checks.is_empty() => {
            let count = counted(nodes.nodes.len() as u64, "node");
            checks.push(Check::ok("nodes", format!("{count}, and no channel waits for one that is gone")));
        }
        None => {}
    }
    checks
}

fn node_check(node: &ClusterNode) -> Option<Check> {
    let name = node.node_name.as_str();
    // This node has a membership of its own, also where it is not joined.
    let is_gone = !node.connected && node.membership.is_none();
    let OrphanedChannels { total: channels, held_until_purge } = node.orphaned_channels.unwrap_or_default();
    let rejected = format!("{} (clients are rejected with OWNER-LOST)", counted(channels, "channel"));
    let purge = format!("soramode nodes purge {} --accept-risk={RISK_OF_PURGE}", command_line::word(name));
    let check = match (is_gone, channels, held_until_purge) {
        (false, 0, _) => return None,
        (true, 0, _) => {
            Check::note("nodes", format!("{name} is gone"), "No channel is known to wait for it; it joins again when it is started")
        }
        (true, _, 0) => {
            let advice = "Start it again, or wait until other nodes take them over. When that is: soramode explain CHANNEL";
            Check::bad("nodes", format!("{name} is gone, with {rejected}"), advice)
        }
        (true, _, _) => {
            let advice = format!("Start it again. If its machine is off for good: {purge}");
            Check::bad("nodes", format!("{name} is gone, with {rejected}"), advice)
        }
        (false, _, _) => {
            let how = format!("{name} has lost its state: an earlier incarnation of it has {rejected}");
            Check::bad("nodes", how, format!("Make sure that its SFU no longer serves them, then run: {purge}"))
        }
    };
    Some(check)
}

fn unauthenticated_check(listener: &str) -> Check {
    if listener.starts_with("sora-listen") {
        let advice = "To accept only Sora, set --sora-token-file and add the token to the webhook URLs in sora.conf";
        return Check::note("access", format!("{listener}: every user of this machine may impersonate Sora"), advice);
    }
    let advice = "To accept only operators, set --http-token-file, or use --api-listen unix:PATH";
    Check::note("access", format!("{listener}: every user of this machine may change the mode"), advice)
}

fn upstream_check(upstream: &Upstream, output: &Output) -> Check {
    let how = upstream_words(upstream, output);
    if upstream.name == "etcd" {
        return etcd_check(upstream, how);
    }
    if upstream.name == "webhook" {
        return receiver_check(upstream, how);
    }
    match (&upstream.problem, upstream.last_success) {
        (Some(_), _) => Check::bad("upstream", how, "Check its URL, and that it is up; while it fails, its webhooks fail"),
        (None, Some(_)) => Check::ok("upstream", how),
        (None, None) => Check::note("upstream", how, "It is asked with the first webhook: does sora.conf name soramoded?"),
    }
}

/// A receiver of events. One that fails loses nothing for a day and a half.
fn receiver_check(receiver: &Upstream, how: String) -> Check {
    match (&receiver.problem, receiver.last_success) {
        (Some(_), _) => Check::bad("webhook", how, "Its deliveries are retried for a day and a half. List them with: soramode deliveries"),
        (None, Some(_)) => Check::ok("webhook", how),
        (None, None) => Check::note("webhook", how, "It is called with the first event. Test it with: soramode webhook test URL"),
    }
}

/// A member of the cluster's etcd. One that fails is no outage while most of them answer; it is the next one that would be.
fn etcd_check(member: &Upstream, how: String) -> Check {
    match (&member.problem, member.last_success) {
        (Some(_), _) => Check::bad("etcd", how, "Check that this member is up and can be reached from here; most of them must be"),
        (None, Some(_)) => Check::ok("etcd", how),
        (None, None) => Check::note("etcd", how, "It is asked within 10 s: look again in a moment"),
    }
}

fn deliveries(status: &Status) -> Check {
    let owed = status.deliveries;
    let how = format!("{} pending, {} failed", owed.pending, owed.failed);
    if owed.failed == 0 { Check::ok("deliveries", how) } else { Check::bad("deliveries", how, "Look at them with: soramode deliveries") }
}

/// A wall clock that was set since the start shows in how long ago that is.
fn clock(status: &Status, now: Time) -> Check {
    let by_wall = now.since(status.started_at);
    let by_boot = Duration::from_secs(status.uptime_seconds);
    if by_wall.abs_diff(by_boot) <= CLOCK_STEP_MAX {
        return Check::ok("clock", "has not been set since soramoded started");
    }
    let how = format!("has been set by {} since soramoded started", times::span(by_wall.abs_diff(by_boot)));
    Check::note("clock", how, "Timers do not depend on it, except a --for set before the last reboot; times recorded before are wrong")
}
