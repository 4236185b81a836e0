//! Requests that reserve, renew and release a node.

use fastrand::Rng;
use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{RESERVE_SECONDS_MIN, Release, Reserve, RollStep};

/// Creates a random request about a reservation.
pub(in super::super) fn request(rng: &mut Rng) -> GateRequest {
    let roll = ["R1", "R'2"][usize::try_from(rng.u64(..2)).unwrap()];
    let roll = roll.parse().unwrap();
    let step = RollStep::ALL[usize::try_from(rng.u64(..5)).unwrap()];
    match rng.u64(..4) {
        0 => GateRequest::Release(Release { roll, round: None }),
        1 => GateRequest::Reserve(Box::new(Reserve::step(roll, step))),
        _ => GateRequest::Reserve(Box::new(Reserve {
            by: Some("alice@laptop".to_owned()),
            seconds: Some(RESERVE_SECONDS_MIN),
            round: Some(rng.u64(..9)),
            command_exit: (step == RollStep::CommandEnded).then_some(1),
            ..Reserve::step(roll, step)
        })),
    }
}
