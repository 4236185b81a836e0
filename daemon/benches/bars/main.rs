//! Every goal of speed and size, each beside its yardstick in the same run and in turn.
//!
//! `cargo bench -p soramoded --bench bars` measures all; words after `--` pick bars (`P1 P4`), `--quick` takes fewer rounds and fewer
//! connections, and leaves out what needs a program that is not installed. `--all` takes in what takes minutes: a clean build (P15) and
//! `growth`, which draws `daemon/benches/growth.svg`. `soak 120` takes so many minutes, and draws `target/soak.svg`. The table goes to the
//! terminal, every round to `target/bars.json`, from where `readme` takes the tables of the READMEs.
//!
//! Claims in the cluster (P14) need `--features cluster`.
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
mod decide;
mod disk;
mod doors;
mod growth;
mod keep;
mod list;
mod readme;
mod rest;
mod soak;
mod start;
mod subscribers;
mod yard;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use yard::server::{Core, pin_load};
use yard::sheet::Sheet;
use yard::{Effort, SOAK, echo, runtime, web};

/// What is not there was asked for.
const MISUSED: u8 = 2;

/// What is measured together, the bars that come out, and what they are measured beside: Debian's packages.
struct Measurement {
    bars: &'static [&'static str],
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
        bars: &["P1", "P2", "P3", "P3b", "P8"],
        measure: decide::measure,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        bars: &["P4"],
        measure: keep::decisions,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        bars: &["P5"],
        measure: keep::modes,
        needs: &[TASKSET, HAPROXY, JANUS],
        when: When::Always,
    },
    Measurement {
        bars: &["P5", "P10"],
        measure: disk::measure,
        needs: &[TASKSET],
        when: When::Always,
    },
    Measurement {
        bars: &["P6"],
        measure: command::measure,
        needs: &[TASKSET, REDIS, SOCAT, CURL, TIME],
        when: When::Always,
    },
    Measurement {
        bars: &["P7"],
        measure: doors::measure,
        needs: &[TASKSET, NGINX],
        when: When::Always,
    },
    Measurement {
        bars: &["P9"],
        measure: list::measure,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        bars: &["P11"],
        measure: subscribers::measure,
        needs: &[TASKSET],
        when: When::Always,
    },
    Measurement {
        bars: &["P12"],
        measure: start::measure,
        needs: &[TASKSET, REDIS],
        when: When::Always,
    },
    Measurement {
        bars: &["P13"],
        measure: rest::idle,
        needs: &[TASKSET],
        when: When::Always,
    },
    #[cfg(feature = "cluster")]
    Measurement {
        bars: &["P14"],
        measure: claims::measure,
        needs: &[TASKSET, ETCD],
        when: When::Always,
    },
    Measurement {
        bars: &["soak", "S6"],
        measure: soak::measure,
        needs: &[TASKSET],
        when: When::Named,
    },
    Measurement {
        bars: &["growth"],
        measure: growth::measure,
        needs: &[TASKSET, REDIS],
        when: When::Minutes,
    },
    Measurement {
        bars: &["P15"],
        measure: rest::build,
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
    let (able, unable): (Vec<&Measurement>, Vec<_>) = wanted
        .measurements
        .iter()
        .copied()
        .partition(|measurement| missing(measurement).is_empty());
    for measurement in &unable {
        println!(
            "{} cannot be measured: apt-get install {}",
            measurement.bars.join(", "),
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
                    .any(|measurement| measurement.bars.contains(&argument)) =>
                {
                    words.push(argument);
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
            .filter(|Measurement { bars, when, .. }| match *when {
                When::Always if words.is_empty() => true,
                When::Minutes if is_all => true,
                When::Always | When::Minutes | When::Named => {
                    bars.iter().any(|bar| words.contains(bar))
                }
            });
        wanted.measurements = picked.collect();
        Ok(wanted)
    }
}

fn names() -> String {
    ALL.iter()
        .flat_map(|measurement| measurement.bars)
        .copied()
        .collect::<Vec<_>>()
        .join(" ")
}

/// One after the other. One that breaks does not take the others' figures with it.
fn measure(all: &[&Measurement], wanted: &Wanted) -> ExitCode {
    let mut sheet = Sheet::default();
    let mut broken = Vec::new();
    for Measurement { bars, measure, .. } in all {
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
            broken.extend_from_slice(bars);
        }
    }
    println!("\n{}", sheet.table());
    if !sheet.is_empty() {
        // What was looked at quickly takes no place of what was measured.
        let file = sheet.write(if wanted.is_quick {
            "bars-quick.json"
        } else {
            "bars.json"
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
