//! A change of the mode of a node that another operator, a plan or a roll keeps closed: it does not open the node for them.

use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};

use crate::error::{Exit, Failure};
use crate::mode_info::both_reasons;
use crate::node::Node;
use crate::opening::{Opening, read};
use crate::set_mode::Stricter;

/// The hosts of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    One,
    Several,
}

/// Adapts a change to a node that others keep closed: their reason stays, and no timer opens it. A command for several hosts does not open it
/// either. With `--if-generation` the operator knows the closing, and the change is made as it is.
pub(crate) async fn beside_others(
    node: Node<'_>,
    change: ChangeMode,
    (hosts, stricter): (Hosts, Stricter),
) -> Result<ChangeMode, Failure> {
    let opens = change.mode == SettableMode::Normal;
    let Node::Daemon(_) = node else {
        return Ok(change);
    };
    if change.if_generation.is_some() || (opens && hosts == Hosts::One) {
        return Ok(change);
    }
    // A node that cannot be read refuses the change, too.
    let Ok((Some(status), closing)) = read(node).await else {
        return Ok(change);
    };
    let mode = status.mode.mode;
    let opening = closing.opening(&status);
    let (Opening::Others(why) | Opening::Runs(why)) = &opening else {
        return Ok(change);
    };
    if !mode.is_block() {
        return Ok(change);
    }
    if opens {
        let alone = match opening {
            Opening::Others(_) => format!(": {}", node.command("open")),
            Opening::Own | Opening::Runs(_) => String::new(),
        };
        let message = format!("it stays closed ({mode}). {why}{alone}");
        return Err(Failure::new(Exit::Refused, message));
    }
    if change.expires_in_seconds.is_some_and(|seconds| seconds > 0) {
        let message =
            format!("--for would open the node for others too. {why}. Nothing was changed");
        return Err(Failure::new(Exit::Refused, message)
            .with_hint("Leave out --for: their closing stays, and your reason is added"));
    }
    // Another mode has another reason.
    let stays = match stricter {
        Stricter::Replace => mode == Mode::from(change.mode),
        Stricter::Keep => mode >= Mode::from(change.mode),
    };
    if !stays {
        return Ok(change);
    }
    let theirs = status.mode.reason;
    let reason = match (theirs, change.reason) {
        (Some(theirs), Some(mine)) => Some(both_reasons(&theirs, mine)),
        (theirs, mine) => mine.or(theirs),
    };
    Ok(ChangeMode {
        reason,
        if_generation: Some(status.mode.generation),
        ..change
    })
}
