//! Requests about reservations, as a story writes them: `Reserve R1 60s round=1 by=alice`, `Reserve R1 step=draining`.

use soramode_protocol::request::GateRequest;
use soramode_protocol::reservation::{Release, Reserve, RollStep};

use super::read::{Problem, Words, duration};

pub(super) fn request(method: &str, all: &mut Words) -> Result<GateRequest, Problem> {
    let roll = all.id()?;
    let round = all.value("round")?;
    if method == "Release" {
        return Ok(GateRequest::Release(Release { roll, round }));
    }
    let step = all.value::<String>("step")?;
    let step = step.map(|name| RollStep::from_name(&name).ok_or(format!("{name} is no step")));
    Ok(GateRequest::Reserve(Box::new(Reserve {
        roll,
        by: all.value("by")?,
        round,
        step: step.transpose()?,
        command_exit: all.value("exit")?,
        seconds: match all.next() {
            Ok(time) => Some(duration(&time)?.as_secs()),
            Err(_) => None,
        },
    })))
}
