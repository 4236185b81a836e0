//! Flags that make a plan, and the list of steps that they stand for.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use soramode_protocol::announce::NoticeData;
use soramode_protocol::mode::SettableMode;
use soramode_protocol::notice_text::check_notice_text;
use soramode_protocol::plan::{END_PER_MINUTE_MAX, EndRate, PLAN_STEPS_MAX, PlanStep, RISK_OF_END};

use crate::error::{Exit, Failure};
use crate::output::times;

/// Heading of the flags in the help. The short help leaves them out, so that it fits a terminal.
const HEADING: &str = "Plan options";

/// Flags of a plan that `drain` and `maintain` share. One of them makes a plan.
#[derive(Debug, clap::Args)]
pub(crate) struct PlanFlags {
    /// Report unready to load balancers this long before the close
    ///
    /// Load balancers that follow /ready/new-session send no new sessions; with --connections also those that follow /ready. Nothing is rejected
    /// yet. In a cluster, the other nodes are preferred for new channels.
    #[arg(long, value_name = "DURATION", value_parser = times::read_span, help_heading = HEADING, hide_short_help = true)]
    lead: Option<Duration>,
    /// Block new connections too, this long after the close
    ///
    /// Sets block_new_connection.
    #[arg(long, value_name = "DURATION", value_parser = times::read_span, help_heading = HEADING, hide_short_help = true)]
    tighten_after: Option<Duration>,
    /// Announce the end to the clients this long before it
    ///
    /// Several times with commas: 10m,1m. The last announcement blocks new connections, so that every client that is disconnected was connected
    /// when it was sent. Needs --end-after.
    #[arg(long, value_name = "DURATION,...", value_parser = times::read_span, value_delimiter = ',', help_heading = HEADING, hide_short_help = true)]
    announce: Vec<Duration>,
    /// Announce with this text; {minutes} stands for the time left, rounded down
    ///
    /// No other word may stand in braces.
    #[arg(long, value_name = "TEXT", value_parser = read_text, help_heading = HEADING, hide_short_help = true)]
    announce_text: Option<String>,
    /// Announce with this data for the application
    #[arg(long, value_name = "JSON", value_parser = read_data, help_heading = HEADING, hide_short_help = true)]
    announce_data: Option<NoticeData>,
    /// End the sessions that are left this long after the close
    ///
    /// This disconnects their clients, and needs --accept-risk=cuts-clients. The node has blocked new connections by then: since the last
    /// announcement, or from the end on. There is no default --timeout then: soramode waits until the plan is over.
    #[arg(long, value_name = "DURATION", value_parser = times::read_span, help_heading = HEADING, hide_short_help = true)]
    pub(super) end_after: Option<Duration>,
    /// End at most N sessions per minute: N/min, or max [default: 60/min]
    #[arg(long, value_name = "N/min|max", value_parser = read_rate, help_heading = HEADING, hide_short_help = true)]
    end_rate: Option<EndRate>,
    /// Required with --end-after: accept that clients are disconnected
    #[arg(long, value_enum, value_name = "RISK", help_heading = HEADING, hide_short_help = true)]
    accept_risk: Option<Risk>,
    /// Run late steps up to this delay, else stop the plan [default: 10m]
    ///
    /// A step is late if soramoded or the machine was down, or if a step was held. All later steps are delayed as well. The node stays as it is
    /// when a plan stops.
    #[arg(long, value_name = "DURATION", value_parser = times::read_span, help_heading = HEADING, hide_short_help = true)]
    max_delay: Option<Duration>,
}

/// The risk of ending sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Risk {
    /// Connected clients are disconnected
    CutsClients,
}

impl Risk {
    /// Returns the word that the daemon requires.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::CutsClients => RISK_OF_END,
        }
    }
}

/// Reads a rate: `60/min`, or `max`.
pub(crate) fn read_rate(text: &str) -> Result<EndRate, String> {
    if text == "max" {
        return Ok(EndRate::Max);
    }
    let takes =
        || format!("takes a rate such as 60/min (at most {END_PER_MINUTE_MAX}/min), or max");
    let Some(number) = text.strip_suffix("/min") else {
        return Err(match text.parse::<u32>() {
            Ok(number) => format!("has no unit; takes {number}/min"),
            Err(_) => takes(),
        });
    };
    match u32::from_str(number) {
        Ok(number) if (1..=END_PER_MINUTE_MAX).contains(&number) => Ok(EndRate::PerMinute(number)),
        Ok(_) | Err(_) => Err(takes()),
    }
}

/// Reads data for the application.
pub(crate) fn read_data(text: &str) -> Result<NoticeData, String> {
    serde_json::from_str::<Value>(text)
        .map(NoticeData)
        .map_err(|problem| format!("is not JSON: {problem}"))
}

/// Reads a text for people.
pub(crate) fn read_text(text: &str) -> Result<String, String> {
    check_notice_text(text).map(|()| text.to_owned())
}

impl PlanFlags {
    /// Returns whether a flag was given.
    pub(super) const fn is_given(&self) -> bool {
        self.lead.is_some()
            || self.tighten_after.is_some()
            || !self.announce.is_empty()
            || self.announce_text.is_some()
            || self.announce_data.is_some()
            || self.end_after.is_some()
            || self.end_rate.is_some()
            || self.accept_risk.is_some()
            || self.max_delay.is_some()
    }

    /// Returns the total delay up to which steps run, in seconds.
    pub(super) fn max_delay_seconds(&self) -> Option<u64> {
        self.max_delay.map(|span| seconds(span).unsigned_abs())
    }

    /// Returns the accepted risk, as the daemon requires it.
    pub(super) fn accept_risk(&self) -> Option<String> {
        self.accept_risk.map(|risk| risk.word().to_owned())
    }

    /// Returns the steps, in the order of their times, for a close to `mode`.
    pub(super) fn steps(&self, mode: SettableMode) -> Result<Vec<PlanStep>, Failure> {
        self.check_end()?;
        self.check_tighten(mode)?;
        self.check_announcements()?;
        let lead = self.lead.map(seconds).filter(|lead| *lead > 0);
        let unready = lead.map(|lead| PlanStep::Unready { at_seconds: -lead });
        let close = PlanStep::Mode {
            at_seconds: 0,
            mode,
        };
        let tighten = self.tighten_after.map(|span| PlanStep::Mode {
            at_seconds: seconds(span),
            mode: SettableMode::BlockNewConnection,
        });
        let end_at = self.end_after.map(seconds).unwrap_or_default();
        let announce = self.announce.iter().map(|span| PlanStep::Announce {
            at_seconds: end_at - seconds(*span),
            text: self.announce_text.clone(),
            data: self.announce_data.clone(),
        });
        let end = self.end_after.map(|span| PlanStep::End {
            at_seconds: seconds(span),
            per_minute: self.end_rate,
        });
        let mut steps: Vec<PlanStep> = unready
            .into_iter()
            .chain([close])
            .chain(tighten)
            .chain(announce)
            .chain(end)
            .collect();
        // Stable: steps at the same time keep this order.
        steps.sort_by_key(PlanStep::at_seconds);
        steps.dedup();
        if steps.len() > PLAN_STEPS_MAX {
            let problem = format!(
                "a plan has at most {PLAN_STEPS_MAX} steps, and these are {}",
                steps.len()
            );
            return Err(usage(&problem, "Announce less often"));
        }
        Ok(steps)
    }

    fn check_end(&self) -> Result<(), Failure> {
        let of_end = [
            ("--announce", !self.announce.is_empty()),
            ("--announce-text", self.announce_text.is_some()),
            ("--announce-data", self.announce_data.is_some()),
            ("--end-rate", self.end_rate.is_some()),
            ("--accept-risk", self.accept_risk.is_some()),
        ];
        let given = of_end.iter().find(|(_, is_given)| *is_given);
        match (self.end_after, given) {
            (None, Some((flag, _))) if flag.starts_with("--announce") => Err(usage(
                &format!("{flag} needs --end-after: it announces when the sessions are ended"),
                "Add --end-after DURATION, or announce by hand: soramode announce TEXT",
            )),
            (None, Some((flag, _))) => Err(usage(
                &format!("{flag} works only with --end-after"),
                "Add --end-after DURATION, or leave it out",
            )),
            (Some(_), _) if self.accept_risk.is_none() => Err(usage(
                "--end-after disconnects the clients that are left",
                &format!("To go on, add --accept-risk={RISK_OF_END}"),
            )),
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn check_tighten(&self, mode: SettableMode) -> Result<(), Failure> {
        let Some(tighten) = self.tighten_after else {
            return Ok(());
        };
        if mode == SettableMode::BlockNewConnection {
            return Err(usage(
                "--tighten-after has no effect with --connections, which blocks new connections at the close",
                "Leave out one of them",
            ));
        }
        match self.end_after {
            Some(end) if tighten > end => Err(usage(
                &format!(
                    "--tighten-after {} is after the end (--end-after {}), which blocks new connections too",
                    times::typed(tighten),
                    times::typed(end)
                ),
                "Leave it out, or use a shorter time",
            )),
            Some(_) | None => Ok(()),
        }
    }

    fn check_announcements(&self) -> Result<(), Failure> {
        if self.announce.is_empty() {
            let text = [
                ("--announce-text", self.announce_text.is_some()),
                ("--announce-data", self.announce_data.is_some()),
            ];
            let given = text.iter().find(|(_, is_given)| *is_given);
            return given.map_or(Ok(()), |(flag, _)| {
                Err(usage(
                    &format!("{flag} works only with --announce"),
                    "Add --announce DURATION: the time before the end",
                ))
            });
        }
        let last = self.announce.iter().min().copied().unwrap_or_default();
        let end = self.end_after.unwrap_or_default();
        if last.is_zero() {
            return Err(usage(
                "--announce 0: clients need some time before the end",
                "Use a time such as --announce 10m,1m",
            ));
        }
        if last > end {
            let (last, end) = (times::typed(last), times::typed(end));
            return Err(usage(
                &format!(
                    "--announce {last}: the last announcement would be before the close, so sessions that start in between would not get it"
                ),
                &format!(
                    "Announce once more, at most {end} before the end, such as --announce {last},1m"
                ),
            ));
        }
        Ok(())
    }
}

/// A wrong command line. Nothing was sent yet.
pub(super) fn usage(problem: &str, hint: &str) -> Failure {
    Failure::new(Exit::Usage, format!("{problem}. Nothing was changed")).with_hint(hint)
}

/// Returns whole seconds, rounded up: no step is earlier than asked.
pub(super) fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn flags(line: &str) -> PlanFlags {
        let command = PlanFlags::augment_args(clap::Command::new("drain"));
        let words = std::iter::once("drain").chain(line.split(' ').filter(|word| !word.is_empty()));
        PlanFlags::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    const RISK: &str = "--accept-risk=cuts-clients";

    #[test]
    fn flags_stand_for_steps_in_the_order_of_their_times() {
        let line = format!(
            "--lead 30s --tighten-after 20m --announce 1m,10m --announce-text soon --end-after 40m --end-rate 120/min {RISK}"
        );
        let steps = flags(&line).steps(SettableMode::BlockNewSession).unwrap();
        let shown: Vec<(i64, &str)> = steps
            .iter()
            .map(|step| (step.at_seconds(), step.action()))
            .collect();
        assert_eq!(
            shown,
            [
                (-30, "unready"),
                (0, "mode"),
                (1_200, "mode"),
                (1_800, "announce"),
                (2_340, "announce"),
                (2_400, "end")
            ]
        );
        assert_eq!(
            steps.last(),
            Some(&PlanStep::End {
                at_seconds: 2_400,
                per_minute: Some(EndRate::PerMinute(120))
            })
        );
        let closes = flags("--max-delay 1500ms");
        assert_eq!(closes.max_delay_seconds(), Some(2), "rounded up");
        assert_eq!(
            closes.steps(SettableMode::BlockNewConnection),
            Ok(vec![PlanStep::Mode {
                at_seconds: 0,
                mode: SettableMode::BlockNewConnection
            }])
        );
    }

    #[test]
    fn flags_that_make_no_sense_are_refused_with_a_remedy() {
        for (line, mode, words) in [
            ("--announce 10m", "", "--announce needs --end-after"),
            (
                "--announce-text soon",
                "",
                "--announce-text needs --end-after",
            ),
            (
                "--end-rate max",
                "",
                "--end-rate works only with --end-after",
            ),
            (RISK, "", "--accept-risk works only with --end-after"),
            ("--end-after 40m", "", "--end-after disconnects the clients"),
            (
                "--tighten-after 5m",
                "connections",
                "--tighten-after has no effect with --connections",
            ),
            (
                "--end-after 5m --tighten-after 6m --accept-risk=cuts-clients",
                "",
                "--tighten-after 6m is after the end (--end-after 5m)",
            ),
            (
                "--end-after 5m --announce 10m --accept-risk=cuts-clients",
                "",
                "--announce 10m: the last announcement would be before the close",
            ),
            (
                "--end-after 5m --announce 10m,0s --accept-risk=cuts-clients",
                "",
                "--announce 0: clients need",
            ),
            (
                "--end-after 5m --announce-data 1 --accept-risk=cuts-clients",
                "",
                "--announce-data works only with --announce",
            ),
            (
                "--end-after 1h --announce 1m,2m,3m,4m,5m,6m,7m,8m,9m,10m,11m,12m,13m,14m,15m --accept-risk=cuts-clients",
                "",
                "a plan has at most 16 steps, and these are 17",
            ),
        ] {
            let mode = if mode.is_empty() {
                SettableMode::BlockNewSession
            } else {
                SettableMode::BlockNewConnection
            };
            let failure = flags(line).steps(mode).unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.message.starts_with(words), "{}", failure.message);
            assert!(failure.hint.is_some(), "{line}");
        }
        assert!(
            flags("--end-after 5m --announce 10m,5m --accept-risk=cuts-clients")
                .steps(SettableMode::BlockNewSession)
                .is_ok()
        );
    }

    #[test]
    fn rates_and_data_are_read() {
        assert_eq!(read_rate("60/min"), Ok(EndRate::PerMinute(60)));
        assert_eq!(read_rate("max"), Ok(EndRate::Max));
        assert_eq!(read_rate("60"), Err("has no unit; takes 60/min".to_owned()));
        for wrong in ["0/min", "60001/min", "60/s", "fast", "-1/min"] {
            assert!(read_rate(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            read_data(r#"{"level":1}"#),
            Ok(NoticeData(serde_json::json!({"level": 1})))
        );
        assert!(read_data("{level}").is_err_and(|problem| problem.starts_with("is not JSON")));
    }
}
