//! Every goal of speed and size, each beside its yardstick in the same run and in turn.
//!
//! `cargo bench -p soramode-benches --bench goals` measures all; words after `--` pick goals by name (`decisions round-trip http`) or number (`P1 P4`), `--quick` takes fewer rounds and fewer
//! connections, and leaves out what needs a program that is not installed. `--all` takes in what takes minutes: a clean build and
//! `growth`, which draws `daemon/benches/growth.svg`. `soak 120` takes so many minutes, and draws `target/soak.svg`. The table goes to the
//! terminal, every round to `target/goals.json`, from where `readme` takes the tables of the READMEs.
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
mod readme;
mod soak;
mod start;
mod subscribers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use soramode_benches::build_soramoded;

use harness::server::{Core, pin_load};
use harness::sheet::{Sheet, name_of};
use harness::{Effort, SOAK, echo, runtime, web};

/// What is not there was asked for.
const MISUSED: u8 = 2;

/// What is measured together, the goals that come out, and what they are measured beside: Debian's packages.
struct Measurement {
    goals: &'static [&'static str],
    measure: fn(Effort<'_>, &mut Sheet),
    needs: &'static [Program],
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    /// It takes minutes: with `--all`, or when it is named.
    Minutes,
    /// It takes hours.
    Named,
}

/// A program, and Debian's package that has it.
type Program = (&'static str, &'static str);

const REDIS: Program = ("redis-server", "redis-server");
const HAPROXY: Program = ("haproxy", "haproxy");
const JANUS: Program = ("janus", "janus");
const CURL: Program = ("curl", "curl");
const NGINX: Program = ("nginx", "nginx");
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
        goals: &["http"],
        measure: http::measure,
        needs: &[TASKSET, NGINX],
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
        goals: &["soak", "soak"],
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

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [play, path, bytes] = arguments.as_slice() {
        match play.as_str() {
            "play-echo" => runtime().block_on(echo::serve(Path::new(path), bytes.parse().unwrap())),
            "play-hyper" => {
                runtime().block_on(web::serve(path.parse().unwrap(), bytes.parse().unwrap()));
            }
            _ => (),
        }
    }
    if arguments.first().is_some_and(|word| word == "readme") {
        return match readme::write() {
            Ok(()) => ExitCode::SUCCESS,
            Err(told) => misused(&told),
        };
    }
    let wanted = match Wanted::read(&arguments) {
        Ok(wanted) => wanted,
        Err(told) => return misused(&told),
    };
    build_soramoded();
    let (able, unable): (Vec<&Measurement>, Vec<_>) = wanted
        .measurements
        .iter()
        .copied()
        .partition(|measurement| missing(measurement).is_empty());
    for measurement in &unable {
        println!(
            "{} cannot be measured: apt-get install {}",
            measurement.goals.join(", "),
            missing(measurement).join(" ")
        );
    }
    if !unable.is_empty() && !wanted.is_quick {
        return ExitCode::from(MISUSED);
    }
    measure(&able, &wanted)
}

fn misused(told: &str) -> ExitCode {
    println!("{told}");
    ExitCode::from(MISUSED)
}

/// What the command line asks for.
struct Wanted {
    measurements: Vec<&'static Measurement>,
    is_quick: bool,
    soak: Duration,
}

impl Wanted {
    fn read(arguments: &[String]) -> Result<Self, String> {
        let mut wanted = Self {
            measurements: Vec::new(),
            is_quick: false,
            soak: SOAK,
        };
        let mut is_all = false;
        let mut words = Vec::new();
        for argument in arguments.iter().map(String::as_str) {
            match argument {
                "--quick" => wanted.is_quick = true,
                "--all" => is_all = true,
                // cargo says so to every benchmark.
                "--bench" => (),
                _ if ALL
                    .iter()
                    .any(|measurement| measurement.goals.contains(&name_of(argument))) =>
                {
                    words.push(name_of(argument));
                }
                minutes => {
                    let minutes = minutes.parse().map_err(|_| {
                        format!(
                            "{minutes}: takes {}, --quick, --all and a soak's minutes",
                            names()
                        )
                    })?;
                    wanted.soak = Duration::from_mins(minutes);
                }
            }
        }
        let picked = ALL
            .iter()
            .filter(|Measurement { goals, when, .. }| match *when {
                When::Always if words.is_empty() => true,
                When::Minutes if is_all => true,
                When::Always | When::Minutes | When::Named => {
                    goals.iter().any(|goal| words.contains(goal))
                }
            });
        wanted.measurements = picked.collect();
        Ok(wanted)
    }
}

fn names() -> String {
    ALL.iter()
        .flat_map(|measurement| measurement.goals)
        .copied()
        .collect::<Vec<_>>()
        .join(" ")
}

/// One after the other. One that breaks does not take the others' figures with it.
fn measure(all: &[&Measurement], wanted: &Wanted) -> ExitCode {
    let mut sheet = Sheet::default();
    let mut broken = Vec::new();
    for Measurement { goals, measure, .. } in all {
        let folder = tempfile::tempdir().unwrap();
        pin_load(Core::Any);
        let effort = if wanted.is_quick {
            Effort::quick(folder.path())
        } else {
            Effort::full(folder.path())
        };
        let effort = Effort {
            soak: wanted.soak,
            ..effort
        };
        if catch_unwind(AssertUnwindSafe(|| measure(effort, &mut sheet))).is_err() {
            broken.extend_from_slice(goals);
        }
    }
    println!("\n{}", sheet.table());
    if !sheet.is_empty() {
        // What was looked at quickly takes no place of what was measured.
        let file = sheet.write(if wanted.is_quick {
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
