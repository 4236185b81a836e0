//! The hosts that `-H` names: one, a list, or those of a fleet from `fleet.toml`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::unistd::geteuid;
use serde::Deserialize;
use soramode_protocol::small_file::{self, Guard};

use crate::error::{Exit, Failure};
use crate::ssh::Host;

/// Limit of a `fleet.toml`, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The file of the machine; that of the user wins by name.
const SYSTEM_FILE: &str = "/etc/soramode/fleet.toml";

/// A word of `-H`: a host, or the name of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostWord {
    Host(Host),
    Fleet(String),
}

impl FromStr for HostWord {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.strip_prefix('@') {
            None => word.parse().map(Self::Host),
            Some(name) if name.is_empty() || name.contains('@') => {
                Err("takes the name of a fleet as @NAME".to_owned())
            }
            Some(name) => Ok(Self::Fleet(name.to_owned())),
        }
    }
}

/// A host, and the command of its fleet on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FleetHost {
    pub(crate) host: Host,
    pub(crate) remote: Option<String>,
}

/// A fleet as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fleet {
    hosts: Vec<String>,
    remote: Option<String>,
}

type Fleets = BTreeMap<String, Fleet>;

/// Returns the hosts that the words name, each once and in their order.
pub(crate) fn resolve(words: &[HostWord]) -> Result<Vec<FleetHost>, Failure> {
    let names_fleet = words.iter().any(|word| matches!(word, HostWord::Fleet(_)));
    let fleets = if names_fleet {
        read_files()?
    } else {
        Fleets::new()
    };
    resolve_among(words, &fleets)
}

fn resolve_among(words: &[HostWord], fleets: &Fleets) -> Result<Vec<FleetHost>, Failure> {
    let mut hosts: Vec<FleetHost> = Vec::new();
    for word in words {
        let named = match word {
            HostWord::Host(host) => vec![FleetHost {
                host: host.clone(),
                remote: None,
            }],
            HostWord::Fleet(name) => hosts_of(name, fleets)?,
        };
        for host in named {
            if hosts.iter().all(|known| known.host != host.host) {
                hosts.push(host);
            }
        }
    }
    Ok(hosts)
}

fn hosts_of(name: &str, fleets: &Fleets) -> Result<Vec<FleetHost>, Failure> {
    let Some(fleet) = fleets.get(name) else {
        let known: Vec<&str> = fleets.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            format!("neither ~/.config/soramode/fleet.toml nor {SYSTEM_FILE} names any")
        } else {
            format!("fleet.toml names {}", known.join(", "))
        };
        return Err(Failure::new(
            Exit::Usage,
            format!("no fleet is called {name}; {known}"),
        ));
    };
    let read = |typed: &String| {
        let host = typed.parse().map_err(|problem| {
            Failure::new(
                Exit::Usage,
                format!("fleet.toml: host {typed:?} of {name} {problem}"),
            )
        })?;
        Ok(FleetHost {
            host,
            remote: fleet.remote.clone(),
        })
    };
    fleet.hosts.iter().map(read).collect()
}

/// Returns the names of the fleets and of their hosts, for completion.
pub(crate) fn known_words() -> Vec<String> {
    let fleets = read_files().unwrap_or_default();
    let names = fleets.keys().map(|name| format!("@{name}"));
    let hosts = fleets
        .values()
        .flat_map(|fleet| fleet.hosts.iter().cloned());
    names.chain(hosts).collect()
}

fn read_files() -> Result<Fleets, Failure> {
    let mut fleets = Fleets::new();
    for path in std::iter::once(PathBuf::from(SYSTEM_FILE)).chain(user_file()) {
        match path.try_exists() {
            Ok(true) => fleets.extend(read_file(&path)?),
            // A folder that cannot be searched may have one.
            Err(problem) if problem.kind() == ErrorKind::PermissionDenied => {
                let message = format!("{} cannot be read: permission denied", path.display());
                return Err(Failure::new(Exit::Usage, message));
            }
            Ok(false) | Err(_) => {}
        }
    }
    Ok(fleets)
}

/// Returns `~/.config/soramode/fleet.toml`.
fn user_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let folder = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(folder.join("soramode/fleet.toml"))
}

/// Reads a file that no other user may write: it names commands that are run.
fn read_file(path: &Path) -> Result<Fleets, Failure> {
    let refuse =
        |problem: String| Failure::new(Exit::Usage, format!("{} {problem}", path.display()));
    let guard = Guard::OnlyWriter {
        uid: geteuid().as_raw(),
    };
    let text = small_file::read_text(path, FILE_BYTES_MAX, guard).map_err(refuse)?;
    toml::from_str(&text).map_err(|problem| {
        let start = problem.span().map_or(0, |span| span.start);
        let line = text.bytes().take(start).filter(|byte| *byte == b'\n');
        let line = line.count() + 1;
        let message = problem.message().replace('\n', ", ");
        refuse(format!("line {line}: {message}"))
            .with_hint("A line for each fleet: tokyo = { hosts = [\"sfu-01\", \"sfu-02\"] }")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &str) -> Vec<HostWord> {
        list.split(',').map(|word| word.parse().unwrap()).collect()
    }

    fn resolved(list: &str) -> Result<Vec<String>, String> {
        let fleets: Fleets = toml::from_str(
            "tokyo = { hosts = [\"sfu-01\", \"ops@sfu-03:2222\"], remote = \"sudo -n soramode\" }\n[osaka]\nhosts = [\"sfu-11\"]\n[wrong]\nhosts = [\"-x\"]\n",
        )
        .unwrap();
        resolve_among(&words(list), &fleets)
            .map(|hosts| {
                hosts
                    .iter()
                    .map(|it| {
                        let remote = it.remote.as_deref().unwrap_or("-");
                        format!("{} {remote}", it.host)
                    })
                    .collect()
            })
            .map_err(|failure| failure.message)
    }

    #[test]
    fn a_list_and_fleets_name_each_host_once_in_their_order() {
        assert_eq!(
            resolved("sfu-02,@tokyo,sfu-01,@osaka"),
            Ok([
                "sfu-02 -",
                "sfu-01 sudo -n soramode",
                "ops@sfu-03:2222 sudo -n soramode",
                "sfu-11 -"
            ]
            .map(str::to_owned)
            .into())
        );
        assert_eq!(
            resolved("@kyoto"),
            Err("no fleet is called kyoto; fleet.toml names osaka, tokyo, wrong".to_owned())
        );
        assert_eq!(
            resolved("@wrong"),
            Err("fleet.toml: host \"-x\" of wrong has a host that begins with -".to_owned())
        );
        assert!("@".parse::<HostWord>().is_err());
        assert!("@a@b".parse::<HostWord>().is_err());
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.toml");
        std::fs::write(&path, "a = { hosts = [\"h\"] }\n").unwrap();
        for (bits, is_read) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(bits)).unwrap();
            assert_eq!(read_file(&path).is_ok(), is_read, "{bits:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for wrong in ["a = 1", "a = { host = [] }", "a = { hosts = \"h\" }", "["] {
            std::fs::write(&path, wrong).unwrap();
            assert!(read_file(&path).is_err(), "{wrong}");
        }
    }
}
