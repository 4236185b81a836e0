//! `--until`: the expected end of a maintenance is recorded, shown, and changes nothing.

use crate::support::Daemon;

const END: &str = "2099-12-01T04:00:00.000000Z";

#[test]
fn set_and_drain_record_it_and_the_node_shows_it() {
    for (args, stays) in [
        (
            &[
                "set",
                "block_new_session",
                "--until",
                "2099-12-01 04:00 UTC",
            ][..],
            "block_new_session",
        ),
        (
            &["drain", "--until", "2099-12-01T04:00Z"],
            "block_new_session",
        ),
        (
            &[
                "drain",
                "--no-wait",
                "--connections",
                "--until",
                "2099-12-01T05:00+01:00",
            ],
            "block_new_connection",
        ),
        (
            &[
                "drain",
                "--tighten-after",
                "1h",
                "--no-wait",
                "--until",
                "2099-12-01T04:00Z",
            ],
            "block_new_session",
        ),
    ] {
        let daemon = Daemon::start();
        daemon.ok(args);
        let (_, mode) = daemon.json(&["get"]);
        assert_eq!(mode["expected_end_at"], END, "{args:?}: {mode}");
        assert_eq!(mode["mode"], stays, "{args:?}");
        let status = daemon.ok(&["status"]);
        assert!(status.contains("expected end"), "{args:?}: {status}");
        let (_, history) = daemon.json(&["history"]);
        assert!(history.to_string().contains(END), "{args:?}: {history}");
        daemon.ok(&["open"]);
        let (_, mode) = daemon.json(&["get"]);
        assert!(mode.get("expected_end_at").is_none(), "{mode}");
    }
}

#[test]
fn a_second_operator_keeps_it_and_an_undo_restores_it() {
    let daemon = Daemon::start();
    daemon.ok(&["close", "-m", "CHG-1", "--until", "2099-12-01 04:00 UTC"]);
    daemon.ok(&["drain", "-m", "CHG-2"]);
    let (_, mode) = daemon.json(&["get"]);
    assert_eq!(mode["expected_end_at"], END, "{mode}");
    let later = daemon.ok(&["set", "block_new_session", "--until", "3000h"]);
    assert!(
        later.contains("its expected end is in ") && later.contains("--until 2099-12-01T04:00:00Z"),
        "{later}"
    );
}

#[test]
fn a_time_that_makes_no_sense_is_refused_and_nothing_is_changed() {
    let daemon = Daemon::start();
    for (args, problem) in [
        (
            &["set", "block_new_session", "--until", "soon"][..],
            "--until: ",
        ),
        (
            &["drain", "--until", "2020-01-01 04:00"],
            "--until: 2020-01-01 04:00:00 ",
        ),
        (
            &["set", "normal", "--until", "2h"],
            "--until: normal has no expected end",
        ),
        (
            &[
                "drain",
                "--at",
                "2099-12-01 02:00",
                "--until",
                "2099-12-01 01:00",
            ],
            "--until is not after --at",
        ),
    ] {
        let refused = daemon.run(args);
        assert_eq!(refused.code, 2, "{args:?}: {refused:?}");
        assert!(refused.stderr.contains(problem), "{args:?}: {refused:?}");
        assert_eq!(daemon.ok(&["get"]), "normal\n");
    }
}
