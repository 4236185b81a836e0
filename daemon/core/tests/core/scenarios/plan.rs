//! Requests about plans, announcements and ends, and the SFU's answers, as a story writes them.
//!
//! A step is `action@time`, with more behind a colon: `unready@-30s`, `mode@0s:block_new_session`, `announce@10m:text`, `end@20m:60`.

use soramode_core::input::{Input, Subscribers};
use soramode_core::plan::calls::{SfuFailure, SfuOutcome};
use soramode_core::settings::{
    SESSION_MAX_LINGER_DEFAULT, SfuAdmission, SfuFeed, SfuMeans, SfuSettings,
};
use soramode_protocol::announce::{Announce, NoticeData};
use soramode_protocol::end::End;
use soramode_protocol::mode::Mode;
use soramode_protocol::plan::{CancelPlan, EndRate, PlanStep, RISK_OF_END, StartPlan};
use soramode_protocol::request::GateRequest;
use soramode_protocol::time::Time;

use super::read::{Problem, Words, duration};
use super::story::START;

pub(super) fn request(method: &str, all: &mut Words) -> Result<GateRequest, Problem> {
    Ok(match method {
        "StartPlan" => GateRequest::StartPlan(Box::new(start(all)?)),
        "GetPlan" => GateRequest::GetPlan,
        "CancelPlan" => GateRequest::CancelPlan(CancelPlan {
            reason: all.value("reason")?,
            id: all.next().ok().map(|id| id.parse().unwrap()),
        }),
        "Announce" => GateRequest::Announce(Box::new(Announce {
            channel_id: all.value("channel")?,
            data: data(all)?,
            text: all.next().ok(),
        })),
        "End" => {
            let (reason, rate) = (all.value("reason")?, all.value::<String>("rate")?);
            let is_all = all.has("all");
            GateRequest::End(End {
                channel_id: if is_all { None } else { Some(all.id()?) },
                all: is_all,
                reason,
                per_minute: rate.as_deref().map(self::rate).transpose()?,
            })
        }
        other => return Err(format!("{other} is no request about plans")),
    })
}

fn data(all: &mut Words) -> Result<Option<NoticeData>, Problem> {
    let level: Option<u32> = all.value("level")?;
    let read = |level| serde_json::from_str(&format!("{{\"level\":{level}}}"));
    level
        .map(|level| read(level).map(NoticeData))
        .transpose()
        .map_err(|error: serde_json::Error| error.to_string())
}

fn start(all: &mut Words) -> Result<StartPlan, Problem> {
    let at = all.value::<String>("at")?;
    let expected_end = all.value::<String>("expected_end")?;
    let (reason, replace) = (all.value("reason")?, all.has("replace"));
    let is_refused = all.has("without_risk");
    let max_delay = all.time("max_delay")?;
    let (keep_open, on_behalf_of) = (all.value("keep_open")?, all.value("for")?);
    let (roll, round) = (all.value("roll")?, all.value("round")?);
    let words = all.take();
    let steps = words.iter().map(|word| step(word));
    let steps = steps.collect::<Result<Vec<PlanStep>, Problem>>()?;
    let ends = steps
        .iter()
        .any(|step| matches!(step, PlanStep::End { .. }));
    Ok(StartPlan {
        at: at.as_deref().map(time).transpose()?,
        accept_risk: (ends && !is_refused).then(|| RISK_OF_END.to_owned()),
        steps,
        expected_end_at: expected_end.as_deref().map(time).transpose()?,
        reason,
        max_delay_seconds: max_delay.map(|it| it.as_secs()),
        keep_open,
        replace,
        roll,
        round,
        on_behalf_of,
    })
}

/// `+2h` after the start by the wall clock, or `-2h` before it.
pub(super) fn time(text: &str) -> Result<Time, Problem> {
    let seconds = signed_seconds(text)?;
    Ok(Time::from_micros(START.as_micros() + seconds * 1_000_000))
}

fn signed_seconds(text: &str) -> Result<i64, Problem> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1, text),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let seconds = i64::try_from(duration(text)?.as_secs()).unwrap();
    Ok(sign * seconds)
}

fn rate(text: &str) -> Result<EndRate, Problem> {
    match text {
        "max" => Ok(EndRate::Max),
        text => text
            .parse()
            .map(EndRate::PerMinute)
            .map_err(|_| format!("{text:?} is no rate")),
    }
}

fn step(word: &str) -> Result<PlanStep, Problem> {
    let (action, rest) = word.split_once('@').ok_or("a step is action@time")?;
    let (at, detail) = match rest.split_once(':') {
        Some((at, detail)) => (at, Some(detail)),
        None => (rest, None),
    };
    let at_seconds = signed_seconds(at)?;
    Ok(match action {
        "unready" => PlanStep::Unready { at_seconds },
        "mode" => {
            let mode: Mode = detail
                .unwrap_or("block_new_session")
                .parse()
                .map_err(|_| format!("{word}: no mode"))?;
            PlanStep::Mode {
                at_seconds,
                mode: mode.try_into().map_err(|_| format!("{word}: no mode"))?,
            }
        }
        "announce" => PlanStep::Announce {
            at_seconds,
            text: detail.map(str::to_owned),
            data: None,
        },
        "end" => PlanStep::End {
            at_seconds,
            per_minute: detail.map(rate).transpose()?,
        },
        other => return Err(format!("{other} is no action")),
    })
}

/// Settings of the SFU: `sora`, `janus`, `shadow`, `no-means` and their like.
pub(super) fn sfu(all: &mut Words) -> Result<SfuSettings, Problem> {
    let feed = super::janus::feed(all);
    Ok(SfuSettings {
        means: means(all, feed),
        feed,
        api_url: matches!(
            feed,
            SfuFeed::WebhooksAndApi | SfuFeed::Api | SfuFeed::Janus { .. }
        )
        .then(|| "http://127.0.0.1:3000/".to_owned()),
        admission: if all.has("mirror") {
            SfuAdmission::BySfu
        } else if all.has("shadow") {
            SfuAdmission::Shadow
        } else {
            SfuAdmission::Enforced
        },
        session_max_linger: all
            .time("max_linger")?
            .unwrap_or(SESSION_MAX_LINGER_DEFAULT),
    })
}

/// Means of the SFU to announce and to end sessions: those of Janus, or of Sora's API unless a story says `no-means`.
fn means(all: &mut Words, feed: SfuFeed) -> SfuMeans {
    match feed {
        _ if all.has("no-means") => SfuMeans::default(),
        SfuFeed::Janus { .. } => SfuMeans::JANUS_ADMIN,
        SfuFeed::None | SfuFeed::Webhooks | SfuFeed::WebhooksAndApi | SfuFeed::Api => {
            SfuMeans::SORA_API
        }
    }
}

/// `subscribers ends=1 announcements=2`: from now on; none of what is not named.
pub(super) fn subscribers(mut all: Words) -> Result<Input, Problem> {
    let ends = all.value("ends")?.unwrap_or_default();
    let announcements = all.value("announcements")?.unwrap_or_default();
    all.end(Input::Subscribers(Subscribers {
        ends,
        announcements,
    }))
}

/// `ok`, `refused`, `unreachable`, or nothing where there is no API; with `subscribers=2`.
pub(super) fn outcome(mut all: Words) -> Result<SfuOutcome, Problem> {
    let subscribers = all.value("subscribers")?.unwrap_or(0);
    let api = match all.next().ok().as_deref() {
        None => None,
        Some("ok") => Some(Ok(())),
        Some("refused") => Some(Err(SfuFailure::Refused("400 NOT-FOUND".to_owned()))),
        Some("unreachable") => Some(Err(SfuFailure::Unreachable("no answer in time".to_owned()))),
        Some(other) => return Err(format!("an SFU does not answer {other}")),
    };
    all.end(SfuOutcome { api, subscribers })
}
