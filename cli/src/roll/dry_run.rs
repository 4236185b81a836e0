//! `--dry-run`: the order, the sessions and the obstacles of a roll that is not begun.

use serde::Serialize;
use soramode_protocol::mode::Mode;
use soramode_protocol::time::Time;
use soramode_roll::{HostIndex, preview};

use super::connect::Connected;
use super::request::RollRequest;
use super::stop::{complete_hint, exit_of_kind, failure_of};
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure, Problem};
use crate::output::escape::escape;
use crate::output::{Cell, Column, List, Output, report_failure};

/// A host of a dry run.
#[derive(Serialize)]
struct Preview<'a> {
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<&'a str>,
    /// Position in the order, from 1; absent for a host that is only counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_session_since: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Prints the order, the sessions and the obstacles. The exit code is that of the first obstacle.
pub(super) fn show(
    request: &RollRequest,
    (endpoints, connected): (&[Endpoint], &[Connected]),
    output: &mut Output,
) -> Result<Exit, Failure> {
    let facts: Vec<_> = connected
        .iter()
        .map(|it| match it {
            Ok(start) => Ok(start.facts.clone()),
            Err(failure) => Err(failure.message.clone()),
        })
        .collect();
    let looked = preview(&request.settings, &facts);
    let order: Vec<HostIndex> = looked.as_ref().map_or_else(
        |_| request.settings.maintained.iter().copied().collect(),
        |schedule| {
            let resumed = schedule.resumed.iter().map(|it| it.host);
            resumed.chain(schedule.closed.iter().copied()).collect()
        },
    );
    let mut stop = looked.err();
    if let Some(stop) = &mut stop {
        let host = stop.host.unwrap_or(usize::MAX);
        let failure = connected.get(host).and_then(|it| it.as_ref().err());
        complete_hint(stop, endpoints.get(host), failure);
    }
    let obstacle = |number: HostIndex| match connected.get(number) {
        Some(Err(failure)) => Some(failure.clone()),
        _ => stop
            .as_ref()
            .filter(|stop| stop.host == Some(number))
            .map(|stop| failure_of(stop, stop.problem.clone())),
    };
    let columns = [
        Column::word("ORDER"),
        Column::id("HOST"),
        Column::id("NODE").optional(1),
        Column::word("MODE"),
        Column::word("SESSIONS"),
        Column::word("OLDEST"),
    ];
    let mut list = List::begin(output, "nodes", &columns)?;
    for (number, host) in request.hosts.iter().enumerate() {
        let start = connected.get(number).and_then(|it| it.as_ref().ok());
        let status = start.map(|start| &start.facts.status);
        let place = order.iter().position(|it| *it == number).map(|it| it + 1);
        let row = Preview {
            host,
            node_name: start.map(|start| start.node_name.as_str()),
            order: place,
            mode: status.map(|status| status.mode.mode),
            sessions: status.map(|status| status.sessions),
            oldest_session_since: start.and_then(|start| start.oldest),
            problem: obstacle(number).as_ref().map(Problem::from),
        };
        let cells: [Cell<'_>; 6] = [
            place.map(|place| place as u64).into(),
            host.as_str().into(),
            row.node_name.into(),
            row.mode.into(),
            row.sessions.into(),
            row.oldest_session_since
                .map(|since| list.time(since))
                .into(),
        ];
        list.row(&row, &cells)?;
    }
    list.finish("no hosts")?;
    let exit = stop.as_ref().map_or(Exit::Done, |stop| {
        stop.host
            .and_then(obstacle)
            .map_or_else(|| exit_of_kind(stop.kind), |failure| failure.exit)
    });
    output.flush()?;
    match stop {
        None => output.note("nothing was changed; the roll could begin"),
        Some(stop) => {
            let host = stop.host.and_then(|number| request.hosts.get(number));
            let host = host.map(|host| format!("{}: ", escape(host)));
            let message = format!(
                "the roll could not begin: {}{}",
                host.unwrap_or_default(),
                stop.problem
            );
            report_failure(&Failure {
                exit,
                ..failure_of(&stop, message)
            });
        }
    }
    Ok(exit)
}
