//! Tests for the wire format: lines that never change in `wire/v1/*.jsonl` (lines are added, never
//! edited), and all forms of a request in `wire/reading.txt`. `SORAMODE_REWRITE=1` rewrites the
//! latter.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use soramode_protocol::announce::Announce;
use soramode_protocol::cluster::{Acknowledge, Grant, InitCluster, PurgeClusterNode};
use soramode_protocol::decision::{Connect, Decision, Disconnect, Explain, RejectReason, Report};
use soramode_protocol::delivery::{ListDeliveries, ResendDelivery};
use soramode_protocol::discover::Discover;
use soramode_protocol::end::End;
use soramode_protocol::envelope::{
    Notification, NotificationLine, Outgoing, ReplyTo, ServerMessage, read_request,
    read_server_message, write_answer,
};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::event::{EndReason, Event, EventKind, EventType};
use soramode_protocol::mode::{ChangeMode, GetMode, ListModeChanges};
use soramode_protocol::node::{GetInfo, GetStatus, ListClusterNodes};
use soramode_protocol::plan::{CancelPlan, GetPlan, StartPlan};
use soramode_protocol::request::{Call, Method, RequestId};
use soramode_protocol::reservation::{Release, Reserve};
use soramode_protocol::session::{GetSession, ListConnections, ListSessions};
use soramode_protocol::subscribe::{Subscribe, Unsubscribe};
use soramode_protocol::wait::Wait;

fn path_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/wire")
        .join(name)
}

fn golden(file: &str) -> Vec<String> {
    let path = path_of("v1").join(format!("{file}.jsonl"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: every method has its golden lines",
            path.display()
        )
    });
    assert!(text.ends_with('\n'), "{file}: the last line has no end");
    text.lines().map(str::to_owned).collect()
}

fn written(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap()
}

fn answered<R: Serialize>(to: &ReplyTo, answer: Result<&R, &Error>) -> String {
    let mut line = Vec::new();
    write_answer(&mut line, to, answer).unwrap();
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

fn read<T: DeserializeOwned>(line: &str) -> T {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}\n{line}"))
}

/// Reads a method's requests and results and writes them again.
fn round_trip<C: Call>(method: Method) {
    assert_eq!(C::METHOD, method);
    let (mut requests, mut results) = (0, 0);
    for line in golden(method.name()) {
        if line.contains("\"method\":") {
            requests += 1;
            assert_eq!(rewrite_request::<C>(&line), line);
        } else {
            results += 1;
            assert_eq!(rewrite_result::<C>(&line), line);
        }
    }
    assert!(
        requests > 0 && results > 0,
        "{} has no golden request or no golden result",
        method.name()
    );
}

fn rewrite_request<C: Call>(line: &str) -> String {
    let incoming = read_request(line.as_bytes());
    let (method, _) = incoming
        .request
        .unwrap_or_else(|error| panic!("{error}\n{line}"));
    assert_eq!(method, C::METHOD, "{line}");
    let Some(ReplyTo::Id(RequestId::Number(id))) = incoming.reply_to else {
        panic!("no number as id: {line}")
    };
    let whole: serde_json::Value = read(line);
    let params: C = read(&whole.get("params").unwrap().to_string());
    written(&Outgoing::new(id, method, &params))
}

fn rewrite_result<C: Call>(line: &str) -> String {
    match read_server_message(line.as_bytes()) {
        Ok(ServerMessage::Answer(Some(id), Ok(result))) => {
            let reply: C::Reply = read(result.get());
            answered(&ReplyTo::Id(id), Ok(&reply))
        }
        other => panic!("not a result: {other:?}\n{line}"),
    }
}

/// A new method does not compile here until it has a line, and does not pass until it has its file.
fn check_method(method: Method) {
    match method {
        Method::GetMode => round_trip::<GetMode>(method),
        Method::ChangeMode => round_trip::<ChangeMode>(method),
        Method::GetStatus => round_trip::<GetStatus>(method),
        Method::ListClusterNodes => round_trip::<ListClusterNodes>(method),
        Method::ListModeChanges => round_trip::<ListModeChanges>(method),
        Method::Connect => round_trip::<Connect>(method),
        Method::Report => round_trip::<Report>(method),
        Method::Disconnect => round_trip::<Disconnect>(method),
        Method::End => round_trip::<End>(method),
        Method::Explain => round_trip::<Explain>(method),
        Method::ListSessions => round_trip::<ListSessions>(method),
        Method::GetSession => round_trip::<GetSession>(method),
        Method::ListConnections => round_trip::<ListConnections>(method),
        Method::Wait => round_trip::<Wait>(method),
        Method::Subscribe => round_trip::<Subscribe>(method),
        Method::Unsubscribe => round_trip::<Unsubscribe>(method),
        Method::ListDeliveries => round_trip::<ListDeliveries>(method),
        Method::ResendDelivery => round_trip::<ResendDelivery>(method),
        Method::PurgeClusterNode => round_trip::<PurgeClusterNode>(method),
        Method::InitCluster => round_trip::<InitCluster>(method),
        Method::Grant => round_trip::<Grant>(method),
        Method::Acknowledge => round_trip::<Acknowledge>(method),
        Method::StartPlan => round_trip::<StartPlan>(method),
        Method::GetPlan => round_trip::<GetPlan>(method),
        Method::CancelPlan => round_trip::<CancelPlan>(method),
        Method::Announce => round_trip::<Announce>(method),
        Method::Reserve => round_trip::<Reserve>(method),
        Method::Release => round_trip::<Release>(method),
        Method::GetInfo => round_trip::<GetInfo>(method),
        Method::Discover => round_trip::<Discover>(method),
    }
}

#[test]
fn every_method_reads_and_writes_its_golden_lines() {
    for method in Method::ALL {
        check_method(*method);
    }
}

#[test]
fn no_golden_file_is_left_unread() {
    let others = ["errors", "events", "notifications"];
    let known: BTreeSet<String> = Method::ALL
        .iter()
        .map(|method| method.name())
        .chain(others)
        .map(|name| format!("{name}.jsonl"))
        .collect();
    let there: BTreeSet<String> = fs::read_dir(path_of("v1"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, known);
}

#[test]
fn every_reason_to_reject_has_a_golden_line() {
    let lines = golden(Method::Connect.name());
    for reason in RejectReason::ALL {
        assert!(
            lines
                .iter()
                .any(|line| line.contains(&format!("\"reason\":{}", written(&reason)))),
            "{reason} has no golden line"
        );
        assert_eq!(
            written(&reason),
            format!("\"{}\"", reason.name()),
            "its name is its word on the wire"
        );
    }
    for decision in ["offer", "reject", "redirect"] {
        assert!(
            lines
                .iter()
                .any(|line| line.contains(&format!("\"type\":\"{decision}\""))),
            "{decision} has no golden line"
        );
    }
}

#[test]
fn every_event_reads_and_writes_its_golden_lines() {
    let events: Vec<Event> = golden("events").iter().map(|line| read(line)).collect();
    let again: Vec<String> = events.iter().map(written).collect();
    assert_eq!(again, golden("events"));
    for event_type in EventType::ALL {
        assert!(
            events
                .iter()
                .any(|event| event.kind.event_type() == Some(event_type)),
            "{} has no golden line",
            event_type.name()
        );
    }
    for (event, line) in events.iter().zip(golden("events")) {
        let name = event
            .kind
            .event_type()
            .unwrap_or_else(|| panic!("unknown type: {line}"))
            .name();
        assert!(
            line.contains(&format!("\"type\":\"{name}\"")),
            "its name is its type on the wire: {line}"
        );
    }
    for reason in [
        "disconnected",
        "denied",
        "timeout",
        "socket_closed",
        "reconciled",
        "session_destroyed",
    ] {
        let reason: EndReason = read(&format!("\"{reason}\""));
        let is_reason = |event: &Event| matches!(&event.kind, EventKind::ConnectionDestroyed { reason: it, .. } if *it == reason);
        assert!(
            events.iter().any(is_reason),
            "{reason:?} has no golden line"
        );
    }
}

#[test]
fn notifications_read_and_write_their_golden_lines() {
    let mut kinds = BTreeSet::new();
    for line in golden("notifications") {
        let (kind, again) = match read_server_message(line.as_bytes()) {
            Ok(ServerMessage::Notification(Some(Notification::Event(event)))) => {
                ("Event", written(&NotificationLine::new(&event)))
            }
            Ok(ServerMessage::Notification(Some(Notification::Gap(gap)))) => {
                ("Gap", written(&NotificationLine::new(&gap)))
            }
            Ok(ServerMessage::Notification(Some(Notification::Progress(it)))) => {
                ("Progress", written(&NotificationLine::new(&it)))
            }
            Ok(ServerMessage::Notification(Some(Notification::End(it)))) => {
                ("End", written(&NotificationLine::new(&it)))
            }
            Ok(ServerMessage::Notification(Some(Notification::Fence(it)))) => {
                ("Fence", written(&NotificationLine::new(&it)))
            }
            Ok(ServerMessage::Notification(Some(Notification::Announce(it)))) => {
                ("Announce", written(&NotificationLine::new(&it)))
            }
            other => panic!("not a notification: {other:?}\n{line}"),
        };
        assert_eq!(again, line);
        kinds.insert(kind);
    }
    assert_eq!(
        kinds.len(),
        6,
        "a kind of notification has no golden line: {kinds:?}"
    );
}

#[test]
fn every_error_reads_and_writes_its_golden_lines() {
    let lines = golden("errors");
    let mut types = Vec::new();
    for line in &lines {
        let (id, error) = match read_server_message(line.as_bytes()) {
            Ok(ServerMessage::Answer(id, Err(error))) => {
                (id.map_or(ReplyTo::Null, ReplyTo::Id), error)
            }
            other => panic!("not an error: {other:?}\n{line}"),
        };
        assert_eq!(&answered::<()>(&id, Err(&error)), line);
        assert_eq!(error.code, error.data.error_type.code(), "{line}");
        types.push(error.data.error_type);
    }
    for error_type in ErrorType::ALL {
        assert!(
            types.contains(&error_type),
            "{error_type:?} has no golden line"
        );
    }
    let codes: BTreeSet<i32> = ErrorType::ALL
        .iter()
        .map(|error_type| error_type.code())
        .collect();
    assert_eq!(codes.len(), ErrorType::ALL.len(), "two types have one code");
}

/// A newer daemon may send fields that this version does not know; they must not break an older
/// reader.
#[test]
fn messages_of_a_newer_daemon_can_be_read() {
    let event: Event = read(
        r#"{"seq":1,"id":"MDSEN816VN1NF01ARM7Q0BXGD4","type":"moon.risen","phase":3,"timestamp":"2026-11-22T20:00:00Z","node_name":"n","more":[]}"#,
    );
    assert_eq!(event.kind, EventKind::Unknown);
    let error: Error =
        read(r#"{"code":-32099,"message":"m","data":{"error_type":"MoonRisen","phase":3}}"#);
    assert_eq!(
        (error.code, error.data.error_type),
        (-32_099, ErrorType::Unknown)
    );
    let decision: Decision = read(
        r#"{"type":"offer","channel_id":"a","connection_id":"b","session_id":"c","created":true,"claim":{"token":1}}"#,
    );
    assert!(matches!(decision, Decision::Offer { created: true, .. }));
    let line = br#"{"jsonrpc":"2.0","method":"Moonrise","params":{}}"#;
    assert!(matches!(
        read_server_message(line),
        Ok(ServerMessage::Notification(None))
    ));
}

/// Describes how a line is read: the error, or the request and the recipient of the answer.
fn taken(line: &str) -> String {
    let incoming = read_request(line.as_bytes());
    match (incoming.request, incoming.reply_to) {
        (Ok((method, _)), None) => format!("{}, without an answer", method.name()),
        (Ok((method, _)), Some(id)) => format!("{}, answered to {}", method.name(), written(&id)),
        (Err(error), None) => format!("refused without an answer: {error}"),
        (Err(error), Some(id)) => answered::<()>(&id, Err(&error)),
    }
}

#[test]
fn each_way_to_write_a_request_is_taken_as_reading_txt_shows() {
    let path = path_of("reading.txt");
    let shown = fs::read_to_string(&path).unwrap();
    let mut now = String::new();
    for line in shown.lines().filter(|line| !line.starts_with("← ")) {
        writeln!(now, "{line}").unwrap();
        if let Some(request) = line.strip_prefix("→ ") {
            // Ten thousand characters are not written out.
            writeln!(
                now,
                "← {}",
                taken(&request.replace("long…", &"x".repeat(10_000)))
            )
            .unwrap();
        }
    }
    if std::env::var_os("SORAMODE_REWRITE").is_some() {
        fs::write(&path, &now).unwrap();
        return;
    }
    for (shown, now) in shown.lines().zip(now.lines()) {
        assert_eq!(
            shown, now,
            "see reading.txt; SORAMODE_REWRITE=1 writes it anew"
        );
    }
    assert_eq!(shown.lines().count(), now.lines().count());
}

#[cfg(feature = "codec")]
#[test]
fn a_carriage_return_before_the_line_feed_is_tolerated() {
    use soramode_protocol::codec::{LineBuffer, REQUEST_BYTES_MAX};

    let mut lines = LineBuffer::new(REQUEST_BYTES_MAX);
    lines
        .read_buf()
        .extend_from_slice(b"{\"id\":1,\"method\":\"GetMode\"}\r\n");
    let line = lines.next_line().unwrap().unwrap();
    assert!(matches!(
        read_request(line).request,
        Ok((Method::GetMode, _))
    ));
}
