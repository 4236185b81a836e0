//! idle and build: what soramode takes while nobody asks for anything, and what it takes to build it.

use std::fs;
use std::time::{Duration, Instant};

use soramode_benches::cargo;

use super::harness::Profile;
use super::harness::baselines;
use super::harness::dialect::Dialect;
use super::harness::load::Client;
use super::harness::row::{Bound, Rounds, Row, Unit};
use super::harness::sheet::Sheet;

/// An idle minute may cost what a few timers cost, in milliseconds of a core.
const IDLE_CPU_MAX_MS: f64 = 1.0;

const IDLE_RESIDENT_MAX_MIB: f64 = 10.0;

const IDLE_WAKEUPS_MAX: f64 = 10.0;

/// Until what a start leaves to be done is done: the write-ahead log is copied back after 30 s.
const SETTLING: Duration = Duration::from_secs(35);

const BUILD_MAX_SECONDS: f64 = 300.0;

/// Maximum sizes of the programs, stripped, in MiB.
const PROGRAMS: [(&str, f64); 2] = [("soramoded", 14.0), ("soramode", 6.0)];

const MINUTE: f64 = 60.0;

const MIB: f64 = 1024.0 * 1024.0;

/// idle: a daemon that keeps its state, was asked something once, and is left alone.
pub(crate) fn idle(profile: Profile<'_>, sheet: &mut Sheet) {
    let server = baselines::durable(
        profile.folder.join("idle"),
        &profile.folder.join("idle.state"),
        &[],
    );
    Client::to(&server.path, &Dialect::soramode())
        .text(b"{\"id\":1,\"method\":\"GetMode\"}\n", "\"result\"");
    std::thread::sleep(SETTLING);
    let (cpu, wakeups) = (server.cpu_ms(), server.wakeups());
    std::thread::sleep(profile.idle);
    let a_minute = MINUTE / profile.idle.as_secs_f64();
    let mut row = |what: &str, unit, value, most| {
        let (rounds, bound) = (Rounds::alone([value]), Bound::Within(most));
        sheet.add(Row {
            goal: "idle",
            what: what.to_owned(),
            unit,
            yardstick: "",
            rounds,
            bound,
        });
    };
    row(
        "idle, CPU a minute",
        Unit::Millis,
        (server.cpu_ms() - cpu) * a_minute,
        IDLE_CPU_MAX_MS,
    );
    row(
        "idle, wake-ups",
        Unit::AMinute,
        (server.wakeups() - wakeups) * a_minute,
        IDLE_WAKEUPS_MAX,
    );
    row(
        "idle, resident",
        Unit::MiB,
        server.resident_mib(),
        IDLE_RESIDENT_MAX_MIB,
    );
}

/// build: from an empty target folder, with what cargo has fetched already.
pub(crate) fn build(profile: Profile<'_>, sheet: &mut Sheet) {
    let target = profile.folder.join("target");
    let began = Instant::now();
    cargo(&["--target-dir", target.to_str().unwrap()]);
    let mut row = |what: String, unit, value, most| {
        let (rounds, bound) = (Rounds::alone([value]), Bound::Within(most));
        sheet.add(Row {
            goal: "build",
            what,
            unit,
            yardstick: "",
            rounds,
            bound,
        });
    };
    row(
        "clean release build".to_owned(),
        Unit::Seconds,
        began.elapsed().as_secs_f64(),
        BUILD_MAX_SECONDS,
    );
    for (program, most) in PROGRAMS {
        let bytes = fs::metadata(target.join("release").join(program))
            .unwrap()
            .len();
        row(
            format!("{program}'s size"),
            Unit::MiB,
            f64::from(u32::try_from(bytes).unwrap()) / MIB,
            most,
        );
    }
}
