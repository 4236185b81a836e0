//! Next steps after a drain that did not reach its goal: to end the sessions that are left, and to open the node.

use soramode_protocol::node::MeansFor;
use soramode_protocol::plan::RISK_OF_END;

use crate::error::Exit;
use crate::last_status::LastStatus;
use crate::mode_info::ModeInfo;
use crate::mode_result::ModeResult;
use crate::node::{Feature, Node};
use crate::opening::{Opening, opening};

/// Returns how to go on with the sessions that are left after a timeout.
pub(super) fn with_sessions(
    exit: Exit,
    status: Option<&LastStatus>,
    node: Node<'_>,
) -> Vec<String> {
    let has_sessions = status
        .and_then(LastStatus::counts)
        .is_some_and(|(sessions, _)| sessions > 0);
    if exit != Exit::TimedOut || !has_sessions {
        return Vec::new();
    }
    let can_end = status
        .and_then(LastStatus::of_daemon)
        .is_some_and(|status| !status.no_means_to.contains(&MeansFor::End));
    let see = if node.name_in_cluster().is_some() {
        "See the sessions that are left, on that node or with -H HOST: soramode sessions".to_owned()
    } else {
        let sessions = node.command("sessions");
        format!("See the sessions that are left: {sessions}")
    };
    if !can_end || !node.supports(Feature::ControlSocket) {
        return vec![see];
    }
    let later = format!("drain --end-after 10m --accept-risk={RISK_OF_END}");
    let now = format!("end --all --accept-risk={RISK_OF_END}");
    vec![
        see,
        format!(
            "To disconnect their clients in 10 min: {}",
            node.command(&later)
        ),
        format!("To disconnect their clients now: {}", node.command(&now)),
    ]
}

/// Returns how to open the node: the undo of this drain, or the other operators that keep it closed. `None` for a closing that another operator
/// changed.
pub(super) async fn open(closed: &ModeResult, now: &ModeInfo, node: Node<'_>) -> Option<String> {
    if closed.is_changed(now) || closed.is_stricter() || !now.mode.is_block() {
        return None;
    }
    if let Some(undo) = closed.undo_drain_hint(node) {
        return Some(undo);
    }
    let open = node.command("set normal");
    Some(match opening(node).await {
        Opening::Own => format!("When you are done, open it: {open}"),
        Opening::Others(words) | Opening::Runs(words) => words,
    })
}
