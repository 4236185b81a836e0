//! A process on a machine of the test's network: started, stopped, resumed, killed, and gone when the test is.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A process that can be started again.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Its output goes to a file of its name in this folder.
    pub(crate) fn new(name: &str, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            log: folder.join(format!("{name}.log")),
            child: None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn start(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = self.open_log();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), signal)
                .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already, which the check of the processes reports.
            let _ = child.kill();
            child.wait().unwrap();
        }
    }

    /// Fails where it has ended by itself.
    pub(crate) fn check_runs(&mut self) {
        let Some(child) = &mut self.child else { return };
        if let Some(status) = child.try_wait().unwrap() {
            panic!(
                "{} ended by itself, {status}:\n{}",
                self.name,
                self.log_tail()
            );
        }
    }

    /// Returns the last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.log_lines(40)
    }

    /// Returns up to this many lines of its log, the last ones.
    pub(crate) fn log_lines(&self, count: usize) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    fn open_log(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
