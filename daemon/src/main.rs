//! soramode's daemon as a process: flags, log, signals and exit status. The library does the rest.

use std::convert::Infallible;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use soramoded::args::Args;
use soramoded::config::{Config, Loaded};
use soramoded::{Reading, RunError, log, notify, socket_file, store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Exit status of a start or a run that failed.
const FAILED: u8 = 1;

/// The file that `--check-config` reads where no other is named: the unit of the package names it.
const CONFIG_FILE: &str = "/etc/soramode/soramoded.toml";

/// A flag, a variable or the file is wrong.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::read_from(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    let (is_check, is_state_check) = (args.check_config, args.check_state);
    let args = if is_check {
        args.with_default_file(Path::new(CONFIG_FILE))
    } else {
        args
    };
    let loaded = match Config::load_with_warnings(args) {
        Ok(loaded) => loaded,
        Err(error) => return fail(MISUSED, &error),
    };
    match (is_check, is_state_check) {
        (true, _) => check(&loaded),
        (false, true) => check_state(&loaded.config),
        (false, false) => run(loaded),
    }
}

/// Prints help, the version, or the problem with the command line.
fn print(error: &clap::Error) -> ExitCode {
    let status = u8::try_from(error.exit_code()).unwrap_or(MISUSED);
    // If the output is closed, the exit status is all that can be reported.
    if error.print().is_ok() {
        ExitCode::from(status)
    } else {
        ExitCode::from(status.max(FAILED))
    }
}

fn check(loaded: &Loaded) -> ExitCode {
    let read = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => format!(
            "flags and environment variables only: --config is not set, and {CONFIG_FILE} does not exist"
        ),
    };
    if let Err(error) = socket_file::check(&loaded.config) {
        return fail(MISUSED, &error);
    }
    let warnings = loaded
        .warnings
        .iter()
        .try_for_each(|warning| writeln!(io::stderr(), "soramoded: warning: {warning}"));
    let told = warnings.and_then(|()| writeln!(io::stdout(), "ok ({read})"));
    if told.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FAILED)
    }
}

fn check_state(config: &Config) -> ExitCode {
    let told = match &config.state_dir {
        Some(folder) => store::check(folder),
        None => Ok("the state is kept in memory only (ephemeral)\n".to_owned()),
    };
    match told {
        Ok(told) if io::stdout().write_all(told.as_bytes()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(unusable) => fail(
            FAILED,
            format_args!("{unusable}\nhint: {}", unusable.hint()),
        ),
    }
}

fn run(loaded: Loaded) -> ExitCode {
    let Loaded {
        config, warnings, ..
    } = loaded;
    if let Err(error) = log::start(config.log_format, config.log_level) {
        return fail(FAILED, format_args!("cannot start the log: {error}"));
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    match serve(config) {
        Ok(()) => {
            log::finish(None);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let hint = error
                .downcast_ref()
                .and_then(RunError::hint)
                .map(|hint| format!("\nhint: {hint}"))
                .unwrap_or_default();
            fail(FAILED, format_args!("{error:#}{hint}"))
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    // One thread decides; slow work has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let outcome = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let (reload, reloads) = mpsc::channel(1);
        let mut signals = Signals::new(reload).context("cannot listen for signals")?;
        tokio::select! {
            outcome = soramoded::serve(config, shutdown.clone(), reloads) => outcome.map_err(anyhow::Error::from),
            never = signals.obey(&shutdown) => match never {},
        }
    });
    // A look-up of a user may hang in a thread that nothing can end.
    runtime.shutdown_background();
    outcome
}

fn fail(status: u8, error: impl std::fmt::Display) -> ExitCode {
    log::finish(Some(&format!("soramoded: {error}")));
    ExitCode::from(status)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reload: mpsc::Sender<Reading>,
    readings: TaskTracker,
    /// Handled, so that it does not kill the process: a write past a limit (`ulimit -f`) then fails
    /// and is handled by the writer.
    _file_size: Signal,
}

impl Signals {
    fn new(reload: mpsc::Sender<Reading>) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reload,
            readings: TaskTracker::new(),
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Requests a shutdown on a signal. Never returns: `run` performs the shutdown.
    async fn obey(&mut self, shutdown: &CancellationToken) -> Infallible {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hang_up.recv() => {
                    // In a task of its own, so that a shutdown signal is never delayed.
                    self.readings.spawn(read_again(self.reload.clone()));
                    continue;
                }
            };
            if shutdown.is_cancelled() {
                tracing::info!("{name}: already stopping");
            } else {
                tracing::info!("{name}: stopping");
                notify::stopping();
                shutdown.cancel();
            }
        }
    }
}

/// Loads flags, variables and file again. Errors are reported, and change nothing.
async fn read_again(reload: mpsc::Sender<Reading>) {
    tracing::info!("SIGHUP: reloading the configuration");
    notify::reloading();
    // A file may be on a disk that does not answer.
    let read = tokio::task::spawn_blocking(|| match Args::read_from(std::env::args_os()) {
        Ok(args) => Config::load_with_warnings(args).map_err(|error| error.to_string()),
        Err(told) => Err(told.to_string()),
    });
    let reading = match read.await {
        Ok(Ok(Loaded {
            config, warnings, ..
        })) => {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            Ok(Box::new(config))
        }
        Ok(Err(problem)) => Err(problem),
        Err(problem) => Err(problem.to_string()),
    };
    // If nothing receives it, the daemon is stopping.
    let _ = reload.send(reading).await;
}
