//! The SFU in the status: names of sources, their APIs, and a mode that the SFU holds.

use soramode_protocol::mode::InForce;
use soramode_protocol::node::{RoomCounts, Source};

use crate::output::counted;

/// Returns the name of a source that this version knows; the control socket's for another.
pub(crate) fn source_name(source: &Source) -> &'static str {
    match source.name.as_str() {
        "sora" => "sora",
        "janus" => "janus",
        _ => "socket",
    }
}

/// Returns the name of the API that a source is polled by, and the remedy if it fails.
pub(crate) fn source_api(source: &Source) -> (&'static str, &'static str) {
    match source.name.as_str() {
        "janus" => (
            "Janus's Admin API",
            "Check that this Janus runs, and --janus-admin. If it refuses the secret or the key, correct the files of --janus-admin-secret-file and \
             --janus-admin-key-file, then restart soramoded",
        ),
        _ => ("Sora's API", "Check --sora-api, and that this Sora runs"),
    }
}

/// `no: 1 of 5 rooms cannot be locked or unlocked`
pub(crate) fn describe_in_force(in_force: InForce, rooms: Option<RoomCounts>) -> String {
    let answer = match in_force {
        InForce::Yes => "yes",
        InForce::Pending => "not yet",
        InForce::Partial | InForce::No => "no",
    };
    match describe_not_in_force(in_force, rooms) {
        Some(why) => format!("{answer}: {why}"),
        None => answer.to_owned(),
    }
}

/// Returns the reason for which a mode is not in force; `None` if it is.
pub(crate) fn describe_not_in_force(
    in_force: InForce,
    rooms: Option<RoomCounts>,
) -> Option<String> {
    let of = |count: fn(RoomCounts) -> u64| {
        rooms.map_or("some rooms".to_owned(), |rooms| {
            let all = rooms.settled + rooms.outstanding + rooms.impossible;
            format!("{} of {}", count(rooms), counted(all, "room"))
        })
    };
    match in_force {
        InForce::Yes => None,
        InForce::Pending if rooms.is_some_and(|rooms| rooms.outstanding == 0) => {
            Some("Janus has not confirmed it yet".to_owned())
        }
        InForce::Pending => Some(format!(
            "{} still to be locked or unlocked",
            of(|it| it.outstanding)
        )),
        InForce::Partial => Some(format!(
            "{} cannot be locked or unlocked",
            of(|it| it.impossible)
        )),
        InForce::No => Some("Janus's rooms cannot be listed".to_owned()),
    }
}
