//! The connection to a daemon: finding its socket, calling it, and explaining why it does not answer.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, geteuid};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde::Deserialize;
use soramode_protocol::access::Access;
use soramode_protocol::client::{Client, ClientError, Message, call_blocking, read_answer};
use soramode_protocol::error::ErrorType;
use soramode_protocol::node::GetInfo;
use soramode_protocol::request::{Call, Method};
use soramode_protocol::socket_path::SocketEnv;
use soramode_protocol::version::{PROTOCOL, VERSION};
use tokio::time::{sleep, timeout};

use crate::command_line;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::start_hint::how_to_start;
use crate::trust::{self, SocketOrigin};

/// Limit of the time for an answer to a call that does not wait.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Limit of the time for a call that reads all claims of the cluster: the daemon gives up after 30 s.
const LONG_ANSWER_MAX: Duration = Duration::from_secs(35);

/// Limit of the time for the daemon's version, while nothing else is done.
const VERSIONS_MAX: Duration = Duration::from_secs(1);

/// Time for retries while the socket's accept queue is full.
const QUEUE_MAX: Duration = Duration::from_secs(2);

/// Pause between two attempts.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// Limit of the time for reconnecting to a lost daemon.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// Hint if the daemon does not answer.
const LOG_HINT: &str = "Look at its log: journalctl -u soramoded";

/// Hint if the versions do not match.
const SAME_VERSION: &str = "Install the same version of both";

/// Pause between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The path of the daemon's socket.
pub(crate) struct Socket {
    path: PathBuf,
    /// `--socket` or the variable named it. Suggested commands then name it too, since a variable may have been set for one command alone.
    is_named: bool,
    place: SocketOrigin,
    /// Paths without a socket, if none has one.
    tried: Vec<PathBuf>,
}

impl Socket {
    /// Returns the socket that `--socket` names, or the first one that exists of the default paths.
    pub(crate) fn find(flag: Option<PathBuf>) -> Self {
        if let Some(path) = flag {
            return Self {
                path,
                is_named: true,
                place: SocketOrigin::ApiSource,
                tried: Vec::new(),
            };
        }
        let around = SocketEnv::of_process(geteuid().as_raw());
        let candidates = around.client_sockets();
        // A path without permission exists: connecting explains the refusal.
        let found = candidates
            .iter()
            .position(|path| path.try_exists().unwrap_or(true));
        let tried = if found.is_none() {
            candidates.clone()
        } else {
            Vec::new()
        };
        let found = found.unwrap_or_default();
        let place = match found {
            _ if around.socket.is_some() => SocketOrigin::ApiSource,
            0 => SocketOrigin::System,
            _ => SocketOrigin::Own,
        };
        Self {
            path: candidates.into_iter().nth(found).unwrap_or_default(),
            is_named: around.socket.is_some(),
            place,
            tried,
        }
    }

    /// Returns the command as it is typed for this daemon.
    pub(crate) fn command(&self, words: &str) -> String {
        command_line::soramode(&[&self.flags(), words])
    }

    /// Returns `--socket PATH`, if the flag or the variable named it.
    pub(crate) fn flags(&self) -> String {
        if self.is_named {
            command_line::flag("socket", &self.path)
        } else {
            String::new()
        }
    }

    fn shown(&self) -> String {
        escape(&self.path.to_string_lossy()).into_owned()
    }

    pub(crate) async fn connect(&self) -> Result<Daemon<'_>, Failure> {
        self.check_folder()?;
        let began = Instant::now();
        let connected = loop {
            match Client::connect(&self.path).await {
                Err(ClientError::Connect { source, .. })
                    if is_queue_full(&source) && began.elapsed() < QUEUE_MAX =>
                {
                    sleep(QUEUE_PAUSE).await;
                }
                connected => break connected,
            }
        };
        match connected {
            Ok(client) => self.check_server(client.server_uid()).map(|()| Daemon {
                client,
                socket: self,
            }),
            Err(ClientError::Connect { source, .. } | ClientError::Io(source)) => {
                Err(self.cannot_open(&source))
            }
            Err(
                ClientError::Closed
                | ClientError::Unreadable(_)
                | ClientError::TooLong(_)
                | ClientError::Refused(_),
            ) => Err(self.unreachable("it does not answer", LOG_HINT)),
        }
    }

    /// Makes one call without a runtime, which is worth its start only for more calls.
    pub(crate) fn ask<C: Call>(&self, params: &C) -> Result<C::Reply, Failure> {
        self.check_folder()?;
        let stream = self.open().map_err(|problem| self.cannot_open(&problem))?;
        self.check_server(
            socket_peercred(&stream)
                .map(|credentials| credentials.uid.as_raw())
                .map_err(Into::into),
        )?;
        call_blocking(stream, params, answer_max(C::METHOD))
            .and_then(read_answer::<C>)
            .map_err(|error| self.explain(C::METHOD, error))
    }

    fn check_folder(&self) -> Result<(), Failure> {
        trust::check_folder(self.place, &self.path, geteuid().as_raw())
            .map_err(|why| self.not_trusted(&why))
    }

    fn check_server(&self, server: io::Result<u32>) -> Result<(), Failure> {
        let server = server.map_err(|problem| self.unreachable(&reason(&problem), LOG_HINT))?;
        trust::check_server(self.place, &self.path, server, geteuid().as_raw())
            .map_err(|why| self.not_trusted(&why))
    }

    /// The failure for a server that another user may have started.
    fn not_trusted(&self, why: &str) -> Failure {
        self.unreachable(
            &format!("{why}: not trusted"),
            "Remove it, or pass the right socket with --socket",
        )
    }

    /// Connects; retries for a limited time while the accept queue is full.
    fn open(&self) -> io::Result<UnixStream> {
        let address = SocketAddrUnix::new(&self.path)?;
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let began = Instant::now();
        loop {
            match connect(&socket, &address) {
                Err(Errno::AGAIN) if began.elapsed() < QUEUE_MAX => std::thread::sleep(QUEUE_PAUSE),
                connected => break connected?,
            }
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
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

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system's list of errors is open"
    )]
    fn cannot_open(&self, problem: &io::Error) -> Failure {
        match problem.kind() {
            ErrorKind::NotFound => {
                self.unreachable("no such file", &how_to_start(self.place, &self.tried))
            }
            ErrorKind::ConnectionRefused
                if fs::metadata(&self.path).is_ok_and(|there| !there.file_type().is_socket()) =>
            {
                self.unreachable("it is not a socket", "Check --socket, or $SORAMODE_SOCKET")
            }
            ErrorKind::ConnectionRefused => self.unreachable(
                "the socket exists, but soramoded is not running",
                &how_to_start(self.place, &self.tried),
            ),
            ErrorKind::PermissionDenied => self.not_permitted(),
            _ if is_queue_full(problem) => self.unreachable(
                "too many clients are waiting to connect",
                "Try again. If this goes on, look at its log: journalctl -u soramoded",
            ),
            _ => self.unreachable(
                &reason(problem),
                "Check the path: it is that of soramoded's --socket",
            ),
        }
    }

    /// Explains an error. Only a failed call asks the daemon for its version.
    fn explain(&self, method: Method, error: ClientError) -> Failure {
        match error {
            ClientError::Refused(error) if error.data.error_type == ErrorType::MethodNotFound => {
                self.version_mismatch(method)
            }
            ClientError::Refused(error) => error.into(),
            ClientError::Connect { source, .. } => self.cannot_open(&source),
            ClientError::Closed => {
                self.unreachable("it closed the connection without an answer", LOG_HINT)
            }
            ClientError::Io(problem) if problem.kind() == ErrorKind::TimedOut => {
                self.too_slow(method)
            }
            ClientError::Io(problem) => self.unreachable(&reason(&problem), LOG_HINT),
            ClientError::Unreadable(_) | ClientError::TooLong(_) => self.version_mismatch(method),
        }
    }

    fn too_slow(&self, method: Method) -> Failure {
        let why = format!("no answer within {} s", answer_max(method).as_secs());
        let failure = self.unreachable(&why, LOG_HINT);
        match method.access() {
            Access::View => failure,
            Access::Operate => failure.and("The change may still be made once it answers"),
        }
    }

    /// The failure for an unknown method or an unreadable answer.
    fn version_mismatch(&self, method: Method) -> Failure {
        let path = self.shown();
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
                format!("the server at {path} is not soramoded"),
            )
            .with_hint("Check --socket"),
        }
    }

    /// Reads the version on a new connection, since the other may be in any state. Reads only fields that every version has.
    fn versions(&self) -> Option<Versions> {
        let info = call_blocking(self.open().ok()?, &GetInfo {}, VERSIONS_MAX)
            .ok()?
            .ok()?;
        serde_json::from_str(info.get()).ok()
    }

    fn unreachable(&self, why: &str, what_to_do: &str) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("cannot reach soramoded at {}: {why}", self.shown()),
        )
        .with_hint(what_to_do)
    }

    fn not_permitted(&self) -> Failure {
        let what_to_do = match owning_group(&self.path) {
            Some(group) => format!(
                "It belongs to group {group}: run this as root or as a member of that group, and log in again after you were added to it"
            ),
            None => "Run this as root or as soramoded's own user".to_owned(),
        };
        Failure::new(
            Exit::NotPermitted,
            format!("may not open {}: permission denied", self.shown()),
        )
        .with_hint(what_to_do)
    }
}

/// Returns the group that may open the socket: of the socket, or of its folder if that hides the socket.
fn owning_group(socket: &Path) -> Option<String> {
    let metadata = fs::metadata(socket)
        .or_else(|_| fs::metadata(socket.parent().unwrap_or(socket)))
        .ok()?;
    let group = Group::from_gid(Gid::from_raw(metadata.gid()))
        .ok()
        .flatten();
    let name = group.map_or_else(|| metadata.gid().to_string(), |group| group.name);
    (metadata.gid() != 0).then_some(name)
}

/// Returns whether the socket's accept queue is full.
fn is_queue_full(problem: &io::Error) -> bool {
    problem.kind() == ErrorKind::WouldBlock
}

/// Describes an error of the system without its number.
fn reason(problem: &io::Error) -> String {
    let text = problem.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
}

/// A connection to the daemon.
pub(crate) struct Daemon<'a> {
    client: Client,
    socket: &'a Socket,
}

impl Daemon<'_> {
    /// Makes a call.
    pub(crate) async fn call<C: Call>(&mut self, params: &C) -> Result<C::Reply, Failure> {
        match timeout(answer_max(C::METHOD), self.client.call(params)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.explain(C::METHOD, error)),
            Err(_) => Err(self.socket.too_slow(C::METHOD)),
        }
    }

    /// Makes two calls at once. If the first is refused, the second answer is dropped.
    pub(crate) async fn call_both<A: Call, B: Call>(
        &mut self,
        first: &A,
        second: &B,
    ) -> Result<(A::Reply, B::Reply), Failure> {
        match timeout(ANSWER_MAX, self.ask_both(first, second)).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(error)) => Err(self.explain(A::METHOD, error)),
            Err(_) => Err(self.socket.too_slow(A::METHOD)),
        }
    }

    async fn ask_both<A: Call, B: Call>(
        &mut self,
        first: &A,
        second: &B,
    ) -> Result<(A::Reply, B::Reply), ClientError> {
        self.client.enqueue(first)?;
        self.client.enqueue(second)?;
        self.client.flush().await?;
        // Answers come in the order of the requests.
        let first = read_answer::<A>(self.next_answer().await?)?;
        let second = read_answer::<B>(self.next_answer().await?)?;
        Ok((first, second))
    }

    async fn next_answer(
        &mut self,
    ) -> Result<
        Result<Box<serde_json::value::RawValue>, soramode_protocol::error::Error>,
        ClientError,
    > {
        loop {
            match self.client.receive().await? {
                Message::Answer(_, answer) => return Ok(answer),
                Message::Notification(_) => {}
            }
        }
    }

    /// Sends a request without waiting for the answer.
    pub(crate) async fn send<C: Call>(&mut self, params: &C) -> Result<i64, Failure> {
        match self.client.send(params).await {
            Ok(id) => Ok(id),
            Err(error) => Err(self.explain(C::METHOD, error)),
        }
    }

    /// Receives the next message. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Result<Message, ClientError> {
        self.client.receive().await
    }

    /// The failure for a daemon that is overdue.
    pub(crate) fn silent(&self, span: Duration) -> Failure {
        self.socket
            .unreachable(&format!("no answer for {} s", span.as_secs()), LOG_HINT)
    }

    /// Explains an error.
    pub(crate) fn explain(&self, method: Method, error: ClientError) -> Failure {
        self.socket.explain(method, error)
    }
}

fn answer_max(method: Method) -> Duration {
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

    fn socket() -> Socket {
        Socket {
            path: "/run/soramode/soramode.sock".into(),
            is_named: false,
            place: SocketOrigin::System,
            tried: Vec::new(),
        }
    }

    #[test]
    fn a_missing_socket_has_a_remedy() {
        let failure = socket().cannot_open(&ErrorKind::NotFound.into());
        assert_eq!(
            failure.message,
            "cannot reach soramoded at /run/soramode/soramode.sock: no such file"
        );
        assert!(failure.hint.is_some());
        assert_eq!(failure.exit, Exit::Unreachable);
    }

    #[test]
    fn a_socket_that_may_not_be_opened_is_a_matter_of_permission() {
        let failure = socket().cannot_open(&ErrorKind::PermissionDenied.into());
        assert_eq!(failure.exit, Exit::NotPermitted);
    }

    #[test]
    fn errors_of_the_system_are_shown_without_their_numbers() {
        assert_eq!(
            reason(&io::Error::from_raw_os_error(88)),
            "socket operation on non-socket"
        );
    }

    #[test]
    fn suggested_commands_name_a_socket_that_was_named() {
        assert_eq!(socket().command("set normal"), "soramode set normal");
        assert_eq!(
            Socket {
                is_named: true,
                ..socket()
            }
            .command("get"),
            "soramode --socket /run/soramode/soramode.sock get"
        );
        let spaced = Socket {
            path: "/tmp/my dir/s.sock".into(),
            is_named: true,
            place: SocketOrigin::ApiSource,
            tried: Vec::new(),
        };
        assert_eq!(
            spaced.command("get"),
            "soramode --socket '/tmp/my dir/s.sock' get"
        );
    }
}
