//! soramode's daemon as a process: flags, log, signals and exit status. What it does is in the library.

use std::convert::Infallible;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use soramoded::args::Args;
use soramoded::config::Config;
use soramoded::{log, notify, socket_file, store};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// It could not start, or not go on.
const FAILED: u8 = 1;

/// A flag, a variable or the file is wrong.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::read_from(std::env::args_os()) {
        Ok(args) => args,
        Err(told) => return tell(&told),
    };
    let (is_check, is_state_check) = (args.check_config, args.check_state);
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => return fail(MISUSED, &error),
    };
    match (is_check, is_state_check) {
        (true, _) => check(&config),
        (false, true) => check_state(&config),
        (false, false) => run(config),
    }
}

/// Shows help, the version or what is wrong with the command line.
fn tell(told: &clap::Error) -> ExitCode {
    let status = u8::try_from(told.exit_code()).unwrap_or(MISUSED);
    // Where nobody hears it there is nobody to tell: the status speaks.
    if told.print().is_ok() { ExitCode::from(status) } else { ExitCode::from(status.max(FAILED)) }
}

fn check(config: &Config) -> ExitCode {
    match socket_file::check(config) {
        Ok(_) if writeln!(io::stdout(), "ok").is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(error) => fail(MISUSED, &error),
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
        Err(unusable) => fail(FAILED, unusable),
    }
}

fn run(config: Config) -> ExitCode {
    if let Err(error) = log::start(config.log_format, config.log_level) {
        return fail(FAILED, format_args!("cannot start the log: {error}"));
    }
    match serve(config) {
        Ok(()) => {
            log::finish(None);
            ExitCode::SUCCESS
        }
        Err(error) => fail(FAILED, format_args!("{error:#}")),
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    // One thread for all that is decided: what takes longer has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
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
    reload: mpsc::Sender<Box<Config>>,
    readings: TaskTracker,
    /// Is heard, so that it does not kill: a write past a limit (`ulimit -f`) fails then, and that is dealt with where it is written.
    _file_size: Signal,
}

impl Signals {
    fn new(reload: mpsc::Sender<Box<Config>>) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reload,
            readings: TaskTracker::new(),
            _file_size: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Asks for a stop when a signal says so. The stop itself is `run`'s, so this never returns.
    async fn obey(&mut self, shutdown: &CancellationToken) -> Infallible {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hang_up.recv() => {
                    // Beside this, so that a stop is heard whatever becomes of it.
                    self.readings.spawn(read_again(self.reload.clone()));
                    continue;
                }
            };
            if shutdown.is_cancelled() {
                tracing::info!("{name}: stopping already");
            } else {
                tracing::info!("{name}: stopping");
                notify::stopping();
                shutdown.cancel();
            }
        }
    }
}

/// Reads flags, variables and file once more. What is wrong is said, and changes nothing.
async fn read_again(reload: mpsc::Sender<Box<Config>>) {
    tracing::info!("SIGHUP: reading the configuration again");
    notify::reloading();
    // A file may be on a disk that does not answer.
    let read = tokio::task::spawn_blocking(|| match Args::read_from(std::env::args_os()) {
        Ok(args) => Config::load(args).map_err(|error| error.to_string()),
        Err(told) => Err(told.to_string()),
    });
    let problem = match read.await {
        // Where nobody takes it the daemon stops.
        Ok(Ok(config)) => return reload.send(Box::new(config)).await.unwrap_or_default(),
        Ok(Err(problem)) => problem,
        Err(problem) => problem.to_string(),
    };
    tracing::error!("nothing was taken, what was goes on: {problem}");
    notify::reloaded("serving; the configuration that was read again is wrong, see the log");
}
