//! A node that is reserved for a rolling maintenance: what the command shows, and what it refuses.

use serde_json::json;

use crate::support::Daemon;

/// A daemon that is reserved for a roll, as another machine's command would do it.
fn reserved() -> Daemon {
    let daemon = Daemon::start();
    let params = json!({"roll": "7Q2K9XA0", "by": "alice@laptop", "seconds": 600, "round": 1, "step": "draining"});
    soramode_testkit::control_client::TestClient::to(&daemon.socket()).get("Reserve", &params);
    daemon
}

const REFUSED: &str = "the node is reserved for roll 7Q2K9XA0 of alice@laptop (since ";

#[test]
fn drains_maintenances_and_plans_are_refused() {
    let daemon = reserved();
    for args in [
        &["drain", "--no-wait"][..],
        &["drain", "--timeout", "1s"],
        &["maintain", "--", "true"],
        &["drain", "--tighten-after", "5m", "--no-wait"],
    ] {
        let refused = daemon.run(args);
        assert_eq!(refused.code, 5, "{args:?}: {refused:?}");
        assert!(refused.stderr.contains(REFUSED), "{refused:?}");
        assert_eq!(daemon.ok(&["get"]), "normal\n");
    }
    let replaced = daemon.run(&["drain", "--replace", "--no-wait"]);
    assert_eq!(replaced.code, 0, "{replaced:?}");
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
}

#[test]
fn a_mode_can_be_set_and_the_roll_is_named() {
    let daemon = reserved();
    let set = daemon.run(&["set", "block_new_connection"]);
    assert_eq!(set.code, 0, "{set:?}");
    let warning =
        "the node is reserved for roll 7Q2K9XA0 of alice@laptop, which counts on its mode";
    assert!(set.stderr.contains(warning), "{set:?}");
    let status = daemon.ok(&["status"]);
    let row = "7Q2K9XA0 of alice@laptop, draining; no other roll closes the node for ";
    assert!(status.contains(row), "{status}");
    let (_, status) = daemon.json(&["status"]);
    assert_eq!(status["reservation"]["roll"], "7Q2K9XA0", "{status}");
}
