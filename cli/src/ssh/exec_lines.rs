//! Lines by which `exec-stdio` and the soramode that started it over ssh understand each other, and the command that reboots a machine.

/// First line on stdout: from here on, the output is the command's.
pub(crate) const BEGUN: &str = "soramode-exec begun";

/// The only line on stdout of a check.
pub(crate) const READY: &str = "soramode-exec ready";

/// The only line on stdout of a look: the command runs under `exec-stdio`.
pub(crate) const RUNS: &str = "soramode-exec runs";

/// The other one: no `exec-stdio` waits for the command, and none will record its end.
pub(crate) const GONE: &str = "soramode-exec gone";

/// The beginning of a sentence on stderr, up to the exit code of a command that has ended and cannot be recorded yet.
pub(crate) const ENDED: &str = "the command has ended (exit code ";

/// The command that reboots the machine.
pub(crate) const REBOOT: &str = "sudo -n systemctl reboot";
