//! Rolls that are killed, and daemons that start anew: a checker outside of both judges how long their reservations keep others out.
//!
//! `SORAMODE_ROLL_LAPSE=1` waits for the minute, and lets another roll begin then.

use std::fs;

use crate::fleet::Fleet;
use crate::roll_checker::{Checker, Promise};
use crate::support::until;

const NODES: usize = 3;

#[test]
fn a_dead_roll_and_a_daemon_that_starts_anew_block_for_a_minute_at_most() {
    let waits = std::env::var("SORAMODE_ROLL_LAPSE").is_ok();
    let mut fleet = Fleet::start(NODES);
    let sockets = fleet.daemons.iter().map(crate::support::Daemon::socket);
    let mut checker = Checker::new(sockets.collect());
    let command = fleet.until_file();
    let mut roll = fleet.start_roll(&["--", "sh", "-c", &command]);
    roll.until_said("sfu-01: running the command");
    let killed = roll.stopped();
    let id = killed.stderr.split("roll ").nth(1).unwrap();
    let id = id.split(':').next().unwrap();
    let promise = Promise {
        nodes: (0..NODES).collect(),
        keep_open: NODES - 1,
    };
    checker.promises.insert(id.to_owned(), promise);
    fleet.until_no_dials();
    checker.note_end(id);
    assert_eq!(checker.check_reservations(), NODES, "{killed:?}");
    fleet.restart(1);
    assert_eq!(checker.check_reservations(), NODES);
    let other = ["--only", "sfu-02", "--skip-closed", "--", "true"];
    let refused = fleet.roll(&other);
    assert_eq!(refused.code, 5, "{refused:?}");
    assert!(
        refused
            .stderr
            .contains(&format!("is reserved for roll {id}")),
        "{refused:?}"
    );
    if waits {
        until(|| (checker.check_reservations() == 0).then_some(()));
    }
    checker.read();
    let verdict = checker.judge();
    assert_eq!(verdict.violations, Vec::<String>::new());
    assert!(verdict.closes > 0);
    if waits {
        let words = ["-H", "sfu-02,sfu-03", "roll", "--keep-open", "1", "-m", "Y"];
        let taken = fleet.run(&[&words[..], &["--", "true"]].concat());
        assert_eq!(taken.code, 0, "{taken:?}");
    }
    fs::write(fleet.file(), "").unwrap();
}
