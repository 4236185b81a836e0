//! command: `soramode get` as a whole process, beside a client that does nothing else, and what people type in its place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use soramode_benches::{build_soramode, cargo, program};

use super::harness::Profile;
use super::harness::baselines::{self, Aof};
use super::harness::dialect::resp;
use super::harness::load::{Client, micros};
use super::harness::row::{Bound, Rounds, Row, Unit, median};
use super::harness::server::{Core, pin_load};
use super::harness::sheet::Sheet;

/// Number of runs per round: 40 in each of five rounds.
const RUNS: usize = 40;

/// Maximum memory of the command, in MiB.
const PEAK_MAX_MIB: f64 = 4.5;

const KIB_A_MIB: f64 = 1024.0;

/// Sora's API listens there.
const API: &str = "127.0.0.1:19571";

/// One of those that are run, and what it prints at least.
struct Contender {
    name: &'static str,
    command: Command,
    /// File for its standard input, if any.
    input: Option<PathBuf>,
}

pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    build_soramode();
    cargo(&["-p", "soramoded", "--example", "bare-client"]);
    pin_load(Core::Second);
    let server = baselines::volatile(profile.folder.join("gate"), &["--api-listen", API])
        .with_http(API.parse().unwrap());
    let (redis, dialect) = baselines::redis(&profile.folder.join("redis"), Aof::None);
    Client::to(&redis.path, &dialect).text(resp(&["SET", "mode", "normal"]).as_bytes(), "OK");
    let mut all = contenders(&server.path, &redis.path);
    let rounds: Vec<Vec<f64>> = (0..profile.rounds).map(|_| round(&mut all)).collect();
    let beside = |number: usize| {
        Rounds::of(
            rounds
                .iter()
                .map(|times| (times[0], times[number]))
                .collect(),
        )
    };
    let bounds = [
        Bound::AtMost(1.25),
        Bound::AtMost(0.38),
        Bound::Shown,
        Bound::Shown,
    ];
    for (number, bound) in (1..).zip(bounds) {
        let (what, yardstick) = (
            "soramode get, from start to end".to_owned(),
            all[number].name,
        );
        sheet.add(Row {
            goal: "command",
            what,
            unit: Unit::Micros,
            yardstick,
            rounds: beside(number),
            bound,
        });
    }
    let peaks = (0..profile.rounds)
        .map(|_| (peak_mib(&all[0]), peak_mib(&all[1])))
        .collect();
    sheet.add(Row {
        goal: "command",
        what: "soramode get, peak memory".to_owned(),
        unit: Unit::MiB,
        yardstick: all[1].name,
        rounds: Rounds::of(peaks),
        bound: Bound::Within(PEAK_MAX_MIB),
    });
}

/// soramode, the bare client, and the others.
fn contenders(socket: &Path, redis: &Path) -> [Contender; 5] {
    let contender = |name, command, input| Contender {
        name,
        command,
        input,
    };
    let mut ours = Command::new(program("soramode"));
    ours.arg("--socket").arg(socket).arg("get");
    let mut bare = Command::new(program("examples/bare-client"));
    bare.arg("--socket").arg(socket).arg("get");
    let mut redis_cli = Command::new("redis-cli");
    redis_cli.arg("-s").arg(redis).args(["GET", "mode"]);
    let mut socat = Command::new("socat");
    socat
        .arg("-")
        .arg(format!("UNIX-CONNECT:{}", socket.display()));
    let request = socket.with_extension("request");
    fs::write(&request, "{\"id\":1,\"method\":\"GetMode\"}\n").unwrap();
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--data",
        "",
        "--header",
        "x-sora-target: Sora_20211215.GetMode",
    ])
    .arg(format!("http://{API}/"));
    [
        contender("soramode", ours, None),
        contender("bare client", bare, None),
        contender("redis-cli", redis_cli, None),
        contender("socat", socat, Some(request)),
        contender("curl", curl, None),
    ]
}

/// The medians, in microseconds, of each run in turn.
fn round(all: &mut [Contender]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(RUNS); all.len()];
    for _ in 0..RUNS {
        for (contender, times) in all.iter_mut().zip(&mut times) {
            let began = Instant::now();
            let output = prepared(&mut contender.command, contender.input.as_deref())
                .output()
                .unwrap();
            times.push(micros(began.elapsed()));
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success() && said.contains("normal"),
                "{}: {said}",
                contender.name
            );
        }
    }
    times
        .into_iter()
        .map(|times| median(times.into_iter()))
        .collect()
}

fn prepared<'a>(command: &'a mut Command, input: Option<&Path>) -> &'a mut Command {
    command
        .stdin(input.map_or_else(Stdio::null, |input| File::open(input).unwrap().into()))
        .env_remove("SORAMODE_SOCKET")
}

/// Returns its highest memory use.
fn peak_mib(contender: &Contender) -> f64 {
    let mut command = Command::new("time");
    command
        .args(["-f", "%M"])
        .arg(contender.command.get_program())
        .args(contender.command.get_args());
    let output = prepared(&mut command, contender.input.as_deref())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    said.trim()
        .parse::<f64>()
        .unwrap_or_else(|error| panic!("{error}: {said}"))
        / KIB_A_MIB
}
