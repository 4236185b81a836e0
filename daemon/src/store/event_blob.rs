//! Events as a row of the log: their lines of JSON, compressed. They are most of the written bytes,
//! and much alike.

use lz4_flex::block::{DecompressError, compress_prepend_size, decompress_into, uncompressed_size};
use rusqlite::types::{FromSqlError, Type, ValueRef};
use soramode_protocol::event::Event;
use soramode_protocol::http_client::PEER_TEXT_BYTES_MAX;
use soramode_protocol::text::shorten;

/// Highest compression ratio of LZ4: a row that claims more is damaged.
const SMALLER_MAX: usize = 255;

/// Why lines cannot be read.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("{0}")]
    Block(#[from] DecompressError),
    #[error("{0} bytes cannot come of {1}")]
    Length(usize, usize),
    #[error("{0}")]
    Text(#[from] std::str::Utf8Error),
    #[error("{0}")]
    Json(String),
}

/// Compresses events into a row.
pub(super) fn pack(events: &[&Event]) -> serde_json::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for event in events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    Ok(compress_prepend_size(&lines))
}

/// Reads the events of a row, including rows of the first schemas.
pub(super) fn unpack(value: ValueRef<'_>) -> rusqlite::Result<Vec<Event>> {
    let events = match value {
        ValueRef::Blob(block) => unpack_block(block),
        ValueRef::Text(lines) => read(lines),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => {
            return Err(FromSqlError::InvalidType.into());
        }
    };
    events.map_err(|damage| rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, damage.into()))
}

fn unpack_block(bytes: &[u8]) -> Result<Vec<Event>, Damage> {
    let (length, block) = uncompressed_size(bytes)?;
    if length > block.len().saturating_mul(SMALLER_MAX) {
        return Err(Damage::Length(length, block.len()));
    }
    let mut lines = vec![0; length];
    let read_bytes = decompress_into(block, &mut lines)?;
    lines.truncate(read_bytes);
    read(&lines)
}

fn read(lines: &[u8]) -> Result<Vec<Event>, Damage> {
    str::from_utf8(lines)?
        .lines()
        .map(|line| {
            // An error may repeat a text of the line.
            let problem = |error: serde_json::Error| {
                Damage::Json(shorten(&error.to_string(), PEER_TEXT_BYTES_MAX))
            };
            serde_json::from_str(line).map_err(problem)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use soramode_protocol::event::EventKind;
    use soramode_protocol::id::{EventId, NodeName};
    use soramode_protocol::time::Time;

    use super::*;

    fn events(count: u64) -> Vec<Event> {
        let node_name = Arc::new(NodeName::new("node-01").unwrap());
        let event = |seq| Event {
            seq,
            id: EventId::generate(u128::from(seq).to_be_bytes()),
            kind: EventKind::SessionVanished,
            timestamp: Time::default(),
            node_name: Arc::clone(&node_name),
        };
        (1..=count).map(event).collect()
    }

    #[test]
    fn events_are_read_back_and_the_row_is_smaller() {
        for count in [1, 1_024] {
            let events = events(count);
            let block = pack(&events.iter().collect::<Vec<_>>()).unwrap();
            assert_eq!(unpack(ValueRef::Blob(&block)).unwrap(), events);
            let lines: usize = events
                .iter()
                .map(|event| serde_json::to_vec(event).unwrap().len() + 1)
                .sum();
            assert!(
                count == 1 || block.len() * 3 < lines,
                "{} of {lines}",
                block.len()
            );
        }
    }

    #[test]
    fn events_that_an_earlier_schema_wrote_are_read() {
        let line = |name: &str| {
            format!(
                r#"{{"seq":1,"id":"5JKAFJ5NX500355CJCFB7318G0","type":"node.joined","{name}":"joined","mode":"normal",
                "timestamp":"2026-11-22T20:00:19.123456Z","node_name":"node-01"}}"#
            )
            .replace('\n', "")
        };
        let read = |name| unpack(ValueRef::Text(line(name).as_bytes())).unwrap();
        assert_eq!(read("standing"), read("membership"));
    }

    #[test]
    fn damage_is_an_error_and_takes_no_memory() {
        let whole = pack(&events(9).iter().collect::<Vec<_>>()).unwrap();
        let (head, rest) = whole.split_at(4);
        let cut_short = &whole[..whole.len() - 5];
        for block in [
            &[u32::MAX.to_le_bytes().as_slice(), rest].concat(),
            &[head, &rest[9..]].concat(),
            cut_short,
            &whole[..3],
            &[],
        ] {
            unpack(ValueRef::Blob(block)).unwrap_err();
        }
        unpack(ValueRef::Null).unwrap_err();
    }
}
