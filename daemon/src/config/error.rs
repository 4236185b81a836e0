//! Problem of the configuration.

use std::path::PathBuf;

use crate::args::Conflict;

/// Problem of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, is too large, or could have been written by any user.
    #[error("{}: {problem}", path.display())]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// The file is not TOML, or has a key or a value that is not known.
    #[error("{}:{line}: {message}{}", path.display(), key.as_ref().map(|key| format!(" (at {key})")).unwrap_or_default())]
    WrongFile {
        /// Path of the file.
        path: PathBuf,
        /// Line of the problem, from 1.
        line: usize,
        /// Key on that line, if there is one: its value may be a secret.
        key: Option<String>,
        /// Description of the problem.
        message: String,
    },
    /// A value outside its limits.
    #[error("{name}: got {got}, takes {takes}")]
    OutOfRange {
        /// The flag, without its dashes, or the key.
        name: &'static str,
        /// Value that was given.
        got: String,
        /// Description of the valid values.
        takes: String,
    },
    /// Two settings contradict each other.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// A setting that does nothing without another.
    #[error("{name} needs {needed}")]
    Needs {
        /// Setting that was given.
        name: &'static str,
        /// Setting that is missing.
        needed: &'static str,
    },
    /// Two settings that cannot both hold.
    #[error("{name} cannot go with {other}")]
    Excludes {
        /// Setting that was given.
        name: &'static str,
        /// Setting that it excludes.
        other: &'static str,
    },
    /// A URL to be asked that is the daemon's own.
    #[error(
        "{name}: {url} is soramoded's own {listener}; set it to the URL of the server behind soramoded"
    )]
    OwnListener {
        /// The flag, without its dashes.
        name: &'static str,
        /// URL of the server, without secrets.
        url: String,
        /// The flag of the listener.
        listener: &'static str,
    },
    /// The cluster was not built in.
    #[error(
        "cluster: this soramoded was built without cluster support; build it with --features cluster, which needs protoc (Debian: \
         protobuf-compiler and libprotobuf-dev)"
    )]
    WithoutCluster,
    /// A file with tokens, secrets or certificates.
    #[error("{name}: {}: {problem}", path.display())]
    SecretFile {
        /// The flag, without its dashes.
        name: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// No setting or variable names the folder of the state.
    #[error("state-dir: $HOME is not set; pass --state-dir or --ephemeral")]
    NoStateDir,
    /// The host name is no valid name of a node.
    #[error("node-name: the host name is not text of 1 to 255 bytes; pass --node-name")]
    NoHostName,
}
