//! Tests of the page's HTML: its contents, escaping and size.

mod japanese;

use hyper::header::ACCEPT_LANGUAGE;
use serde_json::json;

use super::super::load_history::{Load, SAMPLES_KEPT};
use super::super::peers::PeerStatus;
use super::*;

const NOW: &str = "2026-12-01T02:40:00.000000Z";

/// A name that would be markup if it were not escaped.
const HOSTILE: &str = "<script>alert(1)</script>\"'&";

fn status(changes: &serde_json::Value) -> Box<Status> {
    let mut status = json!({
        "mode": "block_new_session", "generation": 2, "since": "2026-12-01T01:00:00.000000Z", "actor": "uid:1000(ops)",
        "reason": "CHG-123", "node_name": "sfu-01", "membership": "standalone", "sessions": 2, "connections": 5, "pending": 1,
        "sessions_complete": true, "sources": [], "rejected": {"BLOCK-NEW-SESSION": 3}, "deliveries": {"pending": 1, "failed": 2},
        "storage": {"state": "ok"}, "version": "0.1.0", "protocol": 1, "uptime_seconds": 1, "started_at": NOW,
    });
    for (name, value) in changes.as_object().unwrap() {
        status[name] = value.clone();
    }
    serde_json::from_value(status).unwrap()
}

fn snapshot(changes: &serde_json::Value) -> Snapshot {
    let sessions = json!([{
        "channel_id": HOSTILE, "session_id": "J8486AV8KN7H92SBDFZ2NPKWPM", "created_at": "2026-11-30T23:40:30.000000Z",
        "connections": 3, "max_connections": 3, "total_connections": 3,
    }]);
    Snapshot {
        now: NOW.parse().unwrap(),
        status: status(changes),
        plan: None,
        members: Vec::new(),
        sessions: serde_json::from_value(sessions).unwrap(),
        peers: Vec::new(),
        chart: chart(|sessions| Load {
            sessions,
            connections: sessions * 3,
        }),
    }
}

/// The chart of an hour.
fn chart(load: impl Fn(u64) -> Load) -> Arc<Chart> {
    let samples: Vec<Load> = (0..SAMPLES_KEPT as u64).map(load).collect();
    Arc::new(Chart::of(&samples))
}

fn page(snapshot: &Snapshot, language: &str) -> String {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_LANGUAGE, language.parse().unwrap());
    render(snapshot, &headers, Refresh::On)
}

#[test]
fn the_page_shows_the_node() {
    let text = page(&snapshot(&json!({})), "en");
    for part in [
        "<html lang=\"en\">",
        "<p class=\"word\">Draining</p>",
        "2026-12-01 01:00:00 UTC</time> (1h 40m)",
        "uid:1000(ops)",
        "CHG-123",
        "<td class=\"n\">2h 59m</td>",
        "<td>BLOCK-NEW-SESSION</td><td class=\"n\">3</td>",
        "Connections (highest: 1077)",
        "Sessions (highest: 359)",
        "<span>2000</span><span>1000</span><span>0</span>",
        "<span>01:40</span><span>01:55</span><span>02:10</span><span>02:25</span><span>02:40</span>",
        "aria-label=\"Last hour 01:40-02:40 UTC: Sessions highest: 359; Connections highest: 1077\"",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("class=\"warnings\""), "{text}");
    let japanese = page(&snapshot(&json!({})), "ja");
    assert!(
        japanese.contains("<html lang=\"ja\">") && japanese.contains("ドレイン中"),
        "{japanese}"
    );
}

#[test]
fn the_word_follows_mode_and_sessions() {
    for (changes, word) in [
        (json!({"mode": "normal"}), "Open"),
        (json!({}), "Draining"),
        (json!({"mode": "block_new_connection"}), "Closed"),
        (json!({"sessions": 0}), "Drained"),
        (
            json!({"sessions": 0, "sessions_complete": false}),
            "Draining",
        ),
        (json!({"mode": "initial"}), "Initial"),
    ] {
        let text = page(&snapshot(&changes), "en");
        assert!(text.contains(&format!(">{word}</p>")), "{word}: {text}");
    }
}

#[test]
fn warnings_come_first_with_their_remedies() {
    let changes = json!({
        "shadow": true, "membership": "isolated", "in_force": "pending", "warnings": ["cannot write the state"],
        "stalled": {"cause": "no_departures", "since": NOW},
        "sources": [{"name": "sora", "complete": false, "incomplete_reason": "started late", "hint": "Send a Report", "problem": "refused"}],
        "upstreams": [{"name": "auth", "url": "http://u/SECRET", "problem": "timed out"}],
    });
    let text = page(&snapshot(&changes), "en");
    let (warnings, rest) = text.split_once("<section class=\"mode").unwrap();
    for part in [
        "Shadow mode",
        "lost contact",
        "soramode doctor",
        "The mode is not in force",
        "cannot write the state",
        "no session has ended by itself",
        "sora: started late",
        "Send a Report",
        "sora: refused",
        "auth: timed out",
    ] {
        assert!(warnings.contains(part), "no {part} in {warnings}");
    }
    assert!(!warnings.contains("SECRET") && !rest.contains("SECRET"));
}

#[test]
fn hostile_names_are_escaped_and_the_page_stays_small() {
    // Each character takes the most bytes that escaping can make of it.
    let long = "\"".repeat(1_000);
    let changes = json!({
        "reason": long.clone(), "actor": HOSTILE, "warnings": vec![long.clone(); 50], "version": HOSTILE, "cluster": null,
        "sources": [{"name": HOSTILE, "complete": false, "incomplete_reason": HOSTILE, "hint": HOSTILE}],
    });
    let mut snapshot = snapshot(&changes);
    let session = snapshot.sessions[0].clone();
    snapshot.sessions = vec![session; SESSIONS_SHOWN as usize];
    snapshot.chart = chart(|_| Load {
        sessions: u64::MAX,
        connections: u64::MAX,
    });
    let peer = |index: usize| PeerState {
        url: HOSTILE.to_owned(),
        status: if index.is_multiple_of(2) {
            Err(long.clone())
        } else {
            Ok(PeerStatus {
                node_name: HOSTILE.parse().unwrap(),
                mode: soramode_protocol::mode::Mode::Normal,
                sessions: u64::MAX,
                connections: u64::MAX,
            })
        },
    };
    snapshot.peers = (0..nodes::NODES_SHOWN + 5).map(peer).collect();
    for language in ["en", "ja"] {
        let text = page(&snapshot, language);
        assert!(
            !text.contains("<script") && !text.contains("alert(1)</"),
            "{text}"
        );
        assert!(
            text.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"),
            "{text}"
        );
        let bytes = text.len() + STYLE.len();
        assert!(bytes <= PAGE_BYTES_MAX, "{bytes} bytes");
    }
}

#[test]
fn the_expected_end_is_shown_with_the_time_until_it_or_since_it() {
    for (end, words) in [
        (
            "2026-12-01T03:00:00.000000Z",
            "03:00:00 UTC</time> (in 20m)",
        ),
        (
            "2026-12-01T02:30:00.000000Z",
            "02:30:00 UTC</time> <strong>overdue by 10m</strong>",
        ),
    ] {
        let text = page(&snapshot(&json!({ "expected_end_at": end })), "en");
        assert!(text.contains(words), "no {words} in {text}");
    }
    assert!(!page(&snapshot(&json!({})), "en").contains("Expected end"));
}

#[test]
fn a_reader_can_stop_the_refresh() {
    let text = page(&snapshot(&json!({})), "en");
    assert!(
        text.contains("http-equiv=\"refresh\"") && text.contains("href=\"?refresh=off\""),
        "{text}"
    );
    let still = render(
        &snapshot(&json!({})),
        &HeaderMap::new(),
        Refresh::of(Some("refresh=off")),
    );
    assert!(
        !still.contains("http-equiv=\"refresh\"") && still.contains("href=\".\""),
        "{still}"
    );
}

#[test]
fn a_member_links_to_its_page_and_to_nothing_else() {
    let cluster = json!({
        "name": "c", "endpoints": [], "on_fence": "none", "dead_man": "none", "channels": 0, "claims_in_flight": 0, "published": true,
    });
    let mut snapshot = snapshot(&json!({"cluster": cluster}));
    let member = |url: &str| {
        let member = json!({"node_name": "sfu-02", "mode": "normal", "connected": true, "cluster_page_url": url});
        serde_json::from_value(member).unwrap()
    };
    snapshot.members = vec![
        member("http://sfu-02:9400/\"x"),
        member("javascript:alert(1)"),
    ];
    let text = page(&snapshot, "en");
    assert!(
        text.contains("<a href=\"http://sfu-02:9400/&quot;x\">sfu-02</a>"),
        "{text}"
    );
    assert!(!text.contains("javascript"), "{text}");
}
