//! The number of files that this process may open: a client of the control socket is one, one more while it only listens, and one more
//! while it does not read.
//!
//! Few are enough for the control socket alone: HTTP takes no more clients than leave it its own.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::control::{CLIENTS_MAX, UNIDENTIFIED_CLIENTS_MAX};
use crate::http::{HTTP_CLIENTS_MAX, REFUSALS_MAX};

/// Descriptors for the socket, its lock, the timer, the log and the like.
const OTHER_DESCRIPTORS: usize = 64;

/// Descriptors that everything except HTTP uses at most.
const KEPT_FROM_HTTP: usize = 3 * CLIENTS_MAX + UNIDENTIFIED_CLIENTS_MAX + OTHER_DESCRIPTORS;

/// A client of an HTTP listener, and behind it an upstream or Sora's API.
const PER_HTTP_CLIENT: usize = 2;

/// Descriptors that all clients use at most.
const fn needed(http_listeners: usize) -> usize {
    KEPT_FROM_HTTP + http_listeners * (PER_HTTP_CLIENT * HTTP_CLIENTS_MAX + REFUSALS_MAX)
}

/// Returns the maximum number of clients per HTTP listener, which leaves the control socket its
/// descriptors; half of all if there are too few for that.
pub(crate) fn http_clients_max(listeners: usize) -> usize {
    let limit = getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| usize::try_from(limit).ok());
    limit.map_or(HTTP_CLIENTS_MAX, |limit| share_of(limit, listeners))
}

fn share_of(limit: usize, listeners: usize) -> usize {
    let for_http = limit.saturating_sub(KEPT_FROM_HTTP).max(limit / 2);
    let each = (for_http / listeners.max(1)).saturating_sub(REFUSALS_MAX) / PER_HTTP_CLIENT;
    each.clamp(1, HTTP_CLIENTS_MAX)
}

/// Lets this process open as many files as the system allows it. Returns a warning if that is too few for all clients.
pub(crate) fn raise_limit(http_listeners: usize) -> Option<String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
    {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    let warning = getrlimit(Resource::Nofile)
        .current
        .and_then(|limit| too_low(limit, http_listeners))?;
    tracing::warn!("{warning}");
    Some(warning)
}

fn too_low(limit: u64, http_listeners: usize) -> Option<String> {
    let needed = needed(http_listeners);
    let clients =
        usize::try_from(limit).map_or(HTTP_CLIENTS_MAX, |limit| share_of(limit, http_listeners));
    let fewer = if http_listeners == 0 {
        String::new()
    } else {
        format!(": each HTTP listener takes at most {clients} clients")
    };
    (limit < needed as u64)
        .then(|| format!("this process may open only {limit} files and needs {needed}{fewer}. Raise LimitNOFILE, and restart soramoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_leaves_the_control_socket_its_descriptors() {
        for listeners in 1..=4 {
            assert_eq!(share_of(needed(listeners), listeners), HTTP_CLIENTS_MAX);
            assert_eq!(share_of(usize::MAX, listeners), HTTP_CLIENTS_MAX);
            for limit in [512, 1_024, 4_096, 5_300, needed(listeners) - 1] {
                let http =
                    listeners * (PER_HTTP_CLIENT * share_of(limit, listeners) + REFUSALS_MAX);
                assert!(
                    http <= limit.saturating_sub(KEPT_FROM_HTTP).max(limit / 2) + 1,
                    "{http} of {limit}"
                );
            }
        }
        assert_eq!(share_of(10, 3), 1);
    }

    #[test]
    fn too_few_descriptors_are_a_warning_with_a_remedy() {
        assert_eq!(too_low(u64::MAX, 3), None);
        assert_eq!(too_low(needed(2) as u64, 2), None);
        for listeners in [0, 1, 3] {
            let warning = too_low(64, listeners).unwrap_or_default();
            assert!(
                warning.contains("LimitNOFILE") && warning.contains("only 64 files"),
                "{warning}"
            );
            assert_eq!(warning.contains("HTTP"), listeners > 0, "{warning}");
        }
    }
}
