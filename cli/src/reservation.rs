//! Sentences about the roll that has reserved a node, or has left it closed.

use soramode_protocol::node::Status;
use soramode_protocol::reservation::{Reservation, RollStep};

/// Describes the roll that concerns the node: the one that has reserved it, and the one that has left it closed, if the record is `of_closing`.
pub(crate) fn describe_roll(
    status: &Status,
    of_closing: impl Fn(&Reservation) -> bool,
) -> Option<String> {
    let reservation = status.reservation.as_deref();
    let is_closed = status.mode.mode.is_block();
    let by_record = reservation.filter(|it| it.is_current() || (is_closed && of_closing(it)));
    let by_record = by_record.and_then(describe_reservation);
    let of_mode = status.mode.roll.as_ref();
    let of_mode = of_mode.filter(|_| is_closed);
    let other = of_mode.filter(|roll| reservation.is_none_or(|it| it.roll != **roll));
    let closed_by = other.map(|roll| format!("closed by {roll}"));
    let parts: Vec<String> = by_record.into_iter().chain(closed_by).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `7Q2K9XA0 of alice@laptop, draining; no other roll closes the node for 42 s`. A roll that is done with the node, and has released it, is
/// not shown.
fn describe_reservation(reservation: &Reservation) -> Option<String> {
    let Reservation { roll, by, step, .. } = reservation;
    let at = match (step, reservation.command_exit) {
        (None, _) => String::new(),
        (Some(RollStep::Command | RollStep::CommandEnded), _) if reservation.rebooted => {
            ", the host has rebooted".to_owned()
        }
        (Some(RollStep::Command), None) if reservation.is_current() => {
            ", its command runs".to_owned()
        }
        (Some(RollStep::Command | RollStep::CommandEnded), None) => {
            ", its command may still run".to_owned()
        }
        (Some(RollStep::Command | RollStep::CommandEnded), Some(exit)) => {
            format!(", its command has ended (exit code {exit})")
        }
        (Some(RollStep::Ready), _) => ", waiting until the node is ready".to_owned(),
        (Some(step @ (RollStep::Draining | RollStep::Done)), _) => format!(", {step}"),
    };
    match (reservation.expires_in_seconds, step) {
        (Some(seconds), _) => Some(format!(
            "{roll} of {by}{at}; no other roll closes the node for {seconds} s"
        )),
        (None, None | Some(RollStep::Done)) => None,
        (None, Some(_)) => Some(format!("{roll} of {by}{at}; holds no reservation")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_status::status_of;

    #[test]
    fn the_roll_that_left_a_node_closed_is_shown_also_when_its_reservation_is_over() {
        let record = |roll: &str, rest: &str| {
            format!(
                r#","sessions_complete":true,"roll":"R1","reservation":{{"roll":"{roll}","by":"alice@laptop","actor":"uid:0","since":"2026-11-22T20:00:00Z","round":3{rest}}}"#
            )
        };
        let shown = |mode: &str, roll: &str, rest: &str| {
            describe_roll(&status_of(mode, &record(roll, rest)), |_| true)
        };
        assert_eq!(
            shown("block_new_session", "R1", r#","step":"command""#).as_deref(),
            Some("R1 of alice@laptop, its command may still run; holds no reservation")
        );
        let ended = r#","step":"command_ended","command_exit":3"#;
        assert_eq!(
            shown("block_new_session", "R1", ended).as_deref(),
            Some("R1 of alice@laptop, its command has ended (exit code 3); holds no reservation")
        );
        assert_eq!(
            shown("block_new_session", "R2", r#","expires_in_seconds":42"#).as_deref(),
            Some("R2 of alice@laptop; no other roll closes the node for 42 s; closed by R1")
        );
        for step in ["done", "command"] {
            let step = format!(r#","step":"{step}""#);
            assert_eq!(shown("normal", "R1", &step), None);
        }
    }
}
