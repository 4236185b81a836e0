//! A number with its noun.

/// `1 session`, `2 sessions`
pub(crate) fn counted(count: u64, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
