//! `--until`: the time at which an operator expects a maintenance to be over.

use std::time::Duration;

use jiff::{SignedDuration, Zoned};
use soramode_protocol::time::Time;

use crate::error::{Exit, Failure};
use crate::output::times;
use crate::typed_time::TypedTime;

const FLAG: &str = "--until";

/// Reads a time as `--at` takes it, or a duration from now, rounded up to whole seconds.
pub(crate) fn read_until(text: Option<&str>) -> Result<Option<Time>, Failure> {
    text.map(|text| read(text, &Zoned::now())).transpose()
}

/// Returns the flag's text, without a time that is past: a roll that goes on may have taken longer than was expected.
pub(crate) fn without_past(text: Option<String>) -> Option<String> {
    let now = Zoned::now();
    text.filter(|text| {
        let end = text
            .contains(':')
            .then(|| TypedTime::read(FLAG, text, &now));
        !matches!(end, Some(Ok(end)) if end.is_past(SignedDuration::ZERO, &now))
    })
}

fn read(text: &str, now: &Zoned) -> Result<Time, Failure> {
    // A time of day has a colon, a duration has none.
    if text.contains(':') {
        let end = TypedTime::read(FLAG, text, now)?;
        return if end.is_past(SignedDuration::ZERO, now) {
            Err(end.past(now, 0, None))
        } else {
            Ok(end.time())
        };
    }
    let span = times::read_span(text).and_then(|span| {
        if span.is_zero() {
            Err("takes a time from 1s on".to_owned())
        } else {
            Ok(span)
        }
    });
    let span = span.map_err(|problem| {
        let message = format!("{FLAG}: {text:?} {problem}. Nothing was changed");
        Failure::new(Exit::Usage, message)
            .with_hint("Takes a time such as '2026-12-01 02:00' or 02:00, or a duration such as 2h")
    })?;
    let end = Time::from_micros(now.timestamp().as_microsecond()) + span;
    Ok(Time::from_micros(end.as_micros() / 1_000_000 * 1_000_000) + Duration::from_secs(1))
}

/// Returns the flag with a time, as it is typed.
pub(crate) fn typed_until(time: Time) -> String {
    let whole = Time::from_micros(time.as_micros() / 1_000_000 * 1_000_000).to_string();
    format!("{FLAG} {}", whole.replace(".000000", ""))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn now() -> Zoned {
        let now: jiff::Timestamp = "2026-11-29T11:00:00.25Z".parse().unwrap();
        now.to_zoned(TimeZone::get("Asia/Tokyo").unwrap())
    }

    #[test]
    fn an_expected_end_is_a_time_or_a_duration_from_now() {
        for (text, utc) in [
            ("2h", "2026-11-29T13:00:01.000000Z"),
            ("1500ms", "2026-11-29T11:00:02.000000Z"),
            ("23:30", "2026-11-29T14:30:00.000000Z"),
            ("2026-12-01 02:00 UTC", "2026-12-01T02:00:00.000000Z"),
        ] {
            let end = read(text, &now()).unwrap();
            assert_eq!(end.to_string(), utc, "{text}");
            let typed = typed_until(end).replace("--until ", "");
            assert_eq!(read(&typed, &now()).unwrap(), end, "{typed}");
        }
    }

    #[test]
    fn a_roll_that_goes_on_leaves_out_a_past_time() {
        let left = |text: &str| without_past(Some(text.to_owned()));
        assert_eq!(left("2020-01-01 02:00 UTC"), None);
        for text in ["2h", "2099-01-01 02:00 UTC", "25:00"] {
            assert_eq!(left(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_past_time_and_other_words_are_refused() {
        let refused = |text: &str| {
            let failure = read(text, &now()).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            (failure.message, failure.hint.unwrap_or_default())
        };
        let (message, hint) = refused("02:00");
        assert_eq!(
            message,
            "--until: 2026-11-29 02:00:00 +09:00 is past (18 h ago). Nothing was changed"
        );
        assert_eq!(
            hint,
            "For the next one, use --until '2026-11-30 02:00 +09:00'"
        );
        for text in ["", "0s", "never", "30", "-2h"] {
            let (message, _) = refused(text);
            assert!(message.starts_with("--until: "), "{message}");
        }
    }
}
