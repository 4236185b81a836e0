//! Tests of the pipeline: order, barriers and limits.

use super::*;

use super::super::budget::{VIEW_IN_FLIGHT_MAX, VIEW_WAITS_MAX};
use soramode_protocol::access::Access;
use soramode_protocol::codec::REQUEST_BYTES_MAX;
use soramode_protocol::decision::Disconnected;
use soramode_protocol::mode::ModeChanges;
use soramode_protocol::reply::Reply;

const DISCONNECT: &str =
    "{\"id\":1,\"method\":\"Disconnect\",\"params\":{\"connection_id\":\"1\"}}\n";
const WAIT: &str = "{\"id\":2,\"method\":\"Wait\",\"params\":{\"for\":\"joined\"}}\n";
const GET_INFO: &str = "{\"id\":3,\"method\":\"GetInfo\"}\n";
const LIST_CHANGES: &str = "{\"id\":4,\"method\":\"ListModeChanges\"}\n";

fn pipeline(access: Access) -> RequestPipeline {
    pipeline_of(access, ControlState::new())
}

fn pipeline_of(access: Access, state: ControlState) -> RequestPipeline {
    RequestPipeline::new(
        Arc::new(state),
        Peer {
            uid: 1,
            access,
            actor: "uid:1".into(),
        },
    )
}

fn lines(text: &str) -> LineBuffer {
    let mut lines = LineBuffer::new(REQUEST_BYTES_MAX);
    lines.read_buf().extend_from_slice(text.as_bytes());
    lines
}

fn take_lines(pipeline: &mut RequestPipeline, lines: &mut LineBuffer) -> Vec<SerialRequest> {
    take_turn(pipeline, lines, &mut usize::MAX.clone())
}

fn take_turn(
    pipeline: &mut RequestPipeline,
    lines: &mut LineBuffer,
    turn_bytes: &mut usize,
) -> Vec<SerialRequest> {
    let mut asks = Vec::new();
    pipeline.take_lines(lines, turn_bytes, &mut asks);
    asks
}

fn answer(pipeline: &mut RequestPipeline, (serial, request): &SerialRequest) {
    let reply = if matches!(request, GateRequest::ListModeChanges(_)) {
        Reply::ModeChanges(ModeChanges::default())
    } else {
        Reply::Disconnected(Disconnected {
            found: false,
            channel_id: None,
            session_id: None,
            durable: true,
        })
    };
    assert_eq!(
        pipeline.take_response(Response::Answer(*serial, Ok(reply))),
        None
    );
}

#[test]
fn past_256_in_flight_a_line_waits_until_one_is_answered() {
    let mut pipeline = pipeline(Access::Operate);
    let mut lines = lines(&(WAIT.repeat(6) + &DISCONNECT.repeat(IN_FLIGHT_MAX)));
    let asks = take_lines(&mut pipeline, &mut lines);
    assert_eq!((asks.len(), pipeline.is_open()), (IN_FLIGHT_MAX, false));
    assert!(take_lines(&mut pipeline, &mut lines).is_empty());
    for (number, ask) in asks.iter().enumerate().skip(6).take(6) {
        assert!(lines.has_partial(), "{number} answered");
        answer(&mut pipeline, ask);
        assert_eq!(take_lines(&mut pipeline, &mut lines).len(), 1);
    }
    assert!(!lines.has_partial());
}

#[test]
fn a_barrier_waits_for_requests_before_it_and_holds_back_those_after() {
    let mut pipeline = pipeline(Access::Operate);
    let mut lines = lines(&format!("{WAIT}{DISCONNECT}{GET_INFO}{DISCONNECT}"));
    let asks = take_lines(&mut pipeline, &mut lines);
    assert_eq!(asks.len(), 2);
    assert!(pipeline.out.is_empty() && !pipeline.is_open());
    answer(&mut pipeline, &asks[1]);
    assert_eq!(take_lines(&mut pipeline, &mut lines).len(), 1);
    assert!(!pipeline.is_answered());
}

#[test]
fn a_list_without_a_client_is_not_built() {
    let mut pipeline = pipeline(Access::View);
    let asks = take_lines(
        &mut pipeline,
        &mut lines("{\"method\":\"ListSessions\"}\n{\"id\":1,\"method\":\"ListSessions\"}\n"),
    );
    assert_eq!(
        (asks.len(), pipeline.is_answered()),
        (1, false),
        "the second alone"
    );
}

#[test]
fn an_answer_that_comes_early_waits_for_its_turn() {
    let mut pipeline = pipeline(Access::Operate);
    let ids = [5, 6, 7, 8, 9];
    let text: String = ids
        .iter()
        .map(|id| DISCONNECT.replace("\"id\":1", &format!("\"id\":{id}")))
        .collect();
    let asks = take_lines(&mut pipeline, &mut lines(&(text + GET_INFO)));
    for (turn, told) in [(2, 0), (1, 0), (4, 0), (0, 3), (3, 2)] {
        assert!(!pipeline.is_answered());
        let before = pipeline.out.lines().len();
        answer(&mut pipeline, &asks[turn]);
        assert_eq!(
            pipeline.out.lines().len() - before,
            told,
            "after answer {turn}"
        );
    }
    let answered = pipeline
        .out
        .lines()
        .into_iter()
        .map(|line| line["id"].as_i64().unwrap());
    assert_eq!(answered.collect::<Vec<_>>(), ids);
    assert!(take_lines(&mut pipeline, &mut lines("")).is_empty() && pipeline.is_answered());
}

#[test]
fn a_deferred_answer_holds_back_no_other_and_is_waited_for() {
    let mut pipeline = pipeline(Access::Operate);
    let text: String = [5, 6, 7]
        .iter()
        .map(|id| DISCONNECT.replace("\"id\":1", &format!("\"id\":{id}")))
        .collect();
    let asks = take_lines(&mut pipeline, &mut lines(&text));
    answer(&mut pipeline, &asks[1]);
    assert!(pipeline.out.lines().is_empty());
    pipeline.take_response(Response::Deferred(asks[0].0));
    answer(&mut pipeline, &asks[2]);
    assert_eq!(pipeline.out.lines().len(), 2);
    assert!(
        !pipeline.is_answered(),
        "a client that says no more still gets its answer"
    );
    answer(&mut pipeline, &asks[0]);
    let answered: Vec<i64> = pipeline
        .out
        .lines()
        .into_iter()
        .map(|line| line["id"].as_i64().unwrap())
        .collect();
    assert_eq!(answered, [6, 7, 5]);
    assert!(pipeline.is_answered());
}

#[test]
fn where_the_sfu_holds_the_mode_a_change_of_it_holds_back_the_requests_behind_it() {
    const CHANGE_MODE: &str =
        "{\"id\":5,\"method\":\"ChangeMode\",\"params\":{\"mode\":\"normal\"}}\n";
    for sfu_holds_mode in [false, true] {
        let mut state = ControlState::new();
        state.sfu_holds_mode = sfu_holds_mode;
        let mut pipeline = pipeline_of(Access::Operate, state);
        let mut lines = lines(&format!("{DISCONNECT}{CHANGE_MODE}{DISCONNECT}"));
        let asks = take_lines(&mut pipeline, &mut lines);
        assert_eq!(asks.len(), if sfu_holds_mode { 2 } else { 3 });
        if sfu_holds_mode {
            assert!(!pipeline.is_open());
            answer(&mut pipeline, &asks[1]);
            assert!(!pipeline.is_open(), "its answer waits for the one before");
            answer(&mut pipeline, &asks[0]);
            assert_eq!(take_lines(&mut pipeline, &mut lines).len(), 1);
        }
    }
}

#[test]
fn large_answers_are_asked_for_one_at_a_time() {
    let mut pipeline = pipeline(Access::View);
    let mut lines = lines(&LIST_CHANGES.repeat(3));
    for _ in 0..3 {
        let asks = take_lines(&mut pipeline, &mut lines);
        assert_eq!(asks.len(), 1);
        answer(&mut pipeline, &asks[0]);
    }
    assert!(take_lines(&mut pipeline, &mut lines).is_empty() && pipeline.is_answered());
}

#[test]
fn a_client_with_too_much_unread_output_is_not_read() {
    let mut pipeline = pipeline(Access::View);
    let mut lines = lines(&GET_INFO.repeat(10_000));
    take_lines(&mut pipeline, &mut lines);
    assert!(pipeline.out.is_full() && !pipeline.is_open() && lines.has_partial());
}

#[test]
fn a_viewers_changes_do_not_reach_the_gate() {
    let changes = [
        ("ChangeMode", "{\"mode\":\"normal\"}"),
        ("Connect", "{\"channel_id\":\"a\"}"),
        ("Report", "{\"connections\":[]}"),
        ("Disconnect", "{\"connection_id\":\"1\"}"),
        ("End", "{\"all\":true}"),
        ("ResendDelivery", "{\"id\":1}"),
        (
            "PurgeClusterNode",
            "{\"node_name\":\"n\",\"accept_risk\":\"still-running\"}",
        ),
        ("InitCluster", "{}"),
        ("Grant", "{}"),
        ("Acknowledge", "{\"id\":1}"),
        (
            "StartPlan",
            "{\"steps\":[{\"do\":\"mode\",\"at_seconds\":0,\"mode\":\"block_new_session\"}]}",
        ),
        ("CancelPlan", "{}"),
        ("Announce", "{\"text\":\"soon\"}"),
        (
            "Reserve",
            "{\"roll\":\"R1\",\"by\":\"ops\",\"seconds\":60,\"round\":1}",
        ),
        ("Release", "{\"roll\":\"R1\"}"),
    ];
    let operate = Method::ALL
        .iter()
        .filter(|method| method.access() == Access::Operate)
        .map(|method| method.name());
    assert_eq!(
        operate.collect::<Vec<_>>(),
        changes.map(|(method, _)| method)
    );
    for means in ["ends", "announcements"] {
        let subscribe = format!("{{\"method\":\"Subscribe\",\"params\":{{\"{means}\":true}}}}\n");
        let mut viewer = pipeline(Access::View);
        take_lines(&mut viewer, &mut lines(&subscribe));
        assert!(
            viewer.subscription.is_none(),
            "nor does it stand for a client that has these means: {means}"
        );
        let mut operator = pipeline(Access::Operate);
        take_lines(&mut operator, &mut lines(&subscribe));
        assert!(operator.subscription.is_some());
    }
    for (method, params) in changes {
        let line = format!("{{\"method\":\"{method}\",\"params\":{params}}}\n");
        assert!(
            take_lines(&mut pipeline(Access::View), &mut lines(&line)).is_empty(),
            "{line}"
        );
        assert_eq!(
            take_lines(&mut pipeline(Access::Operate), &mut lines(&line)).len(),
            1,
            "{line}"
        );
    }
}

#[test]
fn a_viewer_may_have_fewer_in_flight_and_its_waits_beside_them() {
    let mut pipeline = pipeline(Access::View);
    let get_mode = "{\"id\":5,\"method\":\"GetMode\"}\n";
    let mut lines = lines(&(WAIT.repeat(2) + &get_mode.repeat(2 * VIEW_IN_FLIGHT_MAX)));
    assert_eq!(
        take_lines(&mut pipeline, &mut lines).len(),
        2 + VIEW_IN_FLIGHT_MAX
    );
    assert!(!pipeline.is_open() && lines.has_partial());
}

#[test]
fn lines_past_a_turn_wait_for_the_next() {
    let mut pipeline = pipeline(Access::Operate);
    let mut lines = lines(&DISCONNECT.repeat(3));
    let mut turn_bytes = DISCONNECT.len() + 1;
    assert_eq!(
        take_turn(&mut pipeline, &mut lines, &mut turn_bytes).len(),
        2
    );
    assert_eq!(
        (turn_bytes, pipeline.is_open(), lines.has_partial()),
        (0, true, true)
    );
}

#[test]
fn viewers_share_their_waits_and_operators_have_their_own() {
    let state = Arc::new(ControlState::new());
    let client = |access| {
        RequestPipeline::new(
            Arc::clone(&state),
            Peer {
                uid: 1,
                access,
                actor: "uid:1".into(),
            },
        )
    };
    let mut viewers: Vec<RequestPipeline> = Vec::new();
    for _ in 0..VIEW_WAITS_MAX / 64 {
        let mut viewer = client(Access::View);
        assert_eq!(
            take_lines(&mut viewer, &mut lines(&WAIT.repeat(64))).len(),
            64
        );
        viewers.push(viewer);
    }
    let mut late = client(Access::View);
    assert!(take_lines(&mut late, &mut lines(WAIT)).is_empty());
    let refusal = &late.out.lines()[0]["error"];
    assert_eq!(refusal["data"]["error_type"], "InvalidRequest", "{refusal}");
    assert_eq!(
        take_lines(&mut client(Access::Operate), &mut lines(WAIT)).len(),
        1
    );
    viewers.pop();
    assert_eq!(
        take_lines(&mut late, &mut lines(WAIT)).len(),
        1,
        "what a client leaves is free again"
    );
}

#[test]
fn a_subscription_takes_a_turn() {
    let mut pipeline = pipeline(Access::View);
    let mut lines = lines(&"{\"id\":1,\"method\":\"Subscribe\"}\n".repeat(2));
    for told in 1..=2 {
        let mut turn_bytes = 1_000;
        assert!(take_turn(&mut pipeline, &mut lines, &mut turn_bytes).is_empty());
        assert_eq!((turn_bytes, pipeline.out.lines().len()), (0, told));
    }
}
