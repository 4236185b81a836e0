//! The context of a command: its node and its output.

use std::path::Path;

use crate::node::Node;
use crate::output::Output;

/// What a command works with.
pub(crate) struct Context<'a> {
    /// The node, unless `--node` names another.
    pub(crate) node: Node<'a>,
    /// The file that has the token for it, and for any other node's API.
    pub(crate) token_file: Option<&'a Path>,
    /// The token may be sent in the clear to a URL that the cluster's etcd names.
    pub(crate) token_in_clear: bool,
    /// Where the answer goes.
    pub(crate) output: Output,
    /// Defines the whole command line, for its help.
    pub(crate) definition: fn() -> clap::Command,
}
