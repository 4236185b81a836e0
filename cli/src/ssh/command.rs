//! A command on another host, over ssh: its output comes line by line.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::termios::{LocalModes, OptionalActions, OutputModes, Termios, tcgetattr, tcsetattr};
use soramode_protocol::id::RollId;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc::{Sender, channel};
use tokio::time::{sleep, timeout};

use super::connection::spawn_without_interrupt;
use super::exec_lines::{GONE, READY, RUNS};
use super::greeting::Greeting;
use super::sharing::Sharing;
use super::{Asks, SshHost, SshProcess, quoted_for_sh};
use crate::error::{Exit, Failure, NOT_FOUND, NOT_STARTED};
use crate::output::cells;
use crate::output::escape::escape;

/// Exit code of ssh if the connection fails or is lost; a command may end with it too.
pub(crate) const SSH_FAILED: u8 = 255;

/// Words for the output of a command after its connection was lost.
pub(crate) const OUTPUT_LOST: &str =
    "the command's output from here on is lost: it is not kept on the host";

/// Exit code of a soramode that does not know `exec-stdio`, or a flag of it.
const UNKNOWN_FLAG: u8 = 2;

/// Limit of the time for a check or a look, where ssh asks for nothing.
const CHECK_MAX: Duration = Duration::from_secs(30);

/// Limit of a line, in bytes. A longer one comes in parts.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Limit of the columns of the last line of a command in a sentence.
const SHOWN_COLUMNS_MAX: usize = 160;

/// Number of lines that are read ahead.
const LINES_AHEAD: usize = 4;

/// Limit of the time without a further line after ssh has ended: a master that it left behind may hold its stderr open.
const REST_MAX: Duration = Duration::from_secs(1);

/// A stream of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A roll's command, as a look finds it on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandThere {
    /// It runs under `exec-stdio`, which will record its end.
    Runs,
    /// None will record its end, and none will start it.
    NotRunning,
}

/// The end of a command.
pub(crate) struct CommandEnd {
    /// The exit code, of ssh too; `None` if a signal ended ssh.
    pub(crate) code: Option<u8>,
    /// The last line of its output that has text, escaped and cut.
    pub(crate) last_line: Option<String>,
}

/// Work of `exec-stdio` on a host.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Exec<'a> {
    /// No work: it says that it could, and whether this command can be started. It is empty for a reboot alone.
    Check(&'a [OsString]),
    /// The operator's command, for this roll.
    Command(&'a RollId, &'a [OsString]),
    /// A look at that command.
    Look(&'a RollId),
    /// A reboot of the machine, for this roll.
    Reboot(&'a RollId),
}

impl SshHost {
    /// Returns the command line for the shell there that runs `exec-stdio`.
    pub(crate) fn exec_line(&self, exec: Exec<'_>) -> OsString {
        let mut line = Vec::from(format!("{} exec-stdio", self.remote));
        let (roll, rest) = match exec {
            Exec::Check(_) => (None, &b" --check"[..]),
            Exec::Command(roll, _) => (Some(roll), &b""[..]),
            Exec::Look(roll) => (Some(roll), &b" --look"[..]),
            Exec::Reboot(roll) => (Some(roll), &b" --reboot"[..]),
        };
        if let Some(roll) = roll {
            line.extend(b" --roll ");
            line.extend(quoted_for_sh(roll.as_str().as_bytes()));
        }
        if let Some(socket) = &self.socket {
            line.extend(b" --socket ");
            line.extend(quoted_for_sh(socket.as_os_str().as_bytes()));
        }
        line.extend(rest);
        if let Exec::Command(_, command @ [_, ..]) | Exec::Check(command @ [_, ..]) = exec {
            line.extend(b" --");
            for word in command {
                line.push(b' ');
                line.extend(quoted_for_sh(word.as_bytes()));
            }
        }
        OsString::from_vec(line)
    }

    /// Finds the reason why a command cannot be run there, such as a key that is for `dial-stdio` alone.
    pub(crate) async fn check_exec(&self, command: &[OsString]) -> Result<(), Failure> {
        let line = self.exec_line(Exec::Check(command));
        let (mut is_ready, mut is_dial, mut problem) = (false, false, String::new());
        let running = self.run_command(&line, async |stream, text| {
            is_ready |= text == READY;
            is_dial |= Greeting::read(text).is_some();
            if stream == Stream::Stderr {
                text.clone_into(&mut problem);
            }
        });
        let end = if self.asks == Asks::Terminal {
            running.await?
        } else {
            let ended = timeout(CHECK_MAX, running).await;
            ended.unwrap_or_else(|_| Err(Failure::new(Exit::Unreachable, "does not answer")))?
        };
        if is_ready {
            return match end.code {
                Some(code @ (NOT_STARTED | NOT_FOUND)) => Err(not_startable(code, &problem)),
                _ => Ok(()),
            };
        }
        if is_dial {
            let message = "its key for ssh allows soramode dial-stdio only";
            return Err(Failure::new(Exit::NotPermitted, message)
                .with_hint("Use a key without command=\"…\" in authorized_keys"));
        }
        Err(cannot_exec(&end))
    }

    /// Looks whether the command of a roll runs there; `None` if that is not known. ssh asks for nothing.
    pub(crate) async fn look(&self, roll: &RollId) -> Option<CommandThere> {
        let host = self.clone().without_prompts();
        let line = host.exec_line(Exec::Look(roll));
        let mut found = None;
        let looking = host.run_command(&line, async |_, text| match text {
            RUNS => found = Some(CommandThere::Runs),
            GONE => found = Some(CommandThere::NotRunning),
            _ => {}
        });
        timeout(CHECK_MAX, looking).await.ok()?.ok()?;
        found
    }

    /// Runs a command line of the shell there to its end. Each line of its output goes to `show`.
    pub(crate) async fn run_command(
        &self,
        line: &OsStr,
        show: impl AsyncFnMut(Stream, &str),
    ) -> Result<CommandEnd, Failure> {
        let sharing = Sharing::find(self).await;
        let mut command = self.launcher(&sharing, &[]);
        command
            .arg(line)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = spawn_without_interrupt(&mut command).map_err(|it| cannot_start(&it))?;
        Ok(SshProcess::new(child).follow(show).await)
    }
}

/// The settings of the terminal, which are restored when this is dropped: an ssh that is killed leaves its own.
struct TerminalSettings(Option<Termios>);

impl TerminalSettings {
    fn keep() -> Self {
        Self(tcgetattr(io::stdin()).ok())
    }
}

impl Drop for TerminalSettings {
    fn drop(&mut self) {
        if let Some(settings) = &self.0 {
            // The terminal may be gone.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, settings);
        }
    }
}

impl SshHost {
    /// Runs a command line of the shell there on this terminal; returns its exit code.
    pub(crate) async fn run_on_terminal(&self, line: &OsStr) -> Result<Option<u8>, Failure> {
        let sharing = Sharing::find(self).await;
        let _terminal = TerminalSettings::keep();
        let mut command = self.launcher(&sharing, &["-t"]);
        command.arg(line);
        let child = spawn_without_interrupt(&mut command).map_err(|it| cannot_start(&it))?;
        let status = SshProcess::new(child).wait().await;
        Ok(status.and_then(exit_code))
    }
}

/// Has Ctrl-C interrupt this program again, and lines begin at the left, on a terminal that ssh passes to the host.
pub(crate) fn take_ctrl_c() {
    if let Ok(mut settings) = tcgetattr(io::stdin()) {
        settings.local_modes |= LocalModes::ISIG;
        settings.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &settings);
    }
}

fn cannot_start(problem: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot start ssh: {problem}"))
}

/// Returns the failure for a command that the host cannot start, in the words of `exec-stdio`.
fn not_startable(code: u8, problem: &str) -> Failure {
    // The words are those of a command that was typed.
    let problem = problem.strip_prefix("soramode: ").unwrap_or(problem);
    Failure::new(Exit::Command(code), escape(problem))
}

/// Explains the end of a check that did not say that commands can be run.
fn cannot_exec(end: &CommandEnd) -> Failure {
    let why = end.last_line.as_deref().unwrap_or("it printed nothing");
    match end.code {
        Some(SSH_FAILED) | None => {
            let message = format!("cannot be reached over ssh to run a command: {why}");
            Failure::new(Exit::Unreachable, message)
        }
        Some(UNKNOWN_FLAG) => {
            let message = "its soramode is too old to run commands for this one";
            Failure::new(Exit::Versions, message).with_hint("Install the same version of both")
        }
        Some(code) => {
            let message = format!("cannot run soramode exec-stdio (exit code {code}): {why}");
            Failure::new(Exit::NotPermitted, message)
        }
    }
}

/// Returns a line of the host's for a sentence: escaped, and no longer than a line of a terminal.
pub(crate) fn shown_line(line: &str) -> String {
    let text = escape(line.trim());
    cells::cut_middle(&text, SHOWN_COLUMNS_MAX).into_owned()
}

fn exit_code(status: ExitStatus) -> Option<u8> {
    status.code().and_then(|code| u8::try_from(code).ok())
}

async fn read_lines(
    from: Option<impl AsyncRead + Unpin>,
    stream: Stream,
    lines: Sender<(Stream, String)>,
) {
    let Some(from) = from else { return };
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']).to_owned();
        if lines.send((stream, text)).await.is_err() {
            return;
        }
    }
}

impl SshProcess {
    pub(super) const fn new(child: Child) -> Self {
        Self { child }
    }

    /// Shows both streams line by line until both have ended, or ssh has and nothing more comes.
    async fn follow(mut self, mut show: impl AsyncFnMut(Stream, &str)) -> CommandEnd {
        let (lines, mut incoming) = channel(LINES_AHEAD);
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let read = async move {
            let stdout = read_lines(stdout, Stream::Stdout, lines.clone());
            tokio::join!(stdout, read_lines(stderr, Stream::Stderr, lines));
        };
        let mut read = std::pin::pin!(read);
        let (mut is_read, mut ended, mut last_line) = (false, None, None);
        while !(is_read && incoming.is_empty()) {
            tokio::select! {
                biased;
                Some((stream, line)) = incoming.recv() => {
                    show(stream, &line).await;
                    if !line.trim().is_empty() {
                        last_line = Some(line);
                    }
                }
                () = &mut read, if !is_read => is_read = true,
                status = self.wait(), if ended.is_none() => ended = Some(status),
                () = sleep(REST_MAX), if ended.is_some() => break,
            }
        }
        let status = match ended {
            Some(status) => status,
            None => self.wait().await,
        };
        CommandEnd {
            code: status.and_then(exit_code),
            last_line: last_line.map(|line| shown_line(&line)),
        }
    }

    /// Waits for the end.
    async fn wait(&mut self) -> Option<ExitStatus> {
        self.child.wait().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::process::Command;

    use super::*;

    async fn follow(script: &str) -> (CommandEnd, Vec<String>) {
        let child = Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        let show = async |_, line: &str| lines.push(line.to_owned());
        let end = SshProcess::new(child).follow(show).await;
        (end, lines)
    }

    #[tokio::test]
    async fn a_line_without_an_end_comes_in_parts() {
        let (end, lines) = follow("head -c 1000000 /dev/zero | tr '\\0' x; exit 3").await;
        assert_eq!(end.code, Some(3));
        assert_eq!(lines.iter().map(String::len).sum::<usize>(), 1_000_000);
        let longest = lines.iter().map(String::len).max();
        assert_eq!(longest, usize::try_from(LINE_BYTES_MAX).ok());
    }

    #[tokio::test]
    async fn the_last_line_with_text_is_kept_escaped_and_cut() {
        let (end, _) = follow("printf 'first\\nred \\033[31m\\n \\n\\n' >&2").await;
        assert_eq!(end.last_line.as_deref(), Some("red \\u{1b}[31m"));
        let (end, _) = follow("head -c 1000000 /dev/zero | tr '\\0' x").await;
        let width = end.last_line.map(|line| cells::width(&line));
        assert_eq!(width, Some(SHOWN_COLUMNS_MAX));
        assert_eq!(follow("echo; exit 1").await.0.last_line, None);
    }

    #[tokio::test]
    async fn a_process_that_holds_stderr_open_is_not_waited_for() {
        let (end, lines) = follow("sleep 600 >/dev/null & echo $!; exit 4").await;
        let [pid] = &lines[..] else {
            panic!("{lines:?}")
        };
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!((end.code, end.last_line), (Some(4), Some(pid.to_string())));
    }
}
