//! Lengths of collections as numbers of the wire and of the records.

/// Converts the length of a collection.
pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
