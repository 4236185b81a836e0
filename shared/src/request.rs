//! Requests: a table of every method, its parameters, its reply and the access it needs.

#[cfg(feature = "schema")]
use std::borrow::Cow;
use std::fmt;

#[cfg(feature = "schema")]
use schemars::{JsonSchema, Schema, SchemaGenerator};
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
use crate::discover::{Discover, Discovered};
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

/// The name of a method on the wire: that of its params, if the table has no other.
macro_rules! method_name {
    ($method:ident) => {
        stringify!($method)
    };
    ($method:ident $name:literal) => {
        $name
    };
}

macro_rules! methods {
    ($($(#[doc = $doc:literal])+ $method:ident $(= $name:literal)? ($access:ident) -> $reply:ty, $params:pat => $request:expr;)*) => {
        /// Methods of the daemon.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $($(#[doc = $doc])+ $method,)*
        }

        impl Method {
            /// Methods in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$method),*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$method => method_name!($method $($name)?),)* }
            }

            /// The access it needs.
            pub const fn access(self) -> Access {
                match self { $(Self::$method => Access::$access,)* }
            }

            /// The method of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(method_name!($method $($name)?) => Some(Self::$method),)*
                    _ => None,
                }
            }
        }

        #[cfg(feature = "schema")]
        impl Method {
            /// Returns a description for people.
            pub(crate) const fn description(self) -> &'static str {
                match self { $(Self::$method => concat!($($doc, "\n"),+),)* }
            }

            /// Returns the schema of the params.
            pub(crate) fn params_schema(self, generator: &mut SchemaGenerator) -> Schema {
                match self { $(Self::$method => $method::json_schema(generator),)* }
            }

            /// Returns the name of the result's type, and its schema.
            pub(crate) fn result_schema(self, generator: &mut SchemaGenerator) -> (Cow<'static, str>, Schema) {
                match self {
                    $(Self::$method => (<$reply>::schema_name(), generator.subschema_for::<$reply>()),)*
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
    /// Returns the mode of the node.
    GetMode(View) -> ModeState, _ => Request::Gate(GateRequest::GetMode);
    /// Changes the mode of the node. Sessions and connections stay. A mode that is already set is no error.
    ChangeMode(Operate) -> ModeChanged, change => Request::Gate(GateRequest::ChangeMode(Box::new(change)));
    /// Returns the status of the node.
    GetStatus(View) -> Status, _ => Request::Gate(GateRequest::GetStatus);
    /// Lists changes of the mode, newest first; at most 1000 are kept.
    ListModeChanges(View) -> ModeChanges, list => Request::Gate(GateRequest::ListModeChanges(list));
    /// Requests the admission of a client to a channel. The same `connection_id` in the same channel gets the same offer again, with `created: false`.
    Connect(Operate) -> Decision, connect => Request::Gate(GateRequest::Connect(connect));
    /// Reports the live connections of the SFU. The mode is not checked. A long report takes several requests, the last one with `complete`.
    Report(Operate) -> Reported, report => Request::Gate(GateRequest::Report(report));
    /// Reports that a connection has ended. An unknown connection is no error.
    Disconnect(Operate) -> Disconnected, disconnect => Request::Gate(GateRequest::Disconnect(disconnect));
    /// Asks the SFU to end a session, or all of them, which disconnects the clients. Answered when each session was asked once; a session has ended when its connections have left.
    End(Operate) -> Ended, end => Request::Gate(GateRequest::End(end));
    /// Explains how admission to a channel would decide, in the present mode and in each mode. Changes nothing.
    Explain(View) -> Explanation, explain => Request::Gate(GateRequest::Explain(explain));
    /// Lists sessions, oldest first. A page may have fewer rows than `limit`: continue while there is a `cursor`.
    ListSessions(View) -> Sessions, list => Request::Gate(GateRequest::List(ListRequest::Sessions(list)));
    /// Returns the session of a channel, with a page of its connections.
    GetSession(View) -> SessionDetail, get => Request::Gate(GateRequest::List(ListRequest::Session(get)));
    /// Lists connections. A page may have fewer rows than `limit`: continue while there is a `cursor`.
    ListConnections(View) -> Connections, list => Request::Gate(GateRequest::List(ListRequest::Connections(list)));
    /// Waits until a condition is true, and answers at once if it already is. A client may have 64 waits under way.
    Wait(View) -> WaitEnded, wait => Request::Gate(GateRequest::Wait(Box::new(wait)));
    /// Subscribes to events, each of which is a notification `Event`. A second subscription replaces the first. Needs the access `operate` with `ends` or `announcements`.
    Subscribe(View) -> Subscribed, subscribe => Request::Subscribe(subscribe);
    /// Ends the subscription of this client.
    Unsubscribe(View) -> Unsubscribed, _ => Request::Unsubscribe;
    /// Lists webhook deliveries, newest first.
    ListDeliveries(View) -> Deliveries, list => Request::Gate(GateRequest::ListDeliveries(list));
    /// Sends a delivery again, after those that are pending for its receiver. One that is pending is retried at once.
    ResendDelivery(Operate) -> Delivery, resend => Request::Gate(GateRequest::ResendDelivery(resend));
    /// Lists the nodes of the cluster; without a cluster, the node itself.
    ListClusterNodes(View) -> ClusterNodes, list => Request::Gate(GateRequest::ListClusterNodes(list));
    /// Releases the channels of a node that is off permanently. For a node that runs again after it lost its state, only its earlier incarnations are purged.
    PurgeClusterNode(Operate) -> Purged, purge => Request::Gate(GateRequest::PurgeClusterNode(purge));
    /// Creates the cluster in etcd: once, before any node can join. With `accept_risk` it continues the cluster in an etcd that has lost claims.
    InitCluster(Operate) -> Initialized, init => Request::Gate(GateRequest::InitCluster(init));
    /// Returns how long the SFU may serve without another answer: a dead-man switch, which stops the SFU if soramoded has died.
    Grant(Operate) -> Granted, _ => Request::Gate(GateRequest::Grant);
    /// Confirms that the sessions of a `Fence` have ended on the SFU.
    Acknowledge(Operate) -> Acknowledged, acknowledge => Request::Gate(GateRequest::Acknowledge(acknowledge));
    /// Starts a maintenance plan: timed steps that soramoded carries out by itself. A node has at most one. The same plan again changes nothing.
    StartPlan(Operate) -> PlanStarted, start => Request::Gate(GateRequest::StartPlan(Box::new(start)));
    /// Returns the plan that runs; if none does, the last one.
    GetPlan(View) -> PlanFound, _ => Request::Gate(GateRequest::GetPlan);
    /// Cancels the plan that runs. No further step runs, and the mode stays.
    CancelPlan(Operate) -> PlanCancelled, cancel => Request::Gate(GateRequest::CancelPlan(cancel));
    /// Announces to the clients of every session, or of one. Answered when it is done.
    Announce(Operate) -> Announced, announce => Request::Gate(GateRequest::Announce(Box::new(announce)));
    /// Reserves the node for a roll, or renews its reservation: no other roll can close the node meanwhile.
    Reserve(Operate) -> Reserved, reserve => Request::Gate(GateRequest::Reserve(Box::new(reserve)));
    /// Ends the reservation of a roll at once. Its record stays in `GetStatus`.
    Release(Operate) -> Released, release => Request::Gate(GateRequest::Release(release));
    /// Returns the versions of the daemon, the event log, and the access of this client.
    GetInfo(View) -> Info, _ => Request::GetInfo;
    /// Returns this document, in the format of OpenRPC.
    Discover = "rpc.discover"(View) -> Discovered, _ => Request::Discover;
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
    /// Information about the daemon and this client, which the socket's task answers.
    GetInfo,
    /// Description of the protocol, which the socket's task answers.
    Discover,
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
            Self::Unsubscribe | Self::GetInfo | Self::Discover => Ok(()),
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
