//! Connections of Sora without an auth webhook: which of them count, and the warning about them.

use std::time::Duration;

use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::text::list_first;
use soramode_protocol::time::Time;

use crate::node::Node;
use crate::settings::{POLL_GRACE, SfuAdmission, SfuFeed};

impl Node {
    /// Counts a connection of Sora that is not in the table and began after the start, if its auth webhook never came.
    pub(super) fn check_auth(
        &mut self,
        channel_id: &ChannelId,
        connection_id: &ConnectionId,
        now: Duration,
    ) {
        let is_missed = self.expects_auth() && !self.tombstones.has(connection_id, now);
        if is_missed {
            self.auth_webhooks
                .note_missed(channel_id, connection_id, now);
        }
    }

    /// Returns whether a connection can only have been admitted under this start, if it began at this time by the boot clock.
    pub(super) fn is_past_start(&self, began: Duration) -> bool {
        began.saturating_sub(self.started.boot) > self.admitted_before_start()
    }

    /// Returns whether a connection can only have been admitted under this start, if it began at this time by Sora's clock.
    pub(super) fn is_created_past_start(&self, created_at: Time) -> bool {
        created_at.since(self.started.wall) > self.admitted_before_start()
    }

    /// Time after the start in which a connection may begin that was admitted before it.
    fn admitted_before_start(&self) -> Duration {
        self.settings.pending_timeout + POLL_GRACE
    }

    /// Returns whether each new connection of Sora has an auth webhook. In shadow mode a client that soramoded would have refused may come
    /// unannounced: only a Sora that never asks is certain there.
    fn expects_auth(&self) -> bool {
        match self.settings.sfu.admission {
            SfuAdmission::Enforced => self.is_sora(),
            SfuAdmission::Shadow => self.is_sora() && self.auth_webhooks.last.is_none(),
            SfuAdmission::BySfu => false,
        }
    }

    /// Returns whether a Sora feeds the node.
    pub(super) fn is_sora(&self) -> bool {
        match self.settings.sfu.feed {
            SfuFeed::Webhooks | SfuFeed::WebhooksAndApi | SfuFeed::Api => true,
            SfuFeed::None | SfuFeed::Janus { .. } => false,
        }
    }

    /// Returns when the last auth webhook came, and the number of connections without one; `None` for the number where Sora need not ask.
    pub(super) fn auth_counts(&self) -> (Option<Time>, Option<u64>) {
        let is_to_ask = self.is_sora() && self.settings.sfu.admission != SfuAdmission::BySfu;
        let missed = is_to_ask.then_some(self.auth_webhooks.missed);
        (self.auth_webhooks.last, missed)
    }

    /// Returns a warning while Sora does not ask about its clients.
    pub(super) fn auth_warning(&self) -> Option<String> {
        let latest = self.auth_webhooks.latest_channel();
        let latest = list_first(latest.map(ChannelId::as_str))?;
        let (count, connections) = match self.auth_webhooks.missed {
            1 => (1, "connection"),
            count => (count, "connections"),
        };
        Some(if self.settings.sfu.feed == SfuFeed::Api {
            format!(
                "{count} {connections} came to Sora without an auth webhook or a Connect to soramoded (the latest: {latest}), and the mode does \
                 not keep such clients out. Restart soramoded with --sora-listen, set auth_webhook_url in sora.conf, and restart Sora, which \
                 disconnects its clients"
            )
        } else {
            format!(
                "{count} {connections} came to Sora without an auth webhook to soramoded (the latest: {latest}), and the mode does not keep such \
                 clients out. Set auth_webhook_url in sora.conf, and restart Sora, which disconnects its clients"
            )
        })
    }
}
