//! The database's shape, and the way from each older one to it.

use rusqlite::{Connection, TransactionBehavior};

/// Application id in the file's header: "sora".
const APPLICATION_ID: i32 = 0x736f_7261;

/// The steps, each frozen: the file with the number 1 makes the first schema of an empty database, the next one changes that.
const STEPS: [&str; 8] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
    include_str!("schema/5.sql"),
    include_str!("schema/6.sql"),
    include_str!("schema/7.sql"),
    include_str!("schema/8.sql"),
];

/// The schema that this version writes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "it counts the steps above"
)]
pub(super) const SCHEMA: i32 = STEPS.len() as i32;

/// Kind of a file, by its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemaKind {
    /// File without any table.
    Empty,
    /// Ours, of this schema or an older one.
    Known,
    /// Ours, of a later version.
    Newer(i32),
    /// Database of another program.
    Foreign,
}

/// Reads the header of a database.
pub(super) fn find(connection: &Connection) -> rusqlite::Result<SchemaKind> {
    let application_id: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let schema: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application_id, schema) {
        (0, 0) if tables == 0 => SchemaKind::Empty,
        (APPLICATION_ID, 1..=SCHEMA) => SchemaKind::Known,
        (APPLICATION_ID, newer) => SchemaKind::Newer(newer),
        _ => SchemaKind::Foreign,
    })
}

/// Brings a database to the schema of this version, all or nothing.
pub fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let schema: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if schema == SCHEMA {
        return Ok(());
    }
    let missing = STEPS.iter().skip(usize::try_from(schema).unwrap_or(0));
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in missing {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}
