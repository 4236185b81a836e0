//! S6: for hours a fifth of what the daemon bears, with a drain every minute: nothing may grow.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::harness::Profile;
use super::harness::baselines;
use super::harness::chart::{self, Panel, Scale};
use super::harness::dialect::Dialect;
use super::harness::load::{CLIENTS, Client, Load, count, micros};
use super::harness::row::{Bound, Rounds, Row, Unit, percentile};
use super::harness::server::{Core, Server, pin_load};
use super::harness::sheet::{Sheet, results};

/// Fraction of the maximum rate that is requested.
const LOAD: f64 = 0.2;

const DRAIN_EVERY: Duration = Duration::from_mins(1);

const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Maximum growth of memory from the middle third to the last: the first fills caches.
const GROWTH_MAX: f64 = 1.1;

/// Maximum growth of latency, which varies more.
const LATENCY_GROWTH_MAX: f64 = 1.3;

const MIB: f64 = 1024.0 * 1024.0;

/// Headings of the columns.
const COLUMNS: [&str; 6] = [
    "resident, MiB",
    "files, MiB",
    "p50, us",
    "p99, us",
    "replies a second",
    "drain, ms",
];

/// When, in seconds, and what the columns say.
type Sample = (f64, [f64; COLUMNS.len()]);

/// Measures for so long, and draws `target/soak.svg` beside `target/soak.csv`.
pub(crate) fn measure(profile: Profile<'_>, sheet: &mut Sheet) {
    let state = profile.folder.join("soak.state");
    let server = baselines::durable(profile.folder.join("soak"), &state, &[]);
    server.pin(Core::First);
    pin_load(Core::Second);
    let bears = Load {
        clients: CLIENTS,
        depth: 1,
        time: profile.time,
    }
    .ask(&server.path, &Dialect::soramode())
    .rate;
    let pace = Duration::from_secs_f64(2.0 * count(CLIENTS) / (bears * LOAD));
    println!(
        "{bears:.0} replies a second at most; {:.0} are asked for, for {} min",
        bears * LOAD,
        profile.soak.as_secs() / 60
    );
    let samples = Soak {
        server: &server,
        state: &state,
        over: AtomicBool::new(false),
        times: Mutex::default(),
    }
    .run(pace, profile.soak);
    write(&samples);
    for (column, unit, most) in [
        (0, Unit::MiB, GROWTH_MAX),
        (1, Unit::MiB, GROWTH_MAX),
        (2, Unit::Micros, LATENCY_GROWTH_MAX),
        (3, Unit::Micros, LATENCY_GROWTH_MAX),
    ] {
        let third = samples.len() / 3;
        let (middle, last) = (
            samples.iter().skip(third).take(third),
            samples.iter().skip(2 * third).take(third),
        );
        let rounds = Rounds::of(
            last.zip(middle)
                .map(|(last, middle)| (last.1[column], middle.1[column]))
                .collect(),
        );
        let what = format!("soak, {}, last third", COLUMNS[column]);
        sheet.add(Row {
            goal: "soak",
            what,
            unit,
            yardstick: "the third before",
            rounds,
            bound: Bound::AtMost(most),
        });
    }
}

struct Soak<'a> {
    server: &'a Server,
    state: &'a Path,
    over: AtomicBool,
    /// Times of the answers since the last sample, in microseconds.
    times: Mutex<Vec<f64>>,
}

impl Soak<'_> {
    fn run(&self, pace: Duration, long: Duration) -> Vec<Sample> {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || self.come_and_go(client, pace));
            }
            let samples = self.watch(long);
            self.over.store(true, Ordering::Relaxed);
            samples
        })
    }

    fn come_and_go(&self, client: usize, pace: Duration) {
        let turns = Dialect::soramode().turns(client, 1);
        let mut asker = Client::to(&self.server.path, &Dialect::soramode());
        let mut next = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            for turn in &turns {
                let began = Instant::now();
                asker.text(&turn.message, "\"result\"");
                self.times
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(micros(began.elapsed()));
            }
            next = (next + pace).max(Instant::now());
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    }

    fn watch(&self, long: Duration) -> Vec<Sample> {
        let began = Instant::now();
        let mut operator = Client::to(&self.server.path, &Dialect::soramode());
        let (mut samples, mut drain, mut drains) = (Vec::new(), 0.0, 0);
        while began.elapsed() < long {
            let since = Instant::now();
            thread::sleep(SAMPLE_EVERY);
            if began.elapsed() >= DRAIN_EVERY * (drains + 1) {
                drain = drain_once(&mut operator);
                drains += 1;
            }
            let mut times =
                std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner));
            times.sort_by(f64::total_cmp);
            let rate = count(times.len()) / since.elapsed().as_secs_f64();
            let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
            let row = [
                self.server.resident_mib(),
                files_mib(self.state),
                p50,
                p99,
                rate,
                drain,
            ];
            samples.push((began.elapsed().as_secs_f64(), row));
        }
        samples
    }
}

/// Closes the node, waits until it is empty, and opens it again; how long it took to be empty, in milliseconds.
fn drain_once(operator: &mut Client) -> f64 {
    let began = Instant::now();
    operator.text(
        b"{\"id\":1,\"method\":\"ChangeMode\",\"params\":{\"mode\":\"block_new_session\"}}\n",
        "\"result\"",
    );
    operator.text(
        b"{\"id\":2,\"method\":\"Wait\",\"params\":{\"for\":\"drained\"}}\n",
        "\"result\"",
    );
    let took = micros(began.elapsed()) / 1e3;
    operator.text(
        b"{\"id\":3,\"method\":\"ChangeMode\",\"params\":{\"mode\":\"normal\"}}\n",
        "\"result\"",
    );
    took
}

fn files_mib(folder: &Path) -> f64 {
    let sizes = fs::read_dir(folder)
        .unwrap()
        .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
    f64::from(u32::try_from(sizes.sum::<u64>() / 1024).unwrap()) * 1024.0 / MIB
}

fn write(samples: &[Sample]) {
    let row = |(seconds, row): &Sample| {
        format!(
            "{seconds:.1},{}\n",
            row.map(|value| format!("{value:.2}")).join(",")
        )
    };
    let head = COLUMNS.map(|column| format!("\"{column}\"")).join(",");
    let text: String = std::iter::once(format!("seconds,{head}\n"))
        .chain(samples.iter().map(row))
        .collect();
    let at = |name: &str| -> PathBuf { results().join(name) };
    fs::write(at("soak.csv"), text).unwrap();
    let panel = |(column, title): (usize, &&str)| Panel {
        title: (*title).to_owned(),
        curves: vec![
            samples
                .iter()
                .map(|(seconds, row)| (seconds / 60.0, row[column]))
                .collect(),
        ],
    };
    let panels: Vec<Panel> = COLUMNS.iter().enumerate().map(panel).collect();
    chart::draw(&at("soak.svg"), &panels, &["soramode"], Scale::Even);
    println!("drawn: {}", at("soak.svg").display());
}
