//! A daemon on another host: `soramode dial-stdio` there, over the user's own ssh.

pub(crate) mod command;
mod connection;
pub(crate) mod exec_lines;
pub(crate) mod greeting;
mod host;
mod prompt;
mod sharing;
mod stderr;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::unistd::{User, gethostname, getuid};
use soramode_protocol::mode::ON_BEHALF_OF_BYTES_MAX;

pub(crate) use connection::SshProcess;
pub(crate) use host::Host;

use crate::command_line;
use crate::output::escape::escape;

/// The ssh to run, with options.
const SSH_VARIABLE: &str = "SORAMODE_SSH";
const SSH_DEFAULT: &str = "ssh";

/// The command on the host.
const REMOTE_VARIABLE: &str = "SORAMODE_REMOTE";
const REMOTE_DEFAULT: &str = "soramode";

/// Options of every connection. Those of `SORAMODE_SSH` stand before them and win.
const OPTIONS: [&str; 10] = [
    "-T",
    "-x",
    "-o",
    "LogLevel=ERROR",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=2",
];

/// A host, and how to reach the daemon there.
#[derive(Clone, Debug)]
pub(crate) struct SshHost {
    host: Host,
    /// The command on the host, for its shell.
    remote: String,
    /// `remote` is neither the default nor the variable's: suggested commands name it.
    names_remote: bool,
    socket: Option<PathBuf>,
    asks: Asks,
    /// The `boot_id` of the first connection. Set once the host was reached.
    boot_id: OnceLock<String>,
}

/// Permission of ssh to ask for a password on the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// One host, on a terminal.
    Terminal,
    /// One host, without a terminal.
    Nothing,
    /// One of several hosts. Each line of ssh's stderr begins with the host.
    NothingOfSeveral,
}

impl SshHost {
    /// Describes the way to a host. `remote` is that of its fleet.
    pub(crate) fn new(
        host: Host,
        remote: Option<String>,
        socket: Option<PathBuf>,
        asks: Asks,
    ) -> Self {
        let variable = std::env::var(REMOTE_VARIABLE)
            .ok()
            .filter(|remote| !remote.trim().is_empty());
        let names_remote = remote.is_some();
        Self {
            host,
            remote: remote
                .or(variable)
                .unwrap_or_else(|| REMOTE_DEFAULT.to_owned()),
            names_remote,
            socket,
            asks,
            boot_id: OnceLock::new(),
        }
    }

    /// Returns the way to the same host on which ssh asks for nothing.
    pub(crate) fn without_prompts(mut self) -> Self {
        if self.asks == Asks::Terminal {
            self.asks = Asks::Nothing;
        }
        self
    }

    /// Returns the host as it was typed.
    pub(crate) fn typed(&self) -> String {
        self.host.to_string()
    }

    /// Returns the host as it was typed, for a sentence.
    pub(crate) fn shown(&self) -> String {
        escape(&self.host.to_string()).into_owned()
    }

    /// Returns `-H HOST`, and `--socket` if it was given.
    pub(crate) fn flags(&self) -> String {
        let host = format!("-H {}", command_line::word(self.host.to_string()));
        match &self.socket {
            Some(socket) => format!("{host} {}", command_line::flag("socket", socket)),
            None => host,
        }
    }

    /// Returns the command as it is typed for this host.
    pub(crate) fn command(&self, words: &str) -> String {
        let command = command_line::soramode(&[&self.flags(), words]);
        if self.names_remote {
            let remote = command_line::word(&self.remote);
            format!("{REMOTE_VARIABLE}={remote} {command}")
        } else {
            command
        }
    }

    /// Returns the command that tries ssh without soramode, and prints what it does: `ssh -v -l ops -p 2222 -- sfu-02 true`.
    fn ssh_alone(&self) -> String {
        let mut words = ssh_program();
        words.push("-v".into());
        words.extend(self.destination());
        words.push("true".into());
        let words: Vec<String> = words.iter().map(command_line::word).collect();
        words.join(" ")
    }

    /// Returns the options and the name that select the host.
    fn destination(&self) -> Vec<OsString> {
        let mut words = Vec::new();
        if let Some(user) = &self.host.user {
            words.extend(["-l".into(), user.into()]);
        }
        if let Some(port) = self.host.port {
            words.extend(["-p".into(), port.to_string().into()]);
        }
        words.extend(["--".into(), OsString::from(&self.host.name)]);
        words
    }

    /// Returns the words of an ssh to this host with these options, up to the host's name.
    fn ssh_words(&self, options: &[OsString]) -> Vec<OsString> {
        let mut words = ssh_program();
        words.extend(OPTIONS.map(OsString::from));
        words.extend(options.iter().cloned());
        if self.asks != Asks::Terminal {
            words.extend(["-o", "BatchMode=yes"].map(OsString::from));
        }
        words.extend(self.destination());
        words
    }

    /// Returns the command line for the shell on the host.
    fn dial_command(&self) -> OsString {
        let mut line = OsString::from(format!("{} dial-stdio", self.remote));
        if let Some(socket) = &self.socket {
            line.push(" --socket ");
            line.push(OsString::from_vec(quoted_for_sh(
                socket.as_os_str().as_bytes(),
            )));
        }
        line
    }
}

/// Returns the words of `SORAMODE_SSH`.
fn ssh_program() -> Vec<OsString> {
    let variable = std::env::var(SSH_VARIABLE).unwrap_or_default();
    let words: Vec<OsString> = variable.split_whitespace().map(OsString::from).collect();
    if words.is_empty() {
        vec![SSH_DEFAULT.into()]
    } else {
        words
    }
}

/// Puts a word in single quotes, as every `sh` reads it.
fn quoted_for_sh(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for byte in word {
        match byte {
            b'\'' => quoted.extend(b"'\\''"),
            byte => quoted.push(*byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

/// Returns `USER@HOST` of this machine, which the daemon there records beside its actor.
pub(crate) fn local_operator() -> Option<String> {
    let user = std::env::var("SUDO_USER")
        .ok()
        .filter(|user| !user.is_empty())
        .or_else(|| {
            User::from_uid(getuid())
                .ok()
                .flatten()
                .map(|user| user.name)
        })
        .unwrap_or_else(|| getuid().to_string());
    let host = gethostname().unwrap_or_default();
    let operator = format!("{user}@{}", host.to_string_lossy());
    Some(operator).filter(|operator| operator.len() <= ON_BEHALF_OF_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(typed: &str, socket: Option<&str>, remote: Option<&str>) -> SshHost {
        SshHost::new(
            typed.parse().unwrap(),
            remote.map(str::to_owned),
            socket.map(PathBuf::from),
            Asks::Nothing,
        )
    }

    #[test]
    fn suggested_commands_repeat_the_host_its_socket_and_the_remote_of_its_fleet() {
        assert_eq!(
            host("ops@sfu-02:2222", None, None).command("set normal"),
            "soramode -H ops@sfu-02:2222 set normal"
        );
        assert_eq!(
            host("sfu-02", Some("/my dir/s"), Some("sudo -n soramode")).command("get"),
            "SORAMODE_REMOTE='sudo -n soramode' soramode -H sfu-02 --socket '/my dir/s' get"
        );
    }

    #[test]
    fn ssh_is_tried_alone_with_the_same_user_port_and_name() {
        let command = host("ops@sfu-02:2222", None, None).ssh_alone();
        assert_eq!(command, "ssh -v -l ops -p 2222 -- sfu-02 true");
    }

    #[test]
    fn ssh_gets_user_port_and_name_apart_after_the_options() {
        let words = host("ops@sfu-02:2222", None, None).ssh_words(&["-o".into(), "A=b".into()]);
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        assert_eq!(
            words.join(" "),
            "ssh -T -x -o LogLevel=ERROR -o ConnectTimeout=10 -o ServerAliveInterval=5 -o ServerAliveCountMax=2 -o A=b -o BatchMode=yes -l ops -p 2222 -- sfu-02"
        );
    }

    #[test]
    fn the_path_is_one_word_of_the_shell_there() {
        let line = host("h", Some("/it's $(reboot)"), Some("/opt/bin/soramode")).dial_command();
        assert_eq!(
            line.to_str(),
            Some(r"/opt/bin/soramode dial-stdio --socket '/it'\''s $(reboot)'")
        );
    }
}
