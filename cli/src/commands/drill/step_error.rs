//! The reason why a step of the drill has no answer.

use soramode_protocol::client::ClientError;
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::InvalidId;

/// The reason why a step has no answer.
pub(super) enum StepError {
    /// The node refused the request, which is an answer too.
    Refused(ErrorType),
    Lost(String),
}

impl From<ClientError> for StepError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(error) => Self::Refused(error.data.error_type),
            lost => Self::Lost(lost.to_string()),
        }
    }
}

impl From<InvalidId> for StepError {
    fn from(error: InvalidId) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<serde_json::Error> for StepError {
    fn from(error: serde_json::Error) -> Self {
        Self::Lost(error.to_string())
    }
}
