//! Wall-clock time as it is written on the wire: RFC 3339 in UTC with microseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::text::deserialize_via;

#[cfg(feature = "schema")]
const PATTERN: &str = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$";

/// Time in RFC 3339, in UTC with microseconds: `2026-11-22T20:00:01.123456Z`.
///
/// A label for people: deadlines go by the boot clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Time(
    /// Microseconds since 1970-01-01T00:00:00Z.
    #[cfg_attr(feature = "schema", schemars(with = "String", extend("format" = "date-time"), regex(pattern = PATTERN)))]
    i64,
);

impl Time {
    /// Converts from microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns the time since `earlier`; zero if that lies ahead (the clock was set back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(later.as_micros()).unwrap_or(i64::MAX)),
        )
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Out of range only past the year 9999, where the nearest time that can be written stands for it.
        let timestamp = jiff::Timestamp::from_microsecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{timestamp:.6}")
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        text.parse::<jiff::Timestamp>()
            .map(|timestamp| Self(timestamp.as_microsecond()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_via(deserializer, format_args!("a string"), str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_with_six_digits_and_read_back() {
        let time = Time::from_micros(1_748_747_045_700_000);
        assert_eq!(time.to_string(), "2025-06-01T03:04:05.700000Z");
        assert_eq!("2025-06-01T03:04:05.7Z".parse::<Time>().unwrap(), time);
        assert_eq!("2025-06-01T12:04:05.7+09:00".parse::<Time>().unwrap(), time);
    }

    #[test]
    fn a_clock_set_back_makes_no_negative_age() {
        assert_eq!(
            Time::from_micros(1).since(Time::from_micros(5)),
            Duration::ZERO
        );
    }
}
