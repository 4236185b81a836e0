//! What there is one of in the database.

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension};

/// A fact that the database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetaKey {
    /// The log's id.
    LogId,
    /// Which boot of the machine wrote last.
    BootId,
    /// Whether the daemon stopped in order, with everything on the disk.
    IsClosed,
    /// No seq from this one on was ever used: so much is safe from a power cut.
    ReservedSeq,
    /// Whether `session.vanished` is owed.
    IsVanishedHeld,
    /// The mode.
    Mode,
    /// When the mode ends by itself, in microseconds of the boot clock of the boot that wrote last.
    ExpiresAtBoot,
    /// The node's last life in its cluster; empty where it left in order.
    Member,
    /// The etcd that it was in.
    Etcd,
}

impl MetaKey {
    const fn name(self) -> &'static str {
        match self {
            Self::LogId => "log_id",
            Self::BootId => "boot_id",
            Self::IsClosed => "is_closed",
            Self::ReservedSeq => "reserved_seq",
            Self::IsVanishedHeld => "is_vanished_held",
            Self::Mode => "mode",
            Self::ExpiresAtBoot => "expires_at_boot",
            Self::Member => "member",
            Self::Etcd => "etcd",
        }
    }

    pub(super) fn read<T: FromSql>(self, connection: &Connection) -> rusqlite::Result<Option<T>> {
        let mut statement = connection.prepare_cached("SELECT value FROM facts WHERE name = ?1")?;
        statement
            .query_row([self.name()], |row| row.get(0))
            .optional()
    }

    pub(super) fn write(self, connection: &Connection, value: impl ToSql) -> rusqlite::Result<()> {
        connection
            .prepare_cached("INSERT OR REPLACE INTO facts VALUES (?1, ?2)")?
            .execute((self.name(), value))
            .map(drop)
    }
}
