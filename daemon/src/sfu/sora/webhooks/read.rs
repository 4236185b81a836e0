//! Parser of Sora's webhooks. Lenient: Sora grows, and unknown fields and types are normal.
//!
//! Based on Shiguredo's typed server SDKs and documentation, Sora 2022.1 to 2025. Bodies can hold
//! secrets (`metadata`): errors do not repeat them.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use soramode_core::input::SoraInput;
use soramode_protocol::event::WebhookSource;
use soramode_protocol::id::{ChannelId, ClientChosen, ClientId, ConnectionId, SessionId};
use soramode_protocol::time::Time;

/// The longest type of a webhook, in bytes.
pub const SORA_TYPE_BYTES_MAX: usize = 255;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// First bytes of the gzip format.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Why a webhook cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Body is not valid JSON, or not an object.
    #[error("the body cannot be read as a JSON object: {0}")]
    NoObject(String),
    /// Field is missing or has another type.
    #[error("{0} is missing, or is not what it must be")]
    Field(&'static str),
}

/// Request of a client to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The channel.
    pub channel_id: ChannelId,
    /// Sora's id for the connection.
    pub connection_id: ConnectionId,
    /// Client that owns the connection.
    pub client_id: Option<ClientId>,
}

/// Fields that soramode uses. A value of another type than a string counts as absent: only required
/// fields must be present.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    r#type: Word,
    channel_id: Word,
    session_id: Word,
    connection_id: Word,
    client_id: Word,
    created_timestamp: Word,
    created_time: Number,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Word {
    Is(String),
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Is(i64),
    Other(serde::de::IgnoredAny),
}

impl Default for Word {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

impl Default for Number {
    fn default() -> Self {
        Self::Other(serde::de::IgnoredAny)
    }
}

impl Word {
    /// Returns whether there is a text.
    const fn is_there(&self) -> bool {
        matches!(self, Self::Is(_))
    }

    fn get(&self) -> Option<&str> {
        match self {
            Self::Is(word) => Some(word),
            Self::Other(_) => None,
        }
    }
}

impl Fields {
    fn read(body: &[u8]) -> Result<Self, Unreadable> {
        match serde_json::from_slice(body) {
            Ok(fields) if is_object(body) => Ok(fields),
            Ok(_) => Err(Unreadable::NoObject(
                "it is JSON of another kind".to_owned(),
            )),
            Err(error) => Err(Unreadable::NoObject(why_not_json(body, &error))),
        }
    }

    fn channel_id(&self) -> Result<ChannelId, Unreadable> {
        id(&self.channel_id, "channel_id")
    }

    fn session_id(&self) -> Result<SessionId, Unreadable> {
        id(&self.session_id, "session_id")
    }

    fn connection_id(&self) -> Result<ConnectionId, Unreadable> {
        id(&self.connection_id, "connection_id")
    }

    /// Returns the client's id; an invalid one is only informative and so omitted.
    fn client_id(&self) -> Option<ClientId> {
        id(&self.client_id, "client_id").ok()
    }

    fn created_at(&self) -> Option<Time> {
        let timestamp = self
            .created_timestamp
            .get()
            .and_then(|text| text.parse().ok());
        timestamp.or(match self.created_time {
            Number::Is(seconds) => seconds
                .checked_mul(MICROS_PER_SECOND)
                .map(Time::from_micros),
            Number::Other(_) => None,
        })
    }

    fn sora_type(&self) -> Result<&str, Unreadable> {
        self.r#type
            .get()
            .filter(|word| (1..=SORA_TYPE_BYTES_MAX).contains(&word.len()))
            .ok_or(Unreadable::Field("type"))
    }
}

/// Describes the problem without repeating anything of the body.
fn why_not_json(body: &[u8], error: &serde_json::Error) -> String {
    let message = error.to_string();
    if body.trim_ascii().is_empty() {
        "it is empty".to_owned()
    } else if body.starts_with(&GZIP) {
        "it is compressed".to_owned()
    } else if !is_object(body) {
        "it does not begin with {".to_owned()
    } else if error.is_data() && !message.starts_with("duplicate field") {
        format!(
            "a field cannot be read at line {} column {}",
            error.line(),
            error.column()
        )
    } else {
        message
    }
}

fn id<T: DeserializeOwned>(word: &Word, name: &'static str) -> Result<T, Unreadable> {
    let text = word.get().ok_or(Unreadable::Field(name))?;
    T::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(text))
        .map_err(|_| Unreadable::Field(name))
}

/// Checks the id of a new connection.
fn chosen<T: ClientChosen>(id: T, name: &'static str) -> Result<T, Unreadable> {
    id.check_chosen().map_err(|_| Unreadable::Field(name))
}

/// Returns true if JSON is an object: a derived parser accepts an array for a struct too.
pub(crate) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{")
}

/// Reads an auth webhook.
pub fn read_auth(body: &[u8]) -> Result<Auth, Unreadable> {
    let fields = Fields::read(body)?;
    Ok(Auth {
        channel_id: chosen(fields.channel_id()?, "channel_id")?,
        connection_id: chosen(fields.connection_id()?, "connection_id")?,
        client_id: fields.client_id(),
    })
}

/// Parses a session or an event webhook; `now` replaces missing times.
pub fn read_report(source: WebhookSource, body: &[u8], now: Time) -> Result<SoraInput, Unreadable> {
    let fields = Fields::read(body)?;
    let sora_type = fields.sora_type()?;
    match (source, sora_type) {
        (WebhookSource::Session, "session.created") => Ok(SoraInput::SessionCreated {
            channel_id: fields.channel_id()?,
            session_id: fields.session_id()?,
            // A start in the future means that Sora's clock is ahead of ours.
            created_time: fields.created_at().map_or(now, |at| at.min(now)),
        }),
        (WebhookSource::Session, "session.destroyed") => Ok(SoraInput::SessionDestroyed {
            channel_id: fields.channel_id()?,
            session_id: fields.session_id()?,
        }),
        (WebhookSource::Event, "connection.created") => Ok(SoraInput::ConnectionCreated {
            channel_id: fields.channel_id()?,
            // A present value must be a valid id: the session's end refers to it.
            session_id: fields
                .session_id
                .is_there()
                .then(|| fields.session_id())
                .transpose()?,
            connection_id: fields.connection_id()?,
            client_id: fields.client_id(),
        }),
        (WebhookSource::Event, "connection.destroyed") => Ok(SoraInput::ConnectionDestroyed {
            connection_id: fields.connection_id()?,
        }),
        // A connection that failed before it had an id needs no end.
        (WebhookSource::Event, "connection.failed") if fields.connection_id.get().is_some() => {
            Ok(SoraInput::ConnectionDestroyed {
                connection_id: fields.connection_id()?,
            })
        }
        (WebhookSource::Session | WebhookSource::Event, _) => Ok(SoraInput::PassedThrough {
            source,
            sora_type: sora_type.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1_748_747_046_000_000);

    fn report(source: WebhookSource, body: &str) -> Result<SoraInput, Unreadable> {
        read_report(source, body.as_bytes(), NOW)
    }

    #[test]
    fn an_auth_webhook_needs_channel_and_connection() {
        let auth = read_auth(br#"{"channel_id":"spam","connection_id":"c","client_id":5,"metadata":[{}],"role":null}"#).unwrap();
        assert_eq!(
            (
                auth.channel_id.as_str(),
                auth.connection_id.as_str(),
                auth.client_id
            ),
            ("spam", "c", None)
        );
        for (body, problem) in [
            (r#"{"connection_id":"c"}"#, Unreadable::Field("channel_id")),
            (
                r#"{"channel_id":null,"connection_id":"c"}"#,
                Unreadable::Field("channel_id"),
            ),
            (
                r#"{"channel_id":"","connection_id":"c"}"#,
                Unreadable::Field("channel_id"),
            ),
            (
                r#"{"channel_id":"spam"}"#,
                Unreadable::Field("connection_id"),
            ),
        ] {
            assert_eq!(read_auth(body.as_bytes()), Err(problem), "{body}");
        }
        let nul = br#"{"channel_id":"nul\u0000chan","connection_id":"c"}"#;
        assert_eq!(read_auth(nul), Err(Unreadable::Field("channel_id")));
        let long = format!(
            r#"{{"channel_id":"spam","connection_id":"{}"}}"#,
            "c".repeat(256)
        );
        assert_eq!(
            read_auth(long.as_bytes()),
            Err(Unreadable::Field("connection_id"))
        );
    }

    #[test]
    fn times_are_taken_from_where_they_are_said_best() {
        let at = |more: &str| match report(
            WebhookSource::Session,
            &format!(r#"{{"type":"session.created","channel_id":"a","session_id":"A"{more}}}"#),
        ) {
            Ok(SoraInput::SessionCreated { created_time, .. }) => created_time.as_micros(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            at(r#","created_time":1748747045,"created_timestamp":"2025-06-01T03:04:05.699000Z""#),
            1_748_747_045_699_000
        );
        assert_eq!(at(r#","created_time":1748747045"#), 1_748_747_045_000_000);
        assert_eq!(
            at(r#","created_time":9223372036854775807,"created_timestamp":"soon""#),
            NOW.as_micros()
        );
        assert_eq!(
            at(r#","created_time":1748747047"#),
            NOW.as_micros(),
            "nothing begins later than now"
        );
    }

    #[test]
    fn a_live_connection_of_sora_may_have_an_id_that_no_new_one_may_choose() {
        let body = r#"{"type":"connection.created","channel_id":"nul\u0000chan","session_id":"A","connection_id":"c"}"#;
        let Ok(SoraInput::ConnectionCreated { channel_id, .. }) =
            report(WebhookSource::Event, body)
        else {
            panic!("not taken")
        };
        assert_eq!(channel_id.as_str(), "nul\0chan");
    }

    #[test]
    fn unknown_webhooks_pass_and_known_ones_must_be_complete() {
        let passed = |source, sora_type: &str| {
            Ok(SoraInput::PassedThrough {
                source,
                sora_type: sora_type.to_owned(),
            })
        };
        for (source, sora_type) in [
            (WebhookSource::Session, "session.vanished"),
            (WebhookSource::Session, "recording.started"),
            (WebhookSource::Session, "connection.created"),
            (WebhookSource::Event, "connection.updated"),
            (WebhookSource::Event, "connection.failed"),
        ] {
            assert_eq!(
                report(source, &format!(r#"{{"type":"{sora_type}"}}"#)),
                passed(source, sora_type)
            );
        }
        for (source, body, field) in [
            (WebhookSource::Session, r#"{"id":"x"}"#.to_owned(), "type"),
            (WebhookSource::Session, format!(r#"{{"type":"{}"}}"#, "x".repeat(256)), "type"),
            (WebhookSource::Session, r#"{"type":"session.created","channel_id":"a"}"#.to_owned(), "session_id"),
            (WebhookSource::Session, r#"{"type":"session.destroyed","session_id":"A"}"#.to_owned(), "channel_id"),
            (
                WebhookSource::Event,
                r#"{"type":"connection.created","channel_id":"a","session_id":"","connection_id":"c"}"#.to_owned(),
                "session_id",
            ),
            (WebhookSource::Event, r#"{"type":"connection.created","channel_id":"a","client_id":"c"}"#.to_owned(), "connection_id"),
            (WebhookSource::Event, r#"{"type":"connection.destroyed"}"#.to_owned(), "connection_id"),
            (WebhookSource::Event, r#"{"type":"connection.failed","connection_id":""}"#.to_owned(), "connection_id"),
        ] {
            assert_eq!(report(source, &body), Err(Unreadable::Field(field)), "{body}");
        }
    }

    #[test]
    fn a_connection_of_a_sora_without_sessions_is_one_of_its_channel() {
        let body = r#"{"type":"connection.created","id":"E","timestamp":"2020-06-01T03:04:05Z","role":"upstream","channel_id":"spam",
            "client_id":"alice","connection_id":"c","data":{"created_time":1590980645}}"#;
        let Ok(SoraInput::ConnectionCreated {
            session_id,
            connection_id,
            ..
        }) = report(WebhookSource::Event, body)
        else {
            panic!("{body}")
        };
        assert_eq!((session_id, connection_id.as_str()), (None, "c"));
    }

    #[test]
    fn an_unreadable_body_is_refused_with_the_reason_and_none_of_its_text() {
        let deep = format!(
            r#"{{"created_time":{}1{}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        let gzipped = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0".as_slice();
        for (body, said) in [
            (b"".as_slice(), "it is empty"),
            (b" \n", "it is empty"),
            (gzipped, "it is compressed"),
            (b"[]", "it is JSON of another kind"),
            (br#"["x","spam"]"#, "it is JSON of another kind"),
            (br#""secret""#, "it does not begin with {"),
            (b"type=secret", "it does not begin with {"),
            (b"{", "EOF while parsing an object at line 1 column 1"),
            (
                br#"{"type":"secret","type":"secret"}"#,
                "duplicate field `type` at line 1 column ",
            ),
            (
                br#"{"created_time":1e999}"#,
                "number out of range at line 1 column ",
            ),
            (
                deep.as_bytes(),
                "recursion limit exceeded at line 1 column ",
            ),
            (
                br#"{"client_id":"\ud800"}"#,
                "unexpected end of hex escape at line 1 column ",
            ),
        ] {
            let Err(Unreadable::NoObject(problem)) = Fields::read(body) else {
                panic!("{body:?}")
            };
            assert!(
                problem.starts_with(said) && !problem.contains("secret"),
                "{problem}"
            );
        }
    }
}
