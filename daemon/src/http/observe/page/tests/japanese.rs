//! The Japanese page in every state: each text that soramoded words itself is Japanese.

use super::super::messages;
use super::*;
use soramode_protocol::actor::SystemActor;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;
use soramode_protocol::plan::{PlanHold, PlanOutcome, PlanState, StallCause};

/// Words of English sentences.
const ENGLISH_WORDS: [&str; 24] = [
    "a", "and", "are", "be", "been", "by", "can", "cannot", "does", "every", "from", "has", "have",
    "is", "it", "its", "no", "not", "of", "that", "the", "to", "was", "with",
];

/// Returns the text and the labels that a page shows.
fn shown(html: &str) -> String {
    let mut text = String::new();
    for part in html.split('<').skip(1) {
        let (tag, after) = part.split_once('>').unwrap();
        let label = tag.split_once("aria-label=\"");
        if let Some((label, _)) = label.and_then(|(_, rest)| rest.split_once('"')) {
            text.extend([" ", label]);
        }
        text.extend([" ", after]);
    }
    text
}

/// Checks that nothing on the page is English, but what another program has worded.
fn check(snapshot: &Snapshot, case: &str) {
    let html = page(snapshot, "ja");
    for part in html.split("<span lang=\"en\">").skip(1) {
        let (english, _) = part.split_once('<').unwrap();
        assert_eq!(english, "Connection refused", "{case}: English on the page");
    }
    let html = html.replace("Connection refused", "");
    let text = shown(&html);
    let words: Vec<&str> = text
        .split(|char: char| !char.is_ascii_alphanumeric() && !"-_./=:".contains(char))
        .filter(|word| ENGLISH_WORDS.contains(word))
        .collect();
    assert!(words.is_empty(), "{case}: {words:?} in {text}");
    let comma = text
        .match_indices(',')
        .map(|(at, _)| text.split_at(at))
        .find(|(before, after)| {
            let after = after.trim_start_matches([',', ' ']).chars().next();
            let before = before.trim_end().chars().next_back();
            [before, after]
                .into_iter()
                .flatten()
                .any(|it| !it.is_ascii())
        });
    assert!(comma.is_none(), "{case}: an ASCII comma in {text}");
}

fn japanese(changes: &serde_json::Value) -> Snapshot {
    let mut snapshot = snapshot(changes);
    snapshot.sessions.clear();
    snapshot
}

fn cluster(problem: Option<&str>) -> serde_json::Value {
    let mut cluster = json!({
        "name": "c", "endpoints": [], "on_fence": "none", "dead_man": "none", "channels": 0, "claims_in_flight": 0, "published": true,
    });
    if let Some(problem) = problem {
        cluster["problem"] = problem.into();
    }
    cluster
}

#[test]
fn each_state_of_the_node_is_in_japanese() {
    for mode in Mode::ALL {
        for membership in Membership::ALL {
            for in_force in ["yes", "no", "pending", "partial"] {
                let changes = json!({
                    "mode": mode, "membership": membership, "in_force": in_force, "shadow": true, "cluster": cluster(None),
                    "expires_at": "2026-12-01T03:00:00.000000Z", "expected_end_at": "2026-12-01T02:30:00.000000Z",
                });
                check(
                    &japanese(&changes),
                    &format!("{mode}, {membership}, {in_force}"),
                );
            }
        }
    }
    for actor in SystemActor::ALL {
        check(&japanese(&json!({"actor": actor})), actor.name());
    }
    for cause in StallCause::ALL {
        let changes = json!({"stalled": {"cause": cause, "since": NOW}});
        check(&japanese(&changes), &format!("{cause:?}"));
    }
}

#[test]
fn each_problem_is_in_japanese() {
    for text in messages::samples() {
        let server = |name: &str| json!({"name": name, "url": "http://a", "problem": text});
        let changes = json!({
            "membership": "isolated", "cluster": cluster(Some(&text)), "warnings": [text],
            "sources": [{"name": "sora", "complete": false, "incomplete_reason": text, "hint": text}],
            "upstreams": [server("auth")],
        });
        check(&japanese(&changes), &text);
    }
    for text in messages::samples_in_samples() {
        let changes = json!({"membership": "isolated", "cluster": cluster(Some(&text))});
        check(&japanese(&changes), &text);
    }
    let changes = json!({"upstreams": [{"name": "auth", "url": "http://a", "problem": "Connection refused"}]});
    let mut snapshot = japanese(&changes);
    let peer = |problem: &str| PeerState {
        url: "http://a".to_owned(),
        status: Err(problem.to_owned()),
    };
    snapshot.peers = ["Connection refused", "no answer in time", "HTTP status 500"]
        .map(peer)
        .into();
    check(&snapshot, "peers");
}

/// Returns a plan in this state, with this step.
fn plan(state: PlanState, outcome: Option<PlanOutcome>) -> serde_json::Value {
    json!({
        "id": "7Q2K9XA0", "state": state, "outcome": outcome, "owner": "uid:0(root)", "created_at": NOW, "at": NOW, "steps": [],
        "delay_seconds": 4000, "max_delay_seconds": 600, "asked": 3, "ended": 1, "failed": 0,
    })
}

fn with_plan(plan: serde_json::Value) -> Snapshot {
    let mut snapshot = japanese(&json!({}));
    snapshot.plan = Some(serde_json::from_value(plan).unwrap());
    snapshot
}

#[test]
fn each_state_of_a_plan_is_in_japanese() {
    let outcomes = PlanOutcome::ALL.map(Some).into_iter().chain([None]);
    for outcome in outcomes {
        for state in PlanState::ALL {
            let case = format!("{state:?}, {outcome:?}");
            check(&with_plan(plan(state, outcome)), &case);
        }
    }
    for hold in PlanHold::ALL {
        let mut held = plan(PlanState::Closed, None);
        held["held"] = serde_json::to_value(hold).unwrap();
        check(&with_plan(held), &format!("{hold:?}"));
    }
    for step in [
        json!({"do": "unready", "at_seconds": 0}),
        json!({"do": "mode", "at_seconds": 0, "mode": "block_new_session"}),
        json!({"do": "mode", "at_seconds": 0, "mode": "block_new_connection"}),
        json!({"do": "announce", "at_seconds": 0}),
        json!({"do": "end", "at_seconds": 0}),
        json!({"do": "of a newer version"}),
    ] {
        let mut next = plan(PlanState::Lead, None);
        let case = step.to_string();
        next["steps"] = json!([step]);
        next["steps"][0]["due_at"] = "2026-12-01T02:50:00.000000Z".into();
        check(&with_plan(next), &case);
    }
    for why in messages::samples() {
        let mut over = plan(PlanState::Over, Some(PlanOutcome::Failed));
        over["why"] = why.clone().into();
        check(&with_plan(over), &why);
    }
}
