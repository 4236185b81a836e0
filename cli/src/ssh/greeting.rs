//! The first line of `soramode dial-stdio`, before which the command sends nothing.

use serde::{Deserialize, Serialize};
use soramode_protocol::version::VERSION;

use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::socket::{CannotOpen, OpenProblem, Socket};

/// The version of what follows the line. It goes up when an older peer could misread a newer one.
pub(crate) const STDIO_PROTOCOL: u32 = 1;

/// The beginning of the line.
pub(crate) const PREFIX: &str = "soramode-stdio ";

/// The line's object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    pub(crate) protocol: u32,
    /// The version of `soramode` on that host.
    pub(crate) version: String,
    /// Changes with each start of the host.
    pub(crate) boot_id: String,
    /// The path of the socket.
    pub(crate) socket: String,
    /// Why the socket cannot be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Obstacle>,
    /// The group that may open the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// A sentence about an obstacle that has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// Why the socket cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Obstacle {
    NotFound,
    Refused,
    PermissionDenied,
    /// An obstacle that this version has no name for.
    #[serde(other)]
    Failed,
}

impl Greeting {
    /// Returns the line for a socket that is open, or why it is not.
    pub(crate) fn new(socket: &Socket, obstacle: Option<&CannotOpen>) -> Self {
        let error = obstacle.map(|it| match it.problem {
            OpenProblem::NotFound => Obstacle::NotFound,
            OpenProblem::NotRunning => Obstacle::Refused,
            OpenProblem::NotPermitted => Obstacle::PermissionDenied,
            OpenProblem::NotASocket | OpenProblem::QueueFull | OpenProblem::Other => {
                Obstacle::Failed
            }
        });
        let has = |obstacle| error == Some(obstacle);
        Self {
            protocol: STDIO_PROTOCOL,
            version: VERSION.to_owned(),
            boot_id: boot_id(),
            socket: socket.path().to_string_lossy().into_owned(),
            error,
            group: has(Obstacle::PermissionDenied)
                .then(|| socket.owning_group())
                .flatten(),
            message: obstacle
                .filter(|_| has(Obstacle::Failed))
                .map(|it| it.failure.message.clone()),
        }
    }

    /// Reads the line; `None` for any other line. A prompt may stand before it.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (_, json) = line.split_once(PREFIX)?;
        serde_json::from_str(json.trim_end()).ok()
    }

    /// Returns the line, with its line feed.
    pub(crate) fn line(&self) -> serde_json::Result<String> {
        serde_json::to_string(self).map(|json| format!("{PREFIX}{json}\n"))
    }

    /// Returns the failure that the line speaks of, as on the node itself, or of another version or socket than the command needs.
    pub(crate) fn failure(&self, host: &str, wanted_socket: Option<&str>) -> Option<Failure> {
        if self.protocol != STDIO_PROTOCOL {
            let message = format!(
                "soramode {} on {host} speaks another version of dial-stdio ({}, not {STDIO_PROTOCOL})",
                escape(&self.version),
                self.protocol
            );
            return Some(
                Failure::new(Exit::Versions, message).with_hint("Install the same version of both"),
            );
        }
        let socket = escape(&self.socket);
        // A command that sshd forces ignores the path.
        if let Some(wanted) = wanted_socket.filter(|wanted| *wanted != self.socket) {
            let message = format!("{host} connects to {socket}, not to {}", escape(wanted));
            return Some(Failure::new(Exit::Usage, message).with_hint("Leave --socket out"));
        }
        let unreachable = |why: &str, hint: &str| {
            let message = format!("cannot reach soramoded at {socket} on {host}: {why}");
            Failure::new(Exit::Unreachable, message).with_hint(hint)
        };
        let start = "See there why it does not run: systemctl status soramoded. Start it there: sudo systemctl start soramoded";
        Some(match self.error? {
            Obstacle::NotFound => unreachable("no such file", start),
            Obstacle::Refused => {
                unreachable("the socket exists, but soramoded is not running", start)
            }
            Obstacle::PermissionDenied => {
                let hint = match &self.group {
                    Some(group) => format!(
                        "It belongs to group {}: connect as root or as a member of that group",
                        escape(group)
                    ),
                    None => "Connect as root or as soramoded's own user".to_owned(),
                };
                let message = format!("may not open {socket} on {host}: permission denied");
                Failure::new(Exit::NotPermitted, message).with_hint(hint)
            }
            Obstacle::Failed => {
                let why = self.message.as_deref().unwrap_or("it cannot be opened");
                Failure::new(Exit::Unreachable, format!("{} (on {host})", escape(why)))
            }
        })
    }
}

/// Reads the id of this start of the host; empty where the kernel has none.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(more: &str) -> Greeting {
        let line = format!(
            r#"soramode-stdio {{"protocol":1,"version":"0.1.0","boot_id":"b","socket":"/s"{more}}}"#
        );
        Greeting::read(&line).unwrap()
    }

    #[test]
    fn the_line_is_read_as_it_is_written_also_after_a_prompt() {
        let written = greeting("");
        assert_eq!(
            Greeting::read(&written.line().unwrap()),
            Some(written.clone())
        );
        assert_eq!(
            Greeting::read(&format!("$ {}", written.line().unwrap())),
            Some(written)
        );
        for other in [
            "",
            "Welcome to Debian",
            "soramode-stdio",
            "soramode-stdio {}",
        ] {
            assert_eq!(Greeting::read(other), None, "{other}");
        }
    }

    #[test]
    fn an_obstacle_is_explained_as_on_the_node_with_the_host() {
        let failure = |more| greeting(more).failure("sfu-02", Some("/s"));
        assert_eq!(failure(""), None);
        for (more, exit, words) in [
            (
                r#","error":"not_found""#,
                Exit::Unreachable,
                "cannot reach soramoded at /s on sfu-02: no such file",
            ),
            (
                r#","error":"refused""#,
                Exit::Unreachable,
                "cannot reach soramoded at /s on sfu-02: the socket exists, but soramoded is not running",
            ),
            (
                r#","error":"permission_denied","group":"soramode""#,
                Exit::NotPermitted,
                "may not open /s on sfu-02: permission denied",
            ),
            (
                r#","error":"failed","message":"it is odd""#,
                Exit::Unreachable,
                "it is odd (on sfu-02)",
            ),
            (
                r#","error":"of_a_later_version""#,
                Exit::Unreachable,
                "it cannot be opened (on sfu-02)",
            ),
        ] {
            let failure = failure(more).unwrap();
            assert_eq!((failure.exit, failure.message.as_str()), (exit, words));
        }
        let other = greeting("").failure("sfu-02", Some("/t")).unwrap();
        assert_eq!(other.exit, Exit::Usage);
        let newer = Greeting {
            protocol: 2,
            ..greeting("")
        };
        assert_eq!(newer.failure("sfu-02", None).unwrap().exit, Exit::Versions);
    }
}
