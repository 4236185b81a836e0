//! The SFU in the status: names of sources, their APIs, and a mode that the SFU holds.

use soramode_protocol::mode::InForce;
use soramode_protocol::node::{RoomCounts, Source, Status, Upstream};
use soramode_protocol::time::Time;

use crate::output::counted;
use crate::output::escape::escape;

/// An SFU's API that gives no usable answer: until it does, no closed node counts as drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailingApi {
    /// `Sora's API at http://127.0.0.1:3000/`
    pub(crate) name: String,
    /// Time of the last usable answer, if there was one.
    last_success: Option<Time>,
    /// The problem of the last answer; `None` while one is awaited after an earlier one.
    problem: Option<String>,
    /// The remedy.
    pub(crate) remedy: &'static str,
}

impl FailingApi {
    /// Returns the API, if its last poll failed.
    pub(crate) fn of(status: &Status) -> Option<Self> {
        let (source, problem) = status
            .sources
            .iter()
            .find_map(|source| Some((source, source.problem.as_deref()?)))?;
        Some(Self::new(source, Some(problem), status))
    }

    /// Returns the API without which the session list stays incomplete, also if it has not answered yet.
    pub(crate) fn awaited(status: &Status) -> Option<Self> {
        Self::of(status).or_else(|| {
            let is_first = api_of(status)?.last_success.is_none();
            let is_awaited = |source: &&Source| !source.complete && source.name != "socket";
            let source = status.sources.iter().find(is_awaited)?;
            Some(Self::new(
                source,
                is_first.then_some("no answer yet"),
                status,
            ))
        })
    }

    fn new(source: &Source, problem: Option<&str>, status: &Status) -> Self {
        let (api, remedy) = source_api(source);
        let upstream = api_of(status);
        let name = upstream.map_or_else(
            || api.to_owned(),
            |upstream| format!("{api} at {}", escape(&upstream.url)),
        );
        Self {
            name,
            last_success: upstream.and_then(|upstream| upstream.last_success),
            problem: problem.map(|it| escape(it).into_owned()),
            remedy,
        }
    }

    /// `Sora's API at http://127.0.0.1:3000/ has given no usable answer since 10:02:03 (connection refused)`
    pub(crate) fn describe(&self, time: impl FnOnce(Time) -> String) -> String {
        let since = self
            .last_success
            .map_or_else(|| "yet".to_owned(), |at| format!("since {}", time(at)));
        let problem = self.problem.as_ref().map(|it| format!(" ({it})"));
        format!(
            "{} has given no usable answer {since}{}",
            self.name,
            problem.unwrap_or_default()
        )
    }

    /// Describes that the API stopped answering, or that it answers again; `None` if neither.
    pub(crate) fn describe_change(
        before: Option<&Self>,
        now: Option<&Self>,
        time: impl FnOnce(Time) -> String,
    ) -> Option<String> {
        match (before, now) {
            (None, Some(api)) => Some(format!(
                "{}. The node does not count as drained before it answers. {}",
                api.describe(time),
                api.remedy
            )),
            (Some(before), None) => Some(format!("{} answers again", before.name)),
            (None, None) | (Some(_), Some(_)) => None,
        }
    }
}

/// Returns the API of the node's SFU among the servers that soramoded calls.
pub(crate) fn api_of(status: &Status) -> Option<&Upstream> {
    status
        .upstreams
        .iter()
        .find(|it| matches!(it.name.as_str(), "sora-api" | "janus-admin"))
}

/// Returns the name of a source that this version knows; the control socket's for another.
pub(crate) fn source_name(source: &Source) -> &'static str {
    match source.name.as_str() {
        "sora" => "sora",
        "janus" => "janus",
        _ => "socket",
    }
}

/// Returns the name of the API that a source is polled by, and the remedy if it fails.
pub(crate) fn source_api(source: &Source) -> (&'static str, &'static str) {
    match source.name.as_str() {
        "janus" => (
            "Janus's Admin API",
            "Check that this Janus runs, and --janus-admin. If it refuses the secret or the key, correct the files of --janus-admin-secret-file and \
             --janus-admin-key-file, then restart soramoded",
        ),
        _ => ("Sora's API", "Check --sora-api, and that this Sora runs"),
    }
}

/// Describes why sessions without connections are still there; empty if there are connections.
pub(crate) const fn awaited_end(connections: u64) -> &'static str {
    match connections {
        0 => {
            ": a session ends once --reconnect-grace is over and the SFU has reported the end (at most --session-max-linger)"
        }
        _ => "",
    }
}

/// `no: 1 of 5 rooms cannot be locked or unlocked`
pub(crate) fn describe_in_force(in_force: InForce, rooms: Option<RoomCounts>) -> String {
    let answer = match in_force {
        InForce::Yes => "yes",
        InForce::Pending => "not yet",
        InForce::Partial | InForce::No => "no",
    };
    match describe_not_in_force(in_force, rooms) {
        Some(why) => format!("{answer}: {why}"),
        None => answer.to_owned(),
    }
}

/// Returns the reason for which a mode is not in force; `None` if it is.
pub(crate) fn describe_not_in_force(
    in_force: InForce,
    rooms: Option<RoomCounts>,
) -> Option<String> {
    let of = |count: fn(RoomCounts) -> u64| {
        rooms.map_or("some rooms".to_owned(), |rooms| {
            let all = rooms.settled + rooms.outstanding + rooms.impossible;
            format!("{} of {}", count(rooms), counted(all, "room"))
        })
    };
    match in_force {
        InForce::Yes => None,
        InForce::Pending if rooms.is_some_and(|rooms| rooms.outstanding == 0) => {
            Some("Janus has not confirmed it yet".to_owned())
        }
        InForce::Pending => Some(format!(
            "{} still to be locked or unlocked",
            of(|it| it.outstanding)
        )),
        InForce::Partial => Some(format!(
            "{} cannot be locked or unlocked",
            of(|it| it.impossible)
        )),
        InForce::No => Some("Janus's rooms cannot be listed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::last_status::status_of;

    #[test]
    fn an_api_that_is_awaited_after_an_earlier_answer_is_not_said_to_have_given_none() {
        const SUCCESS: &str = r#","last_success":"2026-12-01T10:02:03Z""#;
        for (success, problem, wanted) in [
            ("", "", "yet (no answer yet)"),
            (SUCCESS, "", "since 10:02"),
            (
                SUCCESS,
                r#","problem":"answered 503""#,
                "since 10:02 (answered 503)",
            ),
        ] {
            let mut status = status_of("block_new_session", r#","sessions_complete":false"#);
            let source = format!(r#"[{{"name":"sora","complete":false{problem}}}]"#);
            status.sources = serde_json::from_str(&source).unwrap();
            let upstream =
                format!(r#"[{{"name":"sora-api","url":"http://a/","reachable":true{success}}}]"#);
            status.upstreams = serde_json::from_str(&upstream).unwrap();
            let api = FailingApi::awaited(&status).unwrap();
            assert_eq!(
                api.describe(|_| "10:02".to_owned()),
                format!("Sora's API at http://a/ has given no usable answer {wanted}")
            );
        }
    }
}
