//! `soramode nodes`

use soramode_protocol::node::{ClusterNode, ListClusterNodes};

use crate::Context;
use crate::error::{Exit, Failure};
use crate::output::List;

/// List the nodes of the cluster; without one, the node itself
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let nodes = match context.api {
        Some(api) => api.nodes().await?,
        None => context.socket.connect().await?.call(&ListClusterNodes {}).await?.nodes,
    };
    let mut list = List::begin(&mut context.output, "nodes", &["NODE", "MODE", "CONNECTED", "SINCE", "SIGNALING"])?;
    nodes.iter().try_for_each(|node| show(node, &mut list))?;
    list.finish("no nodes")?;
    Ok(Exit::Done)
}

fn show(node: &ClusterNode, list: &mut List<'_>) -> Result<(), Failure> {
    let mode = node.mode.map(soramode_protocol::mode::Mode::name).unwrap_or_default();
    let connected = if node.connected { "yes" } else { "no" };
    let since = node.member_since.map(|since| list.time(since)).unwrap_or_default();
    list.row(node, &[node.node_name.as_str(), mode, connected, &since, node.cluster_signaling_url.as_deref().unwrap_or_default()])
}
