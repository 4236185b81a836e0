//! `soramode nodes [init | purge NODE]`

use clap::ValueEnum;
use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::cluster::{
    InitCluster, Initialized, PurgeClusterNode, Purged, RISK_OF_INIT, RISK_OF_PURGE, RISK_OF_SECOND,
};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{
    ClusterNode, ClusterNodes, GetStatus, ListClusterNodes, Membership, NO_OPEN_NODE,
    OrphanedChannels, Status,
};

use crate::candidates;
use crate::cluster_status;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::node::{Feature, Node};
use crate::output::color::Emphasis;
use crate::output::escape::escape;
use crate::output::{Cell, Column, Format, List, counted};

/// List cluster nodes, and lost nodes that hold channels
///
/// Channels of a lost node are orphaned: they open on other nodes once its ownership lease has expired, or after soramode nodes purge. Without
/// a cluster it lists the node itself.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Create the cluster in etcd
    ///
    /// Once, on one node, before any node can join.
    Init {
        /// Continue in an etcd that was emptied, restored or replaced, or create a cluster beside others
        #[arg(long, value_enum, value_name = "RISK")]
        accept_risk: Option<RiskOfInit>,
    },
    /// Release the channels of a lost node, and remove it from the list
    ///
    /// Confirms that the node's SFU is off, so that its channels need not wait for it. Keep that SFU stopped. A node that is started again joins again.
    #[command(override_usage = "soramode nodes purge [OPTIONS] --accept-risk <RISK> <NODE>")]
    Purge {
        /// Node to purge; if it runs, only its earlier lives
        #[arg(add = ArgValueCandidates::new(candidates::nodes))]
        node: NodeName,
        /// Required: accept that two nodes serve its channels if its SFU runs
        #[arg(long, value_enum, value_name = "RISK")]
        accept_risk: Option<Risk>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Risk {
    /// If the SFU still runs, its channels are served on two nodes
    StillRunning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RiskOfInit {
    /// A channel with a lost claim is served on two nodes, if its node cannot reach this etcd and still serves it
    LostClaims,
    /// The etcd has other clusters: a channel is served in each of them
    SecondCluster,
}

/// The columns of [`show`].
const COLUMNS: [Column; 10] = [
    Column::id("NODE"),
    Column::word("MODE"),
    Column::word("MEMBERSHIP"),
    Column::word("CONNECTIONS").optional(2),
    Column::word("SESSIONS").optional(3),
    Column::word("SINCE").optional(4),
    Column::id("VERSION").optional(5),
    Column::text("ORPHANED").optional(1),
    Column::id("SIGNALING").optional(6),
    Column::id("API").optional(7),
];

impl Args {
    /// Returns whether it changes the cluster.
    pub(crate) const fn changes_node(&self) -> bool {
        self.what.is_some()
    }
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let verb = match &args.what {
        None => return list(context).await,
        Some(What::Init { .. }) => "nodes init",
        Some(What::Purge { .. }) => "nodes purge",
    };
    context.node.require(Feature::ControlSocket, verb)?;
    match args.what {
        None => list(context).await,
        Some(What::Init { accept_risk }) => init(accept_risk, context).await,
        Some(What::Purge {
            node,
            accept_risk: Some(Risk::StillRunning),
        }) => purge(node, context).await,
        Some(What::Purge {
            node,
            accept_risk: None,
        }) => {
            let node = escape(node.as_str());
            let message = format!(
                "if the SFU of {node} still runs, also without soramoded, purging the node lets two nodes serve its channels. Nothing was done"
            );
            let hint = format!(
                "Once you are sure that the SFU itself is off, add --accept-risk={RISK_OF_PURGE}"
            );
            Err(Failure::new(Exit::Usage, message).with_hint(hint))
        }
    }
}

async fn list(context: &mut Context<'_>) -> Result<Exit, Failure> {
    let (mut nodes, problem, status) = if let Node::Api(api) = context.node {
        // The list is shown even if the status cannot be read.
        (api.nodes().await?, None, api.status().await.ok().flatten())
    } else {
        let list = ListClusterNodes {
            count_orphaned: true,
        };
        let mut daemon = context.node.connect().await?;
        let ClusterNodes { nodes, problem, .. } = daemon.call(&list).await?;
        let status = daemon.call(&GetStatus {}).await?;
        (nodes, problem, Some(Box::new(status)))
    };
    nodes.sort_by(|one, other| one.node_name.cmp(&other.node_name));
    let mut list = List::begin(&mut context.output, "nodes", &COLUMNS)?;
    let own = status.as_deref();
    nodes
        .iter()
        .try_for_each(|node| show(node, own, &mut list))?;
    list.finish("no nodes")?;
    let stale = status.as_deref().and_then(cluster_status::stale_because);
    if stale.is_none() && is_none_open(&nodes) {
        context.output.warn(NO_OPEN_NODE);
    }
    match (stale, problem) {
        (Some(why), _) => context
            .output
            .warn(&format!("showing the last known state: {}", escape(&why))),
        (None, Some(problem)) => context.output.warn(&format!(
            "orphaned channels cannot be counted: {}",
            escape(&problem)
        )),
        (None, None) => {}
    }
    Ok(Exit::Done)
}

/// Returns whether no node of a cluster is open. A node that is alone says so by its mode.
fn is_none_open(nodes: &[ClusterNode]) -> bool {
    let is_open = |node: &ClusterNode| node.connected && node.mode == Some(Mode::Normal);
    let is_closed = |node: &ClusterNode| node.mode.is_some_and(Mode::is_block);
    nodes.len() > 1 && nodes.iter().any(is_closed) && !nodes.iter().any(is_open)
}

fn show(node: &ClusterNode, own: Option<&Status>, list: &mut List<'_>) -> Result<(), Failure> {
    // A Sora reports only whether a node is connected.
    let own =
        own.filter(|own| own.node_name == node.node_name && own.membership == Membership::Fenced);
    let seen = match (own, node.membership) {
        (Some(own), _) => own.membership_words(),
        (None, Some(membership)) => membership.name(),
        (None, None) if node.connected => "joined",
        (None, None) => "lost",
    };
    let is_lost = !node.connected && node.membership != Some(Membership::Standalone);
    let cells = [
        node.node_name.as_str().into(),
        node.mode.into(),
        Cell::from(seen).colored(is_lost.then_some(Emphasis::Bad)),
        node.connections.into(),
        node.sessions.into(),
        node.member_since.map(|since| list.time(since)).into(),
        node.version
            .as_deref()
            .or(node.sora_version.as_deref())
            .into(),
        Cell::from(node.orphaned_channels.map(describe_orphaned)).colored(Some(Emphasis::Bad)),
        node.cluster_signaling_url.as_deref().into(),
        node.cluster_api_url.as_deref().into(),
    ];
    list.row(node, &cells)
}

fn describe_orphaned(orphaned: OrphanedChannels) -> String {
    match orphaned {
        OrphanedChannels { total: 0, .. } => String::new(),
        OrphanedChannels {
            total,
            held_until_purge: 0,
        } => total.to_string(),
        OrphanedChannels {
            total,
            held_until_purge,
        } if total == held_until_purge => format!("{total} until purged or back"),
        OrphanedChannels {
            total,
            held_until_purge,
        } => format!("{total} ({held_until_purge} until purged or back)"),
    }
}

async fn purge(node_name: NodeName, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let purge = PurgeClusterNode {
        node_name,
        accept_risk: RISK_OF_PURGE.to_owned(),
    };
    let mut daemon = context.node.connect().await?;
    let purged = daemon.call(&purge).await?;
    context
        .output
        .changed(&format!("{} is purged", escape(purge.node_name.as_str())));
    let list = daemon
        .call(&ListClusterNodes {
            count_orphaned: false,
        })
        .await;
    let is_there = list.is_ok_and(|list| {
        list.nodes
            .iter()
            .any(|node| node.node_name == purged.node_name && node.connected)
    });
    let extent = if is_there {
        Extent::EarlierRuns
    } else {
        Extent::Node
    };
    let Purged {
        node_name,
        channels,
        ..
    } = &purged;
    let output = &mut context.output;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&purged)?,
        Format::Plain => output.record(&["purged", node_name.as_str(), &channels.to_string()])?,
        Format::Table => {
            output.confirm(&describe_purge(
                &escape(node_name.as_str()),
                *channels,
                extent,
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// Extent of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// The node itself.
    Node,
    /// Earlier runs of a node that is in the cluster.
    EarlierRuns,
}

fn describe_purge(node: &str, channels: u64, extent: Extent) -> String {
    let free = format!(
        "its {} may now open on any node",
        counted(channels, "orphaned channel")
    );
    match (extent, channels) {
        (Extent::Node, 0) => {
            format!(
                "{node} is no longer listed: it had no orphaned channels. If its soramoded is started again, it joins again"
            )
        }
        (Extent::Node, _) => {
            format!("Purged {node}: {free}. Do not start {node} again until its SFU is stopped")
        }
        (Extent::EarlierRuns, _) => {
            format!("Purged the earlier run of {node}: {free}. {node} itself stays in the cluster")
        }
    }
}

async fn init(accepted: Option<RiskOfInit>, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let risk = |accepted| match accepted {
        RiskOfInit::LostClaims => RISK_OF_INIT.to_owned(),
        RiskOfInit::SecondCluster => RISK_OF_SECOND.to_owned(),
    };
    let accept_risk = accepted.map(risk);
    let made = context
        .node
        .connect()
        .await?
        .call(&InitCluster { accept_risk })
        .await?;
    let Initialized {
        cluster_id, epoch, ..
    } = &made;
    let output = &mut context.output;
    match output.format() {
        Format::Json | Format::Jsonl => output.json(&made)?,
        Format::Plain => {
            output.record(&["initialized", cluster_id.as_str(), &epoch.to_string()])?;
        }
        Format::Table => {
            let cluster = escape(cluster_id.as_str());
            output.confirm(&match epoch {
                1 => format!("The cluster is created in etcd ({cluster}). Nodes join automatically"),
                epoch => format!("The cluster continues in this etcd with epoch {epoch} ({cluster}). Its nodes rejoin automatically"),
            })?;
        }
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_of_a_node_that_runs_does_not_ask_for_its_sfu_to_be_stopped() {
        let lost = describe_purge("n2", 3, Extent::Node);
        assert_eq!(
            lost,
            "Purged n2: its 3 orphaned channels may now open on any node. Do not start n2 again until its SFU is stopped"
        );
        let empty = describe_purge("n2", 0, Extent::Node);
        assert_eq!(
            empty,
            "n2 is no longer listed: it had no orphaned channels. If its soramoded is started again, it joins again"
        );
        let there = describe_purge("n2", 1, Extent::EarlierRuns);
        assert_eq!(
            there,
            "Purged the earlier run of n2: its 1 orphaned channel may now open on any node. n2 itself stays in the cluster"
        );
    }

    #[test]
    fn a_cluster_without_an_open_node_is_told_from_one_node_that_is_closed() {
        let check = |nodes: &[(&str, bool)]| {
            let node = |(at, (mode, connected)): (usize, &(&str, bool))| {
                let node = serde_json::json!({"node_name": format!("n{at}"), "mode": mode, "connected": connected});
                serde_json::from_value(node).unwrap()
            };
            is_none_open(&nodes.iter().enumerate().map(node).collect::<Vec<_>>())
        };
        let closed = ("block_new_session", true);
        assert!(check(&[closed, closed]));
        assert!(check(&[closed, ("normal", false)]), "lost");
        assert!(check(&[closed, ("initial", true)]));
        assert!(!check(&[closed, ("normal", true)]));
        assert!(!check(&[closed]), "no other node");
        assert!(!check(&[("initial", true), ("initial", true)]));
    }

    #[test]
    fn orphaned_channels_are_described_with_their_release() {
        let words = |total, held_until_purge| {
            describe_orphaned(OrphanedChannels {
                total,
                held_until_purge,
            })
        };
        assert_eq!(words(0, 0), "");
        assert_eq!(words(3, 0), "3");
        assert_eq!(words(3, 3), "3 until purged or back");
        assert_eq!(words(3, 1), "3 (1 until purged or back)");
    }
}
