//! Every goal of speed and size, each beside its yardstick in the same run and in turn.
//!
//! `cargo bench -p soramode-benches --bench goals` measures all; words after `--` pick goals by name (`decisions round-trip http`), `--quick`
//! takes fewer rounds and connections, and `--help` lists the rest. `growth` draws `daemon/benches/growth.svg`, `soak` draws
//! `target/soak.svg`. The table goes to the terminal, every round to `target/goals.json`, from where `readme` takes the tables of the
//! READMEs.
//!
//! Claims in the cluster need `--features cluster`.
//!
//! Servers have one core and the load the other; one client shares a core with its server, or results fall into two groups.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement ends by panicking, and prints"
)]

#[cfg(feature = "cluster")]
mod claims;
mod command;
mod decisions;
mod disk;
mod durable;
mod growth;
mod harness;
mod http;
mod idle;
mod list;
mod page;
mod plans;
mod readme;
mod soak;
mod ssh;
mod start;
mod subscribers;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::{Parser, Subcommand};
use soramode_benches::build_soramoded;

use harness::server::{Core, pin_load};
use harness::sheet::{Sheet, name_of};
use harness::{Profile, echo, runtime, web};

/// Exit status if a requested program is missing.
const MISUSED: u8 = 2;

/// Measurement: its goals, and the Debian packages of its baselines.
struct Measurement {
    goals: &'static [&'static str],
    measure: fn(Profile<'_>, &mut Sheet),
    needs: &'static [Program],
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// It takes minutes: with `--all`, or when it is named.
    Minutes,
    /// Runs only if named: it takes hours.
    Named,
}

/// A program, and Debian's package that has it.
type Program = (&'static str, &'static str);

const REDIS: Program = ("redis-server", "redis-server");
const HAPROXY: Program = ("haproxy", "haproxy");
const JANUS: Program = ("janus", "janus");
const CURL: Program = ("curl", "curl");
const NGINX: Program = ("nginx", "nginx");
const SSHD: Program = (ssh::SSHD, "openssh-server");
const SOCAT: Program = ("socat", "socat");
const TIME: Program = ("/usr/bin/time", "time");
#[cfg(feature = "cluster")]
const ETCD: Program = ("etcd", "etcd-server");
const TASKSET: Program = ("taskset", "util-linux");

const ALL: &[Measurement] = &[
    Measurement {
        goals: &["decisions", "pipelined", "round-trip", "filling", "memory"],
        measure: decisions::measure,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        goals: &["durable"],
        measure: durable::decisions,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        goals: &["modes"],
        measure: durable::modes,
        needs: &[TASKSET, HAPROXY, JANUS],
        when: When::Always,
    },
    Measurement {
        goals: &["modes", "webhooks"],
        measure: disk::measure,
        needs: &[TASKSET],
        when: When::Always,
    },
    Measurement {
        goals: &["command"],
        measure: command::measure,
        needs: &[TASKSET, REDIS, SOCAT, CURL, TIME],
        when: When::Always,
    },
    Measurement {
        goals: &["ssh"],
        measure: ssh::measure,
        needs: &[TASKSET, SSHD],
        when: When::Always,
    },
    Measurement {
        goals: &["http"],
        measure: http::measure,
        needs: &[TASKSET, NGINX],
        when: When::Always,
    },
    Measurement {
        goals: &["page"],
        measure: page::measure,
        needs: &[TASKSET],
        when: When::Always,
    },
    Measurement {
        goals: &["lists"],
        measure: list::measure,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        goals: &["subscribers"],
        measure: subscribers::measure,
        needs: &[TASKSET],
        when: When::Always,
    },
    Measurement {
        goals: &["announce"],
        measure: plans::announce,
        needs: &[TASKSET],
        when: When::Always,
    },
    Measurement {
        goals: &["ends"],
        measure: plans::ends,
        needs: &[TASKSET],
        when: When::Always,
    },
    Measurement {
        goals: &["start"],
        measure: start::measure,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        goals: &["idle"],
        measure: idle::idle,
        needs: &[TASKSET],
        when: When::Always,
    },
    #[cfg(feature = "cluster")]
    Measurement {
        goals: &["claims"],
        measure: claims::measure,
        needs: &[TASKSET, ETCD],
        when: When::Always,
    },
    Measurement {
        goals: &["soak"],
        measure: soak::measure,
        needs: &[TASKSET],
        when: When::Named,
    },
    Measurement {
        goals: &["growth"],
        measure: growth::measure,
        needs: &[TASKSET, REDIS],
        when: When::Minutes,
    },
    Measurement {
        goals: &["build"],
        measure: idle::build,
        needs: &[TASKSET],
        when: When::Minutes,
    },
];

/// Measures goals of speed and size, each beside its yardstick in the same run.
#[derive(Debug, Parser)]
#[command(name = "goals", args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Goals to measure, by name or number [default: all that take seconds]
    #[arg(value_name = "GOAL", value_parser = goal)]
    goals: Vec<&'static str>,
    /// Take fewer rounds and connections; skip goals that need programs which are not installed
    #[arg(long)]
    quick: bool,
    /// Also measure goals that take minutes
    #[arg(long)]
    all: bool,
    /// Set how long `soak` takes
    #[arg(long, value_name = "MINUTES", default_value_t = 120)]
    soak_minutes: u64,
    /// Passed by cargo to every benchmark.
    #[arg(long, hide = true, global = true)]
    bench: bool,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Write the ratios of the last full run to the READMEs
    Readme,
    /// Serve the echo that decisions are measured beside
    #[command(hide = true)]
    ServeEcho { socket: PathBuf, bytes: usize },
    /// Serve the echo that reads and writes JSON
    #[command(hide = true)]
    ServeJsonEcho { socket: PathBuf },
    /// Serve the constant response that `http` is measured beside
    #[command(hide = true)]
    ServeHyper { address: SocketAddr, bytes: usize },
}

/// Reads a goal's name or number.
fn goal(word: &str) -> Result<&'static str, String> {
    let mut known = ALL.iter().flat_map(|measurement| measurement.goals);
    known
        .find(|goal| **goal == name_of(word))
        .copied()
        .ok_or_else(|| {
            let mut names: Vec<&str> = ALL.iter().flat_map(|it| it.goals).copied().collect();
            names.dedup();
            format!("the goals are {}", names.join(", "))
        })
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.task {
        None => measure_wanted(&arguments),
        Some(Task::Readme) => match readme::write() {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => misused(&problem),
        },
        Some(Task::ServeEcho { socket, bytes }) => {
            runtime().block_on(echo::serve(socket, *bytes));
            ExitCode::SUCCESS
        }
        Some(Task::ServeJsonEcho { socket }) => {
            runtime().block_on(echo::serve_json(socket));
            ExitCode::SUCCESS
        }
        Some(Task::ServeHyper { address, bytes }) => {
            runtime().block_on(web::serve(*address, *bytes));
            ExitCode::SUCCESS
        }
    }
}

fn measure_wanted(arguments: &Arguments) -> ExitCode {
    build_soramoded();
    let (able, unable): (Vec<&Measurement>, Vec<_>) = ALL
        .iter()
        .filter(|measurement| arguments.wants(measurement))
        .partition(|measurement| missing(measurement).is_empty());
    for measurement in &unable {
        println!(
            "{} cannot be measured: apt-get install {}",
            measurement.goals.join(", "),
            missing(measurement).join(" ")
        );
    }
    if !unable.is_empty() && !arguments.quick {
        return ExitCode::from(MISUSED);
    }
    measure(&able, arguments)
}

fn misused(problem: &str) -> ExitCode {
    println!("{problem}");
    ExitCode::from(MISUSED)
}

impl Arguments {
    fn wants(&self, measurement: &Measurement) -> bool {
        match measurement.when {
            When::Always if self.goals.is_empty() => true,
            When::Minutes if self.all => true,
            When::Always | When::Minutes | When::Named => measurement
                .goals
                .iter()
                .any(|goal| self.goals.contains(goal)),
        }
    }
}

/// One after the other. One that breaks does not take the others' figures with it.
fn measure(all: &[&Measurement], arguments: &Arguments) -> ExitCode {
    let mut sheet = Sheet::default();
    let mut broken = Vec::new();
    for Measurement { goals, measure, .. } in all {
        let folder = tempfile::tempdir().unwrap();
        pin_load(Core::Any);
        let profile = if arguments.quick {
            Profile::quick(folder.path())
        } else {
            Profile::full(folder.path())
        };
        let profile = Profile {
            soak: Duration::from_mins(arguments.soak_minutes),
            ..profile
        };
        if catch_unwind(AssertUnwindSafe(|| measure(profile, &mut sheet))).is_err() {
            broken.extend_from_slice(goals);
        }
    }
    println!("\n{}", sheet.table());
    if !sheet.is_empty() {
        // A quick run does not replace the results of a full one.
        let file = sheet.write(if arguments.quick {
            "goals-quick.json"
        } else {
            "goals.json"
        });
        println!("every round: {}", file.display());
    }
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("not measured to the end: {}", broken.join(" "));
    ExitCode::FAILURE
}

/// The packages that it lacks. Nothing is installed here.
fn missing(measurement: &Measurement) -> Vec<&'static str> {
    let is_missing = |(program, _): &&Program| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .stdout(Stdio::null())
            .status();
        !found.is_ok_and(|status| status.success())
    };
    measurement
        .needs
        .iter()
        .filter(is_missing)
        .map(|(_, package)| *package)
        .collect()
}
