//! Types of Janus's settings, checked while they are parsed.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Way to apply the mode to Janus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JanusWay {
    /// Have the application ask soramoded before a client joins
    Ask,
    /// Lock Janus's rooms
    Lock,
}

/// Means to end a session on Janus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JanusEnd {
    /// Remove the participants
    #[default]
    Kick,
    /// Destroy the room
    Destroy,
}
