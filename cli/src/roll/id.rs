//! Ids of rolls, and numbers that differ in each run.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::OsStrExt;

use soramode_protocol::id::RollId;
use soramode_protocol::reservation::MAINTAIN_PREFIX;

use super::request::HostWork;

/// Length of an id. Ids of earlier builds were shorter, and did not depend on the work.
const ID_BYTES: usize = 9;

/// Symbols at the end of a roll's id that depend on its work. One other work in 32,768 has the same.
const WORK_SYMBOLS: usize = 3;

/// Returns a new id of a roll. Its end depends on the work: a command that resumes it with other work is found, also on another machine.
pub(crate) fn new_roll(work: &HostWork, reboots: bool) -> RollId {
    with_work(&RollId::generate_short(random()), work, reboots)
}

/// Returns whether this is the id of a roll with this work. An id of another length may be of any.
pub(crate) fn is_of_work(roll: &RollId, work: &HostWork, reboots: bool) -> bool {
    roll.as_str().len() != ID_BYTES || *roll == with_work(roll, work, reboots)
}

fn with_work(id: &RollId, work: &HostWork, reboots: bool) -> RollId {
    let symbols = RollId::generate_short(hash(work, reboots));
    let begin = id.as_str().get(..ID_BYTES - WORK_SYMBOLS);
    let end = symbols.as_str().get(..WORK_SYMBOLS);
    let joined = begin.zip(end).map(|(begin, end)| format!("{begin}{end}"));
    joined
        .and_then(|id| id.parse().ok())
        .unwrap_or_else(|| id.clone())
}

fn hash(work: &HostWork, reboots: bool) -> [u8; 16] {
    let mut hash = hmac_sha256::Hash::new();
    for word in &work.command {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    hash.update([u8::from(reboots), u8::from(work.ready.is_some())]);
    hash.update(work.ready.as_deref().unwrap_or_default());
    let hash = hash.finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

/// Returns a new id for the maintenance of one node.
pub(crate) fn new_maintenance() -> RollId {
    let id = RollId::generate_short(random());
    // It is never too long, or empty.
    format!("{MAINTAIN_PREFIX}{id}").parse().unwrap_or(id)
}

/// Returns a number that differs in each run.
pub(crate) fn random_number() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        half.copy_from_slice(&random_number().to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use soramode_protocol::wait::{Wait, WaitFor};

    use super::*;
    use crate::roll::request::DrainPlan;

    fn work(command: &[&str], ready: Option<&str>) -> HostWork {
        HostWork {
            command: command.iter().map(Into::into).collect(),
            ready: ready.map(str::to_owned),
            ready_timeout: Duration::ZERO,
            drain: DrainPlan {
                wait: Wait::new(WaitFor::Drained),
                limit: None,
                after_close: None,
                undoes: false,
            },
        }
    }

    #[test]
    fn the_id_of_a_roll_shows_whether_the_work_is_another() {
        let own = work(&["sh", "-c", "a b"], None);
        let id = new_roll(&own, false);
        assert_ne!(id, new_roll(&own, false));
        assert_eq!(id.as_str().len(), ID_BYTES);
        assert!(is_of_work(&id, &own, false));
        assert!(!is_of_work(&id, &own, true));
        for other in [
            work(&["sh", "-c", "a", "b"], None),
            work(&["true"], None),
            work(&[], None),
            work(&["sh", "-c", "a b"], Some("")),
            work(&["sh", "-c", "a b"], Some("x")),
        ] {
            assert!(!is_of_work(&id, &other, false), "{:?}", other.command);
        }
        for other in ["R1", "7Q2K9XA0"] {
            assert!(is_of_work(&other.parse().unwrap(), &own, false));
        }
    }
}
