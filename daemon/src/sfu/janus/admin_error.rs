//! Errors of Janus's Admin API.

use serde_json::Value;
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::http_client::kept::RequestFailure;
use soramode_protocol::text::shorten;

/// The largest answer that is read, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Error code of Janus: no such session.
const NO_SESSION: i64 = 458;
/// Error code of Janus: no such handle.
const NO_HANDLE: i64 = 459;
/// Error code of VideoRoom: no such room.
const NO_ROOM: i64 = 426;
/// Error code of VideoRoom: no such user in the room.
const NO_USER: i64 = 428;
/// Error code of VideoRoom: an id of the wrong type, or another invalid element.
const INVALID_ELEMENT: i64 = 430;
/// Error code of VideoRoom: a secret is missing.
const SECRET_MISSING: i64 = 429;
/// Error code of VideoRoom: a secret is wrong.
const SECRET_WRONG: i64 = 433;

/// Failure of a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AdminError {
    /// Janus cannot be reached, or broke the connection.
    #[error("{0}")]
    Unreachable(String),
    /// Janus did not answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// Janus answered with an error.
    #[error("answered {code}: {reason}")]
    Refused {
        /// Error code.
        code: i64,
        /// Error text of Janus.
        reason: String,
    },
    /// The answer is not as the API specifies.
    #[error("sent an unreadable answer: {0}")]
    Unreadable(String),
    /// Only a part of the room's id is known.
    #[error("has not listed this room yet, whose id is longer than a channel's")]
    Unlisted,
    /// The answer is longer than the limit.
    #[error("answered more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

impl AdminError {
    /// Returns whether there is no such room, or no such participant in it.
    pub(super) const fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if matches!(*code, NO_ROOM | NO_USER | NO_SESSION | NO_HANDLE))
    }

    /// Returns whether the secret of a room is missing or wrong.
    pub(super) const fn is_secret(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if matches!(*code, SECRET_MISSING | SECRET_WRONG))
    }

    pub(super) const fn is_wrong_type(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: INVALID_ELEMENT,
                ..
            }
        )
    }
}

impl From<RequestFailure> for AdminError {
    fn from(failure: RequestFailure) -> Self {
        match failure {
            RequestFailure::Unreachable(why) => Self::Unreachable(why),
            RequestFailure::TimedOut => Self::TimedOut,
            RequestFailure::TooLarge => Self::TooLarge,
        }
    }
}

pub(super) fn refusal(code: i64, reason: Option<&Value>) -> AdminError {
    let reason = reason.and_then(Value::as_str).unwrap_or("no reason");
    AdminError::Refused {
        code,
        reason: shorten(reason, PEER_TEXT_BYTES_MAX),
    }
}

pub(super) fn unreadable(error: &impl ToString) -> AdminError {
    AdminError::Unreadable(shorten(&error.to_string(), PEER_TEXT_BYTES_MAX))
}
