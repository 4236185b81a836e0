//! The context of a command: its node and its output.

use std::path::Path;

use crate::node::Node;
use crate::output::Output;

/// The context of a command.
pub(crate) struct Context<'a> {
    /// The node, unless `--node` names another.
    pub(crate) node: Node<'a>,
    /// The token file, for this node and any other node's API.
    pub(crate) token_file: Option<&'a Path>,
    /// The token may be sent unencrypted to a URL from the cluster's etcd.
    pub(crate) token_in_clear: bool,
    pub(crate) output: Output,
    /// Defines the whole command line, for its help.
    pub(crate) definition: fn() -> clap::Command,
}
