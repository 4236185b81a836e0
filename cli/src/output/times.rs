//! Times and durations as people read and type them.

use std::time::{Duration, SystemTime};

use jiff::Zoned;
use jiff::tz::{Offset, TimeZone};
use soramode_protocol::time::Time;

/// Limit of durations: 366 days, as on the wire.
const SPAN_MAX: Duration = Duration::from_hours(366 * 24);

/// Reads the wall clock.
pub(crate) fn now() -> Time {
    let since_epoch = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time::default() + since_epoch
}

/// Formats a duration in its one or two largest units: `45 s`, `1 min 30 s`, `3 h 20 min`, `2 d 4
/// h`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let minutes = seconds / 60;
    let hours = minutes / 60;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(minutes, "min", seconds % 60, "s"),
        3_600..86_400 => two(hours, "h", minutes % 60, "min"),
        86_400.. => two(hours / 24, "d", hours % 24, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large} {large_unit}")
    } else {
        format!("{large} {large_unit} {small} {small_unit}")
    }
}

/// Formats the time since then.
pub(crate) fn age(time: Time) -> String {
    span(now().since(time))
}

/// Formats the time until then; a started second counts whole, so that 45 min are not 44 at once.
pub(crate) fn ahead(time: Time) -> String {
    span(time.since(now()) + Duration::from_millis(999))
}

/// `in 3 min`, or that it is over.
pub(crate) fn until(time: Time) -> String {
    let now = now();
    if time > now {
        format!("in {}", ahead(time))
    } else {
        format!("{} ago", span(now.since(time)))
    }
}

/// Formats a time in the local zone, without fractions.
pub(crate) fn local(time: Time) -> String {
    zoned(time, "%Y-%m-%d %H:%M:%S %:z")
}

/// Formats a time in its zone, without fractions: `2026-12-01 02:00:00 +09:00`.
pub(crate) fn zoned_or_utc(time: &Zoned) -> String {
    let format = if time.offset() == Offset::UTC {
        "%Y-%m-%d %H:%M:%S UTC"
    } else {
        "%Y-%m-%d %H:%M:%S %:z"
    };
    time.strftime(format).to_string()
}

/// Formats the time from then until `now`.
pub(crate) fn age_at(time: Time, now: &Zoned) -> String {
    let now = Time::from_micros(now.timestamp().as_microsecond());
    span(now.since(time))
}

/// Formats the local time of day.
pub(crate) fn clock(time: Time) -> String {
    zoned(time, "%H:%M:%S")
}

fn zoned(time: Time, format: &str) -> String {
    jiff::Timestamp::from_microsecond(time.as_micros()).map_or_else(
        |_| time.to_string(),
        |timestamp| {
            timestamp
                .to_zoned(TimeZone::system())
                .strftime(format)
                .to_string()
        },
    )
}

/// Reads a duration: `45m`, `1h 30m`, `0`.
pub(crate) fn read_span(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text != "0" && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("has no unit; takes {text}s, {text}m or {text}h"));
    }
    let has = |units: &[&str]| {
        text.split(|it: char| !it.is_ascii_alphabetic())
            .any(|unit| units.contains(&unit))
    };
    if has(&["M"]) {
        return Err(format!(
            "M is months, which are too long; takes {} for minutes",
            text.replace('M', "m")
        ));
    }
    if has(&["month", "months", "y", "yr", "year", "years"]) {
        return Err(
            "months and years are too long; takes a time such as 90s, 45m, 2h or 30d".to_owned(),
        );
    }
    let span = humantime::parse_duration(text)
        .map_err(|_| "takes a time such as 90s, 45m or 2h".to_owned())?;
    if span > SPAN_MAX {
        Err("is longer than 366 days".to_owned())
    } else {
        Ok(span)
    }
}

/// Formats a limit that was typed, in a sentence: like [`span`], but not rounded.
pub(crate) fn limit(limit: Duration) -> String {
    if limit.subsec_nanos() > 0 {
        typed(limit)
    } else {
        span(limit)
    }
}

/// Formats a duration as it is typed.
pub(crate) fn typed(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// Formats a duration as one word: `9m59s`.
pub(crate) fn typed_word(seconds: u64) -> String {
    typed(Duration::from_secs(seconds)).replace(' ', "")
}

/// Returns the whole seconds until then, at least one.
pub(crate) fn seconds_until(time: Time, now: Time) -> u64 {
    time.since(now)
        .as_millis()
        .div_ceil(1_000)
        .try_into()
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_in_their_largest_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (90, "1 min 30 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h"),
            (12_000, "3 h 20 min"),
            (86_400, "1 d"),
            (187_200, "2 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn spans_are_read_as_people_type_them() {
        assert_eq!(read_span("45m"), Ok(Duration::from_mins(45)));
        assert_eq!(read_span("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(read_span("0"), Ok(Duration::ZERO));
        assert_eq!(typed(Duration::from_mins(30)), "30m");
        for wrong in ["30", "", "soon", "-5m", "400d", "1y", "2months", "1h 5M"] {
            assert!(read_span(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(
            read_span("30"),
            Err("has no unit; takes 30s, 30m or 30h".to_owned())
        );
        assert_eq!(
            read_span("5M"),
            Err("M is months, which are too long; takes 5m for minutes".to_owned())
        );
    }
}
