//! `announce`: its means, its answer, and the channels that it does not reach.

use serde_json::{Value, json};
use soramode_testkit::control_client::TestClient;

use crate::support::{Daemon, Fake, Reply, Run as _, program};

/// A signalling server receives what to pass on to the clients.
#[test]
fn an_announcement_goes_to_the_clients_of_a_channel() {
    let daemon = Daemon::start();
    daemon.connect("spam", "c-1");
    daemon.connect("会議室", "k-1");
    let refused = daemon.run(&["announce", "soon"]);
    assert_eq!(refused.code, 5, "no means: {refused:?}");

    let mut server = TestClient::to(&daemon.socket());
    server.get(
        "Subscribe",
        &json!({"types": ["mode.changed"], "announcements": true}),
    );
    let announced = daemon.ok(&[
        "announce",
        "--channel",
        "会議室",
        "--data",
        r#"{"level":1}"#,
        "02:00 から停止します",
    ]);
    assert_eq!(
        announced,
        "announced to 1 channel, by 1 subscribed client\n"
    );
    let notice: Value = server.recv();
    assert_eq!(
        (
            &notice["method"],
            &notice["params"]["channel_id"],
            &notice["params"]["text"]
        ),
        (
            &"Announce".into(),
            &"会議室".into(),
            &"02:00 から停止します".into()
        ),
        "{notice}"
    );
    assert_eq!(notice["params"]["data"], json!({"level": 1}));

    let absent = daemon.run(&["announce", "--channel", "egg", "soon"]);
    assert_eq!(absent.code, 9, "{absent:?}");
    let (_, history) = daemon.json(&["history"]);
    let newest = &history["events"][0];
    assert_eq!(
        (&newest["type"], &newest["channel_ids"]),
        (&"maintenance.announced".into(), &json!(["会議室"])),
        "{history}"
    );
}

/// The daemon answers an announcement that did not reach two channels.
#[test]
fn an_announcement_names_the_channels_that_it_did_not_reach() {
    let daemon = Fake::start(|method| match method {
        "Announce" => Reply::Result(json!({
            "id": "J8486AV8KN7H92SBDFZ2NPKWPM",
            "channels": 3,
            "by": {"sora_api": {"told": 1, "failed": 2}, "subscribers": 1, "webhooks": 0},
            "problems": [
                {"channel_id": "会議室", "problem": "400 InvalidChannelId"},
                {"channel_id": "x\n\u{1b}[2K", "problem": "no answer"},
            ],
        })),
        _ => Reply::Error(-32_601, "MethodNotFound"),
    });
    let ended = daemon.run(&["announce", "あと{minutes}分で終了します"]);
    assert_eq!(ended.code, 70, "{ended:?}");
    assert_eq!(
        ended.stdout,
        "announced to 3 channels, by Sora's API to 1 channel, 1 subscribed client\n"
    );
    assert_eq!(
        ended.stderr,
        "soramode: the announcement by Sora's API failed for 2 of 3 channels\n  \"会議室\": 400 InvalidChannelId\n  \"x\\n\\u{1b}[2K\": no answer\n"
    );
    let plain = daemon.run(&["announce", "-o", "plain"]);
    assert_eq!(plain.stdout, "J8486AV8KN7H92SBDFZ2NPKWPM\t3\t1\t1\t0\n");
}

/// Refused before a daemon is asked: there is none.
#[test]
fn a_text_that_would_reach_people_as_a_mistake_is_refused() {
    let nowhere = tempfile::tempdir().unwrap();
    let minutes = "takes {minutes} and no other word in braces";
    for (text, problem) in [
        ("", "is empty; leave it out".to_owned()),
        (" \u{3000}\n", "has no visible character".to_owned()),
        ("In {minute} min", format!("got \"{{minute}}\", {minutes}")),
        (
            "あと｛minutes｝分",
            format!("got \"｛minutes｝\", {minutes}"),
        ),
    ] {
        for args in [&["announce", text][..], &["drain", "--announce-text", text]] {
            let ended = program(&nowhere.path().join("socket")).args(args).ended();
            assert_eq!(ended.code, 2, "{ended:?}");
            assert!(ended.stderr.contains(&problem), "{args:?}: {ended:?}");
        }
    }
}
