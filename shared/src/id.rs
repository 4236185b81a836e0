//! Ids and names: text of 1 to 255 bytes, checked once at the border and cheap to keep.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use data_encoding::Encoding;
use data_encoding_macro::new_encoding;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::text::deserialize_via;

/// The longest id, in bytes of UTF-8.
pub const ID_BYTES_MAX: usize = 255;

/// Ids up to this many bytes are kept without an allocation: Sora's have 26.
const INLINE_BYTES_MAX: usize = 30;

/// A UUID's 128 bits in Clockwork Base32.
const GENERATED_BYTES: usize = 26;

/// Clockwork Base32, in which Sora writes its UUIDs: Crockford's symbols, most significant bit first, no padding.
const CLOCKWORK_BASE32: Encoding = new_encoding! {
    symbols: "0123456789ABCDEFGHJKMNPQRSTVWXYZ",
};

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Id with no characters.
    #[error("is empty, takes 1 to {ID_BYTES_MAX} bytes")]
    Empty,
    /// Id longer than [`ID_BYTES_MAX`] bytes.
    #[error("has {0} bytes, takes 1 to {ID_BYTES_MAX}")]
    TooLong(usize),
    /// A NUL in an id that a client chooses.
    #[error("has a NUL character, which no command and no environment variable can carry")]
    Nul,
}

/// Ids that clients choose, with the check for a new one.
///
/// An id from a Sora or from the state exists already: it is accepted as it is, so that its session
/// can be listed and ended.
pub trait ClientChosen: Sized {
    /// The name of its field.
    const WORD: &'static str;

    /// Refuses ids that contain NUL.
    fn check_chosen(self) -> Result<Self, InvalidId>;
}

/// Reads an id that a client chooses, for `deserialize_with`.
pub fn chosen<'de, D: Deserializer<'de>, T: Deserialize<'de> + ClientChosen>(
    deserializer: D,
) -> Result<T, D::Error> {
    let id = T::deserialize(deserializer)?;
    id.check_chosen()
        .map_err(|invalid| D::Error::custom(format_args!("{} {invalid}", T::WORD)))
}

/// Reads an id that a client may choose, for `deserialize_with`.
pub fn chosen_if_any<'de, D: Deserializer<'de>, T: Deserialize<'de> + ClientChosen>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let id = Option::<T>::deserialize(deserializer)?;
    id.map(ClientChosen::check_chosen)
        .transpose()
        .map_err(|invalid| D::Error::custom(format_args!("{} {invalid}", T::WORD)))
}

/// Text of 1 to [`ID_BYTES_MAX`] bytes in 32 bytes of memory, on the heap only where it is long.
#[derive(Clone)]
enum InlineStr {
    /// UTF-8 in the first `len` bytes.
    Short {
        len: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    Long(Box<str>),
}

impl InlineStr {
    fn new(text: &str) -> Result<Self, InvalidId> {
        match text.len() {
            0 => Err(InvalidId::Empty),
            bytes if bytes > ID_BYTES_MAX => Err(InvalidId::TooLong(bytes)),
            _ => Ok(Self::keep(text)),
        }
    }

    fn keep(text: &str) -> Self {
        let mut bytes = [0; INLINE_BYTES_MAX];
        match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
            (Some(start), Ok(len)) => {
                start.copy_from_slice(text.as_bytes());
                Self::Short { len, bytes }
            }
            (_, _) => Self::Long(text.into()),
        }
    }

    fn generate(random: [u8; 16]) -> Self {
        let mut text = [0; GENERATED_BYTES];
        Self::keep(encode_uuid(random, &mut text))
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(text) => text.as_bytes(),
        }
    }

    fn as_str(&self) -> &str {
        // Bytes that were taken from a str are one.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

/// Makes a `UUIDv4` of 16 random bytes and writes it in Clockwork Base32.
fn encode_uuid(random: [u8; 16], text: &mut [u8; GENERATED_BYTES]) -> &str {
    let uuid = uuid::Builder::from_random_bytes(random).into_uuid();
    CLOCKWORK_BASE32.encode_mut_str(uuid.as_bytes(), text)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        ///
        /// 1 to [`ID_BYTES_MAX`] bytes of UTF-8.
        #[derive(Clone)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(
            #[cfg_attr(feature = "schema", schemars(with = "String", length(min = 1, max = ID_BYTES_MAX)))] InlineStr,
        );

        impl $name {
            /// Creates an id, checking its length.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                InlineStr::new(text).map(Self)
            }

            /// A new one: a `UUIDv4` of these random bytes in Clockwork Base32, 26 characters, as Sora's are.
            pub fn generate(random: [u8; 16]) -> Self {
                Self(InlineStr::generate(random))
            }

            /// Returns the id as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// Returns the bytes of the text, by which ids are compared and hashed.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }

        impl ClientChosen for $name {
            const WORD: &'static str = $word;

            fn check_chosen(self) -> Result<Self, InvalidId> {
                if self.as_bytes().contains(&0) { Err(InvalidId::Nul) } else { Ok(self) }
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.as_bytes().cmp(other.as_bytes())
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.as_bytes().hash(state);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let expected = format_args!("a {}, a string of 1 to {ID_BYTES_MAX} bytes", $word);
                deserialize_via(deserializer, expected, |text| Self::new(text).map_err(|invalid| format!("{} {invalid}", $word)))
            }
        }
    };
}

id_type!(
    /// Name that clients use to meet each other; Sora's `channel_id`.
    ChannelId, "channel_id"
);
id_type!(
    /// Identifier of one client in one channel; Sora's `connection_id`, unique on the node.
    ConnectionId, "connection_id"
);
id_type!(
    /// Owner of a connection, as the client or the application names it; Sora's `client_id`.
    ClientId, "client_id"
);
id_type!(
    /// Identifier of one life of a channel; Sora's `session_id`.
    SessionId, "session_id"
);
id_type!(
    /// A node of the cluster; Sora's `node_name`.
    NodeName, "node_name"
);
id_type!(
    /// A stretch of the event log within which `seq` has no gap and no repeat.
    LogId, "log_id"
);
id_type!(
    /// A cluster, independent of the etcd that stores it.
    ClusterId, "cluster_id"
);
id_type!(
    /// Identifier of one history of a cluster in etcd. A new history begins where claims may have
    /// been lost.
    HistoryId, "history_id"
);

id_type!(
    /// Identifier of a maintenance plan: short, because people type it.
    PlanId, "plan id"
);
id_type!(
    /// Identifier of a rolling maintenance over several nodes: short, because people type it.
    RollId, "roll id"
);
id_type!(
    /// Identifier of an announcement to the clients in the sessions.
    AnnouncementId, "announcement id"
);
id_type!(
    /// Identifier of a request to end sessions.
    EndId, "end id"
);

/// Length of a short id: 40 random bits.
const SHORT_ID_BYTES: usize = 8;

macro_rules! short_id {
    ($name:ident) => {
        impl $name {
            /// Returns a short id of these random bytes, 8 characters.
            pub fn generate_short(random: [u8; 16]) -> Self {
                let whole = Self::generate(random);
                let short = whole.as_str().get(..SHORT_ID_BYTES);
                short.and_then(|text| Self::new(text).ok()).unwrap_or(whole)
            }
        }
    };
}

short_id!(PlanId);
short_id!(RollId);

/// Identifier of an event: a `UUIDv4` in Clockwork Base32, 26 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EventId(
    #[cfg_attr(
        feature = "schema",
        schemars(with = "String", regex(pattern = "^[0-9A-HJKMNP-TV-Z]{26}$"))
    )]
    [u8; 16],
);

impl EventId {
    /// A new one of these random bytes.
    pub fn generate(random: [u8; 16]) -> Self {
        Self(
            uuid::Builder::from_random_bytes(random)
                .into_uuid()
                .into_bytes(),
        )
    }

    fn with_text<T>(self, read: impl FnOnce(&str) -> T) -> T {
        let mut text = [0; GENERATED_BYTES];
        read(CLOCKWORK_BASE32.encode_mut_str(&self.0, &mut text))
    }
}

impl FromStr for EventId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        CLOCKWORK_BASE32
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "an event id has {GENERATED_BYTES} characters of Clockwork Base32, got {text:?}"
                )
            })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| write!(f, "EventId({text})"))
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_via(deserializer, format_args!("a string"), str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_takes_32_bytes_of_memory() {
        assert_eq!(size_of::<ConnectionId>(), 32);
        assert_eq!(size_of::<Option<ConnectionId>>(), 32);
    }

    #[test]
    fn length_is_checked_at_both_ends() {
        assert_eq!(ChannelId::new(""), Err(InvalidId::Empty));
        assert!(ChannelId::new(&"x".repeat(ID_BYTES_MAX)).is_ok());
        assert_eq!(
            ChannelId::new(&"x".repeat(ID_BYTES_MAX + 1)),
            Err(InvalidId::TooLong(256))
        );
    }

    #[test]
    fn nul_is_refused_where_a_client_chooses_and_read_where_an_id_is_there_already() {
        let id = ChannelId::new("nul\0chan").unwrap();
        assert_eq!(id.clone().check_chosen(), Err(InvalidId::Nul));
        assert_eq!(
            serde_json::from_str::<ChannelId>(r#""nul\u0000chan""#).unwrap(),
            id
        );
        // Shell metacharacters and line breaks are text like any other.
        for text in [
            "$(touch x)",
            "`x`",
            "\"; x",
            "new\nline",
            "\u{202e}",
            "\u{1}",
        ] {
            assert!(
                ChannelId::new(text).unwrap().check_chosen().is_ok(),
                "{text:?}"
            );
        }
    }

    #[test]
    fn short_and_long_ids_compare_by_their_text() {
        for bytes in [1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, ID_BYTES_MAX] {
            let text = "a".repeat(bytes);
            let id: ConnectionId = serde_json::from_value(text.clone().into()).unwrap();
            assert_eq!(id, ConnectionId::new(&text).unwrap());
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("{text:?}"));
        }
    }

    /// The expected text was worked out by hand from the alphabet: 16 bytes of ff, with version 4 and variant 10.
    #[test]
    fn generated_ids_are_clockwork_base32() {
        assert_eq!(
            SessionId::generate([0; 16]).as_str(),
            "00000000010010000000000000"
        );
        let id = EventId::generate([0xff; 16]);
        assert_eq!(id.to_string(), "ZZZZZZZZZX7ZZFZZZZZZZZZZZW");
        assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
        assert!("ZZZ".parse::<EventId>().is_err());
    }
}
