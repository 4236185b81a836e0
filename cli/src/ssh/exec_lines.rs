//! Lines by which `exec-stdio` and the soramode that started it over ssh understand each other, and the command that reboots a machine.

/// First line on stdout: from here on, the output is the command's.
pub(crate) const BEGUN: &str = "soramode-exec begun";

/// The only line on stdout of a check.
pub(crate) const READY: &str = "soramode-exec ready";

/// The command that reboots the machine.
pub(crate) const REBOOT: &str = "sudo -n systemctl reboot";
