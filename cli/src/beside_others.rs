//! A change of the mode of a node that another operator, a plan or a roll keeps closed: it does not open the node for them.

use soramode_protocol::mode::{ChangeMode, Mode, ModeState, SettableMode};

use crate::error::{Exit, Failure};
use crate::mode_info::both_reasons;
use crate::mode_result::ModeResult;
use crate::node::Node;
use crate::opening::{Opening, read};
use crate::output::Output;
use crate::set_mode::{self, ATTEMPTS_MAX, Stricter};
use crate::signals::{Signals, unless_interrupted};

/// The hosts of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hosts {
    One,
    Several,
}

/// Sets the mode, adapted to a node that others keep closed. If the mode changes meanwhile, it is adapted anew.
pub(crate) async fn set_beside_others(
    node: Node<'_>,
    change: &ChangeMode,
    (hosts, stricter): (Hosts, Stricter),
    mut signals: Option<&mut Signals>,
    output: &Output,
) -> Result<ModeResult, Failure> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let adapted = beside_others(node, change.clone(), (hosts, stricter));
        let adapted = unless_interrupted(signals.as_deref_mut(), adapted).await?;
        let set = set_mode::set(node, &adapted.change, stricter, signals.as_deref_mut()).await;
        match set {
            Err(superseded)
                if superseded.exit == Exit::Superseded
                    && adapted.is_of_one_generation
                    && attempts < ATTEMPTS_MAX => {}
            Err(failure) => return Err(failure),
            Ok(result) => {
                if let Some(warning) = adapted.warning {
                    output.warn(&format!("{}: {warning}", result.status.name()));
                }
                return Ok(result);
            }
        }
    }
}

/// A change that is adapted to a node which others keep closed.
#[derive(Debug, PartialEq, Eq)]
struct Adapted {
    change: ChangeMode,
    /// It holds for one generation of the mode only, although the operator named none: after another change it is to be adapted anew.
    is_of_one_generation: bool,
    /// A part of the change that was left out.
    warning: Option<String>,
}

impl Adapted {
    const fn unchanged(change: ChangeMode) -> Self {
        Self {
            change,
            is_of_one_generation: false,
            warning: None,
        }
    }
}

/// Adapts a change to a node that others keep closed: their reason stays, and no timer opens it. A command for several hosts does not open it
/// either. With `--if-generation` the operator knows the closing, and the change is made as it is.
async fn beside_others(
    node: Node<'_>,
    change: ChangeMode,
    (hosts, stricter): (Hosts, Stricter),
) -> Result<Adapted, Failure> {
    let opens = change.mode == SettableMode::Normal;
    let Node::Daemon(_) = node else {
        return Ok(Adapted::unchanged(change));
    };
    if change.if_generation.is_some() || (opens && hosts == Hosts::One) {
        return Ok(Adapted::unchanged(change));
    }
    // A node that cannot be read refuses the change, too.
    let Ok((Some(status), closing)) = read(node).await else {
        return Ok(Adapted::unchanged(change));
    };
    let mode = status.mode.mode;
    let opening = closing.opening(&status);
    let (Opening::Others(why) | Opening::Runs(why)) = &opening else {
        return Ok(Adapted::unchanged(change));
    };
    if !mode.is_block() {
        return Ok(Adapted::unchanged(change));
    }
    if opens {
        let alone = match opening {
            Opening::Others(_) => format!(": {}", node.command("open")),
            Opening::Own | Opening::Runs(_) => String::new(),
        };
        let message = format!("it stays closed ({mode}). {why}{alone}");
        return Err(Failure::new(Exit::Refused, message));
    }
    // Another mode has another reason.
    let stays = match stricter {
        Stricter::Replace => mode == Mode::from(change.mode),
        Stricter::Keep => mode >= Mode::from(change.mode),
    };
    beside(&status.mode, change, (why, stays))
}

/// Returns the change beside a closing of others, which `why` describes.
fn beside(
    now: &ModeState,
    change: ChangeMode,
    (why, stays): (&str, bool),
) -> Result<Adapted, Failure> {
    let has_timer = change.expires_in_seconds.is_some_and(|seconds| seconds > 0);
    let tightens = now.mode < Mode::from(change.mode);
    if has_timer && !tightens {
        let message =
            format!("--for would open the node for others too. {why}. Nothing was changed");
        return Err(Failure::new(Exit::Refused, message)
            .with_hint("Leave out --for: their closing stays, and your reason is added"));
    }
    let warning = has_timer
        .then(|| format!("--for is left out: it would open the node for others too. {why}"));
    let expires_in_seconds = change.expires_in_seconds.filter(|_| !has_timer);
    if !stays {
        return Ok(Adapted {
            change: ChangeMode {
                expires_in_seconds,
                ..change
            },
            is_of_one_generation: false,
            warning,
        });
    }
    let reason = match (now.reason.clone(), change.reason) {
        (Some(theirs), Some(mine)) => Some(both_reasons(&theirs, mine)),
        (theirs, mine) => mine.or(theirs),
    };
    Ok(Adapted {
        change: ChangeMode {
            reason,
            if_generation: Some(now.generation),
            expires_in_seconds,
            ..change
        },
        is_of_one_generation: true,
        warning,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_status::status_of;

    fn now(mode: Mode) -> ModeState {
        ModeState {
            reason: Some("CHG-1".to_owned()),
            ..status_of(mode.name(), r#","sessions_complete":true"#).mode
        }
    }

    #[test]
    fn no_timer_opens_the_node_for_others_and_an_emergency_stop_is_made() {
        let stop = |expires_in_seconds| ChangeMode {
            expires_in_seconds,
            ..ChangeMode::to(SettableMode::BlockNewConnection)
        };
        let made = beside(&now(Mode::BlockNewSession), stop(Some(600)), ("x", false)).unwrap();
        assert_eq!(made.change, stop(None));
        assert!(
            made.warning
                .is_some_and(|it| it.starts_with("--for is left out"))
        );
        let made = beside(&now(Mode::BlockNewSession), stop(None), ("x", false)).unwrap();
        assert_eq!((made.change, made.warning), (stop(None), None));
        for mode in [Mode::BlockNewConnection, Mode::Initial] {
            let refused = beside(&now(mode), stop(Some(600)), ("x", true));
            assert_eq!(refused.unwrap_err().exit, Exit::Refused);
        }
    }

    #[test]
    fn a_reason_is_added_to_the_closing_that_was_read() {
        let mine = ChangeMode {
            reason: Some("CHG-2".to_owned()),
            ..ChangeMode::to(SettableMode::BlockNewSession)
        };
        let made = beside(&now(Mode::BlockNewSession), mine, ("x", true)).unwrap();
        assert_eq!(made.change.reason.as_deref(), Some("CHG-1; CHG-2"));
        assert!(made.is_of_one_generation && made.change.if_generation.is_some());
    }
}
