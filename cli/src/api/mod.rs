//! A node behind Sora's HTTP API (`--api-url`): a soramoded with `--api-listen`, or a Sora that has
//! the mode feature.
//!
//! soramoded reports its status there too; a Sora reports its mode and its connections alone.

pub(crate) mod snapshot;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use soramode_protocol::decision::{Connect, Decision};
use soramode_protocol::http_client::{Outgoing, Url};
use soramode_protocol::id::NodeName;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::{ClusterNode, Status};
use soramode_protocol::small_file::{self, Guard};
use soramode_protocol::sora::{SoraConnection, SoraSession, Target};
use soramode_protocol::sora_api::{LOOP_DETECTED, ModeSet, SoraApi, SoraApiError};

use self::snapshot::SessionSnapshot;
use crate::command_line;
use crate::error::{Exit, Failure};
use crate::last_status::{LastStatus, ListedStatus};
use crate::output::escape::escape;
use crate::output::{Output, counted};

/// Limit of the time for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The largest token file, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4_096;

/// A node behind the HTTP API.
pub(crate) struct Api {
    client: SoraApi,
    /// The node's name, or the host and port of the URL: the API does not report the name.
    name: String,
    named: ApiSource,
    token_file: Option<PathBuf>,
    /// The node has refused `GetStatus`: it is a Sora without soramoded.
    lacks_soramoded: Cell<bool>,
}

/// The lists to read from a Sora without soramoded; soramoded reports everything at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The mode alone.
    Mode,
    /// The mode, and its sessions and connections.
    Counts,
}

/// Origin of the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiSource {
    /// `--api-url` or its variable. Suggested commands name the URL in both cases, since a variable
    /// may have been set for one command alone.
    Url,
    /// `--node`: the server that these flags select reported the URL.
    Node { name: NodeName, flags: String },
}

impl Api {
    /// Creates a client for the node at this URL, with the token in the file.
    pub(crate) fn new(
        url: Url,
        named: ApiSource,
        token_file: Option<&Path>,
    ) -> Result<Self, Failure> {
        let token = token_file.map(read_token).transpose()?;
        let name = match &named {
            ApiSource::Url => authority(&url),
            ApiSource::Node { name, .. } => escape(name.as_str()).into_owned(),
        };
        let client = SoraApi::new(url, token.as_deref(), ANSWER_MAX, &Outgoing::default())
            .map_err(|error| Failure::new(Exit::Failed, format!("cannot start: {error}")))?;
        Ok(Self {
            client,
            name,
            named,
            token_file: token_file.map(Path::to_owned),
            lacks_soramoded: Cell::new(false),
        })
    }

    /// Returns the name that `--node` gave.
    pub(crate) const fn node_name(&self) -> Option<&NodeName> {
        match &self.named {
            ApiSource::Node { name, .. } => Some(name),
            ApiSource::Url => None,
        }
    }

    /// Returns the node's name, or the host and port of the URL.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the command as it is typed for this node.
    pub(crate) fn command(&self, words: &str) -> String {
        let token = self
            .token_file
            .as_ref()
            .map(|path| command_line::flag("api-token-file", path))
            .unwrap_or_default();
        let node = self
            .node_name()
            .map(|name| command_line::flag("node", name.as_str()))
            .unwrap_or_default();
        command_line::soramode(&[&self.flags(), &token, words, &node])
    }

    /// Returns the flags that select the server, except the token's file.
    pub(crate) fn flags(&self) -> String {
        match &self.named {
            ApiSource::Url => command_line::flag("api-url", self.client.url()),
            ApiSource::Node { flags, .. } => flags.clone(),
        }
    }

    /// Reads the status of soramoded, or the lists of a Sora without soramoded.
    pub(crate) async fn read_status(&self, want: Detail) -> Result<LastStatus, Failure> {
        if let Some(status) = self.status().await? {
            return Ok(LastStatus::Daemon(status));
        }
        // The mode is read after the lists: a node that was opened meanwhile must not count as
        // drained.
        let snapshot = match want {
            Detail::Mode => None,
            Detail::Counts => Some(self.snapshot().await?),
        };
        Ok(LastStatus::Listed(Box::new(ListedStatus {
            node_name: self.name.clone(),
            mode: self.mode().await?,
            snapshot,
        })))
    }

    /// Reads soramoded's status; returns `None` if there is no soramoded.
    pub(crate) async fn status(&self) -> Result<Option<Box<Status>>, Failure> {
        if self.lacks_soramoded.get() {
            return Ok(None);
        }
        let status = self
            .client
            .get_status()
            .await
            .map_err(|error| self.explain(Target::GetStatus, &error))?;
        self.lacks_soramoded.set(status.is_none());
        Ok(status)
    }

    /// Prints how many connections are pending, and so in none of the lists, if soramoded reports
    /// it. The list is printed already: a failure is ignored.
    pub(crate) async fn note_pending(&self, output: &Output) {
        let Ok(Some(status)) = self.status().await else {
            return;
        };
        if status.pending > 0 {
            let node = escape(status.node_name.as_str());
            let pending = counted(status.pending, "pending connection");
            output.note(&format!("{node}: over the API {pending} cannot be listed. On that node: soramode connections"));
        }
    }

    pub(crate) async fn mode(&self) -> Result<Mode, Failure> {
        self.client
            .get_mode()
            .await
            .map_err(|error| self.explain(Target::GetMode, &error))
    }

    /// Sets the mode. The reason goes only to a node that `--node` named, for another server may be a Sora.
    pub(crate) async fn set(
        &self,
        mode: SettableMode,
        reason: Option<&str>,
    ) -> Result<ModeSet, Failure> {
        let reason = reason.filter(|_| self.node_name().is_some());
        self.client
            .change_mode(mode, reason)
            .await
            .map_err(|error| self.explain(Target::ChangeMode, &error))
    }

    pub(crate) async fn connections(&self) -> Result<Vec<SoraConnection>, Failure> {
        self.client
            .list_connections()
            .await
            .map_err(|error| self.explain(Target::ListConnections, &error))
    }

    /// Lists sessions, also those without connections. Older Soras have no such list.
    async fn sessions(&self) -> Result<Vec<SoraSession>, Failure> {
        let sessions = self
            .client
            .list_sessions()
            .await
            .map_err(|error| self.explain(Target::ListSessions, &error))?;
        Ok(sessions.unwrap_or_default())
    }

    /// Lists its sessions with their connections.
    pub(crate) async fn snapshot(&self) -> Result<SessionSnapshot, Failure> {
        let sessions = self.sessions().await?;
        Ok(SessionSnapshot::of(sessions, self.connections().await?))
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<ClusterNode>, Failure> {
        self.client
            .list_cluster_nodes()
            .await
            .map_err(|error| self.explain(Target::ListClusterNodes, &error))
    }

    /// Requests admission for a connection, which only soramoded decides.
    pub(crate) async fn connect(&self, connect: &Connect) -> Result<Decision, Failure> {
        let decision = self
            .client
            .connect(connect)
            .await
            .map_err(|error| self.explain(Target::Connect, &error))?;
        let is_old = || {
            format!(
                "{} cannot admit a connection over HTTP: it is not soramoded, or an older one",
                self.name
            )
        };
        decision.ok_or_else(|| Failure::new(Exit::Versions, is_old()))
    }

    fn token_hint(&self) -> String {
        match &self.token_file {
            None => "Pass it with --api-token-file FILE".to_owned(),
            Some(file) => format!(
                "The token in {} is not in the --http-token-file of that node's soramoded",
                command_line::word(file)
            ),
        }
    }

    fn explain(&self, target: Target, error: &SoraApiError) -> Failure {
        let name = &self.name;
        let failed =
            |exit: Exit, message: String, hint: &str| Failure::new(exit, message).with_hint(hint);
        if error.is_unknown_target() {
            let hint = "Use a Sora with the mode feature, or soramoded in front of a Sora";
            return failed(
                Exit::Versions,
                format!("{name} cannot {} over HTTP", describe_call(target)),
                hint,
            );
        }
        match error {
            SoraApiError::Unreachable(_) | SoraApiError::TimedOut => failed(
                Exit::Unreachable,
                format!("cannot reach {name}: {error}"),
                self.unreachable_hint(),
            ),
            SoraApiError::Refused { status: 401, .. } => failed(
                Exit::NotPermitted,
                format!("{name}: token missing or wrong (401)"),
                &self.token_hint(),
            ),
            SoraApiError::Refused { status: 403, .. } => failed(
                Exit::NotPermitted,
                format!("{name}: host name or user refused (403)"),
                "soramoded accepts the names of its --http-host",
            ),
            SoraApiError::Refused {
                status: 502..=504, ..
            } => failed(
                Exit::Unreachable,
                format!("{name} cannot reach the server behind it: it {error}"),
                "On that node, run: soramode doctor",
            ),
            SoraApiError::Refused {
                error_type: Some(error_type),
                ..
            } => self.refused(target, error_type, error),
            SoraApiError::Refused {
                error_type: None, ..
            }
            | SoraApiError::Unreadable(_)
            | SoraApiError::TooLarge => failed(
                Exit::Failed,
                format!("{name} {error}"),
                "Check --api-url: it takes a server that speaks Sora's HTTP API",
            ),
        }
    }

    /// Describes an error of a type that the server names.
    fn refused(&self, target: Target, error_type: &str, error: &SoraApiError) -> Failure {
        let name = &self.name;
        let (exit, message, hint) = match error_type {
            "NotJoined" => (
                Exit::Refused,
                format!("{name} has not joined its cluster, and cannot be opened before"),
                "On that node, see what is wrong: soramode doctor",
            ),
            "StorageUnavailable" => (
                Exit::Failed,
                format!("{name} cannot write its state, so it stays closed"),
                "Free disk space on that node. On that node, see the problem: soramode doctor",
            ),
            "ClusterUnavailable" => (
                Exit::Failed,
                format!("{name} cannot reach its etcd, so nothing was changed"),
                "Try again. On that node, see what is wrong: soramode doctor",
            ),
            "ConditionImpossible" | "CannotEndSessions" | "ConnectionIdInUse" => (
                Exit::Refused,
                format!(
                    "{name} cannot {} in its present state",
                    describe_call(target)
                ),
                "",
            ),
            LOOP_DETECTED => (Exit::Failed, format!("{name} {error}"), ""),
            _ => (
                Exit::Failed,
                format!("{name} cannot {}: it {error}", describe_call(target)),
                "Check --api-url: it takes a server that speaks Sora's HTTP API",
            ),
        };
        Failure::new(exit, message).with_hint(hint)
    }

    const fn unreachable_hint(&self) -> &'static str {
        match self.named {
            ApiSource::Url => "Check that it runs, and --api-url",
            ApiSource::Node { .. } => {
                "Check that soramoded runs on that node; its --api-url is the address that other nodes use"
            }
        }
    }
}

/// `change the mode`
const fn describe_call(target: Target) -> &'static str {
    match target {
        Target::GetMode => "report its mode",
        Target::ChangeMode => "change its mode",
        Target::ListConnections | Target::ListChannelConnections => "list its connections",
        Target::ListSessions => "list its sessions",
        Target::ListClusterNodes => "list its cluster's nodes",
        Target::DisconnectChannel => "end a session",
        Target::PushChannel => "announce",
        Target::GetStatus => "report its status",
        Target::GetStatsAllConnections | Target::GetStatsReport => "report its statistics",
        Target::Connect => "admit a connection",
    }
}

/// Returns the failure of a request that a Sora without soramoded cannot answer.
pub(crate) fn needs_soramoded(what: &str) -> Failure {
    Failure::new(
        Exit::Usage,
        format!("{what} needs soramoded, and the server at --api-url is a Sora without it"),
    )
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Reads a token file: one token, or one line of soramoded's own `NAME TOKEN`.
fn read_token(path: &Path) -> Result<String, Failure> {
    let refuse = |problem: String| {
        Failure::new(
            Exit::Usage,
            format!("--api-token-file {}: {problem}", path.display()),
        )
    };
    let guard = Guard::Group {
        uid: rustix::process::geteuid().as_raw(),
    };
    let text = small_file::read_text(path, TOKEN_FILE_BYTES_MAX, guard).map_err(refuse)?;
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    match lines.as_slice() {
        [line] => Ok(line
            .split_whitespace()
            .next_back()
            .unwrap_or_default()
            .to_owned()),
        [] => Err(refuse("has no token".to_owned())),
        _ => Err(refuse(format!(
            "has {} lines, takes one token",
            lines.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_token_file_has_one_token() {
        let read = |text: &str| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            read_token(file.path())
        };
        assert_eq!(read("secret\n").unwrap(), "secret");
        assert_eq!(read("# for the runbook\n\nops secret\n").unwrap(), "secret");
        assert!(read("").unwrap_err().message.contains("has no token"));
        assert!(read("one\ntwo\n").unwrap_err().message.contains("2 lines"));
        assert_eq!(
            read_token(Path::new("/nonexistent/token"))
                .unwrap_err()
                .exit,
            Exit::Usage
        );
    }

    #[test]
    fn suggested_commands_have_all_flags_and_no_password() {
        let url: Url = "http://ops:secret@sora:3000/".parse().unwrap();
        let api = Api::new(url.clone(), ApiSource::Url, None).unwrap();
        assert_eq!(
            api.command("set normal"),
            "soramode --api-url http://sora:3000/ set normal"
        );
        assert_eq!(api.name(), "sora:3000");
        let folder = tempfile::tempdir().unwrap();
        let token = folder.path().join("the token");
        std::fs::write(&token, "secret").unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
        let shown = token.display();
        let api = Api::new(url.clone(), ApiSource::Url, Some(&token)).unwrap();
        assert_eq!(
            api.command("get"),
            format!("soramode --api-url http://sora:3000/ --api-token-file '{shown}' get")
        );
        let named = ApiSource::Node {
            name: NodeName::new("n2").unwrap(),
            flags: "--socket /s".to_owned(),
        };
        let api = Api::new(url, named, Some(&token)).unwrap();
        assert_eq!(
            api.command("set normal"),
            format!("soramode --socket /s --api-token-file '{shown}' set normal --node n2")
        );
    }
}
