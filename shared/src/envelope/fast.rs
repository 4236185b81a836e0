//! Reading a request in one pass: most have nothing wrong with them, and name their method before its params.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::incoming::{Incoming, ReplyTo};
use crate::error::{Error, ErrorType};
use crate::request::{Method, Params, Request, RequestId};
use crate::text::deserialize_via;

/// Parses a valid line; returns `None` if the strict parser may have to report something, or
/// another order applies.
pub(super) fn read(line: &[u8]) -> Option<Incoming> {
    let mut deserializer = serde_json::Deserializer::from_str(std::str::from_utf8(line).ok()?);
    let incoming = deserializer.deserialize_map(Line).ok()?;
    deserializer.end().ok()?;
    Some(incoming)
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Member {
    Jsonrpc,
    Id,
    Method,
    Params,
}

struct Line;

impl<'de> Visitor<'de> for Line {
    type Value = Incoming;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Incoming, A::Error> {
        let (mut is_versioned, mut id, mut method, mut request) = (false, None, None, None);
        while let Some(member) = map.next_key()? {
            match (member, method) {
                (Member::Jsonrpc, _) if !is_versioned => {
                    is_versioned = map.next_value::<Version>().map(|Version| true)?;
                }
                (Member::Id, _) if id.is_none() => id = Some(map.next_value::<RequestId>()?),
                (Member::Method, None) => method = Some(map.next_value::<MethodName>()?.0),
                (Member::Params, Some(method)) if request.is_none() => {
                    request = Some(map.next_value_seed(ParamsSeed(method))?);
                }
                (Member::Jsonrpc | Member::Id | Member::Method | Member::Params, _) => {
                    return Err(A::Error::custom("twice, or too early"));
                }
            }
        }
        let method = method.ok_or_else(|| A::Error::missing_field("method"))?;
        let request = request.map_or_else(
            || Request::read(method, None::<&str>).map_err(A::Error::custom),
            Ok,
        )?;
        Ok(Incoming {
            reply_to: id.map(ReplyTo::Id),
            request: Ok((method, request)),
        })
    }
}

/// Checks that the version is `"2.0"`.
struct Version;

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_via(deserializer, format_args!("2.0"), |text| {
            if text == "2.0" {
                Ok(Self)
            } else {
                Err("another version")
            }
        })
    }
}

struct MethodName(Method);

impl<'de> Deserialize<'de> for MethodName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_via(deserializer, format_args!("a method"), |text| {
            Method::from_name(text).map(Self).ok_or("an unknown method")
        })
    }
}

/// The params of this method, in place.
struct ParamsSeed(Method);

impl<'de> DeserializeSeed<'de> for ParamsSeed {
    type Value = Request;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Request, D::Error> {
        Request::read(self.0, StreamedParams(deserializer)).map_err(D::Error::custom)
    }
}

struct StreamedParams<D>(D);

impl<'de, D: Deserializer<'de>> Params for StreamedParams<D> {
    fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        // Never shown: the strict parser describes the problem.
        self.0
            .deserialize_map(Object(PhantomData))
            .map_err(|_| Error::new(ErrorType::InvalidParams, ""))
    }
}

/// An object and nothing else: a derived reader takes an array for a struct.
struct Object<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
