//! Changes of one commit to the sessions' rows: each row is written once, however many connections
//! begin and end in it.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};
use soramode_protocol::id::{ChannelId, SessionId};
use soramode_protocol::time::Time;

use super::statements::run;

/// Changes by channel.
#[derive(Debug, Default)]
pub(super) struct SessionChanges<'a>(BTreeMap<&'a ChannelId, Change<'a>>);

/// Change of one session since the commit began.
#[derive(Debug, Default)]
struct Change<'a> {
    /// Session, if created in this commit.
    created: Option<(&'a SessionId, Time)>,
    /// Owner of its id, if that changed.
    is_sora: Option<bool>,
    /// Live connections that are more now.
    net_live: i64,
    /// Highest value of `net_live` so far.
    peak_live: i64,
    connections_created: u64,
}

impl<'a> SessionChanges<'a> {
    /// Replaces any session of the same channel.
    pub(super) fn session_created(
        &mut self,
        channel_id: &'a ChannelId,
        session_id: &'a SessionId,
        created_at: Time,
    ) {
        self.0.insert(
            channel_id,
            Change {
                created: Some((session_id, created_at)),
                ..Change::default()
            },
        );
    }

    /// A Sora made its id and ends it.
    pub(super) fn session_is_of_sora(&mut self, channel_id: &'a ChannelId) {
        self.of(channel_id).is_sora = Some(true);
    }

    /// Sora has ended it, and the daemon keeps it for a while.
    pub(super) fn session_is_of_gate(&mut self, channel_id: &'a ChannelId) {
        self.of(channel_id).is_sora = Some(false);
    }

    pub(super) fn connection_created(&mut self, channel_id: &'a ChannelId) {
        let change = self.of(channel_id);
        change.connections_created += 1;
        change.net_live += 1;
        change.peak_live = change.peak_live.max(change.net_live);
    }

    pub(super) fn connection_destroyed(&mut self, channel_id: &'a ChannelId) {
        self.of(channel_id).net_live -= 1;
    }

    /// The channel may have its next session already: only this one goes.
    pub(super) fn session_destroyed(
        &mut self,
        to: &Transaction<'_>,
        channel_id: &'a ChannelId,
        session_id: &SessionId,
    ) -> rusqlite::Result<()> {
        if self.0.get(channel_id).is_some_and(|change| {
            change
                .created
                .is_none_or(|(created, _)| created == session_id)
        }) {
            self.0.remove(channel_id);
        }
        run(
            to,
            "DELETE FROM sessions WHERE channel_id = ?1 AND session_id = ?2",
            params![channel_id.as_str(), session_id.as_str()],
        )
    }

    /// Writes all rows.
    pub(super) fn write(self, to: &Transaction<'_>) -> rusqlite::Result<()> {
        for (
            channel_id,
            Change {
                created,
                is_sora,
                net_live,
                peak_live,
                connections_created,
            },
        ) in self.0
        {
            let channel_id = channel_id.as_str();
            if let Some((session_id, created_at)) = created {
                let sql = "INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                run(
                    to,
                    sql,
                    params![
                        channel_id,
                        session_id.as_str(),
                        created_at.as_micros(),
                        net_live,
                        peak_live,
                        connections_created,
                        is_sora.unwrap_or(false)
                    ],
                )?;
            } else {
                let sql = "UPDATE sessions SET max_connections = max(max_connections, live + ?2), live = live + ?3,
                    total_connections = total_connections + ?4, is_sora = coalesce(?5, is_sora) WHERE channel_id = ?1";
                run(
                    to,
                    sql,
                    params![
                        channel_id,
                        peak_live,
                        net_live,
                        connections_created,
                        is_sora
                    ],
                )?;
            }
        }
        Ok(())
    }

    fn of(&mut self, channel_id: &'a ChannelId) -> &mut Change<'a> {
        self.0.entry(channel_id).or_default()
    }
}
