//! The control socket on this machine: finding it, opening it, and explaining why it cannot be opened.

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
use soramode_protocol::client::{Client, ClientError};
use soramode_protocol::socket_path::SocketEnv;
use tokio::time::sleep;

use crate::command_line;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::start_hint::how_to_start;
use crate::trust::{self, SocketOrigin};

/// Time for retries while the socket's accept queue is full.
const QUEUE_MAX: Duration = Duration::from_secs(2);

/// Pause between two attempts.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// Hint if the daemon does not answer.
pub(crate) const LOG_HINT: &str = "Look at its log: journalctl -u soramoded";

/// The path of the daemon's socket.
pub(crate) struct Socket {
    path: PathBuf,
    /// `--socket` or the variable named it. Suggested commands then name it too, since a variable may have been set for one command alone.
    is_named: bool,
    place: SocketOrigin,
    /// Paths without a socket, if none has one.
    tried: Vec<PathBuf>,
}

/// Why the socket cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenProblem {
    NotFound,
    NotASocket,
    NotRunning,
    NotPermitted,
    QueueFull,
    Other,
}

/// A socket that cannot be opened.
pub(crate) struct CannotOpen {
    pub(crate) problem: OpenProblem,
    pub(crate) failure: Failure,
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

    /// Returns `--socket PATH`, if the flag or the variable named it.
    pub(crate) fn flags(&self) -> String {
        if self.is_named {
            command_line::flag("socket", &self.path)
        } else {
            String::new()
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path as it is printed.
    pub(crate) fn shown(&self) -> String {
        escape(&self.path.to_string_lossy()).into_owned()
    }

    /// Connects; retries for a limited time while the accept queue is full.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
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
            Ok(client) => self.check_server(client.server_uid()).map(|()| client),
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

    /// Opens the socket without a runtime, and checks that its server can be trusted.
    pub(crate) fn open_trusted(&self) -> Result<UnixStream, CannotOpen> {
        let not_trusted = |failure| CannotOpen {
            problem: OpenProblem::Other,
            failure,
        };
        self.check_folder().map_err(not_trusted)?;
        let stream = self.open().map_err(|problem| CannotOpen {
            problem: self.problem(&problem),
            failure: self.cannot_open(&problem),
        })?;
        let server = socket_peercred(&stream)
            .map(|credentials| credentials.uid.as_raw())
            .map_err(Into::into);
        self.check_server(server).map_err(not_trusted)?;
        Ok(stream)
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
    pub(crate) fn open(&self) -> io::Result<UnixStream> {
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

    /// Classifies an error of opening the socket.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the system's list of errors is open"
    )]
    fn problem(&self, problem: &io::Error) -> OpenProblem {
        match problem.kind() {
            ErrorKind::NotFound => OpenProblem::NotFound,
            ErrorKind::ConnectionRefused
                if fs::metadata(&self.path).is_ok_and(|there| !there.file_type().is_socket()) =>
            {
                OpenProblem::NotASocket
            }
            ErrorKind::ConnectionRefused => OpenProblem::NotRunning,
            ErrorKind::PermissionDenied => OpenProblem::NotPermitted,
            _ if is_queue_full(problem) => OpenProblem::QueueFull,
            _ => OpenProblem::Other,
        }
    }

    /// Explains why the socket cannot be opened.
    pub(crate) fn cannot_open(&self, problem: &io::Error) -> Failure {
        match self.problem(problem) {
            OpenProblem::NotFound => {
                self.unreachable("no such file", &how_to_start(self.place, &self.tried))
            }
            OpenProblem::NotASocket => {
                self.unreachable("it is not a socket", "Check --socket, or $SORAMODE_SOCKET")
            }
            OpenProblem::NotRunning => self.unreachable(
                "the socket exists, but soramoded is not running",
                &how_to_start(self.place, &self.tried),
            ),
            OpenProblem::NotPermitted => self.not_permitted(),
            OpenProblem::QueueFull => self.unreachable(
                "too many clients are waiting to connect",
                "Try again. If this goes on, look at its log: journalctl -u soramoded",
            ),
            OpenProblem::Other => self.unreachable(
                &reason(problem),
                "Check the path: it is that of soramoded's --socket",
            ),
        }
    }

    fn unreachable(&self, why: &str, what_to_do: &str) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("cannot reach soramoded at {}: {why}", self.shown()),
        )
        .with_hint(what_to_do)
    }

    fn not_permitted(&self) -> Failure {
        let what_to_do = match self.owning_group() {
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

    /// Returns the group that may open the socket: of the socket, or of its folder if that hides the socket.
    pub(crate) fn owning_group(&self) -> Option<String> {
        let path = self.path.as_path();
        let metadata = fs::metadata(path)
            .or_else(|_| fs::metadata(path.parent().unwrap_or(path)))
            .ok()?;
        let group = Group::from_gid(Gid::from_raw(metadata.gid()))
            .ok()
            .flatten();
        let name = group.map_or_else(|| metadata.gid().to_string(), |group| group.name);
        (metadata.gid() != 0).then_some(name)
    }
}

/// Returns whether the socket's accept queue is full.
fn is_queue_full(problem: &io::Error) -> bool {
    problem.kind() == ErrorKind::WouldBlock
}

/// Describes an error of the system without its number.
pub(crate) fn reason(problem: &io::Error) -> String {
    let text = problem.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_lowercase()
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
        assert_eq!(socket().flags(), "");
        assert_eq!(
            Socket {
                is_named: true,
                ..socket()
            }
            .flags(),
            "--socket /run/soramode/soramode.sock"
        );
        let spaced = Socket {
            path: "/tmp/my dir/s.sock".into(),
            is_named: true,
            place: SocketOrigin::ApiSource,
            tried: Vec::new(),
        };
        assert_eq!(spaced.flags(), "--socket '/tmp/my dir/s.sock'");
    }
}
