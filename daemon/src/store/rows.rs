//! Reads rows and their values, with a limit on each text.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::types::Type;
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::text::shorten;

/// Longest text of the state, in bytes. soramoded writes at most an announcement to a thousand channels.
const STORED_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Returns whether a column exists: a check reads a state of an older schema as it is.
pub(super) fn has_column(
    connection: &Connection,
    table: &str,
    name: &str,
) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2";
    connection.query_row(sql, [table, name], |row| row.get(0))
}

/// Returns whether a table exists: a check reads a state of an older schema as it is.
pub(super) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    connection.query_row(sql, [name], |row| row.get(0))
}

/// Reads all rows of a query.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

/// Reads a text that is kept as it is.
pub(super) fn text(row: &Row<'_>, column: &str) -> rusqlite::Result<String> {
    let text = row.get_ref(column)?.as_str()?;
    check_length(text, row.as_ref().column_index(column)?)?;
    Ok(text.to_owned())
}

fn check_length(text: &str, column: usize) -> rusqlite::Result<()> {
    if text.len() <= STORED_TEXT_BYTES_MAX {
        return Ok(());
    }
    let problem = format!(
        "a text has {} bytes, and can have {STORED_TEXT_BYTES_MAX} at most",
        text.len()
    );
    Err(unreadable(column, &problem))
}

pub(super) fn id<T: FromStr<Err: Display>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    parse(row.get_ref(column)?.as_str()?, column)
}

pub(super) fn parse<T: FromStr<Err: Display>>(text: &str, column: usize) -> rusqlite::Result<T> {
    text.parse()
        .map_err(|error: T::Err| unreadable(column, &error.to_string()))
}

pub(super) fn read_json<T: DeserializeOwned>(json: &str, column: usize) -> rusqlite::Result<T> {
    check_length(json, column)?;
    serde_json::from_str(json).map_err(|error| unreadable(column, &error.to_string()))
}

/// Creates an error that repeats at most the beginning of a text in the state.
pub(super) fn unreadable(column: usize, problem: &str) -> rusqlite::Error {
    let problem = shorten(problem, PEER_TEXT_BYTES_MAX);
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, problem.into())
}
