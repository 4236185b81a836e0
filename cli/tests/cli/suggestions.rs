//! Commands that are suggested over `-H`: each names the host, also in the words of soramoded, which does not know it.

use serde_json::json;
use soramode_testkit::control_client::TestClient;

use crate::ssh::Remote;
use crate::support::{Ended, Run};

/// Returns the commands in a text that name no host. Each begins with the program and a word of small letters.
fn without_host(text: &str) -> Vec<&str> {
    let is_command = |rest: &&str| {
        let word = rest
            .split(|letter: char| !letter.is_ascii_lowercase())
            .next();
        word.is_some_and(|word| !word.is_empty())
    };
    text.split("soramode ").skip(1).filter(is_command).collect()
}

fn check(ended: &Ended, says: &str) {
    for text in [&ended.stdout, &ended.stderr] {
        assert_eq!(without_host(text), Vec::<&str>::new(), "{ended:?}");
    }
    let all = format!("{}{}", ended.stdout, ended.stderr);
    assert!(all.contains(says), "{says}: {ended:?}");
}

#[test]
fn each_suggested_command_names_the_host() {
    let remote = Remote::start();
    let run = |words: &str| remote.run(&words.split(' ').collect::<Vec<_>>());
    // A refusal, with a hint of soramoded.
    let mut client = TestClient::to(&remote.daemon.socket());
    let params = json!({"roll": "7Q2K9XA0", "by": "alice@laptop", "seconds": 600, "round": 1});
    client.get("Reserve", &params);
    let refused = run("drain --no-wait");
    check(
        &refused,
        "In an emergency: soramode -H sfu-02 drain --replace",
    );
    check(
        &run("--json drain --no-wait"),
        "soramode -H sfu-02 drain --replace",
    );
    client.get("Release", &json!({"roll": "7Q2K9XA0"}));
    // Warnings of soramoded, after a change.
    check(&run("drain --at 23:59 --no-wait"), "");
    check(&run("set normal -m X"), "soramode -H sfu-02 plan cancel");
    check(
        &run("drain --at 23:58 --no-wait"),
        "soramode -H sfu-02 plan cancel",
    );
    check(&run("plan cancel"), "");
    for words in [
        "close -m X",
        "drain",
        "status",
        "doctor",
        "open",
        "wait drained",
        "announce hello",
        "session spam",
    ] {
        check(&run(words), "");
    }
    // Several hosts, each with its own.
    client.get("Reserve", &params);
    let words = ["-H", "sfu-02,sfu-02", "doctor"];
    check(&remote.program().args(words).ended(), "");
}
