//! A command on another host, over ssh: its output comes line by line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::sharing::Sharing;
use super::{SshHost, SshProcess, quoted_for_sh};
use crate::error::{Exit, Failure};

/// Exit code of ssh if the connection fails or is lost; a command may end with it too.
pub(crate) const SSH_FAILED: u8 = 255;

/// A stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The end of a command.
pub(crate) struct CommandEnd {
    /// The exit code, of ssh too; `None` if a signal ended ssh.
    pub(crate) code: Option<u8>,
    /// The last line of its output.
    pub(crate) last_line: Option<String>,
}

impl SshHost {
    /// Returns the command line for the shell there that runs this command under `exec-stdio`.
    pub(crate) fn exec_command(&self, roll: &str, command: &[OsString]) -> OsString {
        let mut line = Vec::from(format!("{} exec-stdio --roll ", self.remote));
        line.extend(quoted_for_sh(roll.as_bytes()));
        if let Some(socket) = &self.socket {
            line.extend(b" --socket ");
            line.extend(quoted_for_sh(socket.as_os_str().as_bytes()));
        }
        line.extend(b" --");
        for word in command {
            line.push(b' ');
            line.extend(quoted_for_sh(word.as_bytes()));
        }
        OsString::from_vec(line)
    }

    /// Runs a command line of the shell there to its end. Each line of its output goes to `show`.
    pub(crate) async fn run_command(
        &self,
        line: &OsStr,
        show: impl FnMut(Stream, &str),
    ) -> Result<CommandEnd, Failure> {
        let sharing = Sharing::find(self).await;
        let mut child = self
            .launcher(&sharing, &[])
            .arg(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|problem| {
                Failure::new(Exit::Failed, format!("cannot start ssh: {problem}"))
            })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let mut process = SshProcess::new(child);
        let last_line = forward(stdout, stderr, show).await;
        let status = process.wait().await;
        Ok(CommandEnd {
            code: status.and_then(exit_code),
            last_line,
        })
    }
}

impl SshHost {
    /// Runs a command line of the shell there on this terminal; returns its exit code.
    pub(crate) async fn run_on_terminal(&self, line: &OsStr) -> Result<Option<u8>, Failure> {
        let sharing = Sharing::find(self).await;
        let child = self
            .launcher(&sharing, &["-t"])
            .arg(line)
            .spawn()
            .map_err(|problem| {
                Failure::new(Exit::Failed, format!("cannot start ssh: {problem}"))
            })?;
        let status = SshProcess::new(child).wait().await;
        Ok(status.and_then(exit_code))
    }
}

fn exit_code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok())
}

/// Shows both streams until both have ended; returns the last line.
async fn forward(
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    mut show: impl FnMut(Stream, &str),
) -> Option<String> {
    let (lines, mut incoming) = unbounded_channel();
    let mut last = None;
    let read = async {
        let stdout = read_lines(stdout, Stream::Stdout, lines.clone());
        tokio::join!(stdout, read_lines(stderr, Stream::Stderr, lines));
    };
    let show_all = async {
        while let Some((stream, line)) = incoming.recv().await {
            show(stream, &line);
            last = Some(line);
        }
    };
    tokio::join!(read, show_all);
    last
}

async fn read_lines(
    from: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    lines: UnboundedSender<(Stream, String)>,
) {
    let Some(from) = from else { return };
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        // The receiver lives until both streams have ended.
        let _ = lines.send((stream, text.trim_end_matches(['\n', '\r']).to_owned()));
    }
}

impl SshProcess {
    pub(super) const fn new(child: Child) -> Self {
        Self { child }
    }

    /// Waits for the end.
    async fn wait(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }
}
