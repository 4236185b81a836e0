//! Runs the operator's command that ends sessions (`--on-fence exec:COMMAND`).

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use soramode_core::member::etcd::FenceScope;
use tokio::process::Command;
use tokio::time::timeout;

/// Runs the command in a shell; it has ended everything, or `$SORAMODE_CHANNEL_ID`'s session, when it exits with 0.
///
/// An id that no variable can carry is left out: then everything ends, which is more than was wanted and never less.
pub(super) async fn run_command(
    command: &str,
    of: &FenceScope,
    time: Duration,
) -> Result<(), String> {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(command)
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null());
    match of
        .channel()
        .filter(|channel| !channel.as_bytes().contains(&0))
    {
        Some(channel) => shell.env("SORAMODE_CHANNEL_ID", channel.as_str()),
        None => shell.env_remove("SORAMODE_CHANNEL_ID"),
    };
    let cannot_run = |error| format!("cannot run the --on-fence command: {error}");
    let mut child = shell.spawn().map_err(cannot_run)?;
    let group = ProcessGroup(
        child
            .id()
            .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)),
    );
    let ended = timeout(time, child.wait()).await;
    let status = ended
        .map_err(|_| {
            format!(
                "the --on-fence command took longer than {} s",
                time.as_secs_f64()
            )
        })?
        .map_err(cannot_run)?;
    group.has_ended();
    if status.success() {
        Ok(())
    } else {
        Err(format!("the --on-fence command failed with {status}"))
    }
}

/// The process group of a command that is running. Dropped before it has ended, at its timeout or when the daemon stops, all its
/// processes are killed.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// The shell was waited for: its number may be another process's from now on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // The process group may have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
