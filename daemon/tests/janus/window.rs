//! Measurements, by hand: the time between the last leave and the lock, clients that slip in, and the time of a join meanwhile.
//! Run them with `--run-ignored only --no-capture`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use soramode_testkit::daemon::Daemon;
use soramode_testkit::janus::client::Handle;
use soramode_testkit::janus::{ADMIN_KEY, FIRST_NUMBERED, Janus, Setup};

use crate::locks::{in_force, join, set};
use crate::proxy::{AdminProxy, Side};
use crate::watch::Watch;

/// Rooms that a last participant leaves.
const LEAVES: u64 = 200;

/// Attempts to slip in, for each pause.
const SLIPS: u64 = 40;

/// Rooms that are locked and listed while clients join.
const ROOMS: u64 = 5_000;

/// Number of joins that are measured.
const JOINS: u64 = 500;

/// Shows the median, the 99th percentile and the longest of some times, in milliseconds.
fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    eprintln!(
        "{name}: p50 {:.2} ms, p99 {:.2}, longest {:.2}",
        at(50),
        at(99),
        at(100)
    );
}

struct Locked {
    janus: Janus,
    daemon: Daemon,
    /// When each room was locked.
    at: Arc<Mutex<BTreeMap<u64, Instant>>>,
}

fn locked(rooms: u64) -> Locked {
    let janus = Janus::start(&Setup {
        rooms: Vec::new(),
        numbered_rooms: rooms,
        ..Setup::with_events()
    });
    let proxy = AdminProxy::to(janus.admin);
    let at = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&at);
    proxy.at_requests(move |side, request| {
        let request = &request["request"];
        if side == Side::After && request["action"] == "enable" {
            let room = request["room"].as_u64().unwrap();
            seen.lock().unwrap().insert(room, Instant::now());
        }
        true
    });
    let daemon = janus.locking_with(|settings| {
        settings.admin = format!("http://{}/admin", proxy.address).parse().unwrap();
    });
    Watch::of(&daemon).synced();
    Locked { janus, daemon, at }
}

impl Locked {
    /// Waits until these rooms are locked, and returns the times since then.
    fn since(&self, left: &BTreeMap<u64, Instant>) -> Vec<Duration> {
        let mut client = self.daemon.client();
        while !left
            .keys()
            .all(|room| self.at.lock().unwrap().contains_key(room))
        {
            std::thread::yield_now();
        }
        in_force(&mut client, "yes");
        let at = self.at.lock().unwrap();
        left.iter()
            .map(|(room, left)| at[room].saturating_duration_since(*left))
            .collect()
    }
}

#[test]
#[ignore = "a measurement"]
fn time_between_the_last_leave_and_the_lock() {
    let ids = || FIRST_NUMBERED..FIRST_NUMBERED + LEAVES;
    for is_at_once in [false, true] {
        let locked = locked(LEAVES);
        let mut client = locked.daemon.client();
        let mut user = locked.janus.client();
        let handles: Vec<Handle> = ids()
            .map(|room| user.must_join(&json!({"room": room, "id": 1})))
            .collect();
        assert_eq!(set(&mut client, "block_new_session"), "yes");
        let mut left = BTreeMap::new();
        if is_at_once {
            let now = Instant::now();
            user.destroy();
            left.extend(ids().map(|room| (room, now)));
        } else {
            for (room, handle) in ids().zip(&handles) {
                user.leave(handle);
                left.insert(room, Instant::now());
                while !locked.at.lock().unwrap().contains_key(&room) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        let name = if is_at_once {
            "200 leaves at once"
        } else {
            "one leave after the other"
        };
        show(name, locked.since(&left));
    }
}

#[test]
#[ignore = "a measurement"]
fn clients_that_slip_in() {
    for pause in [0, 1, 10] {
        let locked = locked(SLIPS);
        let mut client = locked.daemon.client();
        let (mut user, mut other) = (locked.janus.client(), locked.janus.client());
        let ids = FIRST_NUMBERED..FIRST_NUMBERED + SLIPS;
        let handles: Vec<Handle> = ids
            .clone()
            .map(|room| user.must_join(&json!({"room": room, "id": 1})))
            .collect();
        assert_eq!(set(&mut client, "block_new_session"), "yes");
        let slipped = ids.zip(&handles).filter(|(room, handle)| {
            user.leave(handle);
            std::thread::sleep(Duration::from_millis(pause));
            join(&mut other, &json!(room), &json!(2)) == 0
        });
        let slipped = slipped.count();
        in_force(&mut client, "yes");
        eprintln!("after {pause} ms {slipped} of {SLIPS} got in");
    }
}

/// Measures joins while something else goes on.
fn joins(janus: &Janus, name: &str, meanwhile: impl Fn() + Send + Sync) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                meanwhile();
            }
        });
        let mut user = janus.client();
        let times = (0..JOINS).map(|_| {
            let handle = user.attach();
            let began = Instant::now();
            user.join_with(&handle, &json!({"room": 1, "id": 1}));
            let took = began.elapsed();
            user.detach(&handle);
            took
        });
        show(name, times.collect());
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
#[ignore = "a measurement"]
fn time_of_a_join() {
    let janus = Janus::start(&Setup {
        rooms: vec![("room-1", "")],
        numbered_rooms: ROOMS,
        ..Setup::default()
    });
    joins(&janus, "join, Janus is idle", || {
        std::thread::sleep(Duration::from_millis(1));
    });
    joins(&janus, "join, rooms are listed without a pause", || {
        janus.videoroom(&json!({"request": "list", "admin_key": ADMIN_KEY}));
    });
    let daemon = janus.locking();
    in_force(&mut daemon.client(), "yes");
    joins(&janus, "join, rooms are listed each second", || {
        std::thread::sleep(Duration::from_millis(1));
    });
    let began = Instant::now();
    set(&mut daemon.client(), "block_new_session");
    in_force(&mut daemon.client(), "yes");
    eprintln!("{ROOMS} rooms are locked after {:?}", began.elapsed());
    let began = Instant::now();
    set(&mut daemon.client(), "normal");
    in_force(&mut daemon.client(), "yes");
    eprintln!("{ROOMS} rooms are unlocked after {:?}", began.elapsed());
    joins(
        &janus,
        "join, rooms are locked and unlocked without a pause",
        || {
            for mode in ["block_new_session", "normal"] {
                set(&mut daemon.client(), mode);
            }
        },
    );
}
