//! Tests of the database against the records folded in memory, over restarts, boots and damage.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use soramode_core::effect::Record;
use soramode_core::gate::Gate;
use soramode_core::handles::{DeliveryId, ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{AttemptResult, HostState, Input, SoraInput};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::{EventReceiver, Settings, SfuSettings};
use soramode_core::stored::Stored;
use soramode_protocol::decision::{Connect, Disconnect, Lifetime};
use soramode_protocol::event::{Event, EventKind, EventType};
use soramode_protocol::id::{EventId, LogId, NodeName};
use soramode_protocol::mode::{ChangeMode, ModeState, SettableMode};
use soramode_protocol::node::{Storage, StorageState};
use soramode_protocol::request::GateRequest;
use soramode_protocol::subscribe::Gap;
use soramode_protocol::time::Time;
use soramode_testkit::record_store::RecordStore;

use super::open::{OpenError, OpenOptions, Opened, database, open};
use super::writer_thread::PAGES_MAX;
use super::*;

const KEEP: u64 = 10_000;
const BOOT: Option<&str> = Some("first");

fn opened(folder: &Path, boot_id: Option<&str>) -> Opened {
    try_open(folder, boot_id).unwrap()
}

fn try_open(folder: &Path, boot_id: Option<&str>) -> Result<Opened, OpenError> {
    let log_id = LogId::generate([7; 16]);
    let options = OpenOptions {
        keep_events: KEEP,
        log_id: &log_id,
        boot_id,
    };
    open(folder, options)
}

fn settings() -> Settings {
    Settings {
        node_name: NodeName::new("node-01").unwrap(),
        cluster: None,
        mode: None,
        reconnect_grace: Duration::ZERO,
        stall_after: Duration::from_mins(10),
        max_connections: 1_000,
        pending_timeout: Duration::from_secs(30),
        socket_grace: Duration::from_secs(30),
        assume_complete: false,
        sfu: SfuSettings::default(),
        storage: Storage {
            state: StorageState::Ok,
            path: None,
        },
        receivers: vec![EventReceiver {
            url: "http://a/?b".to_owned(),
            endpoint: "http://a/".to_owned(),
            types: EventType::ALL.to_vec(),
        }],
    }
}

/// Creates a random input.
fn input(rng: &mut Rng) -> Input {
    let reply_to = ReplyHandle {
        socket: SocketId(1 + rng.u64(..3)),
        serial: 1,
    };
    let (channel, connection) = (
        ["spam", "egg", "ハム"][usize::try_from(rng.u64(..3)).unwrap()],
        format!("c{}", rng.u64(..12)),
    );
    let (channel_id, connection_id) = (channel.parse().unwrap(), connection.parse().unwrap());
    let session_id = format!("{}-{channel}", rng.u64(..2)).parse().unwrap();
    let ask = |request| Input::Request {
        reply_to,
        actor: "uid:0(root)".into(),
        request,
    };
    let client_id = (rng.u64(..3) == 0).then(|| "alice'; --".parse().unwrap());
    match rng.u64(..29) {
        0..5 => {
            let lifetime = if rng.u64(..2) == 0 {
                Lifetime::Socket
            } else {
                Lifetime::Explicit
            };
            ask(GateRequest::Connect(Connect {
                channel_id,
                connection_id: Some(connection_id),
                client_id,
                lifetime,
                hops: 0,
            }))
        }
        5..9 => ask(GateRequest::Disconnect(Disconnect { connection_id })),
        9 => ask(GateRequest::ChangeMode(Box::new(ChangeMode {
            reason: Some("kernel".to_owned()),
            ..ChangeMode::to(SettableMode::ALL[usize::try_from(rng.u64(..3)).unwrap()])
        }))),
        10 => Input::SocketClosed(reply_to.socket),
        11..14 => Input::Sora(SoraInput::Admit {
            reply_to,
            channel_id,
            connection_id,
            client_id,
        }),
        14..16 => Input::Sora(SoraInput::ConnectionCreated {
            channel_id,
            session_id: Some(session_id),
            connection_id,
            client_id,
        }),
        16..18 => Input::Sora(SoraInput::ConnectionDestroyed { connection_id }),
        18 => Input::Sora(SoraInput::SessionDestroyed {
            channel_id,
            session_id,
        }),
        20..27 => plans::tests::input(rng, reply_to),
        27.. => ask(reservation::tests::request(rng)),
        _ => Input::DeliveryAttempted {
            id: DeliveryId(1 + rng.u64(..40)),
            result: AttemptResult {
                status: [Some(200), Some(500), Some(410), None]
                    [usize::try_from(rng.u64(..4)).unwrap()],
                retry_after: None,
                problem: None,
            },
        },
    }
}

fn sorted(mut stored: Stored) -> Stored {
    stored
        .sessions
        .sort_by(|one, other| one.channel_id.as_str().cmp(other.channel_id.as_str()));
    stored
        .connections
        .sort_by(|one, other| one.connection_id.as_str().cmp(other.connection_id.as_str()));
    stored
}

/// Database, and the same records folded in memory.
struct Both {
    folder: tempfile::TempDir,
    record_store: RecordStore,
    rng: Rng,
    now: Timestamp,
}

impl Both {
    /// A start: both must hold the same. Then some things happen, and the rest of them is lost.
    async fn start(&mut self, start: u8) {
        let Opened {
            disk, stored, host, ..
        } = opened(self.folder.path(), BOOT);
        assert_eq!(
            (sorted(stored.clone()), host),
            (sorted(self.record_store.stored()), HostState::Running),
            "start {start}"
        );
        let mut gate = Gate::restore(
            StartParams {
                settings: settings(),
                started: self.now,
                stored,
            },
            Seed([start; 32]),
        );
        let mut records = gate.step(self.now, Input::Started(host)).records;
        for _ in 0..self.rng.u64(..60) {
            let pause = Duration::from_millis(self.rng.u64(..4_000));
            (self.now.boot, self.now.wall) = (self.now.boot + pause, self.now.wall + pause);
            records.extend(gate.step(self.now, input(&mut self.rng)).records);
            if self.rng.u64(..3) == 0 {
                self.keep(&disk, std::mem::take(&mut records)).await;
            }
        }
    }

    async fn keep(&mut self, disk: &Disk, records: Vec<Record>) {
        for record in &records {
            self.record_store.read(record);
        }
        disk.commit(records).await.1.unwrap();
    }
}

#[tokio::test]
async fn the_database_agrees_with_the_records_over_many_restarts() {
    for seed in 0..20 {
        let (folder, record_store) = (
            tempfile::tempdir().unwrap(),
            RecordStore::new(Stored::default()),
        );
        let now = Timestamp {
            wall: Time::from_micros(1_795_377_600_000_000),
            boot: Duration::from_secs(1_000),
        };
        let mut both = Both {
            folder,
            record_store,
            rng: Rng::with_seed(seed),
            now,
        };
        for start in 0..8 {
            both.start(start).await;
        }
    }
}

fn events(seqs: impl IntoIterator<Item = u64>) -> Vec<Record> {
    let node_name = std::sync::Arc::new(NodeName::new("node-01").unwrap());
    let event = |seq| Event {
        seq,
        id: EventId::generate([0; 16]),
        kind: EventKind::SessionVanished,
        timestamp: Time::default(),
        node_name: std::sync::Arc::clone(&node_name),
    };
    seqs.into_iter()
        .map(|seq| Record::Event(event(seq)))
        .collect()
}

fn seqs(opened: &Opened, from: u64, until: u64, limit: usize) -> (Option<Gap>, Vec<u64>) {
    let found = opened.archive.read(from, until, limit).unwrap();
    (
        found.gap,
        found.events.iter().map(|event| event.seq).collect(),
    )
}

#[tokio::test]
async fn the_archive_reads_from_any_seq_and_reports_gaps() {
    let folder = tempfile::tempdir().unwrap();
    let opened = opened(folder.path(), BOOT);
    assert_eq!(
        (opened.archive.oldest_seq(), seqs(&opened, 1, 1, 10)),
        (None, (None, vec![]))
    );
    opened.disk.commit(events(1..=3)).await.1.unwrap();
    opened.disk.commit(events(4..=9)).await.1.unwrap();
    assert_eq!(seqs(&opened, 1, 10, 100), (None, (1..=9).collect()));
    assert_eq!(seqs(&opened, 5, 10, 100), (None, (5..=9).collect()));
    assert_eq!(
        seqs(&opened, 2, 10, 1),
        (None, vec![2, 3]),
        "what was committed together comes together"
    );
    // This number of events is retained, and those that share a row with the oldest.
    for first in (10..).step_by(10).take(2_000) {
        opened
            .disk
            .commit(events(first..first + 10))
            .await
            .1
            .unwrap();
    }
    assert_eq!(opened.archive.oldest_seq(), Some(10_010));
    assert_eq!(
        seqs(&opened, 1, 20_010, 1).0,
        Some(Gap {
            from: 1,
            to: 10_009
        })
    );
    assert_eq!(
        seqs(&opened, 9_000, 20_010, 10).1,
        (10_010..10_020).collect::<Vec<u64>>()
    );
    // A commit larger than a row.
    opened.disk.commit(events(20_010..=25_000)).await.1.unwrap();
    assert_eq!(seqs(&opened, 20_010, 25_001, 10_000).1.len(), 4_991);
}

#[tokio::test]
async fn a_power_cut_skips_to_a_seq_that_was_never_used_and_a_kill_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path(), BOOT);
    let log_id = first.log_id.clone();
    first.disk.commit(events(1..=3)).await.1.unwrap();
    // A daemon that is killed closes nothing: the files are as they are now.
    let killed = tempfile::tempdir().unwrap();
    for name in ["soramode.db", "soramode.db-wal"] {
        fs::copy(folder.path().join(name), killed.path().join(name)).unwrap();
    }
    let after_power_cut = tempfile::tempdir().unwrap();
    for name in ["soramode.db", "soramode.db-wal"] {
        fs::copy(folder.path().join(name), after_power_cut.path().join(name)).unwrap();
    }
    drop(first);
    let again = opened(killed.path(), BOOT);
    assert_eq!(
        (again.stored.next_seq, again.host, &again.log_id),
        (4, HostState::Running, &log_id)
    );
    let again = opened(after_power_cut.path(), Some("second"));
    assert_eq!((again.host, &again.log_id), (HostState::Rebooted, &log_id));
    let next = again.stored.next_seq;
    assert!(next > 1_000, "{next}");
    assert_eq!(seqs(&again, 2, next, 10), (None, vec![2, 3]));
    assert_eq!(
        seqs(&again, 4, next, 10),
        (
            Some(Gap {
                from: 4,
                to: next - 1
            }),
            vec![]
        )
    );
    again.disk.commit(events(next..=next)).await.1.unwrap();
    assert_eq!(
        seqs(&again, 2, next + 1, 10),
        (None, vec![2, 3]),
        "not over the hole"
    );
    assert_eq!(
        seqs(&again, 4, next + 1, 10),
        (
            Some(Gap {
                from: 4,
                to: next - 1
            }),
            vec![next]
        )
    );
    // Stopped in order, everything was on the disk: nothing is skipped.
    let stopped = opened(folder.path(), Some("second"));
    assert_eq!(
        (stopped.stored.next_seq, stopped.host),
        (4, HostState::Rebooted)
    );
}

#[tokio::test]
async fn one_daemon_writes_a_state() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path(), BOOT);
    let refusal = try_open(folder.path(), BOOT).unwrap_err().to_string();
    let who = format!(
        "is in use by a running soramoded (pid {})",
        std::process::id()
    );
    let expected = format!("the state in {} {who}", folder.path().display());
    assert_eq!(refusal, expected);
    drop(first);
    opened(folder.path(), BOOT);
}

#[tokio::test]
async fn the_write_ahead_log_begins_anew_however_much_is_written() {
    const WRITTEN_AT_ONCE: usize = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let Opened { disk, .. } = opened(folder.path(), BOOT);
    let reason = "x".repeat(WRITTEN_AT_ONCE);
    let mode = serde_json::json!({"mode": "normal", "generation": 1, "since": Time::default(), "actor": "uid:0", "reason": reason});
    let mode: ModeState = serde_json::from_value(mode).unwrap();
    // A page has 4 KiB and a head of 24 bytes.
    let most = usize::try_from(PAGES_MAX).unwrap() * (4_096 + 24);
    for commit in 0..2 * most / WRITTEN_AT_ONCE {
        let record = Record::Mode(Box::new(mode.clone()));
        disk.commit(vec![record]).await.1.unwrap();
        let length = fs::metadata(folder.path().join("soramode.db-wal"))
            .unwrap()
            .len();
        assert!(
            length <= u64::try_from(most + 2 * WRITTEN_AT_ONCE).unwrap(),
            "{length} bytes after {commit} commits"
        );
    }
}

/// Returns the contents of the folder, except the lock, `SQLite`'s shared memory and empty files.
fn contents(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let mut contents: Vec<_> = files
        .filter(|path| {
            !["lock", "db-shm"]
                .iter()
                .any(|end| path.extension().is_some_and(|extension| extension == *end))
        })
        .map(|path| {
            (
                path.file_name().unwrap().to_owned(),
                fs::read(&path).unwrap(),
            )
        })
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect();
    contents.sort();
    contents
}

/// Damages a state with contents, and returns the resulting error.
async fn spoiled(spoil: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let Opened { disk, stored, .. } = opened(folder.path(), BOOT);
    let now = Timestamp {
        wall: Time::from_micros(0),
        boot: Duration::from_secs(1),
    };
    let mut gate = Gate::restore(
        StartParams {
            settings: settings(),
            started: now,
            stored,
        },
        Seed([1; 32]),
    );
    let mut rng = Rng::with_seed(1);
    let mut records = gate.step(now, Input::Started(HostState::Running)).records;
    records.extend((0..300).flat_map(|_| gate.step(now, input(&mut rng)).records));
    disk.commit(records).await.1.unwrap();
    drop(disk);
    spoil(&database(folder.path()));
    let before = contents(folder.path());
    let Err(OpenError::Unusable(refusal)) = try_open(folder.path(), BOOT) else {
        panic!("it can be used")
    };
    let told = format!("{refusal}. {}", refusal.hint());
    let checked = check(folder.path()).unwrap_err();
    assert_eq!(
        checked.to_string().split('(').next(),
        refusal.to_string().split('(').next()
    );
    assert!(
        !checked.hint().contains("--check-state"),
        "{}",
        checked.hint()
    );
    assert!(
        contents(folder.path()) == before,
        "the state was touched: {told}"
    );
    told.replace(folder.path().to_str().unwrap(), "")
}

fn sql(path: &Path, sql: &str) {
    rusqlite::Connection::open(path)
        .unwrap()
        .execute_batch(sql)
        .unwrap();
}

#[tokio::test]
async fn an_unusable_file_is_named_and_left_untouched() {
    let told = spoiled(|path| sql(path, "PRAGMA user_version = 99")).await;
    let newer = format!(
        "the state in  cannot be used: a newer soramoded wrote it (schema 99, this one knows up to {}). ",
        schema::SCHEMA
    );
    assert!(
        told.starts_with(&newer)
            && told.contains("soramode.db, soramode.db-wal and soramode.db-shm"),
        "{told}"
    );
    let told = spoiled(|path| sql(path, "PRAGMA application_id = 1")).await;
    assert!(
        told.contains("soramode.db is another program's database"),
        "{told}"
    );
    for (what, spoil) in [
        (
            "no database",
            Box::new(|path: &Path| fs::write(path, "a".repeat(4_096)).unwrap())
                as Box<dyn FnOnce(&Path)>,
        ),
        (
            "cut short",
            Box::new(|path: &Path| {
                fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(9_000)
                    .unwrap();
            }),
        ),
        (
            "overwritten",
            Box::new(|path: &Path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[4_096..].fill(0x5a);
                fs::write(path, bytes).unwrap();
            }),
        ),
    ] {
        let told = spoiled(spoil).await;
        assert!(is_damaged(&told), "{what}: {told}");
    }
}

/// Returns whether an error says so with a remedy, and repeats no long text.
fn is_damaged(told: &str) -> bool {
    told.contains("it is damaged (") && told.contains("--check-state") && told.len() < 2_000
}

#[tokio::test]
async fn values_that_soramoded_does_not_write_are_damage() {
    for spoil in [
        "INSERT INTO connections VALUES ('', 'spam', NULL, 0, 1, 0, 0, NULL)",
        "UPDATE facts SET value = json_set(value, '$.generation', 9007199254740992) WHERE name = 'mode'",
        "UPDATE facts SET value = json_set(value, '$.reason', printf('%.*c', 5000000, 'x')) WHERE name = 'mode'",
        "UPDATE facts SET value = json_set(value, '$.mode', printf('%.*c', 1000000, 'x')) WHERE name = 'mode'",
        "UPDATE facts SET value = '{}' WHERE name = 'mode'",
    ] {
        let told = spoiled(|path| sql(path, spoil)).await;
        assert!(is_damaged(&told), "{spoil}: {told}");
    }
}

#[tokio::test]
async fn a_check_reports_the_content_of_a_state_also_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        check(folder.path())
            .unwrap()
            .ends_with("soramode.db: not there yet\n")
    );
    let Opened { disk, .. } = opened(folder.path(), BOOT);
    disk.commit(events(1..=3)).await.1.unwrap();
    let told = check(folder.path()).unwrap();
    assert!(
        told.contains("soramode.db: sound\n") && told.contains("\nevents        1 to 3\n"),
        "{told}"
    );
}

/// Each schema's state has its expected contents beside it; `SORAMODE_REWRITE=1` writes those of a
/// new one.
#[tokio::test]
async fn every_schema_that_there_was_is_still_read() {
    let states = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state");
    let mut schemas = 0;
    for schema in 1.. {
        let Ok(dump) = fs::read_to_string(states.join(format!("{schema}.sql"))) else {
            break;
        };
        schemas += 1;
        let folder = tempfile::tempdir().unwrap();
        sql(&database(folder.path()), &dump);
        let Opened {
            stored,
            log_id,
            archive,
            host,
            ..
        } = opened(folder.path(), BOOT);
        let read = format!(
            "{:#?}\n",
            (stored, log_id, host, archive.read(1, 100, 100).unwrap())
        );
        let expected = states.join(format!("{schema}.txt"));
        if std::env::var_os("SORAMODE_REWRITE").is_some() && !expected.exists() {
            fs::write(&expected, &read).unwrap();
        }
        assert_eq!(read, fs::read_to_string(expected).unwrap(), "{schema}");
        assert!(check(folder.path()).unwrap().contains("sound"));
    }
    assert_eq!(
        schemas,
        schema::SCHEMA,
        "each schema needs a state of its own in {}",
        states.display()
    );
}
