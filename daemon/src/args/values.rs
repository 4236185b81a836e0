//! How values in the file are read, and which of two wins.

use std::fmt;
use std::str::FromStr;

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

/// Reads a value from text in the file, as it would be read on the command line.
pub(super) fn from_text<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

/// Reads a list from an array of text, or from one text.
pub(super) fn list_from_text<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    let texts = match Texts::deserialize(deserializer)? {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

pub(super) fn first_said<T>(stronger: Vec<T>, weaker: Vec<T>) -> Vec<T> {
    if stronger.is_empty() { weaker } else { stronger }
}
