//! Waiting for a plan: `drain` and `maintain` until it is over, and all that ends the wait before.

use nix::sys::signal::Signal;

use crate::doc_commands::signalling_server;
use crate::plans::{ENDS, RISK, id_of, plan_of};
use crate::support::{Daemon, Ended, Run, Running, program};

/// A daemon with one session, and a command that waits for its plan.
fn waiting(args: &[&str]) -> (Daemon, Running, String) {
    let daemon = Daemon::with_subscriber();
    daemon.connect("会議室", "c1");
    let mut running = daemon.spawn(args);
    running.until_said("Ctrl-C stops waiting; the plan goes on");
    let id = id_of(&daemon);
    (daemon, running, id)
}

#[test]
fn a_plan_that_ends_sessions_is_watched_until_the_node_is_empty() {
    let daemon = Daemon::start();
    signalling_server(
        &daemon.socket(),
        &[("spam", "c-1"), ("spam", "c-2"), ("ham", "h-1")],
    );
    let ended = daemon.run(&[
        "drain",
        "--end-after",
        "0s",
        "--end-rate",
        "max",
        RISK,
        "-m",
        "CHG-1",
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stderr.contains("waiting without a limit until plan ")
            && ended.stdout.starts_with("node-01 is empty after ")
            && ended.stdout.ends_with(
                "(2 sessions ended) and still closed. When you are done: soramode set normal\n"
            ),
        "{ended:?}"
    );
    let plan = plan_of(&daemon);
    assert_eq!(
        (&plan["outcome"], &plan["asked"], &plan["ended"]),
        (&"done".into(), &2.into(), &2.into()),
        "{plan}"
    );
}

#[test]
fn a_plan_without_an_end_waits_as_a_drain_does() {
    let (daemon, drain, id) = waiting(&["drain", "--tighten-after", "20m"]);
    daemon.disconnect("c1");
    let ended = drain.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stderr.contains("waiting at most 30 min until plan ")
            && ended.stdout.contains("(1 session ended) and still closed"),
        "{ended:?}"
    );
    assert_eq!(plan_of(&daemon)["outcome"], "done");
    let again = daemon.run(&["drain", "--tighten-after", "20m"]);
    assert!(
        again
            .stdout
            .ends_with("and still closed. When you are done: soramode set normal\n"),
        "the same plan, whose own mode is no mode from before: {again:?}"
    );
    let (_, report) = daemon.json(&["drain", "--tighten-after", "20m"]);
    assert_eq!(
        (&report["outcome"], &report["plan"]["id"]),
        (&"reached".into(), &id.as_str().into()),
        "the same plan is done: {report}"
    );
    // Other conditions are those of the drain.
    let (daemon, drain, _) = waiting(&["drain", "--tighten-after", "20m", "--max-sessions", "1"]);
    let ended = drain.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("is down to 1 session"), "{ended:?}");
    assert_eq!(plan_of(&daemon)["state"], "closed");
}

#[test]
fn a_plan_that_stops_in_another_way_ends_the_wait() {
    for (args, code, words, hint) in [
        (
            &["open"][..],
            6,
            "was cancelled (the node was opened). node-01 is open: uid:",
            "To close the node and drain it: soramode drain",
        ),
        (
            &["plan", "cancel", "-m", "put off"],
            6,
            "was cancelled by uid:",
            "(\"put off\"). node-01 stays closed (block_new_session)\nhint: Wait until",
        ),
        (
            &["drain", "--tighten-after", "1m", "--replace", "--no-wait"],
            6,
            "was replaced by another plan",
            "See the plan that replaced it: soramode plan",
        ),
    ] {
        let (daemon, drain, id) = waiting(&ENDS);
        daemon.ok(args);
        let ended = drain.ended();
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(
            ended
                .stderr
                .contains(&format!("soramode: stopped waiting: plan {id} {words}"))
                && ended.stderr.contains(hint),
            "{ended:?}"
        );
    }
}

#[test]
fn a_wait_that_ends_early_says_that_the_plan_goes_on() {
    let says = |ended: &Ended, id: &str| {
        assert!(
            ended.stderr.contains(&format!(
                ". Plan {id} goes on: it blocks new connections from "
            )) && ended.stderr.contains(", and ends the sessions that are left from ")
                && ended.stderr.contains(" on (in ")
                && ended.stderr.ends_with(&format!(
                    "hint: Watch it again with the same command. Cancel it: soramode plan cancel {id}\n"
                )),
            "{ended:?}"
        );
    };
    let (daemon, drain, id) = waiting(&ENDS);
    drain.signal(Signal::SIGINT);
    let ended = drain.ended();
    assert_eq!(ended.code, 130, "{ended:?}");
    says(&ended, &id);
    assert_eq!(plan_of(&daemon)["state"], "closed", "it does go on");

    let endless = ["drain", "--lead", "1h", "--timeout", "1s"];
    let (_daemon, drain, id) = waiting(&endless);
    let ended = drain.ended();
    assert_eq!(ended.code, 124, "{ended:?}");
    assert!(
        ended.stderr.contains("timed out after 1 s: ")
            && ended
                .stderr
                .contains(&format!("Plan {id} goes on: it closes node-01 at ")),
        "{ended:?}"
    );
}

#[test]
fn an_incomplete_session_list_ends_the_wait_with_8_and_the_plan_goes_on() {
    let mut daemon = Daemon::start_with(|config| config.assume_complete = false);
    daemon.subscribe();
    let ended = daemon.run(&ENDS);
    assert_eq!(ended.code, 8, "{ended:?}");
    assert!(
        ended.stderr.contains("session list incomplete: ")
            && ended
                .stderr
                .contains(" goes on: it blocks new connections from ")
            && ended.stderr.contains(", and ends the sessions"),
        "{ended:?}"
    );
}

#[test]
fn maintain_opens_the_node_after_its_plan() {
    let daemon = Daemon::start();
    signalling_server(&daemon.socket(), &[("spam", "c-1")]);
    let ends = [
        "maintain",
        "--end-after",
        "0s",
        "--end-rate",
        "max",
        RISK,
        "-m",
        "CHG-1",
        "--",
    ];
    let failed = daemon.run(&[&ends[..], &["false"]].concat());
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(
        failed
            .stderr
            .contains("node-01 is STILL CLOSED (block_new_connection)"),
        "{failed:?}"
    );
    let ended = daemon.run(&[&ends[..], &["sh", "-c", "echo RAN"]].concat());
    assert_eq!(ended.code, 0, "{ended:?}");
    let begin = "RAN\nnode-01: block_new_connection -> normal; it was closed for ";
    assert!(ended.stdout.starts_with(begin), "{ended:?}");
}

#[test]
fn maintain_runs_nothing_if_its_plan_is_cancelled() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c1");
    let mut maintain = daemon.spawn(&[
        "maintain",
        "--tighten-after",
        "20m",
        "--",
        "sh",
        "-c",
        "echo RAN",
    ]);
    maintain.until_said("Ctrl-C stops waiting; the plan goes on");
    daemon.ok(&["plan", "cancel"]);
    let ended = maintain.ended();
    assert_eq!((ended.code, ended.stdout.as_str()), (6, ""), "{ended:?}");
}

#[test]
fn maintain_leaves_the_opening_to_the_operator_who_closed_first() {
    let daemon = Daemon::start();
    program(&daemon.socket())
        .env("SUDO_USER", "bob")
        .args(["close", "-m", "CHG-B"])
        .ended();
    let ended = daemon.run(&["maintain", "--tighten-after", "20m", "--", "true"]);
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(
        ended.stderr.contains("node-01 was already closed, by uid:")
            && ended.stderr.contains(" for bob ")
            && ended.stderr.contains("STILL CLOSED (block_new_session)"),
        "{ended:?}"
    );
}
