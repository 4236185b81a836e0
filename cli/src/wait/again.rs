//! Next steps after a wait for a drain that did not reach its goal: to wait again, and to close the node again.

use soramode_protocol::mode::Mode;
use soramode_protocol::wait::Wait;

use crate::node::Node;

/// Work that follows a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// The command of `maintain`.
    Command,
}

/// Returns how to wait again.
pub(crate) fn again(wait: &Wait, then: Then, node: Node<'_>) -> String {
    let watch = node.command(&with_conditions("wait drained", wait));
    match then {
        Then::Nothing => format!("Watch again: {watch}"),
        Then::Command => {
            format!(
                "Run the same command again to wait and then run its command. Only watch: {watch}"
            )
        }
    }
}

/// Returns the remedy after another client opened the node; `mode` is the present one.
pub(super) fn superseded_hint(mode: Mode, wait: &Wait, then: Then, node: Node<'_>) -> String {
    let admits = match mode {
        Mode::Normal => "Clients may connect again. ",
        Mode::Initial => "",
        Mode::BlockNewSession | Mode::BlockNewConnection => return again(wait, then, node),
    };
    match then {
        Then::Nothing => {
            let drain = node.command(&with_conditions("drain", wait));
            format!("{admits}To close the node and drain it: {drain}")
        }
        Then::Command => {
            format!("{admits}Run the same command again to close and drain the node")
        }
    }
}

/// Returns the command with the conditions of the wait: `wait drained --max-sessions 1`.
fn with_conditions(command: &str, wait: &Wait) -> String {
    let most = wait
        .max_sessions
        .map(|most| format!(" --max-sessions {most}"));
    let settle = wait
        .settle_seconds
        .map(|settle| format!(" --settle {settle}s"));
    let flags = [
        most,
        settle,
        wait.assume_complete
            .then(|| " --assume-complete".to_owned()),
        wait.assume_in_force
            .then(|| " --assume-in-force".to_owned()),
    ];
    let flags: String = flags.into_iter().flatten().collect();
    format!("{command}{flags}")
}

#[cfg(test)]
mod tests {
    use soramode_protocol::wait::WaitFor;

    use super::*;
    use crate::endpoint::Endpoint;

    #[test]
    fn the_next_step_keeps_the_conditions_and_the_command() {
        const AGAIN: &str = "Run the same command again to close and drain the node";
        let endpoint = Endpoint::local(None);
        let plain = Wait::new(WaitFor::Drained);
        let conditional = Wait {
            max_sessions: Some(2),
            settle_seconds: Some(30.0),
            assume_complete: true,
            assume_in_force: true,
            generation: Some(7),
            ..plain.clone()
        };
        let flags = " --max-sessions 2 --settle 30s --assume-complete --assume-in-force";
        for (wait, flags) in [(plain, ""), (conditional, flags)] {
            let hint = |mode, then| superseded_hint(mode, &wait, then, Node::Daemon(&endpoint));
            let drain = format!("To close the node and drain it: soramode drain{flags}");
            let watch = format!("soramode wait drained{flags}");
            for (mode, nothing, command) in [
                (
                    Mode::Normal,
                    format!("Clients may connect again. {drain}"),
                    format!("Clients may connect again. {AGAIN}"),
                ),
                (Mode::Initial, drain, AGAIN.to_owned()),
                (
                    Mode::BlockNewSession,
                    format!("Watch again: {watch}"),
                    format!(
                        "Run the same command again to wait and then run its command. Only watch: {watch}"
                    ),
                ),
            ] {
                assert_eq!(hint(mode, Then::Nothing), nothing);
                assert_eq!(hint(mode, Then::Command), command);
            }
        }
    }
}
