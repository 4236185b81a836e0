//! Clients that Janus let into a closed node without a question to soramoded.

use soramode_protocol::id::ChannelId;
use soramode_protocol::text::list_first;

/// Clients that came to the closed node without having asked, since it was closed.
#[derive(Debug, Default)]
pub(crate) struct Unasked {
    count: u64,
    /// Channel of the latest.
    latest: Option<ChannelId>,
}

impl Unasked {
    /// Counts a client that joined this channel.
    pub(super) fn note(&mut self, channel_id: &ChannelId) {
        self.count += 1;
        self.latest = Some(channel_id.clone());
    }

    /// Returns a warning if there are any. Rooms that apply the mode are locked; otherwise the application calls `Connect` first.
    pub(super) fn warning(&self, locks_rooms: bool) -> Option<String> {
        let latest = list_first(self.latest.as_ref().map(ChannelId::as_str))?;
        let connections = if self.count == 1 {
            "connection"
        } else {
            "connections"
        };
        let count = self.count;
        Some(if locks_rooms {
            format!(
                "{count} {connections} joined a room of Janus before it was locked, while the node was closed (the latest: {latest}). To see \
                 the sessions, run: soramode sessions"
            )
        } else {
            format!(
                "{count} {connections} joined a room of Janus without a Connect while the node was closed (the latest: {latest}). Have the \
                 application call Connect before it creates a room or lets a client join one"
            )
        })
    }
}
