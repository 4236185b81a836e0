//! Service discovery of OpenRPC: the method `rpc.discover`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Parameters of `rpc.discover`; there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Discover {}

/// Result of the method `rpc.discover`: an OpenRPC document.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Discovered(
    #[cfg_attr(
        feature = "schema",
        schemars(with = "serde_json::Map<String, serde_json::Value>")
    )]
    pub Box<RawValue>,
);
