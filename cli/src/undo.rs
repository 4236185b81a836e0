//! Undoing a change of the mode: restoring the previous mode, its reason and the rest of its time.

use soramode_protocol::mode::{ChangeMode, Mode, SettableMode};
use soramode_protocol::node::StorageState;
use soramode_protocol::time::Time;

use crate::command_line;
use crate::expected_end::typed_until;
use crate::mode_info::ModeInfo;
use crate::node::{Feature, Node};
use crate::output::times;

/// Returns the change that restores a mode. If its timer has expired meanwhile, or it was
/// `initial`, that is `normal`.
pub(crate) fn restore_change(before: &ModeInfo, now: Time) -> ChangeMode {
    let is_over = before
        .expires_at()
        .is_some_and(|expires_at| expires_at <= now);
    match SettableMode::try_from(before.mode) {
        Ok(mode) if before.mode.is_block() && !is_over => {
            let expires_in_seconds = before
                .expires_at()
                .map(|expires_at| times::seconds_until(expires_at, now));
            ChangeMode {
                reason: before.reason().map(str::to_owned),
                expires_in_seconds,
                expected_end_at: before.expected_end_at(),
                ..ChangeMode::to(mode)
            }
        }
        Ok(_) | Err(_) => ChangeMode::to(SettableMode::Normal),
    }
}

/// Returns the change that undoes `now`; `None` if nothing can be restored.
fn undo_change(before: &ModeInfo, now: &ModeInfo) -> Option<ChangeMode> {
    let back = restore_change(before, times::now());
    if before.mode != now.mode || Mode::from(back.mode) != now.mode {
        return Some(back);
    }
    // In the same mode, a reason can be replaced but not removed.
    let reason = back.reason.filter(|reason| now.reason() != Some(reason));
    let expires_in_seconds = match (before.expires_at(), now.expires_at()) {
        (one, other) if one == other => None,
        (None, Some(_)) => Some(0),
        (Some(_) | None, _) => back.expires_in_seconds,
    };
    // An expected end can be replaced but not removed.
    let expected_end_at = back
        .expected_end_at
        .filter(|end| now.expected_end_at() != Some(*end));
    let restores = reason.is_some() || expires_in_seconds.is_some() || expected_end_at.is_some();
    restores.then_some(ChangeMode {
        reason,
        expires_in_seconds,
        expected_end_at,
        ..ChangeMode::to(back.mode)
    })
}

/// `set block_new_session -m 'CHG-1' --for 9m59s`
fn typed(change: &ChangeMode) -> String {
    let reason = change.reason.as_deref().map(|reason| {
        // A value that begins with `-` must be joined to its flag.
        if reason.starts_with('-') {
            format!("--message={}", command_line::word(reason))
        } else {
            format!("-m {}", command_line::word(reason))
        }
    });
    let time = change.expires_in_seconds.map(|seconds| match seconds {
        0 => "--for never".to_owned(),
        seconds => format!("--for {}", times::typed_word(seconds)),
    });
    let parts = [
        Some(format!("set {}", Mode::from(change.mode))),
        reason,
        time,
        // The flag takes no time that is past.
        change
            .expected_end_at
            .filter(|end| *end > times::now())
            .map(typed_until),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// `Undo: soramode set normal --if-generation 5`; `None` if there is nothing to undo.
///
/// The generation makes the command fail after a later change of another user. HTTP has no such
/// condition.
pub(crate) fn undo_hint(
    before: &ModeInfo,
    now: &ModeInfo,
    node: Node<'_>,
    storage: StorageState,
) -> Option<String> {
    // soramoded itself changes the mode while its state cannot be written, and so the generation.
    let has_condition = node.supports(Feature::Condition) && storage != StorageState::Failed;
    let condition = now
        .generation()
        .filter(|_| has_condition)
        .map(|generation| format!(" --if-generation {generation}"))
        .unwrap_or_default();
    restore_hint("Undo", before, now, node, storage).map(|words| words + &condition)
}

/// Returns the command that restores the previous mode, after a label. While the state cannot be
/// written, every change is refused.
pub(crate) fn restore_hint(
    label: &str,
    before: &ModeInfo,
    now: &ModeInfo,
    node: Node<'_>,
    storage: StorageState,
) -> Option<String> {
    let mut change = undo_change(before, now)?;
    if !node.supports(Feature::ExpectedEnd) {
        change.expected_end_at = None;
    }
    let mut limits = "";
    let has_reason = node.supports(Feature::Reason);
    let loses_reason = change.reason.is_some() && !has_reason;
    let loses_timer = change.expires_in_seconds.is_some() && !node.supports(Feature::Timer);
    if loses_reason || loses_timer {
        if before.mode == now.mode {
            return None;
        }
        change = ChangeMode {
            reason: change.reason.filter(|_| has_reason),
            ..ChangeMode::to(change.mode)
        };
        limits = if has_reason {
            " (without its timer, which cannot be set over HTTP)"
        } else {
            " (the mode alone: its reason and timer cannot be set over HTTP)"
        };
    }
    let command = node.command(&typed(&change));
    Some(match storage {
        StorageState::Failed => {
            format!("{label}, once soramoded can write its state again{limits}: {command}")
        }
        StorageState::Ok | StorageState::Memory => format!("{label}{limits}: {command}"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use soramode_protocol::mode::ModeState;

    use super::*;
    use crate::api::Api;
    use crate::endpoint::Endpoint;

    /// A mode that `ops` set.
    pub(crate) fn state(
        mode: Mode,
        generation: u64,
        reason: Option<&str>,
        expires_in: Option<u64>,
    ) -> ModeState {
        ModeState {
            mode,
            generation,
            since: times::now(),
            actor: "uid:1000(ops)".to_owned(),
            on_behalf_of: None,
            reason: reason.map(str::to_owned),
            expires_at: expires_in.map(|seconds| times::now() + Duration::from_secs(seconds)),
            expected_end_at: None,
            own_mode: None,
            in_force: None,
            plan_id: None,
            roll: None,
        }
    }

    fn undo(before: ModeState, now: ModeState, storage: StorageState) -> Option<String> {
        let endpoint = Endpoint::local(Some("/s".into()));
        undo_hint(
            &ModeInfo::of(before),
            &ModeInfo::of(now),
            Node::Daemon(&endpoint),
            storage,
        )
    }

    #[test]
    fn restoring_includes_the_reason_and_the_remaining_time() {
        let before = state(Mode::BlockNewSession, 4, Some("CHG-1"), Some(3_600));
        let since = before.since;
        let change = restore_change(&ModeInfo::of(before), since + Duration::from_mins(10));
        assert_eq!(
            (change.mode, change.reason.as_deref()),
            (SettableMode::BlockNewSession, Some("CHG-1"))
        );
        assert!(
            matches!(change.expires_in_seconds, Some(3_000 | 3_001)),
            "{change:?}"
        );
    }

    #[test]
    fn an_expired_mode_and_initial_are_restored_as_normal() {
        for before in [
            state(Mode::BlockNewSession, 4, None, Some(0)),
            state(Mode::Initial, 4, None, None),
        ] {
            assert_eq!(
                restore_change(&ModeInfo::of(before), times::now()),
                ChangeMode::to(SettableMode::Normal)
            );
        }
    }

    #[test]
    fn undo_restores_mode_reason_and_timer() {
        let stop = || state(Mode::BlockNewConnection, 5, None, None);
        for (before, now, command) in [
            (
                state(Mode::Normal, 4, Some("done"), None),
                stop(),
                Some("set normal"),
            ),
            (
                state(Mode::BlockNewSession, 4, Some("it's A"), None),
                stop(),
                Some("set block_new_session -m \"it's A\""),
            ),
            (
                state(Mode::BlockNewSession, 4, Some("-x"), Some(3_600)),
                stop(),
                Some("set block_new_session --message=-x --for 1h"),
            ),
            (
                state(Mode::BlockNewConnection, 4, Some("A"), None),
                stop(),
                Some("set block_new_connection -m A"),
            ),
            (
                stop(),
                state(Mode::BlockNewConnection, 6, None, Some(60)),
                Some("set block_new_connection --for never"),
            ),
            (
                stop(),
                state(Mode::BlockNewConnection, 6, Some("B"), None),
                None,
            ),
            (stop(), stop(), None),
            (
                ModeState {
                    expected_end_at: Some("2099-12-01T04:00:00Z".parse().unwrap()),
                    ..state(Mode::BlockNewSession, 4, None, None)
                },
                stop(),
                Some("set block_new_session --until 2099-12-01T04:00:00Z"),
            ),
        ] {
            let condition = format!("--if-generation {}", now.generation);
            let wanted =
                command.map(|command| format!("Undo: soramode --socket /s {command} {condition}"));
            assert_eq!(undo(before, now, StorageState::Ok), wanted);
        }
    }

    #[test]
    fn while_the_state_cannot_be_written_nothing_can_be_undone() {
        let words = undo(
            state(Mode::Normal, 4, None, None),
            state(Mode::BlockNewSession, 5, None, None),
            StorageState::Failed,
        );
        assert_eq!(
            words.as_deref(),
            Some("Undo, once soramoded can write its state again: soramode --socket /s set normal")
        );
    }

    #[test]
    fn over_http_only_the_mode_is_restored() {
        let api = Api::new(
            "http://sora:3000/".parse().unwrap(),
            crate::api::ApiSource::Url,
            None,
        )
        .unwrap();
        let before = ModeInfo::of(state(Mode::BlockNewSession, 4, Some("A"), None));
        let words = |now: ModeState| {
            undo_hint(
                &before,
                &ModeInfo::of(now),
                Node::Api(&api),
                StorageState::Ok,
            )
        };
        let undo = "Undo (the mode alone: its reason and timer cannot be set over HTTP): soramode --api-url http://sora:3000/ set block_new_session";
        assert_eq!(
            words(state(Mode::BlockNewConnection, 5, None, None)).as_deref(),
            Some(undo)
        );
        assert_eq!(
            words(state(Mode::BlockNewSession, 5, Some("B"), None)),
            None
        );
    }
}
