//! Announcements to the clients in the sessions: the method `Announce`, the notification of the
//! same name, and the data that clients receive.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::id::{AnnouncementId, ChannelId, SessionId};
use crate::notice_text::check_notice_text;
pub use crate::notice_text::{MINUTES, NOTICE_TEXT_BYTES_MAX};
use crate::time::Time;

/// Longest data of an announcement, in bytes of JSON.
pub const NOTICE_DATA_BYTES_MAX: usize = 4_096;

/// Number of problems that an answer names.
pub const ANNOUNCE_PROBLEMS_MAX: usize = 10;

/// Data for the application: any JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct NoticeData(pub Value);

/// Checks a text; see [`check_notice_text`].
pub(crate) fn check_text(field: &str, text: Option<&str>) -> Result<(), Error> {
    text.map_or(Ok(()), check_notice_text)
        .map_err(|problem| Error::invalid_params(field, problem))
}

/// Checks the length of the data, as JSON.
pub(crate) fn check_data(field: &str, data: Option<&NoticeData>) -> Result<(), Error> {
    match data.map(|data| data.0.to_string().len()) {
        Some(bytes) if bytes > NOTICE_DATA_BYTES_MAX => Err(Error::invalid_params(
            field,
            format_args!("got {bytes} bytes of JSON, takes at most {NOTICE_DATA_BYTES_MAX}"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Parameters of the method `Announce`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// Text for people. `{minutes}` stands for the time until a plan ends the sessions, in whole minutes, rounded down, at least 1. At most
    /// [`NOTICE_TEXT_BYTES_MAX`] bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = NOTICE_TEXT_BYTES_MAX)))]
    pub text: Option<String>,
    /// Data for the application. At most [`NOTICE_DATA_BYTES_MAX`] bytes of JSON.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<NoticeData>,
    /// Channel to announce to; all if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub channel_id: Option<ChannelId>,
}

impl Announce {
    /// Checks the limits of the parameters.
    pub fn check(&self) -> Result<(), Error> {
        check_text("text", self.text.as_deref())?;
        check_data("data", self.data.as_ref())
    }
}

/// Number of channels that Sora's API was called for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AnnouncedByApi {
    /// Channels that have the announcement.
    pub told: u64,
    /// Channels that it was refused for.
    pub failed: u64,
}

/// Means by which an announcement was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AnnouncedBy {
    /// `PushChannel` of Sora's API.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sora_api: Option<AnnouncedByApi>,
    /// Clients of the control socket that are subscribed with `announcements: true`.
    pub subscribers: u64,
    /// Receivers of the webhook `maintenance.announced`.
    pub webhooks: u64,
}

/// A channel that an announcement did not reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AnnounceProblem {
    /// The channel.
    pub channel_id: ChannelId,
    /// Reason.
    pub problem: String,
}

/// Result of the method `Announce`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Announced {
    /// Identifier of the announcement, as clients receive it.
    pub id: AnnouncementId,
    /// Channels that it went to.
    pub channels: u64,
    /// Means by which it was made.
    pub by: AnnouncedBy,
    /// Channels that it did not reach, at most [`ANNOUNCE_PROBLEMS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<AnnounceProblem>,
}

/// The word that marks a notice in a Sora's push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// Maintenance of the node.
    #[default]
    Maintenance,
}

/// Data that clients receive: `data` of Sora's push. It has no reason, actor or node name, which
/// are internal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Notice {
    /// `maintenance`.
    pub kind: NoticeKind,
    /// Identifier of the announcement; the same if it is repeated.
    pub id: AnnouncementId,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// Time before which no session is ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sessions_end_at: Option<Time>,
    /// Data for the application.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<NoticeData>,
    /// `true` if what was announced before does not happen.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub cancelled: bool,
}

/// The notification `Announce`: a notice for the clients of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AnnounceSession {
    /// Channel of the session.
    pub channel_id: ChannelId,
    /// Identifier of the session.
    pub session_id: SessionId,
    /// The notice.
    #[serde(flatten)]
    pub notice: Notice,
}
