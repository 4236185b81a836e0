//! The timeline of a drain with every option of a plan, as 200 clients of a Sora see it: undisturbed, with a kill of the daemon in each stage,
//! and with an operator that opens the node in each stage.

mod node;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};
use soramode_protocol::time::Time;
use soramode_testkit::fake_sora::{ClientEvent, ClientLine};

use node::{
    CHANNELS, CLIENTS, LONG, Node, Options, Probe, SHORT, Stage, Subject, channel, cuts, notices,
};

/// Time in which a change reaches the page for load balancers.
const READY_LAG: Duration = Duration::from_millis(200);

/// Number of calls that may be in flight.
const CALLS_MAX: usize = 8;

fn rejections<'a>(log: &'a [ClientLine], reason: &str) -> impl Iterator<Item = &'a ClientLine> {
    let rejected = ClientEvent::Rejected(reason.to_owned());
    log.iter().filter(move |line| line.event == rejected)
}

fn time_of(event: &Value) -> Time {
    event["timestamp"].as_str().unwrap().parse().unwrap()
}

/// Checks that probes of this subject were accepted before the change, and that none was after it.
fn check_probes(probes: &[Probe], subject: Subject, changed: Time) {
    let of_subject = || probes.iter().filter(|probe| probe.subject == subject);
    let lag = match subject {
        Subject::Readiness => READY_LAG,
        Subject::NewChannel | Subject::Channel => Duration::ZERO,
    };
    for probe in of_subject() {
        assert!(
            probe.is_accepted || probe.ended >= changed,
            "refused before {changed}: {probe:?}"
        );
        assert!(
            !probe.is_accepted || probe.began <= changed + lag,
            "accepted after {changed}: {probe:?}"
        );
    }
    assert!(
        of_subject().any(|probe| !probe.is_accepted),
        "{subject:?} was never refused"
    );
}

/// Checks each clause of a drain that ran to its end. Returns the timeline, for people.
fn check(node: &Node, options: &Options) -> String {
    let events = node.events();
    let steps: Vec<Time> = events
        .iter()
        .filter(|event| event["type"] == "plan.step")
        .map(time_of)
        .collect();
    let [unready, close, tighten, announce, end] = steps[..] else {
        panic!("{events:#?}");
    };
    check_probes(&node.probes, Subject::Readiness, unready);
    check_probes(&node.probes, Subject::NewChannel, close);
    check_probes(&node.probes, Subject::Channel, tighten);

    let log = node.sora.client_log();
    let ends_at = check_notices(&log, announce);
    check_cuts(&log, ends_at, options);
    let last_cut = cuts(&log).last().unwrap().wall;
    let [vanished, over] = &events[events.len() - 2..] else {
        panic!("{events:#?}");
    };
    assert_eq!(
        (&vanished["type"], &over["outcome"]),
        (&json!("session.vanished"), &json!("done")),
        "{events:#?}"
    );
    assert!(time_of(vanished) >= last_cut, "{vanished}");

    let ready = node.probes.iter().find(|probe| !probe.is_accepted).unwrap();
    let announced_at = || notices(&log).map(|(line, _)| line.wall);
    let cut = || cuts(&log).map(|line| line.wall);
    describe(&[
        ("plan: unready", Some(unready)),
        (
            "load balancer: 503 from /ready/new-session",
            Some(ready.ended),
        ),
        ("plan: closes", Some(close)),
        (
            "client: first of a new channel is refused",
            rejections(&log, "BLOCK-NEW-SESSION")
                .next()
                .map(|line| line.wall),
        ),
        ("plan: tightens", Some(tighten)),
        (
            "client: first of any channel is refused",
            rejections(&log, "BLOCK-NEW-CONNECTION")
                .next()
                .map(|line| line.wall),
        ),
        ("plan: announces", Some(announce)),
        ("client: first is notified", announced_at().min()),
        ("client: last is notified", announced_at().max()),
        ("plan: ends", Some(end)),
        ("client: first is cut", cut().min()),
        ("client: last is cut", cut().max()),
        ("session.vanished", Some(time_of(vanished))),
        ("plan.over", Some(time_of(over))),
    ])
}

/// Checks that each client was notified once, or again with the same id, that it was cut, and when at the earliest. Returns the latest of these
/// times.
fn check_notices(log: &[ClientLine], announced: Time) -> Time {
    let ids: BTreeSet<&str> = notices(log)
        .map(|(_, it)| it["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1, "one announcement");
    let mut notified: BTreeSet<&str> = BTreeSet::new();
    for (line, notice) in notices(log) {
        assert!(line.wall >= announced, "{line:?}");
        assert_eq!(notice["text"], "あと1分で終了します", "{notice}");
        notified.insert(&line.channel_id);
    }
    assert_eq!(notified.len(), CHANNELS);
    // An announcement that lasts beyond the end that it names goes on with a later one.
    let ends_at = |notice: &Value| notice["sessions_end_at"].as_str().unwrap().parse().unwrap();
    notices(log)
        .map(|(_, notice)| ends_at(notice))
        .max()
        .unwrap()
}

/// Checks that sessions end at the rate, not before the time that was announced, and the oldest first.
fn check_cuts(log: &[ClientLine], ends_at: Time, options: &Options) {
    let cuts: Vec<&ClientLine> = cuts(log).collect();
    assert_eq!(cuts.len(), CHANNELS * CLIENTS);
    for (number, cut) in cuts.iter().step_by(CLIENTS).enumerate() {
        let earliest = ends_at + options.interval * u32::try_from(number).unwrap();
        assert!(cut.wall >= earliest, "not before {earliest}: {cut:?}");
        let channel: usize = cut.channel_id.rsplit('-').next().unwrap().parse().unwrap();
        assert!(
            channel.abs_diff(number) < CALLS_MAX,
            "session {channel} of {CHANNELS} by age ends as number {number}"
        );
    }
}

fn describe(lines: &[(&str, Option<Time>)]) -> String {
    let began = lines.iter().find_map(|(_, at)| *at).unwrap();
    lines.iter().fold(String::new(), |mut text, (what, at)| {
        let at = at.map_or(f64::NAN, |at| at.since(began).as_secs_f64());
        writeln!(text, "{at:8.3} s  {what}").unwrap();
        text
    })
}

#[test]
fn a_drain_takes_200_clients_through_its_stages() {
    let mut node = Node::start();
    let (ended, _) = node.drain(&LONG, None);
    assert_eq!(ended.code, 0, "{ended:?}");
    let timeline = check(&node, &LONG);
    eprintln!("{timeline}{}", ended.stdout);
    // Undisturbed, each client is notified exactly once.
    let log = node.sora.client_log();
    assert_eq!(notices(&log).count(), CHANNELS * CLIENTS);
}

fn survives_a_kill(stage: Stage) -> String {
    let mut node = Node::start();
    let (ended, killed) = node.drain(&SHORT, Some((stage, Node::kill)));
    assert!(killed.is_some(), "{stage:?} was not reached: {ended:?}");
    assert_eq!(ended.code, 0, "{ended:?}");
    check(&node, &SHORT)
}

fn stops_when_it_is_opened(stage: Stage) -> String {
    let mut node = Node::start();
    let (ended, opened) = node.drain(&SHORT, Some((stage, Node::open)));
    let opened = opened.unwrap_or_else(|| panic!("{stage:?} was not reached: {ended:?}"));
    assert_eq!(ended.code, 6, "{ended:?}");
    let before = node.probes.len();
    node.probe_for(SHORT.whole);
    let refused = |probe: &&Probe| probe.began > opened + READY_LAG && !probe.is_accepted;
    assert_eq!(
        node.probes
            .iter()
            .find(refused)
            .map(|probe| format!("{probe:?}")),
        None,
        "the node is open"
    );
    assert!(node.probes.len() > before);
    let over = node.events().pop().unwrap();
    assert_eq!(over["outcome"], "cancelled", "{over}");
    let log = node.sora.client_log();
    // The calls in flight may land.
    let late: BTreeSet<&str> = cuts(&log)
        .filter(|cut| cut.wall > opened)
        .map(|cut| cut.channel_id.as_str())
        .collect();
    assert!(
        late.len() <= CALLS_MAX,
        "{late:?} were cut after the node was opened"
    );
    let taken_back = |is_taken_back: bool| {
        let channels =
            notices(&log).filter(move |(_, it)| (it["cancelled"] == true) == is_taken_back);
        channels
            .map(|(line, _)| line.channel_id.as_str())
            .collect::<BTreeSet<_>>()
    };
    let is_announced = stage >= Stage::Announced;
    assert_eq!(
        taken_back(false).len(),
        if is_announced { CHANNELS } else { 0 }
    );
    let cut: BTreeSet<&str> = cuts(&log).map(|cut| cut.channel_id.as_str()).collect();
    assert_eq!(cut.is_empty(), stage < Stage::Ending, "{cut:?}");
    for number in 0..CHANNELS {
        let channel = channel(number);
        let is_left = !cut.contains(channel.as_str());
        assert!(
            !is_left || taken_back(true).contains(channel.as_str()) == is_announced,
            "{channel} hears that nothing comes of it"
        );
    }
    describe(&[
        ("the node is opened", Some(opened)),
        ("client: last is cut", cuts(&log).map(|cut| cut.wall).max()),
    ])
}

#[test]
fn a_kill_in_the_lead_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Lead));
}

#[test]
fn a_kill_on_a_closed_node_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Closed));
}

#[test]
fn a_kill_after_tightening_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Tightened));
}

#[test]
fn a_kill_after_the_announcement_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Announced));
}

#[test]
fn a_kill_while_sessions_end_changes_nothing() {
    eprintln!("{}", survives_a_kill(Stage::Ending));
}

#[test]
fn an_open_in_the_lead_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Lead));
}

#[test]
fn an_open_on_a_closed_node_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Closed));
}

#[test]
fn an_open_after_tightening_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Tightened));
}

#[test]
fn an_open_after_the_announcement_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Announced));
}

#[test]
fn an_open_while_sessions_end_stops_the_plan() {
    eprintln!("{}", stops_when_it_is_opened(Stage::Ending));
}
