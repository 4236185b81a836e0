//! Committed events for readers, each with its own position. Nothing waits for a reader.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use soramode_protocol::envelope::{NotificationLine, write_line};
use soramode_protocol::event::{Event, EventType};
use soramode_protocol::id::LogId;
use soramode_protocol::subscribe::Gap;
use tokio::sync::watch;

use crate::lock::lock;
use crate::rate_limit::log_limited;
use crate::store::archive::{Archive, ArchivePage};

/// Number of events in memory if an archive has the older ones: readers that are less behind cause
/// no disk reads.
const RING_EVENTS: usize = 8_192;

/// Event of the log, and its line on the wire, written once for all readers.
#[derive(Debug)]
struct Entry {
    event: Event,
    line: Option<Box<[u8]>>,
}

impl Entry {
    const fn new(event: Event) -> Self {
        Self { event, line: None }
    }

    /// The `Event` notification, with its line feed.
    fn line(&mut self) -> &[u8] {
        self.line.get_or_insert_with(|| {
            let mut line = Vec::new();
            match write_line(&mut line, &NotificationLine::new(&self.event)) {
                Ok(()) => line.into(),
                // Serializing an event cannot fail. If it does, a missing event is better than half
                // a line.
                Err(error) => {
                    tracing::error!(seq = self.event.seq, %error, "cannot write an event");
                    Box::default()
                }
            }
        })
    }
}

/// Batch of events for a reader.
#[derive(Clone, Debug)]
pub struct EventBatch {
    /// Requested events that are no longer retained.
    pub gap: Option<Gap>,
    /// `Event` notifications that follow, in order, each with its line feed. Readers of the same
    /// range share them.
    pub lines: Bytes,
    /// Sequence number for the next read.
    pub next: u64,
    /// `true` if more events may be available already.
    pub has_more: bool,
}

/// The log. One writes, many read.
#[derive(Debug)]
pub struct EventLog {
    log_id: LogId,
    keep: usize,
    ring: Mutex<Ring>,
    next_seq: watch::Sender<u64>,
    /// Archive of the events that are no longer in memory.
    archive: Option<Archive>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Entry>,
    next_seq: u64,
    /// Sequence numbers of each type: a reader of few types need not scan all others.
    by_type: [VecDeque<u64>; EventType::ALL.len()],
    last_read: Option<LastRead>,
}

/// Last batch that was read: of many readers of the same range, all but the first reuse it.
#[derive(Debug)]
struct LastRead {
    from: u64,
    types: Vec<EventType>,
    limit: usize,
    /// The seq of the next event then.
    next_seq: u64,
    read: EventBatch,
}

impl Ring {
    const fn new(next_seq: u64) -> Self {
        Self {
            events: VecDeque::new(),
            next_seq,
            by_type: [const { VecDeque::new() }; EventType::ALL.len()],
            last_read: None,
        }
    }

    fn oldest_seq(&self) -> u64 {
        self.events
            .front()
            .map_or(self.next_seq, |oldest| oldest.event.seq)
    }

    fn push(&mut self, event: Event, keep: usize) {
        if self.events.len() >= keep
            && let Some(oldest) = self.events.pop_front()
            && let Some(seqs) = self.seqs_of(&oldest.event)
        {
            seqs.pop_front();
        }
        self.next_seq = event.seq + 1;
        let seq = event.seq;
        if let Some(seqs) = self.seqs_of(&event) {
            seqs.push_back(seq);
        }
        if self.events.len() == self.events.capacity() {
            // Never to more than will be kept: in a ring all of it is used.
            self.events
                .reserve_exact(self.events.len().clamp(1, keep - self.events.len()));
        }
        self.events.push_back(Entry::new(event));
    }

    fn seqs_of(&mut self, event: &Event) -> Option<&mut VecDeque<u64>> {
        event
            .kind
            .event_type()
            .and_then(|event_type| self.by_type.get_mut(event_type.index()))
    }

    /// The seqs of the first of these types from a seq on, in order.
    fn find(&self, from: u64, types: &[EventType], limit: usize) -> Vec<u64> {
        let mut seqs: Vec<u64> = Vec::new();
        for of_type in types
            .iter()
            .filter_map(|event_type| self.by_type.get(event_type.index()))
        {
            seqs.extend(
                of_type
                    .range(of_type.partition_point(|seq| *seq < from)..)
                    .take(limit),
            );
        }
        seqs.sort_unstable();
        seqs.truncate(limit);
        seqs
    }

    fn read(&mut self, from: u64, types: &[EventType], limit: usize) -> EventBatch {
        let is_same = |last: &&LastRead| {
            (last.from, last.limit, last.next_seq) == (from, limit, self.next_seq)
                && last.types == types
        };
        if let Some(last) = self.last_read.as_ref().filter(is_same) {
            return last.read.clone();
        }
        let oldest = self.oldest_seq();
        let seqs = self.find(from.max(oldest), types, limit);
        let mut lines = Vec::new();
        for seq in &seqs {
            if let Some(entry) = usize::try_from(seq - oldest)
                .ok()
                .and_then(|index| self.events.get_mut(index))
            {
                lines.extend_from_slice(entry.line());
            }
        }
        let has_more = seqs.len() == limit;
        let read = EventBatch {
            gap: (from < oldest).then(|| Gap {
                from,
                to: oldest - 1,
            }),
            lines: lines.into_boxed_slice().into(),
            // There are no more than these, or it is read on behind them.
            next: seqs
                .last()
                .filter(|_| has_more)
                .map_or(self.next_seq.max(from), |last| last + 1),
            has_more,
        };
        self.last_read = Some(LastRead {
            from,
            types: types.to_vec(),
            limit,
            next_seq: self.next_seq,
            read: read.clone(),
        });
        read
    }
}

impl EventLog {
    /// An empty log that keeps this many events, at least one, in memory alone.
    pub fn new(log_id: LogId, keep: u64) -> Self {
        Self {
            log_id,
            keep: usize::try_from(keep).unwrap_or(usize::MAX).max(1),
            ring: Mutex::new(Ring::new(1)),
            next_seq: watch::Sender::new(1),
            archive: None,
        }
    }

    /// Creates a log that continues with this sequence number, and has its older events in an
    /// archive.
    pub fn resumed(log_id: LogId, next_seq: u64, archive: Archive) -> Self {
        let ring = Mutex::new(Ring::new(next_seq));
        Self {
            log_id,
            keep: RING_EVENTS,
            ring,
            next_seq: watch::Sender::new(next_seq),
            archive: Some(archive),
        }
    }

    /// Returns the identifier of the log.
    pub const fn log_id(&self) -> &LogId {
        &self.log_id
    }

    /// The seq of the next event, and of the oldest that is kept.
    pub fn bounds(&self) -> (u64, u64) {
        let ring = self.ring();
        let archived = self.archive.as_ref().and_then(Archive::oldest_seq);
        (ring.next_seq, archived.unwrap_or_else(|| ring.oldest_seq()))
    }

    /// Returns a watch on the sequence number of the next event.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.next_seq.subscribe()
    }

    /// Returns the number of followers.
    pub fn followers(&self) -> usize {
        self.next_seq.receiver_count()
    }

    /// Appends events that were committed.
    pub fn append(&self, events: impl IntoIterator<Item = Event>) {
        let mut ring = self.ring();
        let before = ring.next_seq;
        for event in events {
            ring.push(event, self.keep);
        }
        let next_seq = ring.next_seq;
        drop(ring);
        if next_seq != before {
            // Waking no follower costs as much as the rest. A later follower finds these events in
            // the log.
            let is_followed = self.next_seq.receiver_count() > 0;
            self.next_seq.send_if_modified(|value| {
                *value = next_seq;
                is_followed
            });
        }
    }

    /// Returns at most `limit` events of these types from a sequence number on; `None` if that is
    /// older than the events in memory ([`read_archive`](Self::read_archive)).
    pub fn read(&self, from: u64, types: &[EventType], limit: usize) -> Option<EventBatch> {
        let mut ring = self.ring();
        let is_archived = from < ring.oldest_seq() && self.archive.is_some();
        (!is_archived).then(|| ring.read(from, types, limit))
    }

    /// Reads events of these types from a sequence number on that are older than the events in
    /// memory. Waits for the disk.
    pub fn read_archive(&self, from: u64, types: &[EventType], limit: usize) -> EventBatch {
        let until = self.ring().oldest_seq();
        let gap = |to| (from <= to).then_some(Gap { from, to });
        let found = match self
            .archive
            .as_ref()
            .map(|archive| archive.read(from, until, limit))
        {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                log_limited!(error, from, until, %error, "stored events cannot be read");
                ArchivePage {
                    gap: gap(until - 1),
                    events: Vec::new(),
                }
            }
            None => ArchivePage {
                gap: gap(until - 1),
                events: Vec::new(),
            },
        };
        let after_gap = found.gap.map_or(from, |gap| gap.to + 1);
        let next = found.events.last().map_or(after_gap, |last| last.seq + 1);
        let wanted = |event: &Event| {
            event
                .kind
                .event_type()
                .is_some_and(|event_type| types.contains(&event_type))
        };
        let mut lines = Vec::new();
        for event in found.events.into_iter().filter(wanted) {
            lines.extend_from_slice(Entry::new(event).line());
        }
        EventBatch {
            gap: found.gap,
            lines: lines.into_boxed_slice().into(),
            next,
            has_more: true,
        }
    }

    /// A thread that panicked while it held the lock left only whole events: each is pushed at
    /// once.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        lock(&self.ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use soramode_protocol::event::EventKind;
    use soramode_protocol::id::{EventId, NodeName};
    use soramode_protocol::mode::Mode;
    use soramode_protocol::node::Membership;
    use soramode_protocol::time::Time;

    fn log(keep: u64, events: u64) -> EventLog {
        let log = EventLog::new(LogId::generate([0; 16]), keep);
        log.append(vanished(1..=events));
        log
    }

    fn vanished(seqs: impl Iterator<Item = u64>) -> impl Iterator<Item = Event> {
        let node_name = Arc::new(NodeName::new("node-01").unwrap());
        seqs.map(move |seq| Event {
            seq,
            id: EventId::generate([0; 16]),
            kind: EventKind::SessionVanished,
            timestamp: Time::default(),
            node_name: Arc::clone(&node_name),
        })
    }

    fn seqs(read: &EventBatch) -> Vec<u64> {
        let lines = read
            .lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| {
                serde_json::from_slice::<serde_json::Value>(line).unwrap()["params"]["seq"]
                    .as_u64()
                    .unwrap()
            })
            .collect()
    }

    #[test]
    fn a_reader_resumes_at_its_position() {
        let log = log(100, 5);
        let first = log.read(2, &EventType::ALL, 2).unwrap();
        assert_eq!((seqs(&first), first.next, first.gap), (vec![2, 3], 4, None));
        let second = log.read(first.next, &EventType::ALL, 100).unwrap();
        assert_eq!((seqs(&second), second.next), (vec![4, 5], 6));
        assert!(log.read(6, &EventType::ALL, 100).unwrap().lines.is_empty());
        assert!(first.has_more && !second.has_more);
    }

    #[test]
    fn a_gap_names_the_events_that_are_no_longer_retained() {
        let log = log(3, 10);
        assert_eq!(log.bounds(), (11, 8));
        let read = log.read(1, &EventType::ALL, 1).unwrap();
        assert_eq!(
            (read.gap, seqs(&read)),
            (Some(Gap { from: 1, to: 7 }), vec![8])
        );
        assert_eq!(log.read(8, &EventType::ALL, 1).unwrap().gap, None);
    }

    #[test]
    fn readers_of_the_same_range_share_a_batch_until_it_grows() {
        let log = log(3, 3);
        let first = log.read(2, &EventType::ALL, 9).unwrap();
        assert_eq!(seqs(&first), [2, 3]);
        assert_eq!(
            log.read(2, &EventType::ALL, 9).unwrap().lines.as_ptr(),
            first.lines.as_ptr()
        );
        assert_eq!(seqs(&log.read(1, &EventType::ALL, 9).unwrap()), [1, 2, 3]);
        assert_eq!(seqs(&log.read(1, &EventType::ALL, 2).unwrap()), [1, 2]);
        assert_eq!(
            seqs(&log.read(1, &[EventType::ModeChanged], 2).unwrap()),
            [] as [u64; 0]
        );
        log.append(vanished(4..=4));
        assert_eq!(seqs(&log.read(2, &EventType::ALL, 9).unwrap()), [2, 3, 4]);
        log.append(vanished(5..=9));
        assert_eq!(
            (
                seqs(&log.read(2, &EventType::ALL, 9).unwrap()),
                seqs(&first)
            ),
            (vec![7, 8, 9], vec![2, 3]),
            "and what was read stays"
        );
    }

    #[test]
    fn a_log_takes_no_more_room_than_it_keeps() {
        let log = log(1_000, 5_000);
        assert_eq!(log.ring().events.capacity(), 1_000);
    }

    #[test]
    fn a_reader_of_few_types_finds_those_alone_and_goes_on_behind_all() {
        let log = log(4, 0);
        let node_name = Arc::new(NodeName::new("node-01").unwrap());
        let joined = || EventKind::NodeJoined {
            membership: Membership::Joined,
            mode: Mode::Normal,
        };
        log.append((1..=9).map(|seq| Event {
            seq,
            id: EventId::generate([0; 16]),
            kind: if seq % 3 == 0 {
                EventKind::SessionVanished
            } else {
                joined()
            },
            timestamp: Time::default(),
            node_name: Arc::clone(&node_name),
        }));
        let read = |from, types: &[EventType], limit| {
            let read = log.read(from, types, limit).unwrap();
            (seqs(&read), read.next)
        };
        assert_eq!(read(6, &[EventType::SessionVanished], 9), (vec![6, 9], 10));
        assert_eq!(read(6, &[EventType::SessionVanished], 1), (vec![6], 7));
        assert_eq!(read(6, &[EventType::NodeJoined], 9), (vec![7, 8], 10));
        assert_eq!(
            read(6, &[EventType::NodeJoined, EventType::SessionVanished], 3),
            (vec![6, 7, 8], 9)
        );
        assert_eq!(read(1, &[EventType::ModeChanged], 9), (vec![], 10));
    }

    #[test]
    fn followers_are_notified_of_events() {
        let log = log(3, 0);
        let follower = log.follow();
        log.append([]);
        assert!(!follower.has_changed().unwrap());
        log.append(vanished(1..=1));
        assert!(follower.has_changed().unwrap() && *follower.borrow() == 2);
        drop(follower);
        log.append(vanished(2..=2));
        assert_eq!(
            *log.follow().borrow(),
            3,
            "who comes later goes on from there"
        );
    }
}
