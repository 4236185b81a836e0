//! Format and level of the log.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Format of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Level of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Failures
    Error,
    /// Failures and warnings
    Warn,
    /// Changes of the mode, too
    #[default]
    Info,
    /// Clients that connect and leave, too
    Debug,
    /// Everything
    Trace,
}
