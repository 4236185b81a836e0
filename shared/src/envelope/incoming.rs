//! A request line that was parsed.

use serde::Serialize;

use crate::error::Error;
use crate::request::{Method, Request, RequestId};

/// Request line that was parsed: the recipient of the answer, and the request.
#[derive(Debug, PartialEq)]
pub struct Incoming {
    /// Recipient of the answer; `None` for a notification, which gets no answer.
    pub reply_to: Option<ReplyTo>,
    /// Method and request, or the error that prevents it.
    pub request: Result<(Method, Request), Error>,
}

/// Recipient of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// The request of this id.
    Id(RequestId),
    /// Answers with `"id":null`, because the id could not be read.
    Null,
}

impl Serialize for ReplyTo {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Id(id) => id.serialize(serializer),
            Self::Null => serializer.serialize_none(),
        }
    }
}
