//! A number with its noun.

use std::fmt::Display;

/// `1 session`, `2 sessions`
pub(crate) fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// `2 connections`, `2 connections (1 pending)`: pending connections count, and their clients have not been seen connected.
pub(crate) fn counted_connections(connections: u64, pending: u64) -> String {
    with_pending(counted(connections, "connection"), pending)
}

/// `2`, `2 (1 pending)`
pub(crate) fn with_pending(connections: impl Display, pending: u64) -> String {
    match pending {
        0 => connections.to_string(),
        pending => format!("{connections} ({pending} pending)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pending_connections_are_named_beside_the_count_that_holds_them() {
        assert_eq!(counted_connections(0, 0), "0 connections");
        assert_eq!(counted_connections(1, 0), "1 connection");
        assert_eq!(counted_connections(1, 1), "1 connection (1 pending)");
        assert_eq!(counted_connections(7, 2), "7 connections (2 pending)");
    }

    #[test]
    fn counted_words_have_a_plural() {
        assert_eq!(counted(1, "session"), "1 session");
        assert_eq!(counted(0, "session"), "0 sessions");
    }
}
