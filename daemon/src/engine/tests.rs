//! Tests of the engine, and an engine for the tests of its callers.

use super::*;

use std::task::Poll;

use soramode_core::input::HostState;
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::Settings;
use soramode_core::stored::Stored;
use soramode_protocol::decision::{Connect, Lifetime};
use soramode_protocol::id::LogId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{Status, Storage, StorageState};
use soramode_protocol::reply::Reply;
use soramode_protocol::wait::{Wait, WaitFor};

use crate::clock::ClockChanges;
use crate::config::Config;
use crate::event_log::EventLog;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::reservation_log::ReservationLog;
use crate::sfu::announcer::Announcer;
use crate::sfu::terminator::SessionTerminator;

/// Creates an engine with a new gate.
pub(crate) fn engine(durability: Durability) -> Engine {
    let config = Config::on_socket("/nowhere/gate.sock");
    let state = match durability {
        Durability::Ephemeral => StorageState::Memory,
        Durability::Durable => StorageState::Ok,
    };
    let settings = Settings {
        assume_complete: true,
        ..crate::settings(&config, Storage { state, path: None })
    };
    let params = StartParams {
        settings,
        started: clock::now(),
        stored: Stored::default(),
    };
    let deps = OutputDeps {
        event_log: Arc::new(EventLog::new(LogId::generate([0; 16]), 10_000)),
        health: Arc::new(Health::new(&config, None)),
        metrics: Arc::new(Metrics::new().unwrap()),
        poll_wanted: Arc::default(),
        announcer: Announcer::new(None),
        terminator: SessionTerminator::new(None, Default::default()),
        holder: None,
        receivers: ReceiverSenders::default(),
        mirror: None,
        etcd_requests: None,
        wal_size: None,
        storage_problem: None,
        reservation_log: ReservationLog::default(),
    };
    let inputs = vec![Input::Started(HostState::Running)];
    Engine::start(
        Gate::restore(params, Seed([7; 32])),
        durability,
        deps,
        inputs,
    )
    .unwrap()
}

/// A request that adds records.
pub(crate) fn connect(channel: &str) -> GateRequest {
    GateRequest::Connect(Connect {
        channel_id: channel.parse().unwrap(),
        connection_id: None,
        client_id: None,
        lifetime: Lifetime::Explicit,
        hops: 0,
    })
}

pub(crate) async fn ask(engine: &Engine, request: GateRequest) -> Answer {
    engine.ask_one("test".into(), request).await
}

pub(crate) async fn status(engine: &Engine) -> Status {
    match ask(engine, GateRequest::GetStatus).await {
        Ok(Reply::Status(status)) => *status,
        other => panic!("{other:?}"),
    }
}

fn is_ready(answer: &PendingAnswer) -> bool {
    matches!(answer, PendingAnswer::Ready(_))
}

/// Makes a request, and waits for nothing.
pub(crate) fn request(engine: &Engine, request: GateRequest) -> PendingAnswer {
    engine.decide(SocketId::HTTP, |state, now, reply_to, turn| {
        state.request(now, reply_to, "test".into(), request, turn);
    })
}

#[tokio::test]
async fn reads_are_answered_at_once_unless_records_wait() {
    let engine = engine(Durability::Durable);
    let started = engine.begin_write().unwrap();
    let early = request(&engine, GateRequest::GetStatus);
    assert!(!is_ready(&early), "the start is being written");
    engine.finish_write(started, Ok(()));
    assert!(early.answer().await.is_ok());
    assert!(is_ready(&request(&engine, GateRequest::GetStatus)));
    let late = request(&engine, connect("spam"));
    assert!(!is_ready(&late) && !is_ready(&request(&engine, GateRequest::GetStatus)));
    let records = engine.begin_write().unwrap();
    assert!(!records.is_empty() && engine.begin_write().is_none());
    engine.finish_write(records, Ok(()));
    assert!(matches!(late.answer().await, Ok(Reply::Decision(_))));
    let ephemeral = self::engine(Durability::Ephemeral);
    assert!(is_ready(&request(&ephemeral, connect("spam"))));
}

#[tokio::test]
async fn abandoned_requests_keep_no_memory() {
    let engine = engine(Durability::Durable);
    drop(request(&engine, connect("spam")));
    let is_waited_for = engine.with(|state, _| state.outputs.is_waited_for());
    assert_eq!(is_waited_for, Some(false));
}

#[tokio::test]
async fn a_panic_in_a_step_breaks_the_engine_and_nothing_leaves_it() {
    let engine = engine(Durability::Durable);
    let (client, _responses) = engine.connect(SocketId(1)).unwrap();
    let in_step = engine.clone();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        in_step.with(|_, _| panic!("a step"));
    }));
    assert!(panicked.is_err());
    engine.broken().await;
    assert_eq!(engine.apply(Input::Tick), Err(Stopped));
    assert!(
        engine.begin_write().is_none(),
        "nothing is written any more"
    );
    assert!(ask(&engine, GateRequest::GetMode).await.is_err());
    drop(client);
}

#[tokio::test]
async fn an_output_that_calls_the_engine_is_a_bug() {
    let engine = engine(Durability::Ephemeral);
    let inner = engine.clone();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        engine.with(|_, _| inner.apply(Input::Tick))
    }));
    assert!(panicked.is_err());
    engine.broken().await;
}

#[tokio::test]
async fn clients_wait_for_room_while_much_waits_for_a_write() {
    let engine = engine(Durability::Durable);
    let first = engine.begin_write().unwrap();
    let mut waiting = Vec::new();
    while !engine.is_crowded() {
        waiting.push(request(&engine, connect("spam")));
    }
    assert!(engine.apply(Input::Tick).is_ok(), "other inputs never wait");
    engine.finish_write(first, Ok(()));
    let records = engine.begin_write().unwrap();
    engine.not_crowded().await;
    engine.finish_write(records, Ok(()));
    for answer in waiting {
        assert!(answer.answer().await.is_ok());
    }
}

#[tokio::test]
async fn http_requests_wait_for_room_and_add_nothing_meanwhile() {
    let engine = engine(Durability::Durable);
    let started = engine.begin_write().unwrap();
    while !engine.is_crowded() {
        drop(request(&engine, connect("spam")));
    }
    let waiting = |engine: &Engine| {
        let actions = |state: &mut State, now| state.commits.open_mut(now).actions.len();
        engine.with(actions).unwrap()
    };
    let before = waiting(&engine);
    {
        let mut asked = std::pin::pin!(ask(&engine, GateRequest::GetStatus));
        let polled = std::future::poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        // The client hangs up.
    }
    assert_eq!(waiting(&engine), before);
    engine.finish_write(started, Ok(()));
    let written = engine.begin_write().unwrap();
    engine.finish_write(written, Ok(()));
    assert!(ask(&engine, GateRequest::GetStatus).await.is_ok());
}

#[tokio::test]
async fn deadlines_come_while_a_write_never_ends() {
    let engine = engine(Durability::Durable);
    assert!(engine.begin_write().is_some(), "a write that nothing ends");
    let mut wait = Wait::new(WaitFor::Mode);
    (wait.mode, wait.timeout_seconds) = (Some(Mode::BlockNewSession), Some(0.02));
    let waiting = request(&engine, GateRequest::Wait(Box::new(wait)));
    let due = engine.with(|state, _| state.gate.next_deadline()).unwrap();
    let stepped_at = async {
        loop {
            let next = engine.with(|state, now| (state.gate.next_deadline(), now.boot));
            match next.unwrap() {
                (next, _) if next == due => tokio::task::yield_now().await,
                (_, now) => return now,
            }
        }
    };
    let stepped_at = tokio::select! {
        ended = crate::deadlines::run(engine.clone(), ClockChanges::new().unwrap()) => panic!("{ended:?}"),
        now = stepped_at => now,
    };
    assert!(stepped_at >= due.unwrap(), "not before its time");
    assert!(!is_ready(&waiting), "its answer waits for the write");
}

/// The code of each source file, without its tests.
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next();
                sources.push((name, code.unwrap_or_default().to_owned()));
            }
        }
    }
    sources
}

#[test]
fn one_file_steps_the_gate_and_one_performs_actions() {
    for (name, code) in sources() {
        let allowed = |word: &str, files: &[&str]| {
            assert!(
                !code.contains(word) || files.contains(&name.as_str()),
                "{name} names {word}"
            );
        };
        allowed("step_into(", &["engine.rs"]);
        allowed("Action::", &["engine.rs", "outputs.rs"]);
        if name == "outputs.rs" {
            assert!(!code.contains("async fn"), "outputs wait for nothing");
        }
    }
}
