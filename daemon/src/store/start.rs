//! Facts of a start, which its first commit writes: until then the state is as the last soramoded left it.

use rusqlite::Connection;
use soramode_core::input::HostState;
use soramode_core::stored::Stored;
use soramode_protocol::id::LogId;

use super::meta::MetaKey;

/// Facts of a start.
#[derive(Debug)]
pub(super) struct StartFacts {
    log_id: LogId,
    boot_id: Option<String>,
    starts: u64,
}

impl StartFacts {
    /// Reads the facts of the last start, and removes from the stored state what a restart of the machine has made invalid. Returns the facts of
    /// this start, in this boot of the machine, and the state of the machine.
    pub(super) fn read(
        connection: &Connection,
        boot_id: Option<&str>,
        new_log_id: &LogId,
        stored: &mut Stored,
    ) -> rusqlite::Result<(Self, HostState)> {
        let last_boot_id: Option<String> = MetaKey::BootId.read(connection)?;
        let host = match (&last_boot_id, boot_id) {
            (Some(before), Some(now)) if before != now => HostState::Rebooted,
            (Some(_) | None, Some(_) | None) => HostState::Running,
        };
        if last_boot_id.as_deref() != boot_id || boot_id.is_none() {
            // It is from a clock that has restarted since, or may have.
            stored.expires_at_boot = None;
        }
        let was_closed = MetaKey::IsClosed.read(connection)?.unwrap_or(false);
        if host == HostState::Rebooted && !was_closed {
            // A power loss may have removed the last events, which readers may have seen.
            stored.next_seq = MetaKey::ReservedSeq
                .read(connection)?
                .unwrap_or(0)
                .max(stored.next_seq);
        }
        let log_id = match MetaKey::LogId.read::<String>(connection)? {
            Some(log_id) => LogId::new(&log_id)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?,
            None => new_log_id.clone(),
        };
        let starts: u64 = MetaKey::Starts.read(connection)?.unwrap_or(0);
        let facts = Self {
            log_id,
            boot_id: boot_id.map(str::to_owned),
            starts: starts.saturating_add(1),
        };
        Ok((facts, host))
    }

    pub(super) const fn log_id(&self) -> &LogId {
        &self.log_id
    }

    /// Writes the facts. `SQLite` skips a row that is as it was; the number of starts never is, so that the commit shows whether the state can be
    /// written.
    pub(super) fn write(&self, to: &Connection) -> rusqlite::Result<()> {
        if let Some(boot_id) = &self.boot_id {
            MetaKey::BootId.write(to, boot_id)?;
        }
        MetaKey::IsClosed.write(to, false)?;
        MetaKey::LogId.write(to, self.log_id.as_str())?;
        MetaKey::Starts.write(to, self.starts)
    }
}
