//! Single values in the database.

use rusqlite::types::{FromSql, ToSql};
use rusqlite::{Connection, OptionalExtension};

/// A fact that the database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetaKey {
    /// Identifier of the log.
    LogId,
    /// Boot of the machine that wrote last.
    BootId,
    /// Number of starts.
    Starts,
    /// `true` after a clean stop with everything on the disk.
    IsClosed,
    /// Bound of the used sequence numbers, safe from a power loss: none from this one on was used.
    ReservedSeq,
    /// `true` if `session.vanished` is pending.
    IsVanishedPending,
    /// Mode of the node.
    Mode,
    /// Expiry of the mode, in microseconds of the boot clock of the boot that wrote last.
    ExpiresAtBoot,
    /// The node's last life in its cluster; empty where it left in order.
    Member,
    /// The etcd that it was in.
    Etcd,
    /// The plan that runs, or the last one, as JSON.
    Plan,
    /// Progress of that plan, as JSON.
    PlanProgress,
    /// Reservation of the node, or the last one, as JSON.
    Reservation,
}

impl MetaKey {
    const fn name(self) -> &'static str {
        match self {
            Self::LogId => "log_id",
            Self::BootId => "boot_id",
            Self::Starts => "starts",
            Self::IsClosed => "is_closed",
            Self::ReservedSeq => "reserved_seq",
            Self::IsVanishedPending => "is_vanished_held",
            Self::Mode => "mode",
            Self::ExpiresAtBoot => "expires_at_boot",
            Self::Member => "member",
            Self::Etcd => "etcd",
            Self::Plan => "plan",
            Self::PlanProgress => "plan_progress",
            Self::Reservation => "reservation",
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
