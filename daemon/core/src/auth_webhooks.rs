//! Auth webhooks, by which Sora asks about its clients. A Sora that sends no auth webhook lets clients into a closed node, and looks healthy otherwise.
//!
//! A connection counts only if it certainly began under this start, and soramoded would have received its auth webhook: no false alarm is
//! worth the trust that it costs.

use std::time::Duration;

use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::time::Time;

use crate::handles::Timestamp;
use crate::tombstones::Tombstones;

/// Time after the latest connection without an auth webhook from which the next auth webhook shows that Sora asks now. Longer than the time
/// between two polls, each of which may show another such connection.
const REPAIRED_AFTER: Duration = Duration::from_mins(2);

/// Time for which a connection that ended unseen is remembered: Sora may show it later, and its auth webhook came before.
const ENDED_UNSEEN_TIME: Duration = Duration::from_mins(10);

/// Auth webhooks since the start, and connections that came without one.
pub(crate) struct AuthWebhooks {
    /// Time of the last one.
    pub(crate) last: Option<Time>,
    /// Connections without one, until Sora asks.
    pub(crate) missed: u64,
    /// Channel of the latest of them, and when it was noticed, by the boot clock.
    latest: Option<(ChannelId, Duration)>,
    /// Connections that timed out before they connected, or that a poll did not show; and those that the application reported.
    ended_unseen: Tombstones,
}

impl Default for AuthWebhooks {
    fn default() -> Self {
        Self {
            last: None,
            missed: 0,
            latest: None,
            ended_unseen: Tombstones::lasting(ENDED_UNSEEN_TIME),
        }
    }
}

impl AuthWebhooks {
    /// Notes an auth webhook.
    pub(crate) fn note(&mut self, now: Timestamp) {
        self.last = Some(now.wall);
        let is_repaired = |(_, noticed): &mut (ChannelId, Duration)| {
            now.boot.saturating_sub(*noticed) >= REPAIRED_AFTER
        };
        if self.latest.take_if(is_repaired).is_some() {
            self.missed = 0;
        }
    }

    /// Remembers a connection that ended, and that Sora may show all the same.
    pub(crate) fn remember_ended(&mut self, connection_id: ConnectionId, now: Duration) {
        self.ended_unseen.remember(connection_id, now);
    }

    /// Counts a connection that came without one, unless it was in the table before.
    pub(crate) fn note_missed(
        &mut self,
        channel_id: &ChannelId,
        connection_id: &ConnectionId,
        now: Duration,
    ) {
        if !self.ended_unseen.has(connection_id, now) {
            self.missed += 1;
            self.latest = Some((channel_id.clone(), now));
        }
    }

    /// Returns the channel of the latest connection without one, until Sora asks.
    pub(crate) fn latest_channel(&self) -> Option<&ChannelId> {
        self.latest.as_ref().map(|(channel_id, _)| channel_id)
    }
}
