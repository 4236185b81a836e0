//! Target of a call, from its header.

use std::borrow::Cow;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use serde::{Serialize, Serializer};
use soramode_protocol::access::Access;
use soramode_protocol::sora::{TARGET_HEADER, Target};

const TARGET: HeaderName = HeaderName::from_static(TARGET_HEADER);

/// Names of the services: Sora's, and soramode's own.
const SERVICES: [&str; 2] = ["Sora", "Soramode"];

/// Digits of a version: a day.
const VERSION_DIGITS: usize = 8;

/// A target that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    /// Text of the header.
    name: Cow<'static, str>,
    /// Target, if soramode knows it.
    target: Option<Target>,
}

/// Problem with the header that names the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetProblem {
    /// Header `x-sora-target` is missing.
    Missing,
    /// Target is not of the form `Word_8digits.Word`.
    Malformed,
    /// Two targets, or one of another service.
    WrongService,
}

/// A target's name, taken apart.
#[derive(Serialize)]
struct Parts<'a> {
    service: &'a str,
    version: &'a str,
    operation: &'a str,
}

impl RequestTarget {
    /// Reads the target from the header.
    pub fn read(headers: &HeaderMap) -> Result<Self, TargetProblem> {
        let mut values = headers.get_all(&TARGET).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Err(TargetProblem::Missing),
            (Some(_), Some(_)) => return Err(TargetProblem::WrongService),
            (Some(value), None) => value.to_str().map_err(|_| TargetProblem::Malformed)?,
        };
        if let Some(target) = Target::from_name(value) {
            return Ok(Self {
                name: Cow::Borrowed(target.name()),
                target: Some(target),
            });
        }
        let Parts {
            service,
            version,
            operation,
        } = Parts::of(value).ok_or(TargetProblem::Malformed)?;
        let is_version =
            version.len() == VERSION_DIGITS && version.bytes().all(|byte| byte.is_ascii_digit());
        if !is_word(service) || !is_version || !is_word(operation) {
            return Err(TargetProblem::Malformed);
        }
        if SERVICES.contains(&service) {
            Ok(Self {
                name: Cow::Owned(value.to_owned()),
                target: None,
            })
        } else {
            Err(TargetProblem::WrongService)
        }
    }

    /// The target, if it is one that soramode knows.
    pub const fn target(&self) -> Option<Target> {
        self.target
    }

    /// Returns the access that a user needs for it. Targets that only Sora knows may do anything.
    pub(super) const fn access(&self) -> Access {
        match self.target {
            Some(
                Target::GetMode
                | Target::ListClusterNodes
                | Target::ListConnections
                | Target::ListChannelConnections
                | Target::ListSessions
                | Target::GetStatsAllConnections
                | Target::GetStatsReport
                | Target::GetStatus,
            ) => Access::View,
            Some(
                Target::ChangeMode
                | Target::DisconnectChannel
                | Target::PushChannel
                | Target::Connect,
            )
            | None => Access::Operate,
        }
    }
}

impl Serialize for RequestTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Parts::of(&self.name).serialize(serializer)
    }
}

impl<'a> Parts<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let (service, rest) = name.split_once('_')?;
        let (version, operation) = rest.split_once('.')?;
        Some(Self {
            service,
            version,
            operation,
        })
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
