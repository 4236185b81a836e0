//! Check that Janus's events announce the changes of its rooms. Until the first event has come, and after a change that none has
//! announced, all rooms are listed each second.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use soramode_core::input::Participant;
use soramode_core::settings::{LIST_PAUSE_FACTOR, LIST_PAUSE_WITHOUT_EVENTS};
use soramode_protocol::id::{ChannelId, ConnectionId};

/// Warning that events do not come.
const NO_EVENTS: &str = "Janus's events do not come: a list of its rooms has shown a change that no event has announced, and soramoded lists them \
    each second instead. In janus.jcfg set events: { broadcast = true }, check backend and events in janus.eventhandler.sampleevh.jcfg, and restart \
    Janus; or leave out --janus-listen";

/// Lists and events of a Janus, as far as they have come.
#[derive(Debug, Default)]
pub(crate) struct EventCheck {
    /// Participants of the last report of each room.
    reported: BTreeMap<ChannelId, BTreeSet<ConnectionId>>,
    /// Number of events before the last list of all rooms.
    events_before: u64,
    /// Number of events at the last change that no event had announced.
    unannounced_at: Option<u64>,
    /// No event has come since, up to the list after that.
    is_confirmed: bool,
    has_listed: bool,
}

impl EventCheck {
    /// Takes in a list of one room.
    pub(super) fn on_room(&mut self, channel_id: &ChannelId, participants: &[Participant]) {
        self.reported.remove(channel_id);
        self.insert(participants);
    }

    /// Takes in a list of all rooms, with the numbers of events before and after it.
    pub(super) fn on_all(&mut self, participants: &[Participant], (before, after): (u64, u64)) {
        let earlier = std::mem::take(&mut self.reported);
        self.insert(participants);
        let is_changed = std::mem::replace(&mut self.has_listed, true) && earlier != self.reported;
        self.is_confirmed = self.unannounced_at == Some(after);
        if is_changed && after == self.events_before {
            self.unannounced_at = Some(after);
        }
        self.events_before = before;
    }

    /// Returns the pause before the next list of all rooms; `None` if events announce their changes.
    pub(super) fn pause(&self, events: u64, took: Duration) -> Option<Duration> {
        let announce = events > 0 && self.unannounced_at.is_none_or(|at| at < events);
        (!announce).then(|| LIST_PAUSE_WITHOUT_EVENTS.max(took * LIST_PAUSE_FACTOR))
    }

    /// Returns a warning if events do not come.
    pub(super) fn warning(&self) -> Option<&'static str> {
        self.is_confirmed.then_some(NO_EVENTS)
    }

    fn insert(&mut self, participants: &[Participant]) {
        for participant in participants {
            self.reported
                .entry(participant.channel_id.clone())
                .or_default()
                .insert(participant.connection_id.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn participants(ids: &[&str]) -> Vec<Participant> {
        let of = |id: &&str| Participant {
            channel_id: ChannelId::new(id.split('/').next().unwrap()).unwrap(),
            connection_id: ConnectionId::new(id).unwrap(),
        };
        ids.iter().map(of).collect()
    }

    #[test]
    fn without_events_all_rooms_are_listed_each_second_and_a_change_is_a_warning() {
        let mut check = EventCheck::default();
        check.on_all(&participants(&["1/1"]), (0, 0));
        assert_eq!(check.pause(0, Duration::ZERO), Some(Duration::from_secs(1)));
        assert_eq!(
            check.pause(0, Duration::from_millis(100)),
            Some(Duration::from_secs(2))
        );
        check.on_all(&participants(&["1/1"]), (0, 0));
        assert_eq!(check.warning(), None, "nothing has changed");
        check.on_all(&participants(&[]), (0, 0));
        assert_eq!(check.warning(), None, "the event may be late");
        check.on_all(&participants(&[]), (0, 0));
        assert!(check.warning().is_some());
        // The first event.
        assert_eq!(check.pause(1, Duration::ZERO), None);
        check.on_all(&participants(&[]), (1, 1));
        assert_eq!(check.warning(), None);
    }

    #[test]
    fn events_that_stop_are_noticed_by_the_next_change() {
        let mut check = EventCheck::default();
        check.on_all(&participants(&["1/1"]), (0, 0));
        // An event announces a change before its room is listed, or while all are.
        check.on_room(&ChannelId::new("2").unwrap(), &participants(&["2/1"]));
        check.on_all(&participants(&["1/1", "2/1"]), (1, 2));
        check.on_all(&participants(&["1/1", "2/1", "3/1"]), (2, 2));
        assert_eq!(check.pause(2, Duration::ZERO), None);
        check.on_all(&participants(&["1/1"]), (2, 2));
        assert!(check.pause(2, Duration::ZERO).is_some());
        assert_eq!(check.pause(3, Duration::ZERO), None, "late, but it came");
    }
}
