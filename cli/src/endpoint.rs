//! The way to a daemon, and why it does not answer: its socket on this machine, or that of another host over ssh.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use soramode_protocol::access::Access;
use soramode_protocol::client::{ClientError, call_blocking, read_answer};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::mode::ON_BEHALF_OF_BYTES_MAX;
use soramode_protocol::node::GetInfo;
use soramode_protocol::request::{Call, Method};
use soramode_protocol::version::{PROTOCOL, VERSION};
use tokio::time::timeout;

use crate::command_line;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::runtime::runtime;
use crate::socket::{LOG_HINT, Socket, reason};
use crate::ssh::{self, SshHost};
use crate::suggestions::{completed, completed_result};

/// Limit of the time for an answer to a call that does not wait.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Limit of the time for a call that reads all claims of the cluster: the daemon gives up after 30 s.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(35);

/// Limit of the time for the daemon's version, while nothing else is done.
const VERSIONS_MAX: Duration = Duration::from_secs(1);

/// Limit of the time for the daemon's version over ssh, which may log in anew.
const VERSIONS_MAX_SSH: Duration = Duration::from_secs(10);

/// Hint if the versions do not match.
const SAME_VERSION: &str = "Install the same version of both";

/// The way to a daemon.
pub(crate) enum Endpoint {
    /// A control socket on this machine.
    Local(Socket),
    /// The control socket of another host, over ssh.
    Ssh(SshHost),
}

impl Endpoint {
    /// Returns the socket on this machine that `--socket` names, or the default one.
    pub(crate) fn local(flag: Option<PathBuf>) -> Self {
        Self::Local(Socket::find(flag))
    }

    /// Returns the command as it is typed for this daemon.
    pub(crate) fn command(&self, words: &str) -> String {
        match self {
            Self::Local(socket) => command_line::soramode(&[&socket.flags(), words]),
            Self::Ssh(host) => host.command(words),
        }
    }

    /// Completes the commands of a text with the flags that select this daemon.
    pub(crate) fn completed(&self, text: &str) -> String {
        completed(text, |words| self.command(words)).into_owned()
    }

    /// Reads an answer, and completes its commands.
    pub(crate) fn read_answer<C: Call>(
        &self,
        answer: Result<Box<RawValue>, Error>,
    ) -> Result<C::Reply, ClientError> {
        let complete = |result| completed_result(result, |words| self.command(words));
        read_answer::<C>(answer.map(complete))
    }

    /// Returns the flags that select this daemon.
    pub(crate) fn flags(&self) -> String {
        match self {
            Self::Local(socket) => socket.flags(),
            Self::Ssh(host) => host.flags(),
        }
    }

    /// Returns the host, if it is another one.
    pub(crate) const fn host(&self) -> Option<&SshHost> {
        match self {
            Self::Local(_) => None,
            Self::Ssh(host) => Some(host),
        }
    }

    /// Returns the user that the caller represents: `sudo` sets it here, and another host gets `USER@HOST`. Recorded, not verified.
    pub(crate) fn on_behalf_of(&self) -> Option<String> {
        match self {
            Self::Local(_) => std::env::var("SUDO_USER")
                .ok()
                .filter(|user| (1..=ON_BEHALF_OF_BYTES_MAX).contains(&user.len())),
            Self::Ssh(_) => ssh::local_operator(),
        }
    }

    /// Returns the way to the same daemon on which ssh asks for nothing.
    pub(crate) fn without_prompts(self) -> Self {
        match self {
            Self::Local(_) => self,
            Self::Ssh(host) => Self::Ssh(host.without_prompts()),
        }
    }

    /// Makes one call without a runtime, which is worth its start only for more calls. `None` for a daemon that is not on this machine.
    pub(crate) fn ask<C: Call>(&self, params: &C) -> Option<Result<C::Reply, Failure>> {
        let Self::Local(socket) = self else {
            return None;
        };
        Some(
            socket
                .open_trusted()
                .map_err(|it| it.failure)
                .and_then(|stream| {
                    call_blocking(stream, params, answer_max(C::METHOD))
                        .and_then(|answer| self.read_answer::<C>(answer))
                        .map_err(|error| self.explain(C::METHOD, error))
                }),
        )
    }

    /// Explains an error. Only a failed call asks the daemon for its version.
    pub(crate) fn explain(&self, method: Method, error: ClientError) -> Failure {
        match error {
            ClientError::Refused(error) if error.data.error_type == ErrorType::MethodNotFound => {
                self.version_mismatch(method)
            }
            ClientError::Refused(error) => {
                let failure = Failure::from(error);
                Failure {
                    message: self.completed(&failure.message),
                    hint: failure.hint.map(|hint| self.completed(&hint)),
                    ..failure
                }
            }
            ClientError::Connect { source, .. } => match self {
                Self::Local(socket) => socket.cannot_open(&source),
                Self::Ssh(_) => self.unreachable(&reason(&source), &self.log_hint()),
            },
            ClientError::Closed => {
                let why = match self {
                    Self::Local(_) => "it closed the connection without an answer",
                    Self::Ssh(_) => "the connection over ssh ended without an answer",
                };
                self.unreachable(why, &self.log_hint())
            }
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
                    "soramoded {}{} speaks protocol {}, this soramode {VERSION} speaks {PROTOCOL}",
                    escape(&daemon.version),
                    self.on_host(),
                    daemon.protocol
                ),
            )
            .with_hint(SAME_VERSION),
            Some(daemon) if !daemon.methods.iter().any(|known| known == method) => Failure::new(
                Exit::Versions,
                format!(
                    "soramoded {}{} cannot do this yet, this soramode {VERSION} can",
                    escape(&daemon.version),
                    self.on_host()
                ),
            )
            .with_hint(SAME_VERSION),
            Some(daemon) => Failure::new(
                Exit::Failed,
                format!(
                    "this soramode {VERSION} cannot read the answer of soramoded {}{}",
                    escape(&daemon.version),
                    self.on_host()
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
        match self {
            Self::Local(socket) => {
                let info = call_blocking(socket.open().ok()?, &GetInfo {}, VERSIONS_MAX);
                serde_json::from_str(info.ok()?.ok()?.get()).ok()
            }
            // On a thread of its own, since no runtime waits for another.
            Self::Ssh(host) => std::thread::scope(|scope| {
                let read = || runtime().ok()?.block_on(versions_over_ssh(host));
                scope.spawn(read).join().ok().flatten()
            }),
        }
    }

    fn unreachable(&self, why: &str, what_to_do: &str) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("cannot reach soramoded {}: {why}", self.place()),
        )
        .with_hint(what_to_do)
    }

    /// `at /run/soramode/soramode.sock`, `on sfu-02`
    fn place(&self) -> String {
        match self {
            Self::Local(socket) => format!("at {}", socket.shown()),
            Self::Ssh(host) => format!("on {}", host.shown()),
        }
    }

    /// ` on sfu-02` for another host.
    pub(crate) fn on_host(&self) -> String {
        self.host()
            .map(|host| format!(" on {}", host.shown()))
            .unwrap_or_default()
    }

    fn log_hint(&self) -> String {
        match self {
            Self::Local(_) => LOG_HINT.to_owned(),
            Self::Ssh(host) => {
                format!(
                    "On {}, look at its log: journalctl -u soramoded",
                    host.shown()
                )
            }
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

async fn versions_over_ssh(host: &SshHost) -> Option<Versions> {
    let read = async {
        // The ssh ends with its handle.
        let (mut client, _ssh) = host.connect().await.ok()?;
        let info = client.call_raw(&GetInfo {}).await.ok()?.ok()?;
        serde_json::from_str(info.get()).ok()
    };
    timeout(VERSIONS_MAX_SSH, read).await.ok().flatten()
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
