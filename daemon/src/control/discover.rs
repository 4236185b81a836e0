//! The description of the protocol, as the method `rpc.discover` answers it.

use std::sync::LazyLock;

use lz4_flex::block::decompress_size_prepended;
use serde_json::value::RawValue;
use soramode_protocol::discover::Discovered;

/// `man/openrpc.json`, packed by `build.rs`.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openrpc.json.lz4"));

/// The OpenRPC document, on one line.
pub(super) static OPENRPC: LazyLock<Discovered> = LazyLock::new(|| {
    let line = decompress_size_prepended(PACKED)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    // A build that packs it in another way fails the test below.
    let document = line.and_then(|line| RawValue::from_string(line).ok());
    Discovered(document.unwrap_or_default())
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_small_and_on_one_line() {
        let document = OPENRPC.0.get();
        assert!(document.starts_with(r#"{"components":"#) && !document.contains('\n'));
        assert!(PACKED.len() < 64 * 1024, "{} bytes", PACKED.len());
    }
}
