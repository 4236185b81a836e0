//! Conversion of etcd's numbers, which are signed.

/// Returns a number of etcd, which is never negative.
pub(super) fn number(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

/// Returns a number for etcd.
pub(super) fn revision(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
