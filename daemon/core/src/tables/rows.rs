//! Rows of the tables: a session and a connection.

use std::num::NonZeroU64;
use std::time::Duration;

use soramode_protocol::event::EndReason;
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, SessionId};
use soramode_protocol::session::ConnectionState;
use soramode_protocol::time::Time;

use crate::handles::{ConnectionSlot, SessionSlot};

/// Source that reported a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The control socket.
    ControlSocket,
    /// The SFU: a Sora or a Janus.
    Sfu,
}

/// A connection. Its size decides the memory of a million of them.
pub(crate) struct ConnectionRow {
    pub(crate) connection_id: ConnectionId,
    pub(crate) client_id: Option<Box<ClientId>>,
    pub(crate) created_at: Time,
    pub(crate) session: SessionSlot,
    pub(crate) next: ConnectionSlot,
    pub(crate) previous: ConnectionSlot,
    pub(crate) state: ConnectionState,
    pub(crate) source: Source,
    /// Time since which it has been in this state.
    pub(crate) since: WrappingBootSecs,
}

/// Boot time in seconds modulo 2^16 (18 h 12 min), so that a row fits in 64 bytes. Older values wrap and look recent again: callers must be
/// safe when an old row is taken for a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WrappingBootSecs(u16);

impl WrappingBootSecs {
    #[expect(clippy::cast_possible_truncation, reason = "the value wraps")]
    pub(crate) const fn at(boot: Duration) -> Self {
        Self(boot.as_secs() as u16)
    }

    /// Returns whether it was certainly before `moment`, seen from `now`, which is not before either.
    pub(crate) fn is_before(self, moment: Duration, now: Duration) -> bool {
        let age = u64::from(Self::at(now).0.wrapping_sub(self.0));
        // Both ends of the age were rounded down, and so it may be one second less.
        Duration::from_secs(age.saturating_sub(1)) > now.saturating_sub(moment)
    }
}

/// Boot time in nanoseconds, in half the memory of a duration. It ends 584 years after the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BootNanos(NonZeroU64);

impl BootNanos {
    pub(crate) fn at(boot: Duration) -> Self {
        let nanos = u64::try_from(boot.as_nanos()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(nanos))
    }

    pub(crate) const fn boot(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

/// A connection's place in its session's list.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) session: SessionSlot,
    pub(crate) previous: ConnectionSlot,
    pub(crate) next: ConnectionSlot,
}

impl Link {
    pub(crate) const fn of(row: &ConnectionRow) -> Self {
        Self {
            session: row.session,
            previous: row.previous,
            next: row.next,
        }
    }
}

/// Maker of a session's id, which ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOwner {
    /// The gate made the id: the session ends by itself.
    Gate,
    /// A Sora made the id: its `session.destroyed` ends the session.
    Sora,
}

pub(crate) struct SessionRow {
    pub(crate) channel_id: ChannelId,
    pub(crate) session_id: SessionId,
    pub(crate) created_at: Time,
    /// When this id was first reported, by the boot clock.
    pub(crate) named_at: BootNanos,
    /// Time since which Sora's API has shown it empty.
    pub(crate) empty_since: Option<BootNanos>,
    pub(crate) owner: SessionOwner,
    /// `session.created` was emitted, with the first live connection.
    pub(crate) is_announced: bool,
    pub(crate) last_end: EndReason,
    pub(crate) max_connections: u64,
    pub(crate) total_connections: u64,
    pub(crate) live: u32,
    pub(crate) pending: u32,
    pub(crate) first: ConnectionSlot,
    pub(crate) last: ConnectionSlot,
}

/// Values of a new connection.
pub(crate) struct NewConnection {
    pub(crate) connection_id: ConnectionId,
    pub(crate) client_id: Option<ClientId>,
    pub(crate) created_at: Time,
    pub(crate) state: ConnectionState,
    pub(crate) source: Source,
    pub(crate) since: WrappingBootSecs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_before_another_only_if_that_is_certain() {
        let seconds = Duration::from_secs_f64;
        let came = WrappingBootSecs::at(seconds(100.9));
        assert!(!came.is_before(seconds(100.0), seconds(120.0)));
        assert!(
            !came.is_before(seconds(101.0), seconds(120.0)),
            "rounding is not certainty"
        );
        assert!(came.is_before(seconds(102.1), seconds(120.0)));
        // Hours later it may be taken for young, but a young one is never taken for old.
        for hours in [9, 18, 19, 40] {
            let now = Duration::from_secs(hours * 3_600);
            let ago = |age: f64| now.saturating_sub(seconds(age));
            assert!(
                !WrappingBootSecs::at(ago(9.0)).is_before(ago(10.0), now),
                "{hours} h"
            );
            assert!(
                !WrappingBootSecs::at(now).is_before(ago(10.0), now),
                "{hours} h"
            );
        }
        assert!(
            came.is_before(seconds(32_400.0), seconds(32_410.0)),
            "9 h later"
        );
        assert!(
            !came.is_before(seconds(65_630.0), seconds(65_640.0)),
            "18 h 14 min later, for ten seconds"
        );
        assert!(came.is_before(seconds(65_650.0), seconds(65_660.0)));
    }

    #[test]
    fn a_moment_is_the_one_that_it_was_made_of() {
        for boot in [
            Duration::ZERO,
            Duration::from_nanos(1),
            Duration::new(86_400 * 365 * 500, 999_999_999),
        ] {
            assert_eq!(BootNanos::at(boot).boot(), boot);
        }
        assert!(BootNanos::at(Duration::MAX).boot() > Duration::from_hours(24 * 365 * 584));
    }

    #[test]
    fn rows_take_so_many_bytes_of_memory() {
        assert_eq!(size_of::<Option<ConnectionRow>>(), 64);
        assert_eq!(size_of::<Option<SessionRow>>(), 128);
    }
}
