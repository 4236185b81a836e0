//! What a client may do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a client may do, from the kernel's word on who it is. Unknown means `view`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Look.
    View,
    /// Look and change.
    Operate,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::View => "view",
            Self::Operate => "operate",
        })
    }
}
