//! Asks a node for this user's name, for the sentences of [`caller`](crate::caller).

use crate::caller;
use crate::mode_info::ModeInfo;
use crate::node::Node;

/// Says what to do before the node is opened.
pub(crate) async fn before_opening(now: &ModeInfo, node: Node<'_>) -> String {
    node.completed(&caller::before_opening(now, node.caller().await.as_ref()))
}

/// Says what to do before the command is run again.
pub(crate) async fn before_repeating(now: &ModeInfo, node: Node<'_>) -> String {
    node.completed(&caller::before_repeating(now, node.caller().await.as_ref()))
}
