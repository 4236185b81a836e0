//! Times as they are typed for a flag: in a zone, and with the choices where a time does not exist.

use jiff::civil::{Date, DateTime, Time as TimeOfDay};
use jiff::fmt::strtime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{SignedDuration, Zoned};
use soramode_protocol::time::Time;

use crate::error::{Exit, Failure};
use crate::output::escape::quoted;
use crate::output::times;

/// Formats that are read.
const FORMATS: &str = "Takes a time such as '2026-12-01 02:00', '2026-12-01 02:00 Asia/Tokyo', \
                       2026-12-01T02:00+09:00, or 02:00 for today";

/// A time as it is typed for a flag.
#[derive(Clone, Debug)]
pub(crate) struct TypedTime {
    flag: &'static str,
    at: Zoned,
}

impl TypedTime {
    /// Reads a time. Without a zone or an offset it is in the zone of `now`, without a date it is on that day.
    pub(crate) fn read(flag: &'static str, text: &str, now: &Zoned) -> Result<Self, Failure> {
        let wrong = || usage(flag, format!("{} is not a time", quoted(text))).with_hint(FORMATS);
        let typed = Typed::read(text).ok_or_else(wrong)?;
        let zone = match typed.zone {
            Some(name) => read_zone(flag, name)?,
            None => now.time_zone().clone(),
        };
        let clock: TimeOfDay = typed.clock.parse().map_err(|_| wrong())?;
        let date = match typed.date {
            Some(date) => date.parse().map_err(|_| wrong())?,
            None => now.with_time_zone(zone.clone()).date(),
        };
        let at = resolve(flag, date.to_datetime(clock), &zone)?;
        Ok(Self { flag, at })
    }

    /// Returns the time as it is sent.
    pub(crate) fn time(&self) -> Time {
        Time::from_micros(self.at.timestamp().as_microsecond())
    }

    /// Returns whether a moment that is `offset` from this time is past.
    pub(crate) fn is_past(&self, offset: SignedDuration, now: &Zoned) -> bool {
        self.at
            .checked_add(offset)
            .is_ok_and(|moment| moment <= *now)
    }

    /// Formats the time in its zone, in the local one and in UTC.
    pub(crate) fn describe(&self, local: &TimeZone) -> String {
        let mut shown: Vec<Zoned> = Vec::new();
        for zone in [self.at.time_zone(), local, &TimeZone::UTC] {
            let zoned = self.at.with_time_zone(zone.clone());
            if shown.iter().all(|other| other.offset() != zoned.offset()) {
                shown.push(zoned);
            }
        }
        let mut shown = shown.iter().map(times::zoned_or_utc);
        let first = shown.next().unwrap_or_default();
        let others: Vec<String> = shown.collect();
        if others.is_empty() {
            first
        } else {
            format!("{first} ({})", others.join(", "))
        }
    }

    /// The failure for a time that is past, with the next one. A plan with a first step that is past is refused as well: its time is in seconds from
    /// the close. `otherwise` is another choice.
    pub(crate) fn past(&self, now: &Zoned, first_step: i64, otherwise: Option<&str>) -> Failure {
        let at = times::zoned_or_utc(&self.at);
        let message = if self.at <= *now {
            let ago = times::age_at(self.time(), now);
            format!("{at} is past ({ago} ago)")
        } else {
            let needed = times::typed_word(first_step.unsigned_abs());
            format!("the first step is {needed} before {at}, which is past")
        };
        let next = self
            .next_after(now, first_step)
            .map(|next| format!("For the next one, use {}", typed_flag(self.flag, &next)));
        let choices = [next.as_deref(), otherwise];
        let choices: Vec<&str> = choices.into_iter().flatten().collect();
        let failure = usage(self.flag, message);
        if choices.is_empty() {
            failure
        } else {
            failure.with_hint(choices.join(". "))
        }
    }

    /// Returns the next moment with the same time of day from which on the plan can still run in full.
    fn next_after(&self, now: &Zoned, first_step: i64) -> Option<Zoned> {
        const DAYS_MAX: usize = 3;
        let zone = self.at.time_zone();
        let lead = SignedDuration::from_secs(first_step);
        let today = now.with_time_zone(zone.clone()).date();
        let days = std::iter::successors(Some(today), |day: &Date| day.tomorrow().ok());
        days.take(DAYS_MAX)
            .filter_map(|day| resolve(self.flag, day.to_datetime(self.at.time()), zone).ok())
            .find(|moment| moment.checked_add(lead).is_ok_and(|first| first > *now))
    }
}

/// A failure of the flag. Nothing was sent yet.
fn usage(flag: &str, problem: impl AsRef<str>) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("{flag}: {}. Nothing was changed", problem.as_ref()),
    )
}

/// The words of a time.
#[derive(Debug, PartialEq, Eq)]
struct Typed<'a> {
    date: Option<&'a str>,
    clock: &'a str,
    /// A zone's name, or an offset.
    zone: Option<&'a str>,
}

impl<'a> Typed<'a> {
    /// Divides `DATE TIME ZONE`, of which the date and the zone may be absent; `T` may join the date and the time, and an offset may follow without a blank.
    fn read(text: &'a str) -> Option<Self> {
        let mut words: Vec<&str> = text.split_whitespace().collect();
        let starts_with_digit = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let mut zone = words.pop_if(|word| !starts_with_digit(&&**word));
        let (date, clock) = match words[..] {
            [both] => match both.split_once(['T', 't']) {
                Some((date, clock)) => (Some(date), clock),
                None => (None, both),
            },
            [date, clock] => (Some(date), clock),
            _ => return None,
        };
        let clock = match clock.find(['+', '-', 'Z', 'z']) {
            Some(at) if zone.is_none() => {
                let (clock, attached) = clock.split_at(at);
                zone = Some(attached);
                clock
            }
            Some(_) => return None,
            None => clock,
        };
        let is_read = clock.contains(':') && date.is_none_or(|date| date.matches('-').count() == 2);
        is_read.then_some(Self { date, clock, zone })
    }
}

fn read_zone(flag: &str, name: &str) -> Result<TimeZone, Failure> {
    if matches!(name, "Z" | "z") {
        return Ok(TimeZone::UTC);
    }
    if name.starts_with(['+', '-']) {
        let read = ["%:z", "%z"].into_iter().find_map(|format| {
            let parts = strtime::parse(format, name).ok()?;
            parts.offset()
        });
        return read.map(Offset::to_time_zone).ok_or_else(|| {
            usage(flag, format!("{} is not an offset", quoted(name)))
                .with_hint("Takes +09:00 or -03:30")
        });
    }
    TimeZone::get(name).map_err(|_| {
        usage(flag, format!("there is no time zone {} here", quoted(name)))
            .with_hint("Takes a name such as Asia/Tokyo, if the package tzdata is installed, or an offset such as +09:00")
    })
}

/// Finds the one moment of a civil time, or refuses it with the choices: a change of the offset skips and repeats times.
fn resolve(flag: &str, civil: DateTime, zone: &TimeZone) -> Result<Zoned, Failure> {
    let out_of_range = || usage(flag, "the time is out of range").with_hint(FORMATS);
    let ambiguous = zone.to_ambiguous_zoned(civil);
    let at = |offset: Offset| {
        let moment = offset.to_timestamp(civil).map_err(|_| out_of_range())?;
        Ok::<Zoned, Failure>(moment.to_zoned(zone.clone()))
    };
    let (problem, before, after) = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => return at(offset),
        AmbiguousOffset::Gap { before, after } => {
            // The moments just before and just after the change have the same name in the other offset.
            ("does not exist", after, before)
        }
        AmbiguousOffset::Fold { before, after } => ("exists twice", before, after),
    };
    let zone = zone
        .iana_name()
        .map(|name| format!(" in {name}"))
        .unwrap_or_default();
    let civil = civil.strftime("%Y-%m-%d %H:%M");
    let message = format!("{civil} {problem}{zone}, because the clock is changed");
    let hint = format!(
        "Use {} or {}",
        typed_flag(flag, &at(before)?),
        typed_flag(flag, &at(after)?)
    );
    Err(usage(flag, message).with_hint(hint))
}

/// `--at '2026-12-01 02:00 +09:00'`
fn typed_flag(flag: &str, at: &Zoned) -> String {
    let seconds = if at.second() == 0 { "" } else { ":%S" };
    format!(
        "{flag} '{}'",
        at.strftime(&format!("%Y-%m-%d %H:%M{seconds} %:z"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(zone: &str) -> Zoned {
        let now: jiff::Timestamp = "2026-11-29T11:00:00Z".parse().unwrap();
        now.to_zoned(TimeZone::get(zone).unwrap())
    }

    fn read(text: &str, zone: &str) -> Result<String, Failure> {
        TypedTime::read("--at", text, &now(zone)).map(|at| at.time().to_string())
    }

    #[test]
    fn a_time_is_in_its_zone_or_in_that_of_the_machine() {
        for (text, zone, utc) in [
            ("2026-12-01 02:00", "UTC", "2026-12-01T02:00:00.000000Z"),
            (
                "2026-12-01 02:00",
                "Asia/Tokyo",
                "2026-11-30T17:00:00.000000Z",
            ),
            (
                "2026-12-01 02:00 Asia/Tokyo",
                "UTC",
                "2026-11-30T17:00:00.000000Z",
            ),
            (
                "2026-12-01 02:00 +09:00",
                "UTC",
                "2026-11-30T17:00:00.000000Z",
            ),
            (
                "2026-12-01 02:00:30 -0330",
                "UTC",
                "2026-12-01T05:30:30.000000Z",
            ),
            (
                "2026-12-01T02:00:00Z",
                "Asia/Tokyo",
                "2026-12-01T02:00:00.000000Z",
            ),
            (
                "2026-12-01T02:00+09:00",
                "UTC",
                "2026-11-30T17:00:00.000000Z",
            ),
            // The day is that of the zone: in Tokyo it is 20:00.
            ("23:00", "Asia/Tokyo", "2026-11-29T14:00:00.000000Z"),
            (
                "02:00 Pacific/Auckland",
                "UTC",
                "2026-11-29T13:00:00.000000Z",
            ),
            ("12:30 UTC", "Asia/Tokyo", "2026-11-29T12:30:00.000000Z"),
        ] {
            assert_eq!(read(text, zone).as_deref(), Ok(utc), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_formats() {
        for text in [
            "",
            "tomorrow",
            "2h",
            "2026-12-01",
            "02",
            "25:00",
            "2026-02-30 02:00",
            "2026-12-01 02:00 +09:00 UTC",
            "2026-12-01T02:00Z UTC",
            "1.12.2026 02:00",
        ] {
            let failure = read(text, "UTC").unwrap_err();
            assert_eq!(failure.exit, Exit::Usage, "{text}");
            assert!(
                failure
                    .hint
                    .is_some_and(|hint| hint.starts_with("Takes a ")),
                "{text}: {}",
                failure.message
            );
        }
        let unknown = read("02:00 Asia/Tokio", "UTC").unwrap_err();
        assert_eq!(
            unknown.message,
            "--at: there is no time zone \"Asia/Tokio\" here. Nothing was changed"
        );
    }

    #[test]
    fn a_skipped_and_a_repeated_time_are_refused_with_the_choices() {
        for (text, message, hint) in [
            (
                "2027-03-28 02:30 Europe/Berlin",
                "--at: 2027-03-28 02:30 does not exist in Europe/Berlin, because the clock is changed. Nothing was changed",
                "Use --at '2027-03-28 01:30 +01:00' or --at '2027-03-28 03:30 +02:00'",
            ),
            (
                "2027-10-31 02:30 Europe/Berlin",
                "--at: 2027-10-31 02:30 exists twice in Europe/Berlin, because the clock is changed. Nothing was changed",
                "Use --at '2027-10-31 02:30 +02:00' or --at '2027-10-31 02:30 +01:00'",
            ),
            (
                "2027-03-14 02:15 America/New_York",
                "--at: 2027-03-14 02:15 does not exist in America/New_York, because the clock is changed. Nothing was changed",
                "Use --at '2027-03-14 01:15 -05:00' or --at '2027-03-14 03:15 -04:00'",
            ),
        ] {
            let failure = read(text, "UTC").unwrap_err();
            assert_eq!(
                (failure.message.as_str(), failure.hint.as_deref()),
                (message, Some(hint))
            );
        }
    }

    #[test]
    fn a_past_time_is_refused_with_the_next_one() {
        let now = now("Asia/Tokyo");
        let refused = |text: &str, first_step: i64| {
            let at = TypedTime::read("--at", text, &now).unwrap();
            let failure = at.past(
                &now,
                first_step,
                Some("To close the node now, leave out --at"),
            );
            (failure.message, failure.hint.unwrap())
        };
        assert_eq!(
            refused("02:00", 0),
            (
                "--at: 2026-11-29 02:00:00 +09:00 is past (18 h ago). Nothing was changed".to_owned(),
                "For the next one, use --at '2026-11-30 02:00 +09:00'. To close the node now, leave out --at".to_owned()
            )
        );
        let (message, hint) = refused("20:05", -600);
        assert_eq!(
            message,
            "--at: the first step is 10m before 2026-11-29 20:05:00 +09:00, which is past. Nothing was changed"
        );
        assert!(hint.contains("--at '2026-11-30 20:05 +09:00'"), "{hint}");
    }

    #[test]
    fn a_time_is_shown_in_each_zone_once() {
        let shown = |text: &str, local: &str| {
            let local = TimeZone::get(local).unwrap();
            TypedTime::read("--at", text, &now("UTC"))
                .unwrap()
                .describe(&local)
        };
        assert_eq!(shown("2026-12-01 02:00", "UTC"), "2026-12-01 02:00:00 UTC");
        assert_eq!(
            shown("2026-12-01 02:00 Asia/Tokyo", "Asia/Tokyo"),
            "2026-12-01 02:00:00 +09:00 (2026-11-30 17:00:00 UTC)"
        );
        assert_eq!(
            shown("2026-12-01 02:00 Asia/Tokyo", "Europe/Berlin"),
            "2026-12-01 02:00:00 +09:00 (2026-11-30 18:00:00 +01:00, 2026-11-30 17:00:00 UTC)"
        );
    }
}
