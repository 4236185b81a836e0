//! The cluster's other nodes: selecting one, counting the open ones, and checking that they were
//! notified.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use clap_complete::engine::ArgValueCandidates;
use soramode_protocol::http_client::{Url, read_url};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{ClusterNode, GetStatus, ListClusterNodes, Membership, Status};
use soramode_protocol::number::whole_number;
use tokio::time::sleep;

use crate::api::{Api, ApiSource, Detail};
use crate::candidates;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::last_status::LastStatus;
use crate::node::{Feature, Node, needs_socket};
use crate::output::escape::escape;
use crate::output::{Output, counted};

/// Time for which the other nodes are checked after a closing: a mode that another node published before must have arrived by then.
const RECHECK_TIME: Duration = Duration::from_secs(1);

/// Time in which the node must have read the other nodes from etcd anew: longer than the longest `--cluster-heartbeat`, since it reads them at
/// each. A node for which etcd has not answered for `--isolated-after` is isolated before.
const CONFIRM_TIME: Duration = Duration::from_secs(65);

/// Pause between two reads.
const READ_PAUSE: Duration = Duration::from_millis(100);

/// The flag that selects a node of the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct NodeFlag {
    /// Act on another cluster node, through its HTTP API
    ///
    /// That node's soramoded needs --api-url and --api-listen; add --api-token-file here if it requires a token. A wait goes on while the node
    /// gives no answer, until --timeout (for an hour with --timeout 0).
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(candidates::nodes))]
    pub(crate) node: Option<NodeName>,
}

/// Flags for the other nodes of the cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterFlags {
    /// Refuse (exit 5) unless at least N other nodes are open
    ///
    /// Nothing is changed if it refuses, also because etcd does not answer. A node is open if it is joined and its mode is normal. After
    /// closing, the other nodes are checked again for a second: if another closed at the same moment and too few are open, the node is opened again.
    #[arg(long, value_name = "N", value_parser = whole_number::<usize>)]
    keep_open: Option<usize>,
    /// Fail (exit 5) if other nodes cannot be notified
    ///
    /// Without it that is a warning. The node is closed in both cases. No effect on a node without a cluster.
    #[arg(long)]
    require_published: bool,
}

/// The nodes of the cluster, as one of them lists them.
pub(crate) struct ClusterView {
    nodes: Vec<ClusterNode>,
    /// Name and membership of the node that gave the list; unknown over the API.
    by: Option<(NodeName, Membership)>,
}

impl ClusterView {
    /// Reads the list from the context's node.
    pub(crate) async fn read(context: &Context<'_>) -> Result<Self, Failure> {
        if let Node::Api(api) = context.node {
            let nodes = api.nodes().await?;
            return Ok(Self { nodes, by: None });
        }
        let list = ListClusterNodes {
            count_orphaned: false,
        };
        let mut daemon = context.node.connect().await?;
        let (list, status) = daemon.call_both(&list, &GetStatus {}).await?;
        Ok(Self {
            nodes: list.nodes,
            by: Some((status.node_name, status.membership)),
        })
    }

    /// Returns a client for a node's API.
    pub(crate) fn api_of(&self, name: &NodeName, context: &Context<'_>) -> Result<Api, Failure> {
        let shown = escape(name.as_str());
        let Some(node) = self.nodes.iter().find(|node| node.node_name == *name) else {
            let known: Vec<&str> = self
                .nodes
                .iter()
                .map(|node| node.node_name.as_str())
                .collect();
            let message = format!(
                "the cluster has no node {shown}; its nodes are {}",
                escape(&known.join(", "))
            );
            return Err(Failure::new(Exit::NotFound, message));
        };
        if !node.connected {
            let hint = format!("See the cluster's nodes: {}", context.node.command("nodes"));
            return Err(Failure::new(
                Exit::Refused,
                format!("{shown} is lost: it cannot be reached"),
            )
            .with_hint(hint));
        }
        let Some(url) = &node.cluster_api_url else {
            let hint =
                "Start its soramoded with --api-url (and --api-listen), or run this on that node";
            return Err(
                Failure::new(Exit::Refused, format!("{shown} has no --api-url")).with_hint(hint),
            );
        };
        let url = read_url(url).map_err(|problem| {
            Failure::new(Exit::Failed, format!("{shown}, HTTP API: {problem}"))
        })?;
        if context.token_file.is_some() && !context.token_in_clear {
            check_private(&url).map_err(|problem| {
                Failure::new(Exit::Refused, format!("{shown}, HTTP API: {problem}"))
                    .with_hint(CLEAR_HINT)
            })?;
        }
        let in_clear = if context.token_in_clear {
            "--token-in-clear"
        } else {
            ""
        };
        let flags = [context.node.flags().as_str(), in_clear]
            .join(" ")
            .trim()
            .to_owned();
        Api::new(
            url,
            ApiSource::Node {
                name: name.clone(),
                flags,
            },
            context.token_file,
        )
    }

    /// Returns whether a node of this name is in the cluster.
    pub(crate) fn has(&self, name: &NodeName) -> bool {
        self.nodes
            .iter()
            .any(|node| node.node_name == *name && node.connected)
    }

    /// Returns the other nodes that are normal. Over HTTP the list's own node is unknown: one
    /// normal node is left out if it is normal itself.
    fn others(&self, name: Option<&NodeName>, mode: Mode) -> Vec<&str> {
        let name = name.or(self.by.as_ref().map(|(name, _)| name));
        let open = self
            .nodes
            .iter()
            .filter(|node| node.connected && node.mode == Some(Mode::Normal));
        let mut open: Vec<&str> = open
            .filter(|node| Some(&node.node_name) != name)
            .map(|node| node.node_name.as_str())
            .collect();
        if name.is_none() && mode == Mode::Normal {
            open.pop();
        }
        open
    }

    fn check_membership(&self) -> Result<(), Failure> {
        match &self.by {
            Some((name, membership @ (Membership::Isolated | Membership::Fenced))) => Err(
                unknown_others(&escape(name.as_str()), &format!("it is {membership}")),
            ),
            Some((_, Membership::Standalone | Membership::Joined)) | None => Ok(()),
        }
    }
}

/// Waits until the node has read the other nodes from etcd anew. While etcd hangs, nodes that have closed since its last read are open in its
/// list.
pub(crate) async fn wait_for_read(node: Node<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let mut before = None;
    loop {
        let status = node.status(Detail::Mode).await?;
        let Some(status) = status.of_daemon() else {
            return Ok(());
        };
        let Some(cluster) = status.cluster.as_deref() else {
            return Ok(());
        };
        if *before.get_or_insert(cluster.renewed_at) != cluster.renewed_at {
            return Ok(());
        }
        let why = if status.membership != Membership::Joined {
            format!("it is {}", status.membership_words())
        } else if began.elapsed() >= CONFIRM_TIME {
            "etcd does not answer it".to_owned()
        } else {
            sleep(READ_PAUSE).await;
            continue;
        };
        return Err(unknown_others(&escape(status.node_name.as_str()), &why));
    }
}

/// Refuses a closing by a node that cannot tell how many others are open.
fn unknown_others(name: &str, why: &str) -> Failure {
    let message =
        format!("{name} does not know how many other nodes are open: {why}. Nothing was changed");
    Failure::new(Exit::Refused, message)
}

const CLEAR_HINT: &str = "Give that node's soramoded an https: --api-url. If you trust the network between and everything that writes to etcd, add --token-in-clear";

/// Refuses a URL to which a token would be sent unencrypted over a network: a client with write
/// access to etcd could insert its own URL.
fn check_private(url: &Url) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let is_loopback = host
        .trim_matches(['[', ']'])
        .parse()
        .is_ok_and(|ip: IpAddr| ip.is_loopback());
    if url.scheme() == "https" || is_loopback || host == "localhost" {
        return Ok(());
    }
    Err(format!(
        "the token would be sent in the clear to {}. Nothing was sent",
        escape(host)
    ))
}

/// `1 other node is open (n3), and --keep-open asks for 2`
fn describe_too_few(others: &[&str], wanted: usize) -> String {
    let count = counted(others.len() as u64, "other node");
    let be = if others.len() == 1 { "is" } else { "are" };
    let names = if others.is_empty() {
        String::new()
    } else {
        format!(" ({})", escape(&others.join(", ")))
    };
    format!("{count} {be} open{names}, and --keep-open asks for {wanted}")
}

impl NodeFlag {
    /// Refuses a plan for a node that is reached over HTTP: a real Sora keeps none.
    pub(crate) fn check_plan(&self, node: Node<'_>) -> Result<(), Failure> {
        self.check_host(node)?;
        if self.node.is_some() {
            return Err(needs_socket("a plan"));
        }
        node.require(Feature::ControlSocket, "a plan")
    }

    /// Refuses another host beside another node: only one of them can be meant.
    fn check_host(&self, node: Node<'_>) -> Result<(), Failure> {
        match node.host() {
            Some(host) if self.node.is_some() => Err(Failure::new(
                Exit::Usage,
                format!("--node cannot be used over ssh (-H {})", host.shown()),
            )
            .with_hint("Name that node's host with -H")),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns a client for the node, unless it is the daemon's own.
    pub(crate) async fn find(&self, context: &Context<'_>) -> Result<Option<Api>, Failure> {
        let Some(name) = &self.node else {
            return Ok(None);
        };
        self.check_host(context.node)?;
        let view = ClusterView::read(context).await?;
        if view.by.as_ref().is_some_and(|(own, _)| own == name) {
            return Ok(None);
        }
        view.api_of(name, context).map(Some)
    }
}

impl ClusterFlags {
    /// Returns the number of other nodes that must be open.
    pub(crate) fn keep_open(&self) -> Option<u64> {
        self.keep_open.and_then(|nodes| u64::try_from(nodes).ok())
    }

    /// Returns whether the other nodes must be notified.
    pub(crate) const fn requires_published(&self) -> bool {
        self.require_published
    }

    /// Returns whether other nodes must be normal.
    pub(crate) const fn is_given(&self) -> bool {
        self.keep_open.is_some()
    }

    /// Refuses to close a node if too few others are open. Two commands at the same moment may both
    /// pass; [`Self::too_few_others`] notices that.
    pub(crate) async fn check_others(
        &self,
        context: &Context<'_>,
        node: Node<'_>,
    ) -> Result<(), Failure> {
        let Some(wanted) = self.keep_open else {
            return Ok(());
        };
        let mode = node.status(Detail::Mode).await?.mode();
        // A node that is closed already may be drained.
        if mode.is_block() {
            return Ok(());
        }
        wait_for_read(context.node).await?;
        let view = ClusterView::read(context).await?;
        view.check_membership()?;
        let others = view.others(node.name_in_cluster(), mode);
        if others.len() >= wanted {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Refused,
            format!("{}. Nothing was changed", describe_too_few(&others, wanted)),
        ))
    }

    /// Checks the other nodes again after the node was closed, until a closing at the same moment
    /// must have been published. Returns the reason to reopen the node, if too few are open.
    pub(crate) async fn too_few_others(
        &self,
        context: &Context<'_>,
        node: Node<'_>,
    ) -> Option<String> {
        let wanted = self.keep_open?;
        let began = Instant::now();
        loop {
            // A list that cannot be had says nothing: the first look was good.
            let view = ClusterView::read(context).await.ok();
            let others = view
                .as_ref()
                .map(|view| view.others(node.name_in_cluster(), Mode::BlockNewSession));
            if let Some(others) = others.filter(|others| others.len() < wanted) {
                return Some(format!(
                    "another node closed at the same moment: {}",
                    describe_too_few(&others, wanted)
                ));
            }
            if began.elapsed() >= RECHECK_TIME {
                return None;
            }
            sleep(READ_PAUSE).await;
        }
    }

    /// Warns if the other nodes were not notified of the mode, or fails with `--require-published`.
    pub(crate) fn check_published(
        &self,
        published: Option<bool>,
        status: &LastStatus,
        mode: Mode,
        output: &Output,
    ) -> Result<(), Failure> {
        if published != Some(false) {
            return Ok(());
        }
        let node = status.name();
        let words = format!(
            "{node} is {mode}, but the other nodes could not be notified and may still redirect clients to it"
        );
        let hint = when_notified(status.of_daemon());
        if self.require_published {
            return Err(Failure::new(Exit::Refused, words).with_hint(hint));
        }
        output.warn(&format!("{words}. {hint}"));
        Ok(())
    }
}

/// Says when the other nodes learn of the mode: a node that has not joined its cluster since its start has to join it first.
fn when_notified(status: Option<&Status>) -> String {
    let Some(status) = status.filter(|status| status.has_not_joined()) else {
        return "They are notified once etcd answers again".to_owned();
    };
    let problem = status.cluster.as_ref().and_then(|it| it.problem.as_deref());
    let problem = problem.map_or_else(String::new, |problem| format!(": {problem}"));
    format!("They are notified once the node has joined its cluster{problem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(by: Option<(&str, Membership)>) -> ClusterView {
        let nodes = r#"[{"node_name":"a","mode":"normal","connected":true},{"node_name":"b","mode":"normal","connected":true},
            {"node_name":"c","mode":"block_new_session","connected":true},{"node_name":"d","mode":"normal","connected":false}]"#;
        ClusterView {
            nodes: serde_json::from_str(nodes).unwrap(),
            by: by.map(|(name, membership)| (NodeName::new(name).unwrap(), membership)),
        }
    }

    #[test]
    fn others_are_connected_and_normal_without_the_node_itself() {
        let own = view(Some(("a", Membership::Joined)));
        assert_eq!(own.others(None, Mode::Normal), ["b"]);
        assert_eq!(
            own.others(Some(&NodeName::new("b").unwrap()), Mode::Normal),
            ["a"]
        );
        assert_eq!(
            own.others(Some(&NodeName::new("c").unwrap()), Mode::Initial),
            ["a", "b"]
        );
        // Over the API the answer does not name the node itself.
        assert_eq!(view(None).others(None, Mode::Normal).len(), 1);
        assert_eq!(view(None).others(None, Mode::Initial).len(), 2);
    }

    #[test]
    fn a_token_is_never_sent_unencrypted_to_another_host() {
        let check = |url: &str| check_private(&url.parse().unwrap());
        for url in [
            "https://sfu-02:3000/",
            "http://127.0.0.1:3000/",
            "http://127.9.9.9/",
            "http://localhost:3000/",
            "http://[::1]:3000/",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
        for url in [
            "http://10.0.0.21:3000/steal",
            "http://sfu-02/",
            "http://localhost.example.com/",
            "http://[fd00::1]/",
            "http://0.0.0.0/",
        ] {
            assert!(
                check(url).is_err_and(|problem| problem.contains("in the clear")),
                "{url}"
            );
        }
    }

    #[test]
    fn an_isolated_node_does_not_count_the_others() {
        for (membership, is_known) in [
            (Membership::Standalone, true),
            (Membership::Joined, true),
            (Membership::Isolated, false),
            (Membership::Fenced, false),
        ] {
            assert_eq!(
                view(Some(("a", membership))).check_membership().is_ok(),
                is_known,
                "{membership}"
            );
        }
    }
}
