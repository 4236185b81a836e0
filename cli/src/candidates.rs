//! The values that the shell completes, some of them live from the daemon.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use soramode_protocol::delivery::DeliveryState;
use soramode_protocol::event::EventType;
use soramode_protocol::mode::{Mode, SettableMode};
use soramode_protocol::node::ListClusterNodes;
use soramode_protocol::plan::GetPlan;
use soramode_protocol::session::{LIST_LIMIT_MAX, ListConnections, ListSessions};

use crate::endpoint::Endpoint;
use crate::runtime::runtime;

/// The shell that requests completions.
static SHELL: OnceLock<String> = OnceLock::new();

/// Limit of the time for live values: a user is waiting at the prompt.
const PATIENCE: Duration = Duration::from_millis(200);

/// Limit of the offered programs: more are not read.
const PROGRAMS_MAX: usize = 500;

/// Remembers the shell: the engine unsets its variable before it asks for candidates.
pub(crate) fn remember_shell(name: String) {
    SHELL.get_or_init(|| name);
}

/// Returns the event types, and a pattern for all of a kind.
pub(crate) fn event_types() -> Vec<CompletionCandidate> {
    let kinds: BTreeSet<&str> = EventType::ALL
        .iter()
        .filter_map(|event_type| event_type.name().split('.').next())
        .collect();
    let names = EventType::ALL.map(|event_type| event_type.name().to_owned());
    names
        .into_iter()
        .chain(kinds.iter().map(|kind| format!("{kind}.*")))
        .map(CompletionCandidate::new)
        .collect()
}

pub(crate) fn delivery_states() -> Vec<CompletionCandidate> {
    DeliveryState::ALL
        .map(|state| CompletionCandidate::new(state.name()))
        .into()
}

/// Returns the fleets and hosts of `fleet.toml`.
pub(crate) fn hosts() -> Vec<CompletionCandidate> {
    let words = crate::fleet::hosts::known_words();
    words
        .into_iter()
        .filter(|word| is_safe(word))
        .map(CompletionCandidate::new)
        .collect()
}

/// Completes sockets, and folders on the path to one.
pub(crate) fn sockets() -> PathCompleter {
    PathCompleter::any().filter(|path| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
    })
}

/// Completes programs in `PATH`, or a path to one.
pub(crate) fn programs(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(begun) = typed.to_str().filter(|typed| !typed.contains('/')) else {
        return PathCompleter::any().filter(is_program).complete(typed);
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let files = std::env::split_paths(&folders)
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(Result::ok);
    let begun_so = files.filter(|file| {
        file.file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(begun) && is_safe(name))
    });
    let names: BTreeSet<OsString> = begun_so
        .filter(|file| is_program(&file.path()))
        .map(|file| file.file_name())
        .collect();
    names
        .into_iter()
        .take(PROGRAMS_MAX)
        .map(CompletionCandidate::new)
        .collect()
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

pub(crate) fn settable_modes() -> Vec<CompletionCandidate> {
    SettableMode::ALL
        .map(|mode| CompletionCandidate::new(Mode::from(mode).name()))
        .into()
}

pub(crate) fn modes() -> Vec<CompletionCandidate> {
    Mode::ALL
        .map(|mode| CompletionCandidate::new(mode.name()))
        .into()
}

/// Returns the conditions of `soramode wait`.
pub(crate) fn goals() -> Vec<CompletionCandidate> {
    let modes = Mode::ALL.map(|mode| CompletionCandidate::new(format!("mode={mode}")));
    ["drained", "joined"]
        .map(CompletionCandidate::new)
        .into_iter()
        .chain(modes)
        .collect()
}

/// Returns the conditions of `soramode is`.
pub(crate) fn predicates() -> Vec<CompletionCandidate> {
    ["drained", "joined"]
        .map(CompletionCandidate::new)
        .into_iter()
        .chain(modes())
        .collect()
}

/// Returns the channels with a session.
pub(crate) fn channels() -> Vec<CompletionCandidate> {
    live(async |endpoint| {
        let sessions = endpoint
            .connect()
            .await
            .ok()?
            .call(&ListSessions {
                limit: Some(LIST_LIMIT_MAX),
                ..ListSessions::default()
            })
            .await
            .ok()?;
        Some(
            sessions
                .sessions
                .iter()
                .map(|session| session.channel_id.as_str().to_owned())
                .collect(),
        )
    })
}

/// Returns the plan that runs.
pub(crate) fn plans() -> Vec<CompletionCandidate> {
    live(async |endpoint| {
        let found = endpoint
            .connect()
            .await
            .ok()?
            .call(&GetPlan {})
            .await
            .ok()?;
        let running = found.plan.filter(|plan| plan.outcome.is_none());
        Some(running.iter().map(|plan| plan.id.to_string()).collect())
    })
}

/// Returns the nodes of the cluster.
pub(crate) fn nodes() -> Vec<CompletionCandidate> {
    live(async |endpoint| {
        let list = endpoint
            .connect()
            .await
            .ok()?
            .call(&ListClusterNodes {
                count_orphaned: false,
            })
            .await
            .ok()?;
        Some(
            list.nodes
                .iter()
                .map(|node| node.node_name.as_str().to_owned())
                .collect(),
        )
    })
}

pub(crate) fn connections() -> Vec<CompletionCandidate> {
    live(async |endpoint| {
        let list = ListConnections {
            limit: Some(LIST_LIMIT_MAX),
            ..ListConnections::default()
        };
        let connections = endpoint.connect().await.ok()?.call(&list).await.ok()?;
        Some(
            connections
                .connections
                .iter()
                .map(|connection| connection.connection_id.as_str().to_owned())
                .collect(),
        )
    })
}

/// Reads values from the daemon; returns none if it does not answer in time.
fn live(ask: impl AsyncFnOnce(&Endpoint) -> Option<Vec<String>>) -> Vec<CompletionCandidate> {
    // Another host takes longer than a user waits at the prompt.
    if std::env::args_os().any(|word| names_host(&word))
        || std::env::var_os("SORAMODE_HOST").is_some()
    {
        return Vec::new();
    }
    let Ok(runtime) = runtime() else {
        return Vec::new();
    };
    let endpoint = Endpoint::local(typed_socket(std::env::args_os()));
    let ids = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, ask(&endpoint))
            .await
            .ok()
            .flatten()
    });
    let shell = SHELL.get().map(String::as_str).unwrap_or_default();
    ids.unwrap_or_default()
        .iter()
        .filter_map(|id| word(id, shell))
        .map(CompletionCandidate::new)
        .collect()
}

/// Returns an id in the form that the shell takes: bash inserts it unchanged, so it is quoted here;
/// zsh and fish quote it themselves. Ids with characters that a shell runs or expands are never
/// offered.
fn word(id: &str, shell: &str) -> Option<String> {
    const EXPANDED: &str = "$`\\*?[]{}~!";
    let is_plain = |character: char| character.is_alphanumeric() || UNQUOTED.contains(character);
    if id.starts_with('-')
        || id
            .chars()
            .any(|character| character.is_control() || EXPANDED.contains(character))
    {
        return None;
    }
    match shell {
        _ if id.chars().all(is_plain) => Some(id.to_owned()),
        "zsh" | "fish" => Some(id.to_owned()),
        "bash" => {
            let quoted =
                |character: char| [Some('\\').filter(|_| !is_plain(character)), Some(character)];
            Some(id.chars().flat_map(quoted).flatten().collect())
        }
        _ => None,
    }
}

/// Characters, beside letters and digits, that are safe in every shell.
const UNQUOTED: &str = "-_.:@%+,/";

/// Returns whether a shell reads the name as one plain word.
fn is_safe(id: &str) -> bool {
    !id.starts_with('-')
        && id
            .chars()
            .all(|character| character.is_alphanumeric() || UNQUOTED.contains(character))
}

/// Returns whether a word selects another host.
fn names_host(word: &OsStr) -> bool {
    word.to_str().is_some_and(|word| {
        word == "--host" || word.starts_with("--host=") || word.starts_with("-H")
    })
}

/// Returns the socket that the command line names.
fn typed_socket(mut args: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    while let Some(arg) = args.next() {
        if arg == OsStr::new("--socket") {
            return args.next().map(PathBuf::from);
        }
        if let Some(path) = arg.to_str().and_then(|arg| arg.strip_prefix("--socket=")) {
            return Some(path.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_a_shell_expands_are_not_offered() {
        for (id, safe) in [
            ("spam", true),
            ("チャネル", true),
            ("room@lobby/1", true),
            ("$(reboot)", false),
            ("a b", false),
            ("`x`", false),
            ("-q", false),
            ("a;b", false),
        ] {
            assert_eq!(is_safe(id), safe, "{id:?}");
        }
    }

    #[test]
    fn an_id_is_one_word_of_the_shell_and_is_never_run() {
        for (id, bash, zsh) in [
            ("spam", Some("spam"), Some("spam")),
            ("a b", Some("a\\ b"), Some("a b")),
            ("会議 室", Some("会議\\ 室"), Some("会議 室")),
            ("it's;#&", Some("it\\'s\\;\\#\\&"), Some("it's;#&")),
            ("(a)", Some("\\(a\\)"), Some("(a)")),
            ("$(reboot)", None, None),
            ("`x`", None, None),
            ("*", None, None),
            ("a\nb", None, None),
            ("-q", None, None),
        ] {
            assert_eq!(word(id, "bash").as_deref(), bash, "{id:?}");
            for shell in ["zsh", "fish"] {
                assert_eq!(word(id, shell).as_deref(), zsh, "{id:?}");
            }
            assert_eq!(word(id, "elvish").is_some(), is_safe(id), "{id:?}");
        }
    }

    #[test]
    fn the_typed_socket_is_used() {
        let typed = |words: &[&str]| typed_socket(words.iter().map(OsString::from));
        assert_eq!(
            typed(&["soramode", "--socket", "/tmp/s", "session", ""]),
            Some("/tmp/s".into())
        );
        assert_eq!(
            typed(&["soramode", "session", "--socket=/tmp/s"]),
            Some("/tmp/s".into())
        );
        assert_eq!(typed(&["soramode", "session"]), None);
    }
}
