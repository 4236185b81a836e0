//! The runbook's sections on plans, as their reader follows them.

use nix::sys::signal::Signal;

use crate::doc_commands::Machine;
use crate::plans::ahead;
use crate::runbook::{SECTIONS, section};
use crate::support::Daemon;

/// The time in the runbook, which is past one day.
const AT: &str = "2026-12-01 02:00";

#[test]
fn a_drain_with_a_deadline() {
    let daemon = Daemon::with_subscriber();
    daemon.connect("spam", "c-1");
    let machine = Machine::new(&daemon.socket());
    let [deadline, at_night, one_line] = section(SECTIONS[6]);
    let mut draining = machine.begin(&format!("exec {deadline}"));
    draining.until_said("Ctrl-C stops waiting; the plan goes on");
    draining.signal(Signal::SIGINT);
    assert_eq!(draining.ended().code, 130);
    daemon.ok(&["plan", "cancel"]);

    let at_night = at_night.replace(AT, &ahead());
    let ended = machine.all(&at_night, &[0, 0]);
    assert!(
        ended[1].stdout.contains("scheduled") && ended[1].stdout.contains("CHG-125 kernel"),
        "{ended:#?}"
    );
    daemon.ok(&["plan", "cancel"]);

    daemon.disconnect("c-1");
    let closed = || assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    assert_eq!(
        machine
            .with_systemctl(&one_line, "restart sora", closed)
            .code,
        0
    );
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn tell_people_first() {
    let mut daemon = Daemon::start();
    daemon.connect("spam", "c-1");
    let machine = Machine::new(&daemon.socket());
    let [by_hand, by_plan] = section(SECTIONS[7]);
    machine.all(&by_hand, &[5]);
    daemon.subscribe();
    let mut draining = machine.begin(&format!("exec {by_plan}"));
    draining.until_said("Ctrl-C stops waiting; the plan goes on");
    draining.signal(Signal::SIGINT);
    assert_eq!(draining.ended().code, 130);
}

#[test]
fn a_plan_is_running() {
    let daemon = Daemon::with_subscriber();
    daemon.connect("spam", "c-1");
    let machine = Machine::new(&daemon.socket());
    let [look, put_off, later] = section(SECTIONS[8]);
    let start = later.replace(" --replace", "").replace("2h", "1h");
    machine.all(&start, &[0]);
    let ended = machine.all(&look, &[0, 0]);
    assert!(
        ended
            .iter()
            .all(|ended| ended.stdout.contains("plan cancel")),
        "{ended:#?}"
    );
    machine.all(&later, &[0]);
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    machine.all(&put_off, &[0, 0]);
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}
