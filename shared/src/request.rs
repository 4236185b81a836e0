//! Requests: a table of every method, its parameters, its reply and the access it needs.

use std::fmt;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::access::Access;
use crate::announce::{Announce, Announced};
use crate::cluster::{
    Acknowledge, Acknowledged, Grant, Granted, InitCluster, Initialized, PurgeClusterNode, Purged,
};
use crate::decision::{
    Connect, Decision, Disconnect, Disconnected, Explain, Explanation, Report, Reported,
};
use crate::delivery::{Deliveries, Delivery, ListDeliveries, ResendDelivery};
use crate::end::{End, Ended};
use crate::error::Error;
use crate::mode::{ChangeMode, GetMode, ListModeChanges, ModeChanged, ModeChanges, ModeState};
use crate::node::{ClusterNodes, GetInfo, GetStatus, Info, ListClusterNodes, Status};
use crate::plan::{CancelPlan, GetPlan, PlanCancelled, PlanFound, PlanStarted, StartPlan};
use crate::reservation::{Release, Released, Reserve, Reserved};
use crate::session::{
    Connections, GetSession, ListConnections, ListRequest, ListSessions, SessionDetail, Sessions,
    page_limit,
};
use crate::subscribe::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};
use crate::wait::{Wait, WaitEnded};

/// The longest string as a request's `id`, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 255;

/// A request's `id`, given back with its answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// Id that is a whole number.
    Number(i64),
    /// A whole number past `i64::MAX`.
    LargeNumber(u64),
    /// A string of at most [`REQUEST_ID_BYTES_MAX`] bytes.
    Text(Box<str>),
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = RequestId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an id: a whole number, or a string of at most {REQUEST_ID_BYTES_MAX} bytes"
        )
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<RequestId, E> {
        Ok(RequestId::Number(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<RequestId, E> {
        Ok(i64::try_from(number).map_or(RequestId::LargeNumber(number), RequestId::Number))
    }

    /// `-0` alone is read as a float though it is whole.
    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<RequestId, E> {
        if number == 0.0 && number.is_sign_negative() {
            return Ok(RequestId::Number(0));
        }
        Err(E::invalid_type(serde::de::Unexpected::Float(number), &self))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RequestId, E> {
        if text.len() > REQUEST_ID_BYTES_MAX {
            return Err(E::invalid_length(text.len(), &self));
        }
        Ok(RequestId::Text(text.into()))
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

/// Parameters of a method, with the method and its reply.
pub trait Call: Serialize + DeserializeOwned {
    /// Method that takes these parameters.
    const METHOD: Method;
    /// Type of the reply.
    type Reply: DeserializeOwned + Serialize;
}

macro_rules! methods {
    ($($method:ident($access:ident) -> $reply:ty, $params:pat => $request:expr;)*) => {
        /// Methods of the daemon.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $(#[doc = concat!("`", stringify!($method), "`")] $method,)*
        }

        impl Method {
            /// Methods in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$method),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$method => stringify!($method),)* }
            }

            /// The access it needs.
            pub const fn access(self) -> Access {
                match self { $(Self::$method => Access::$access,)* }
            }

            /// The method of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($method) => Some(Self::$method),)*
                    _ => None,
                }
            }
        }

        impl Request {
            /// Reads and checks a method's params.
            pub fn read(method: Method, params: impl Params) -> Result<Self, Error> {
                let request = match method {
                    $(Method::$method => {
                        let $params: $method = params.read()?;
                        $request
                    })*
                };
                request.check()?;
                Ok(request)
            }
        }

        $(impl Call for $method {
            const METHOD: Method = Method::$method;
            type Reply = $reply;
        })*
    };
}

// A method, the access it needs, its result, and how its params become a request.
methods! {
    GetMode(View) -> ModeState, _ => Request::Gate(GateRequest::GetMode);
    ChangeMode(Operate) -> ModeChanged, change => Request::Gate(GateRequest::ChangeMode(Box::new(change)));
    GetStatus(View) -> Status, _ => Request::Gate(GateRequest::GetStatus);
    ListModeChanges(View) -> ModeChanges, list => Request::Gate(GateRequest::ListModeChanges(list));
    Connect(Operate) -> Decision, connect => Request::Gate(GateRequest::Connect(connect));
    Report(Operate) -> Reported, report => Request::Gate(GateRequest::Report(report));
    Disconnect(Operate) -> Disconnected, disconnect => Request::Gate(GateRequest::Disconnect(disconnect));
    End(Operate) -> Ended, end => Request::Gate(GateRequest::End(end));
    Explain(View) -> Explanation, explain => Request::Gate(GateRequest::Explain(explain));
    ListSessions(View) -> Sessions, list => Request::Gate(GateRequest::List(ListRequest::Sessions(list)));
    GetSession(View) -> SessionDetail, get => Request::Gate(GateRequest::List(ListRequest::Session(get)));
    ListConnections(View) -> Connections, list => Request::Gate(GateRequest::List(ListRequest::Connections(list)));
    Wait(View) -> WaitEnded, wait => Request::Gate(GateRequest::Wait(Box::new(wait)));
    Subscribe(View) -> Subscribed, subscribe => Request::Subscribe(subscribe);
    Unsubscribe(View) -> Unsubscribed, _ => Request::Unsubscribe;
    ListDeliveries(View) -> Deliveries, list => Request::Gate(GateRequest::ListDeliveries(list));
    ResendDelivery(Operate) -> Delivery, resend => Request::Gate(GateRequest::ResendDelivery(resend));
    ListClusterNodes(View) -> ClusterNodes, list => Request::Gate(GateRequest::ListClusterNodes(list));
    PurgeClusterNode(Operate) -> Purged, purge => Request::Gate(GateRequest::PurgeClusterNode(purge));
    InitCluster(Operate) -> Initialized, init => Request::Gate(GateRequest::InitCluster(init));
    Grant(Operate) -> Granted, _ => Request::Gate(GateRequest::Grant);
    Acknowledge(Operate) -> Acknowledged, acknowledge => Request::Gate(GateRequest::Acknowledge(acknowledge));
    StartPlan(Operate) -> PlanStarted, start => Request::Gate(GateRequest::StartPlan(Box::new(start)));
    GetPlan(View) -> PlanFound, _ => Request::Gate(GateRequest::GetPlan);
    CancelPlan(Operate) -> PlanCancelled, cancel => Request::Gate(GateRequest::CancelPlan(cancel));
    Announce(Operate) -> Announced, announce => Request::Gate(GateRequest::Announce(Box::new(announce)));
    Reserve(Operate) -> Reserved, reserve => Request::Gate(GateRequest::Reserve(Box::new(reserve)));
    Release(Operate) -> Released, release => Request::Gate(GateRequest::Release(release));
    GetInfo(View) -> Info, _ => Request::GetInfo;
}

/// A request that has been read and checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Request for the gate.
    Gate(GateRequest),
    /// Subscription to the event log.
    Subscribe(Subscribe),
    /// End of the subscription to the event log.
    Unsubscribe,
    /// Request that the socket's task answers.
    GetInfo,
}

/// Requests that the gate answers.
#[derive(Clone, Debug, PartialEq)]
pub enum GateRequest {
    /// Returns the mode of the node.
    GetMode,
    /// Changes the mode of the node.
    ChangeMode(Box<ChangeMode>),
    /// Returns the node's status.
    GetStatus,
    /// Lists the cluster's nodes.
    ListClusterNodes(ListClusterNodes),
    /// Lists changes of the mode.
    ListModeChanges(ListModeChanges),
    /// Requests admission of a connection.
    Connect(Connect),
    /// Reports connections that are live on the SFU.
    Report(Report),
    /// Reports that a connection has ended.
    Disconnect(Disconnect),
    /// Sessions that the SFU is to end.
    End(End),
    /// Explains how admission would decide.
    Explain(Explain),
    /// A page of a list.
    List(ListRequest),
    /// Answer when it is so.
    Wait(Box<Wait>),
    /// Lists the webhook deliveries.
    ListDeliveries(ListDeliveries),
    /// Resends a delivery.
    ResendDelivery(ResendDelivery),
    /// A node is off for good.
    PurgeClusterNode(PurgeClusterNode),
    /// The cluster is made in etcd.
    InitCluster(InitCluster),
    /// Returns how long the SFU may go on serving.
    Grant,
    /// Acknowledges a fence: its sessions have ended.
    Acknowledge(Acknowledge),
    /// Starts a maintenance plan.
    StartPlan(Box<StartPlan>),
    /// Returns the plan that runs, or the last one.
    GetPlan,
    /// Cancels the plan that runs.
    CancelPlan(CancelPlan),
    /// Announces to the clients in the sessions.
    Announce(Box<Announce>),
    /// Reserves the node for a roll, or renews its reservation.
    Reserve(Box<Reserve>),
    /// Ends the reservation of a roll.
    Release(Release),
}

/// Source of a method's parameters.
pub trait Params {
    /// Parses them; anything but an object is an error.
    fn read<T: DeserializeOwned>(self) -> Result<T, Error>;
}

/// Stands for absent parameters: the method's defaults apply.
impl<P: Params> Params for Option<P> {
    fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        match self {
            Some(params) => params.read(),
            None => "{}".read(),
        }
    }
}

/// Parses parameters from JSON text.
impl Params for &str {
    /// Parses them again after an error, to name the field. Generic JSON-RPC clients send an empty
    /// array for no parameters.
    fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        if self
            .strip_prefix('[')
            .is_some_and(|rest| rest.trim_ascii() == "]")
        {
            return "{}".read();
        }
        if !self.starts_with('{') {
            return Err(Error::invalid_params("params", "takes an object"));
        }
        serde_json::from_str(self).or_else(|_| {
            let mut deserializer = serde_json::Deserializer::from_str(self);
            serde_path_to_error::deserialize(&mut deserializer)
                .map_err(|error| locate_field(&error))
        })
    }
}

impl Request {
    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Gate(request) => request.check(),
            Self::Subscribe(subscribe) => subscribe.check(),
            Self::Unsubscribe | Self::GetInfo => Ok(()),
        }
    }
}

impl GateRequest {
    /// Checks the limits that the types alone do not.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Self::ChangeMode(change) => change.check(),
            Self::Wait(wait) => wait.check(),
            Self::End(end) => end.check(),
            Self::PurgeClusterNode(purge) => purge.check(),
            Self::InitCluster(init) => init.check(),
            Self::StartPlan(start) => start.check(),
            Self::CancelPlan(cancel) => cancel.check(),
            Self::Announce(announce) => announce.check(),
            Self::Reserve(reserve) => reserve.check(),
            Self::Release(release) => release.check(),
            Self::ListModeChanges(list) => page_limit(list.limit).map(drop),
            Self::List(list) => page_limit(list.limit()).map(drop),
            Self::ListDeliveries(list) => page_limit(list.limit).map(drop),
            Self::GetMode
            | Self::GetStatus
            | Self::ListClusterNodes(_)
            | Self::Connect(_)
            | Self::Report(_)
            | Self::Disconnect(_)
            | Self::ResendDelivery(_)
            | Self::Grant
            | Self::Acknowledge(_)
            | Self::GetPlan
            | Self::Explain(_) => Ok(()),
        }
    }
}

/// Longest description of a problem with a request, in characters: a caller's own text is not sent
/// back whole.
const PROBLEM_CHARS_MAX: usize = 400;

fn locate_field(error: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let place = error.path().to_string();
    let place = if place == "." { "" } else { place.as_str() };
    let problem = humanize(error.inner());
    // A missing field is reported by the object that lacks it; an unknown or repeated one at the
    // top by the parameters.
    let missing = problem
        .strip_prefix("missing field `")
        .and_then(|it| it.strip_suffix('`'));
    let named = problem.split('`').nth(1).unwrap_or("params");
    match (missing, place) {
        (Some(field), "") => Error::invalid_params(field, "is missing"),
        (Some(field), place) => Error::invalid_params(&format!("{place}.{field}"), "is missing"),
        (None, "") => Error::invalid_params(named, &problem),
        (None, place) => {
            // An id's own message begins with its name.
            let last = place.rsplit('.').next().unwrap_or(place);
            let problem = problem
                .strip_prefix(last)
                .and_then(|rest| rest.strip_prefix(' '))
                .unwrap_or(&problem);
            Error::invalid_params(place, problem)
        }
    }
}

/// Rewrites an error of `serde_json` in the terms of JSON instead of Rust's, and without the
/// position in the line.
pub(crate) fn humanize(error: &serde_json::Error) -> String {
    const ENDS: [(&str, &str); 6] = [
        ("expected u64", "expected a whole number from 0"),
        ("expected u32", "expected a whole number from 0"),
        ("expected u8", "expected a whole number from 0 to 255"),
        ("expected f64", "expected a number"),
        ("expected a sequence", "expected an array"),
        (", there are no fields", ": it takes none"),
    ];
    const BEGINNINGS: [(&str, &str); 2] = [
        ("invalid type: map", "invalid type: object"),
        ("invalid type: sequence", "invalid type: array"),
    ];

    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(problem, _)| problem);
    let end = ENDS
        .into_iter()
        .find_map(|(theirs, ours)| Some((text.strip_suffix(theirs)?, ours)));
    let (text, end) = end.unwrap_or((text, ""));
    let beginning = BEGINNINGS
        .into_iter()
        .find_map(|(theirs, ours)| Some((ours, text.strip_prefix(theirs)?)));
    let (beginning, text) = beginning.unwrap_or(("", text));
    truncate_middle(&format!("{beginning}{text}{end}"))
}

/// Shortens a text in its middle: the actual value is at its beginning, the expected one at its
/// end.
fn truncate_middle(text: &str) -> String {
    let chars = text.chars().count();
    if chars <= PROBLEM_CHARS_MAX {
        return text.to_owned();
    }
    let beginning = text.chars().take(PROBLEM_CHARS_MAX / 4);
    let end = text.chars().skip(chars - PROBLEM_CHARS_MAX / 2);
    beginning.chain(['…']).chain(end).collect()
}
