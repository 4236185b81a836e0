//! Parsers of values in the file, and precedence between two sources.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use soramode_protocol::mode::{Mode, SettableMode};

pub(super) fn settable_mode(word: &str) -> Result<SettableMode, String> {
    let mode = word.parse::<Mode>().map_err(|unknown| {
        let names = SettableMode::ALL.map(|mode| Mode::from(mode).name());
        format!("{unknown}, takes {}", names.join(", "))
    })?;
    SettableMode::try_from(mode).map_err(|refused| refused.to_string())
}

/// Reads a whole number of a flag or a variable.
pub(super) fn whole_number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("got {text:?}, takes {WHOLE_NUMBER}"))
}

/// Description of a valid whole number.
pub(crate) const WHOLE_NUMBER: &str = "a whole number from 0";

/// Reads an address with a port. The error names one with this port, which is usual for the listener.
fn socket_address<const PORT: u16>(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("got {text:?}, takes ADDRESS:PORT, such as 127.0.0.1:{PORT}"))
}

/// Reads the address of the listener for Sora's webhooks.
pub(super) fn sora_address(text: &str) -> Result<SocketAddr, String> {
    socket_address::<3100>(text)
}

/// Reads the address of the observability listener.
pub(super) fn observe_address(text: &str) -> Result<SocketAddr, String> {
    socket_address::<9400>(text)
}

/// Reads the address of the listener for Janus's events.
pub(super) fn janus_address(text: &str) -> Result<SocketAddr, String> {
    socket_address::<3200>(text)
}

/// Reads an address without a port.
pub(super) fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("got {text:?}, takes an IP address, such as 192.0.2.10"))
}

/// A length of time as people write it, such as `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurationArg(Duration);

impl FromStr for DurationArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_duration(text).map_err(|_| {
            format!("got {text:?}, takes a duration with units, such as 500ms, 30s or 1h 30m")
        })?;
        Ok(Self(time))
    }
}

impl From<DurationArg> for Duration {
    fn from(span: DurationArg) -> Self {
        span.0
    }
}

/// Reads a value from text in the file, as it would be read on the command line.
pub(super) fn from_text<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    read_text(deserializer, |text| {
        text.parse().map_err(|error: T::Err| error.to_string())
    })
}

/// Reads the address of the listener for Sora's webhooks from text in the file.
pub(super) fn sora_address_from_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    read_text(deserializer, sora_address)
}

/// Reads the address of the observability listener from text in the file.
pub(super) fn observe_address_from_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    read_text(deserializer, observe_address)
}

/// Reads the address of the listener for Janus's events from text in the file.
pub(super) fn janus_address_from_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    read_text(deserializer, janus_address)
}

fn read_text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    read(&String::deserialize(deserializer)?)
        .map(Some)
        .map_err(D::Error::custom)
}

/// Reads a list from an array of text, or from one text.
pub(super) fn list_from_text<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    texts(deserializer)?
        .iter()
        .map(|text| text.parse().map_err(D::Error::custom))
        .collect()
}

/// Reads a list of addresses without ports in the same way.
pub(super) fn addresses_from_text<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<IpAddr>, D::Error> {
    texts(deserializer)?
        .iter()
        .map(|text| ip_address(text).map_err(D::Error::custom))
        .collect()
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(
        untagged,
        expecting = "got something else, takes a text in quotes or an array of them"
    )]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Texts::deserialize(deserializer)? {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    })
}

pub(super) fn first_non_empty<T>(stronger: Vec<T>, weaker: Vec<T>) -> Vec<T> {
    if stronger.is_empty() {
        weaker
    } else {
        stronger
    }
}
