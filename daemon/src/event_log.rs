//! The events that were committed, for whoever follows them: readers keep their own place, and nobody waits for a reader.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use soramode_protocol::envelope::{Notified, write_line};
use soramode_protocol::event::{Event, EventType};
use soramode_protocol::id::LogId;
use soramode_protocol::subscribe::Gap;
use tokio::sync::watch;

use crate::store::archive::{Archive, Found};

/// Events that are kept in memory where an archive has the older ones: who is not further behind than this costs no reading.
const EVENTS_IN_MEMORY: usize = 8_192;

/// An event of the log, and its line on the wire, written once for all who read it.
#[derive(Debug)]
pub struct Logged {
    /// The event.
    pub event: Event,
    line: OnceLock<Box<[u8]>>,
}

impl Logged {
    fn new(event: Event) -> Self {
        Self { event, line: OnceLock::new() }
    }

    /// Where one went that nobody reads any more, its place is taken: a full log takes no memory and gives none back.
    fn in_place_of(gone: Option<Arc<Self>>, event: Event) -> Arc<Self> {
        let Some(mut gone) = gone else { return Arc::new(Self::new(event)) };
        match Arc::get_mut(&mut gone) {
            Some(place) => {
                *place = Self::new(event);
                gone
            }
            None => Arc::new(Self::new(event)),
        }
    }

    /// The `Event` notification, with its line feed.
    pub fn line(&self) -> &[u8] {
        self.line.get_or_init(|| {
            let mut line = Vec::new();
            match write_line(&mut line, &Notified::event(&self.event)) {
                Ok(()) => line.into(),
                // Nothing in an event can fail to be written; a reader would rather miss one than read half a line.
                Err(error) => {
                    tracing::error!(seq = self.event.seq, %error, "an event cannot be written");
                    Box::default()
                }
            }
        })
    }
}

/// What a reader gets at once.
#[derive(Debug)]
pub struct Read {
    /// What it asked for and is no longer kept.
    pub gap: Option<Gap>,
    /// What follows, in order. Those that come from an archive are of every type.
    pub events: Vec<Arc<Logged>>,
    /// Where to read on.
    pub next: u64,
}

/// The log. One writes, many read.
#[derive(Debug)]
pub struct EventLog {
    log_id: LogId,
    keep: usize,
    kept: Mutex<Kept>,
    next_seq: watch::Sender<u64>,
    /// What is older than what is kept here.
    archive: Option<Archive>,
}

#[derive(Debug)]
struct Kept {
    events: VecDeque<Arc<Logged>>,
    next_seq: u64,
    /// The seqs of each type: a reader of few finds them without a look at all others.
    by_type: [VecDeque<u64>; EventType::ALL.len()],
}

impl Kept {
    const fn new(next_seq: u64) -> Self {
        Self { events: VecDeque::new(), next_seq, by_type: [const { VecDeque::new() }; EventType::ALL.len()] }
    }

    fn oldest_seq(&self) -> u64 {
        self.events.front().map_or(self.next_seq, |oldest| oldest.event.seq)
    }

    fn push(&mut self, event: Event, keep: usize) {
        let oldest = if self.events.len() >= keep { self.events.pop_front() } else { None };
        if let Some(seqs) = oldest.as_ref().and_then(|oldest| self.seqs_of(&oldest.event)) {
            seqs.pop_front();
        }
        self.next_seq = event.seq + 1;
        let seq = event.seq;
        if let Some(seqs) = self.seqs_of(&event) {
            seqs.push_back(seq);
        }
        self.events.push_back(Logged::in_place_of(oldest, event));
    }

    fn seqs_of(&mut self, event: &Event) -> Option<&mut VecDeque<u64>> {
        event.kind.event_type().and_then(|event_type| self.by_type.get_mut(event_type as usize))
    }

    /// The first of these types from a seq on, in order.
    fn find(&self, from: u64, types: &[EventType], limit: usize) -> Vec<Arc<Logged>> {
        let oldest = self.oldest_seq();
        let at = |seq: u64| self.events.get(usize::try_from(seq - oldest).unwrap_or(usize::MAX));
        let mut seqs: Vec<u64> = Vec::new();
        for of_type in types.iter().filter_map(|event_type| self.by_type.get(*event_type as usize)) {
            seqs.extend(of_type.range(of_type.partition_point(|seq| *seq < from)..).take(limit));
        }
        seqs.sort_unstable();
        seqs.into_iter().take(limit).filter_map(at).cloned().collect()
    }
}

impl EventLog {
    /// An empty log that keeps this many events, in memory alone.
    pub fn new(log_id: LogId, keep: u64) -> Self {
        Self {
            log_id,
            keep: usize::try_from(keep).unwrap_or(usize::MAX),
            kept: Mutex::new(Kept::new(1)),
            next_seq: watch::Sender::new(1),
            archive: None,
        }
    }

    /// A log that goes on with this seq, and whose older events an archive has.
    pub fn resumed(log_id: LogId, next_seq: u64, archive: Archive) -> Self {
        let kept = Mutex::new(Kept::new(next_seq));
        Self { log_id, keep: EVENTS_IN_MEMORY, kept, next_seq: watch::Sender::new(next_seq), archive: Some(archive) }
    }

    /// Which log this is.
    pub const fn log_id(&self) -> &LogId {
        &self.log_id
    }

    /// The seq of the next event, and of the oldest that is kept.
    pub fn bounds(&self) -> (u64, u64) {
        let kept = self.kept();
        let archived = self.archive.as_ref().and_then(Archive::oldest_seq);
        (kept.next_seq, archived.unwrap_or_else(|| kept.oldest_seq()))
    }

    /// Tells when there are events from a seq on: its value is the seq of the next event.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.next_seq.subscribe()
    }

    /// How many readers follow.
    pub fn followers(&self) -> usize {
        self.next_seq.receiver_count()
    }

    /// Appends events that were committed.
    pub fn append(&self, events: impl IntoIterator<Item = Event>) {
        let mut kept = self.kept();
        let before = kept.next_seq;
        for event in events {
            kept.push(event, self.keep);
        }
        let next_seq = kept.next_seq;
        drop(kept);
        if next_seq != before {
            // To wake nobody costs as much as the rest. Whoever follows from now on finds these events in the log.
            let is_followed = self.next_seq.receiver_count() > 0;
            self.next_seq.send_if_modified(|value| {
                *value = next_seq;
                is_followed
            });
        }
    }

    /// At most `limit` events of these types from a seq on; `None` if that is older than what is in memory
    /// ([`read_archive`](Self::read_archive)).
    pub fn read(&self, from: u64, types: &[EventType], limit: usize) -> Option<Read> {
        let kept = self.kept();
        let oldest = kept.oldest_seq();
        if from < oldest && self.archive.is_some() {
            return None;
        }
        let gap = (from < oldest).then(|| Gap { from, to: oldest - 1 });
        let events = kept.find(from.max(oldest), types, limit);
        // There are no more than these, or it is read on behind them.
        let next = events.last().filter(|_| events.len() == limit).map_or(kept.next_seq.max(from), |last| last.event.seq + 1);
        Some(Read { gap, events, next })
    }

    /// Some of the events from a seq on that are older than what is in memory. It waits for the disk.
    pub fn read_archive(&self, from: u64, limit: usize) -> Read {
        let until = self.kept().oldest_seq();
        let gap = |to| (from <= to).then_some(Gap { from, to });
        let found = match self.archive.as_ref().map(|archive| archive.read(from, until, limit)) {
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                tracing::error!(from, until, %error, "stored events cannot be read");
                Found { gap: gap(until - 1), events: Vec::new() }
            }
            None => Found { gap: gap(until - 1), events: Vec::new() },
        };
        let after_gap = found.gap.map_or(from, |gap| gap.to + 1);
        let next = found.events.last().map_or(after_gap, |last| last.seq + 1);
        let logged = |event| Arc::new(Logged::new(event));
        Read { gap: found.gap, events: found.events.into_iter().map(logged).collect(), next }
    }

    /// A thread that panicked while it held the lock left whole events behind: each is pushed at once.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use soramode_protocol::event::EventKind;
    use soramode_protocol::id::{EventId, NodeName};
    use soramode_protocol::mode::Mode;
    use soramode_protocol::node::Standing;
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

    fn seqs(read: &Read) -> Vec<u64> {
        read.events.iter().map(|logged| logged.event.seq).collect()
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let log = log(100, 5);
        let first = log.read(2, &EventType::ALL, 2).unwrap();
        assert_eq!((seqs(&first), first.next, first.gap), (vec![2, 3], 4, None));
        let second = log.read(first.next, &EventType::ALL, 100).unwrap();
        assert_eq!((seqs(&second), second.next), (vec![4, 5], 6));
        assert!(log.read(6, &EventType::ALL, 100).unwrap().events.is_empty());
    }

    #[test]
    fn what_is_no_longer_kept_is_said() {
        let log = log(3, 10);
        assert_eq!(log.bounds(), (11, 8));
        let read = log.read(1, &EventType::ALL, 1).unwrap();
        assert_eq!((read.gap, seqs(&read)), (Some(Gap { from: 1, to: 7 }), vec![8]));
        assert_eq!(log.read(8, &EventType::ALL, 1).unwrap().gap, None);
    }

    #[test]
    fn what_a_reader_holds_stays_as_it_was_when_the_log_goes_on() {
        let log = log(3, 3);
        let held = log.read(2, &EventType::ALL, 1).unwrap();
        let line = held.events[0].line().to_vec();
        log.append(vanished(4..=9));
        assert_eq!((seqs(&held), held.events[0].line()), (vec![2], line.as_slice()));
        let read = log.read(7, &EventType::ALL, 9).unwrap();
        assert_eq!(seqs(&read), [7, 8, 9]);
        assert!(
            read.events.iter().all(|logged| String::from_utf8_lossy(logged.line()).contains(&format!("\"seq\":{},", logged.event.seq)))
        );
    }

    #[test]
    fn a_reader_of_few_types_finds_those_alone_and_goes_on_behind_all() {
        let log = log(4, 0);
        let node_name = Arc::new(NodeName::new("node-01").unwrap());
        let joined = || EventKind::NodeJoined { standing: Standing::Joined, mode: Mode::Normal };
        log.append((1..=9).map(|seq| Event {
            seq,
            id: EventId::generate([0; 16]),
            kind: if seq % 3 == 0 { EventKind::SessionVanished } else { joined() },
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
        assert_eq!(read(6, &[EventType::NodeJoined, EventType::SessionVanished], 3), (vec![6, 7, 8], 9));
        assert_eq!(read(1, &[EventType::ModeChanged], 9), (vec![], 10));
    }

    #[test]
    fn followers_are_told_once_events_are_there() {
        let log = log(3, 0);
        let follower = log.follow();
        log.append([]);
        assert!(!follower.has_changed().unwrap());
        log.append(vanished(1..=1));
        assert!(follower.has_changed().unwrap() && *follower.borrow() == 2);
        drop(follower);
        log.append(vanished(2..=2));
        assert_eq!(*log.follow().borrow(), 3, "who comes later goes on from there");
    }
}
