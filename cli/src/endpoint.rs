//! The way to a daemon, and why it does not answer: its socket on this machine, or that of another host over ssh.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use soramode_protocol::access::Access;
use soramode_protocol::client::{ClientError, call_blocking, read_answer};
use soramode_protocol::error::ErrorType;
use soramode_protocol::node::GetInfo;
use soramode_protocol::request::{Call, Method};
use soramode_protocol::version::{PROTOCOL, VERSION};
use tokio::time::sleep;

use crate::command_line;
use crate::daemon::Daemon;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::socket::{LOG_HINT, Socket, reason};

/// Limit of the time for an answer to a call that does not wait.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Limit of the time for a call that reads all claims of the cluster: the daemon gives up after 30 s.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(35);

/// Limit of the time for the daemon's version, while nothing else is done.
const VERSIONS_MAX: Duration = Duration::from_secs(1);

/// Limit of the time for reconnecting to a lost daemon.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// Pause between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Hint if the versions do not match.
const SAME_VERSION: &str = "Install the same version of both";

/// The way to a daemon.
pub(crate) enum Endpoint {
    /// A control socket on this machine.
    Local(Socket),
}

impl Endpoint {
    /// Returns the socket on this machine that `--socket` names, or the default one.
    pub(crate) fn local(flag: Option<PathBuf>) -> Self {
        Self::Local(Socket::find(flag))
    }

    /// Returns the command as it is typed for this daemon.
    pub(crate) fn command(&self, words: &str) -> String {
        command_line::soramode(&[&self.flags(), words])
    }

    /// Returns the flags that select this daemon.
    pub(crate) fn flags(&self) -> String {
        match self {
            Self::Local(socket) => socket.flags(),
        }
    }

    pub(crate) async fn connect(&self) -> Result<Daemon<'_>, Failure> {
        match self {
            Self::Local(socket) => Ok(Daemon::new(socket.connect().await?, self)),
        }
    }

    /// Makes one call without a runtime, which is worth its start only for more calls. `None` for a daemon that is not on this machine.
    pub(crate) fn ask<C: Call>(&self, params: &C) -> Option<Result<C::Reply, Failure>> {
        let Self::Local(socket) = self;
        Some(socket.open_trusted().and_then(|stream| {
            call_blocking(stream, params, answer_max(C::METHOD))
                .and_then(read_answer::<C>)
                .map_err(|error| self.explain(C::METHOD, error))
        }))
    }

    /// Reconnects to a daemon that was lost at `lost`.
    pub(crate) async fn reconnect(&self, lost: Instant) -> Result<Daemon<'_>, Failure> {
        loop {
            sleep(RECONNECT_PAUSE).await;
            match self.connect().await {
                Err(failure)
                    if failure.exit == Exit::Unreachable && lost.elapsed() < RECONNECT_MAX => {}
                other => return other,
            }
        }
    }

    /// Explains an error. Only a failed call asks the daemon for its version.
    pub(crate) fn explain(&self, method: Method, error: ClientError) -> Failure {
        match error {
            ClientError::Refused(error) if error.data.error_type == ErrorType::MethodNotFound => {
                self.version_mismatch(method)
            }
            ClientError::Refused(error) => error.into(),
            ClientError::Connect { source, .. } => match self {
                Self::Local(socket) => socket.cannot_open(&source),
            },
            ClientError::Closed => self.unreachable(
                "it closed the connection without an answer",
                &self.log_hint(),
            ),
            ClientError::Io(problem) if problem.kind() == std::io::ErrorKind::TimedOut => {
                self.too_slow(method)
            }
            ClientError::Io(problem) => self.unreachable(&reason(&problem), &self.log_hint()),
            ClientError::Unreadable(_) | ClientError::TooLong(_) => self.version_mismatch(method),
        }
    }

    pub(crate) fn too_slow(&self, method: Method) -> Failure {
        let why = format!("no answer within {} s", answer_max(method).as_secs());
        let failure = self.unreachable(&why, &self.log_hint());
        match method.access() {
            Access::View => failure,
            Access::Operate => failure.and("The change may still be made once it answers"),
        }
    }

    /// The failure for a daemon that is overdue.
    pub(crate) fn silent(&self, span: Duration) -> Failure {
        self.unreachable(
            &format!("no answer for {} s", span.as_secs()),
            &self.log_hint(),
        )
    }

    /// The failure for an unknown method or an unreadable answer.
    fn version_mismatch(&self, method: Method) -> Failure {
        let method = method.name();
        match self.versions() {
            Some(daemon) if daemon.protocol != PROTOCOL => Failure::new(
                Exit::Versions,
                format!(
                    "soramoded {} speaks protocol {}, this soramode {VERSION} speaks {PROTOCOL}",
                    escape(&daemon.version),
                    daemon.protocol
                ),
            )
            .with_hint(SAME_VERSION),
            Some(daemon) if !daemon.methods.iter().any(|known| known == method) => Failure::new(
                Exit::Versions,
                format!(
                    "soramoded {} cannot do this yet, this soramode {VERSION} can",
                    escape(&daemon.version)
                ),
            )
            .with_hint(SAME_VERSION),
            Some(daemon) => Failure::new(
                Exit::Failed,
                format!(
                    "this soramode {VERSION} cannot read the answer of soramoded {}",
                    escape(&daemon.version)
                ),
            )
            .with_hint("This is a bug: please report it"),
            None => Failure::new(
                Exit::Failed,
                format!("the server {} is not soramoded", self.place()),
            )
            .with_hint("Check --socket"),
        }
    }

    /// Reads the version on a new connection, since the other may be in any state. Reads only fields that every version has.
    fn versions(&self) -> Option<Versions> {
        let info = match self {
            Self::Local(socket) => call_blocking(socket.open().ok()?, &GetInfo {}, VERSIONS_MAX)
                .ok()?
                .ok()?,
        };
        serde_json::from_str(info.get()).ok()
    }

    fn unreachable(&self, why: &str, what_to_do: &str) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("cannot reach soramoded {}: {why}", self.place()),
        )
        .with_hint(what_to_do)
    }

    /// `at /run/soramode/soramode.sock`
    fn place(&self) -> String {
        match self {
            Self::Local(socket) => format!("at {}", socket.shown()),
        }
    }

    fn log_hint(&self) -> String {
        match self {
            Self::Local(_) => LOG_HINT.to_owned(),
        }
    }
}

/// Returns the limit of the time for an answer.
pub(crate) fn answer_max(method: Method) -> Duration {
    if method == Method::PurgeClusterNode {
        LONG_ANSWER_MAX
    } else {
        ANSWER_MAX
    }
}

#[derive(Deserialize)]
struct Versions {
    version: String,
    protocol: u32,
    #[serde(default)]
    methods: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_commands_name_the_socket_that_was_named() {
        let endpoint = Endpoint::local(Some("/tmp/my dir/s.sock".into()));
        assert_eq!(
            endpoint.command("get"),
            "soramode --socket '/tmp/my dir/s.sock' get"
        );
    }
}
