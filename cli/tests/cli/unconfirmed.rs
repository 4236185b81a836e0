//! Drains and rolls beside a Sora that does not confirm the node as empty, or still has sessions.

use crate::fleet::Fleet;
use crate::sora::{Sora, connection};
use crate::support::{Daemon, until};

/// Starts a daemon beside a Sora that has answered once.
fn beside(sora: &Sora) -> Daemon {
    let daemon = Daemon::start_with(|config| {
        config.http.sora.api = Some(format!("{}/", sora.url()).parse().unwrap());
    });
    until(|| {
        let (_, status) = daemon.json(&["status"]);
        let mut upstreams = status["upstreams"].as_array()?.iter();
        let has_answered = upstreams.any(|upstream| upstream["last_success"].is_string());
        (status["sessions_complete"] == true && has_answered).then_some(())
    });
    daemon
}

/// Closes the node beside a Sora that refuses every request, and waits until a poll has failed.
fn close_beside_a_failing_sora(sora: &Sora, daemon: &Daemon) {
    sora.state().fault = Some((503, String::new()));
    daemon.ok(&["set", "block_new_session"]);
    until(|| {
        let (_, status) = daemon.json(&["status"]);
        status["sources"]
            .as_array()?
            .iter()
            .any(|source| source["problem"].is_string())
            .then_some(())
    });
}

#[test]
fn a_drain_names_the_api_that_does_not_confirm_it_and_exits_with_eight() {
    let sora = Sora::start();
    let daemon = beside(&sora);
    close_beside_a_failing_sora(&sora, &daemon);
    let api = format!(
        "Sora's API at {}/ has given no usable answer since 20",
        sora.url()
    );
    for verb in [&["drain"] as &[&str], &["wait", "drained"]] {
        let ended = daemon.run(&[verb, &["--timeout", "1s"]].concat());
        assert_eq!(ended.code, 8, "{ended:?}");
        let (waiting, end) = ended.stderr.split_once("timed out after 1 s: ").unwrap();
        assert!(waiting.contains(&api), "{ended:?}");
        assert!(
            waiting.contains("(answered 503). The node does not count as drained before it answers. Check --sora-api"),
            "{ended:?}"
        );
        assert!(
            end.starts_with(&format!("0 sessions left on node-01, not confirmed: {api}")),
            "{ended:?}"
        );
        assert!(end.contains("hint: Do not restart the SFU. "), "{ended:?}");
    }
    let (code, report) = daemon.json(&["drain", "--timeout", "1s"]);
    assert_eq!(
        (code, &report["outcome"], &report["error"]["error_type"]),
        (8, &"timeout".into(), &"SessionsIncomplete".into()),
        "{report}"
    );
    let is_drained = daemon.run(&["is", "drained"]);
    let unconfirmed = format!(
        "session list incomplete: Sora's API at {}/ has yet to confirm the sessions of soramoded on node-01 (answered 503)",
        sora.url()
    );
    assert!(
        is_drained.code == 8 && is_drained.stderr.contains(&unconfirmed),
        "{is_drained:?}"
    );
    let doctor = daemon.run(&["doctor"]);
    let failed = format!("Sora's API at {}/ failed: answered 503", sora.url());
    let test = format!(
        "curl -X POST -H 'x-sora-target: Sora_20201013.ListConnections' {}/\n",
        sora.url()
    );
    assert!(
        doctor.stdout.contains(&failed) && doctor.stdout.contains(&test),
        "{doctor:?}"
    );
    let assumed = daemon.run(&["drain", "--timeout", "1s", "--assume-complete"]);
    assert_eq!(assumed.code, 0, "{assumed:?}");
}

#[test]
fn an_api_that_has_not_answered_yet_has_not_confirmed_a_drain() {
    let sora = Sora::start();
    let daemon = beside(&sora);
    // It answers nothing while this is held.
    let _held = sora.state();
    for verb in [&["drain"] as &[&str], &["wait", "drained"]] {
        let ended = daemon.run(&[verb, &["--timeout", "1s"]].concat());
        assert_eq!(ended.code, 8, "{ended:?}");
        let (_, end) = ended.stderr.split_once("timed out after 1 s: ").unwrap();
        assert!(
            end.starts_with("0 sessions left on node-01, not confirmed: Sora's API at ")
                // It may have answered before this was held.
                && end.contains("(no answer yet)") != end.contains("usable answer since 20")
                && end.contains("hint: Do not restart the SFU. "),
            "{ended:?}"
        );
    }
}

#[test]
fn a_drain_goes_on_when_the_api_answers_again() {
    let sora = Sora::start();
    let daemon = beside(&sora);
    close_beside_a_failing_sora(&sora, &daemon);
    let mut drain = daemon.spawn(&["drain"]);
    drain.until_said("has given no usable answer since");
    sora.state().fault = None;
    let ended = drain.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_plan_is_waited_for_while_the_api_fails_for_a_moment() {
    let sora = Sora::start();
    let daemon = beside(&sora);
    close_beside_a_failing_sora(&sora, &daemon);
    let plan = ["drain", "--end-after", "0s", "--accept-risk=cuts-clients"];
    let mut drain = daemon.spawn(&plan);
    drain.until_said("has given no usable answer since");
    sora.state().fault = None;
    let ended = drain.ended();
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_drain_that_is_undone_opens_the_node_although_it_was_not_confirmed() {
    let sora = Sora::start();
    let daemon = beside(&sora);
    sora.state().fault = Some((503, String::new()));
    let (code, report) = daemon.json(&["drain", "--timeout", "1s", "--on-timeout", "undo"]);
    assert_eq!((code, &report["restored"]), (8, &true.into()), "{report}");
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn a_roll_whose_node_is_not_confirmed_as_empty_exits_with_eight_and_goes_on() {
    let sora = Sora::start();
    let fleet = Fleet::of(vec![beside(&sora)]);
    sora.state().fault = Some((503, String::new()));
    let roll = |more: &[&str]| {
        let words = ["-H", "sfu-01", "roll", "--keep-open", "0", "-m", "CHG-1"];
        fleet.run(&[&words[..], more, &["--json", "--", "true"]].concat())
    };
    let stopped = roll(&["--timeout", "1s"]);
    let json = stopped.json();
    assert_eq!(
        (stopped.code, &json["exit"], &json["outcome"]),
        (8, &8.into(), &"stopped".into()),
        "{stopped:?}"
    );
    let problem = format!(
        "not confirmed: Sora's API at {}/ has given no usable answer",
        sora.url()
    );
    assert!(stopped.stdout.contains(&problem), "{stopped:?}");
    let daemon = &fleet.daemons[0];
    assert_eq!(daemon.ok(&["get"]), "block_new_session\n");
    sora.state().fault = None;
    let done = roll(&["--resume", json["roll"].as_str().unwrap()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(daemon.ok(&["get"]), "normal\n");
}

#[test]
fn a_drain_that_times_out_names_the_commands_for_the_sessions_that_are_left() {
    let sora = Sora::start();
    sora.state().connections = vec![connection("spam", "c1", 1_700_000_000)];
    let daemon = beside(&sora);
    let ended = daemon.run(&["drain", "--timeout", "50ms"]);
    assert_eq!(ended.code, 124, "{ended:?}");
    let hints = "hint: Watch again: soramode wait drained\n  \
        See the sessions that are left: soramode sessions\n  \
        To disconnect their clients in 10 min: soramode drain --end-after 10m --accept-risk=cuts-clients\n  \
        To disconnect their clients now: soramode end --all --accept-risk=cuts-clients\n  \
        Undo: soramode set normal";
    assert!(ended.stderr.contains(hints), "{ended:?}");
}
