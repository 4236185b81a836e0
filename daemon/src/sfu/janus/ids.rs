//! Ids of rooms and participants: numbers or, with `string_ids`, texts. In soramode both are text.

use std::fmt;

use serde::{Deserialize, Serialize};
use soramode_core::input::Participant;
use soramode_protocol::id::{ChannelId, ConnectionId};

/// Length of an id in soramode, at most, in bytes.
const ID_BYTES_MAX: usize = 255;

/// The beginning of a longer id that is kept, in bytes.
const ID_BYTES_KEPT: usize = 200;

/// Length of the hash that stands for the rest, in bytes. It is the same in each version of soramoded: locked rooms are stored by it.
const HASH_BYTES: usize = 16;

/// An id of Janus.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Id {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// Type of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdKind {
    Number,
    Text,
}

impl IdKind {
    /// Returns the type that an id most likely has.
    pub(super) fn likely(text: &str) -> Self {
        if text.parse::<u64>().is_ok() {
            Self::Number
        } else {
            Self::Text
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Number => Self::Text,
            Self::Text => Self::Number,
        }
    }
}

impl Id {
    /// Creates an id of a type. A text that is no number stays a text.
    pub(super) fn of(text: &str, kind: IdKind) -> Self {
        match (kind, text.parse()) {
            (IdKind::Number, Ok(number)) => Self::Number(number),
            (IdKind::Number | IdKind::Text, _) => Self::Text(text.to_owned()),
        }
    }

    pub(super) const fn kind(&self) -> IdKind {
        match self {
            Self::Number(_) => IdKind::Number,
            Self::Text(_) => IdKind::Text,
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Returns the channel of a room; `None` for a room without a name.
pub(super) fn channel_of(room: &Id) -> Option<ChannelId> {
    ChannelId::new(&within_limit(&room.to_string())).ok()
}

/// Returns whether an id looks as if its end was replaced by a hash.
pub(super) fn is_shortened(id: &str) -> bool {
    let Some((kept, digits)) = id.rsplit_once('#') else {
        return false;
    };
    let is_cut = (ID_BYTES_KEPT - 3..=ID_BYTES_KEPT).contains(&kept.len());
    is_cut && digits.len() == 2 * HASH_BYTES && digits.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Returns a participant as the gate names it. The first slash of its id ends the room: one in the room's own id is encoded.
pub(super) fn participant(channel_id: &ChannelId, room: &Id, id: &Id) -> Option<Participant> {
    let room = room.to_string().replace('%', "%25").replace('/', "%2F");
    Some(Participant {
        channel_id: channel_id.clone(),
        connection_id: ConnectionId::new(&within_limit(&format!("{room}/{id}"))).ok()?,
    })
}

/// Puts a hash in place of the end of an id that is too long. An id that looks like such a one is replaced as well, so that no two are alike.
fn within_limit(id: &str) -> String {
    if id.len() <= ID_BYTES_MAX && !is_shortened(id) {
        return id.to_owned();
    }
    let kept = id.floor_char_boundary(ID_BYTES_KEPT);
    let hash = hmac_sha256::Hash::hash(id.as_bytes());
    let hash: [u8; HASH_BYTES] = hash.first_chunk().copied().unwrap_or_default();
    format!(
        "{}#{:032x}",
        id.get(..kept).unwrap_or_default(),
        u128::from_be_bytes(hash)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_sent_in_the_type_in_which_it_was_listed() {
        for (json, kind) in [
            ("1234", IdKind::Number),
            ("\"1234\"", IdKind::Text),
            ("\"a b\"", IdKind::Text),
        ] {
            let id: Id = serde_json::from_str(json).unwrap();
            assert_eq!(id.kind(), kind);
            assert_eq!(
                serde_json::to_string(&Id::of(&id.to_string(), kind)).unwrap(),
                json
            );
        }
    }

    #[test]
    fn the_same_participant_in_two_rooms_is_two_connections() {
        let (one, two) = (Id::Number(1), Id::Text("lobby".to_owned()));
        let id = Id::Number(42);
        let name = |room| participant(&channel_of(room).unwrap(), room, &id).unwrap();
        assert_eq!(name(&one).connection_id.as_str(), "1/42");
        assert_eq!(name(&two).connection_id.as_str(), "lobby/42");
    }

    #[test]
    fn a_slash_in_an_id_does_not_make_two_participants_one() {
        let id = |room: &str, id: &str| {
            let (room, id) = (Id::Text(room.to_owned()), Id::Text(id.to_owned()));
            let named = participant(&channel_of(&room).unwrap(), &room, &id).unwrap();
            named.connection_id.as_str().to_owned()
        };
        let ids = [
            id("a/b", "c"),
            id("a", "b/c"),
            id("a%2Fb", "c"),
            id("a%252Fb", "c"),
        ];
        assert_eq!(ids, ["a%2Fb/c", "a/b/c", "a%252Fb/c", "a%25252Fb/c"]);
    }

    #[test]
    fn an_id_that_looks_like_a_shortened_one_is_not_taken_for_it() {
        let long = Id::Text("x".repeat(256));
        let shortened = channel_of(&long).unwrap();
        let lookalike = Id::Text(shortened.as_str().to_owned());
        let other = channel_of(&lookalike).unwrap();
        assert_ne!(other, shortened);
        assert!(is_shortened(other.as_str()), "{other}");
        let once_more = channel_of(&Id::Text(other.as_str().to_owned())).unwrap();
        assert_ne!(once_more, other);
        assert_ne!(once_more, shortened);
    }

    #[test]
    fn long_ids_stay_apart() {
        let room = |end: &str| Id::Text(format!("{}{end}", "ä".repeat(200)));
        let (one, two) = (
            channel_of(&room("1")).unwrap(),
            channel_of(&room("2")).unwrap(),
        );
        assert_ne!(one, two);
        assert!(one.as_str().len() <= ID_BYTES_MAX);
        assert!(is_shortened(one.as_str()));
        assert_eq!(
            one.as_str().split('#').next(),
            Some("ä".repeat(100).as_str())
        );
        assert!(
            one.as_str().ends_with("#a967ce6d31c3aa3b6baa5a6b145dcc5f"),
            "{one}"
        );
        for id in ["1234", "a#b", &"x".repeat(233)] {
            assert!(!is_shortened(id));
        }
    }
}
