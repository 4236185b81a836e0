//! The state of the view: the node's last status, its history, and the last events.

use std::collections::VecDeque;
use std::time::Instant;

use soramode_protocol::event::{Event, EventPattern};
use soramode_protocol::node::Status;
use soramode_protocol::session::Session;

/// Reads in a column of the history.
const READS_PER_COLUMN: usize = 4;

/// Limit of the columns of the history: as many as a wide terminal has.
const COLUMNS_MAX: usize = 512;

/// Limit of the events: as many as a tall terminal shows.
const EVENTS_MAX: usize = 100;

/// An update from the daemon, or the loss of it.
#[derive(Clone, Debug)]
pub(super) enum Update {
    Seen {
        status: Box<Status>,
        oldest: Vec<Session>,
    },
    /// The subscription begins: stored events come first.
    Begun,
    Event(Box<Event>),
    TooManyEvents,
    Lost(String),
}

/// The events to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Filter {
    /// Everything except connections, which change too often.
    #[default]
    Usual,
    All,
    Sessions,
    Modes,
    Deliveries,
}

impl Filter {
    /// Returns the name that the view shows.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Usual => "all but connection.*",
            Self::All => "all",
            Self::Sessions => "session.*",
            Self::Modes => "mode.* node.* plan.*",
            Self::Deliveries => "delivery.*",
        }
    }

    const fn patterns(self) -> &'static [&'static str] {
        match self {
            Self::Usual => &[
                "session.*",
                "mode.*",
                "node.*",
                "plan.*",
                "maintenance.*",
                "end.*",
                "delivery.*",
                "webhook.*",
            ],
            Self::All => &["*"],
            Self::Sessions => &["session.*"],
            Self::Modes => &["mode.*", "node.*", "plan.*"],
            Self::Deliveries => &["delivery.*"],
        }
    }

    pub(super) fn types(self) -> Vec<EventPattern> {
        self.patterns()
            .iter()
            .filter_map(|pattern| pattern.parse().ok())
            .collect()
    }

    const fn next(self) -> Self {
        match self {
            Self::Usual => Self::All,
            Self::All => Self::Sessions,
            Self::Sessions => Self::Modes,
            Self::Modes => Self::Deliveries,
            Self::Deliveries => Self::Usual,
        }
    }
}

/// A line among the events.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Event(Box<Event>),
    /// Left-out events.
    Skipped,
}

/// The history of a count: each column is a maximum.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    columns: VecDeque<u64>,
    looks: usize,
}

impl History {
    fn add(&mut self, count: u64) {
        if self.looks.is_multiple_of(READS_PER_COLUMN) {
            if self.columns.len() == COLUMNS_MAX {
                self.columns.pop_front();
            }
            self.columns.push_back(0);
        }
        self.looks += 1;
        if let Some(column) = self.columns.back_mut() {
            *column = count.max(*column);
        }
    }

    /// Returns the last columns, oldest first.
    pub(super) fn last(&self, columns: usize) -> Vec<u64> {
        self.columns
            .iter()
            .skip(self.columns.len().saturating_sub(columns))
            .copied()
            .collect()
    }
}

/// The state of the view.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) status: Option<Box<Status>>,
    pub(super) oldest: Vec<Session>,
    pub(super) sessions: History,
    pub(super) connections: History,
    /// Events, newest last.
    pub(super) events: VecDeque<Line>,
    pub(super) filter: Filter,
    /// The host of the daemon, if it is another one.
    pub(super) host: Option<String>,
    /// Time and reason of the loss of the daemon.
    pub(super) lost: Option<(Instant, String)>,
    /// Events are held back, so that they can be read.
    pub(super) is_paused: bool,
}

impl Model {
    pub(super) fn take(&mut self, update: Update) {
        if self.is_paused {
            return;
        }
        match update {
            Update::Seen { status, oldest } => {
                self.sessions.add(status.sessions);
                self.connections.add(status.connections);
                (self.status, self.oldest, self.lost) = (Some(status), oldest, None);
            }
            Update::Begun => self.events.clear(),
            Update::Event(event) => self.add(Line::Event(event)),
            Update::TooManyEvents => self.add(Line::Skipped),
            Update::Lost(why) => match &mut self.lost {
                Some((_, said)) => *said = why,
                None => self.lost = Some((Instant::now(), why)),
            },
        }
    }

    fn add(&mut self, line: Line) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(line);
    }

    pub(super) fn pause_or_go_on(&mut self) {
        self.is_paused = !self.is_paused;
    }

    /// Switches to the next filter. The events stay until those of the new filter come.
    pub(super) fn next_filter(&mut self) -> Filter {
        self.filter = self.filter.next();
        self.filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_the_most_of_its_looks_and_only_so_many_are_kept() {
        let mut history = History::default();
        for count in [1, 7, 2, 3, 4, 4] {
            history.add(count);
        }
        assert_eq!(history.last(10), [7, 4]);
        assert_eq!(history.last(1), [4]);
        for count in 0..10_000 {
            history.add(count);
        }
        assert_eq!(history.last(usize::MAX).len(), COLUMNS_MAX);
    }

    #[test]
    fn events_are_kept_up_to_a_number_and_not_while_paused() {
        let mut model = Model::default();
        for _ in 0..=EVENTS_MAX {
            model.take(Update::TooManyEvents);
        }
        assert_eq!(model.events.len(), EVENTS_MAX);
        model.next_filter();
        model.take(Update::Begun);
        model.pause_or_go_on();
        model.take(Update::TooManyEvents);
        assert!(model.events.is_empty());
        model.pause_or_go_on();
        model.take(Update::Lost("gone".to_owned()));
        model.take(Update::Lost("refused".to_owned()));
        assert_eq!(model.lost.map(|(_, why)| why).as_deref(), Some("refused"));
    }

    #[test]
    fn each_filter_is_reached_and_names_events_that_there_are() {
        let mut filter = Filter::default();
        let mut names = Vec::new();
        loop {
            assert_eq!(filter.types().len(), filter.patterns().len(), "{filter:?}");
            names.push(filter.name());
            filter = filter.next();
            if filter == Filter::default() {
                break;
            }
        }
        assert_eq!(names.len(), 5);
    }
}
