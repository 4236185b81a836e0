//! Channels on which the SFU reported a session, and for which this node has no claim.

use std::collections::BTreeSet;
use std::ops::Bound;

use soramode_protocol::id::ChannelId;

/// Channels with a session that the node has no claim for.
#[derive(Default)]
pub(super) struct Unclaimed {
    channels: BTreeSet<ChannelId>,
    /// The channel that was taken last: the next turn is that of the one behind it.
    last: Option<ChannelId>,
}

impl Unclaimed {
    pub(super) fn insert(&mut self, channel_id: ChannelId) {
        self.channels.insert(channel_id);
    }

    pub(super) fn remove(&mut self, channel_id: &ChannelId) {
        self.channels.remove(channel_id);
    }

    pub(super) fn contains(&self, channel_id: &ChannelId) -> bool {
        self.channels.contains(channel_id)
    }

    /// Returns the next channels that pass a filter, in turn: one that stays unclaimed does not keep the others waiting.
    pub(super) fn next(
        &mut self,
        count: usize,
        filter: impl Fn(&ChannelId) -> bool,
    ) -> Vec<ChannelId> {
        let behind = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let first = match &self.last {
            Some(last) => self.channels.range(..=last),
            None => self.channels.range::<ChannelId, _>(..),
        };
        let next: Vec<ChannelId> = self
            .channels
            .range((behind, Bound::Unbounded))
            .chain(first)
            .filter(|channel| filter(channel))
            .take(count.min(self.channels.len()))
            .cloned()
            .collect();
        if let Some(last) = next.last() {
            self.last = Some(last.clone());
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_turn() {
        let mut unclaimed = Unclaimed::default();
        let names = |channels: Vec<ChannelId>| {
            let names: Vec<String> = channels.iter().map(|it| it.as_str().to_owned()).collect();
            names.concat()
        };
        assert_eq!(names(unclaimed.next(2, |_| true)), "");
        for name in ["a", "b", "c", "d", "e"] {
            unclaimed.insert(ChannelId::new(name).unwrap());
        }
        assert_eq!(names(unclaimed.next(2, |_| true)), "ab");
        assert_eq!(names(unclaimed.next(2, |it| it.as_str() != "c")), "de");
        unclaimed.remove(&ChannelId::new("e").unwrap());
        assert_eq!(names(unclaimed.next(3, |_| true)), "abc");
        assert_eq!(names(unclaimed.next(9, |_| true)), "dabc");
    }
}
