//! Number of things, as the wire and the records have it.

/// Converts the length of a collection.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
