//! Statements that write rows, and their values.

use rusqlite::Transaction;

/// Executes a statement that is kept prepared.
pub(super) fn run(
    to: &Transaction<'_>,
    sql: &str,
    params: impl rusqlite::Params,
) -> rusqlite::Result<()> {
    to.prepare_cached(sql)?.execute(params).map(drop)
}

/// Writes a value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(unwritable)
}

/// Converts an error of a value that cannot be written.
pub(super) fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.into())
}
