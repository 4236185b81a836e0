//! Descriptions of rooms that are not locked or open as the mode requires.

use soramode_protocol::mode::InForce;
use soramode_protocol::text::list_first;

use super::{Blocked, Class, LockCounts, Room, RoomLocks};

impl RoomLocks {
    /// Describes why the mode is not in force; `None` if it is.
    pub fn describe(&self) -> Option<String> {
        let LockCounts {
            outstanding,
            impossible,
            ..
        } = self.counts;
        match self.in_force() {
            InForce::Yes => None,
            InForce::No => {
                let why = self.list_problem.as_deref().unwrap_or_default();
                Some(format!("Janus's rooms cannot be listed: {why}"))
            }
            InForce::Pending if outstanding == 0 => {
                Some("Janus's rooms are still to be listed".to_owned())
            }
            InForce::Pending => Some(format!(
                "{} still to be locked or unlocked",
                counted(outstanding)
            )),
            InForce::Partial => Some(format!(
                "{} cannot be locked or unlocked{}",
                counted(impossible),
                self.describe_impossible()
            )),
        }
    }

    /// Describes the rooms that are still to be unlocked; `None` if there are none.
    pub fn describe_locked(&self) -> Option<String> {
        let LockCounts {
            outstanding,
            impossible,
            ..
        } = self.counts;
        let count = outstanding + impossible;
        (count > 0).then(|| {
            format!(
                "{} still to be unlocked{}",
                counted(count),
                self.describe_impossible()
            )
        })
    }

    /// Continues a sentence with the rooms that cannot be locked or unlocked, by cause.
    fn describe_impossible(&self) -> String {
        let of = |cause: Blocked| {
            let is_of_cause =
                |room: &Room| room.class() == Class::Impossible && room.blocked == Some(cause);
            let rooms = self.rooms.iter().filter(|(_, room)| is_of_cause(room));
            list_first(rooms.map(|(id, _)| id.as_str()))
        };
        let secret = of(Blocked::NoSecret).map(|rooms| {
            format!(". Give the right secret in --janus-room-secrets-file for {rooms}")
        });
        let tokens = of(Blocked::Tokens).map(|rooms| {
            format!(". The application has tokens in {rooms}, which soramode leaves as they are")
        });
        let record = of(Blocked::NoRecord)
            .map(|rooms| format!(". Free disk space: no lock of {rooms} can be recorded"));
        [secret, tokens, record].into_iter().flatten().collect()
    }
}

/// `1 room`
fn counted(rooms: u64) -> String {
    format!("{rooms} {}", if rooms == 1 { "room" } else { "rooms" })
}
