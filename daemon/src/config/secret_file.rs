//! Files with secrets: nobody but their owner may use them.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Permission bits that let others than the owner at the file.
const BITS_OF_OTHERS: u32 = 0o077;

/// Reads a file of at most so many bytes; otherwise what is wrong with it.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let bits = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if bits & BITS_OF_OTHERS != 0 {
        return Err(format!("others than its owner may use it (mode {bits:04o}); say: chmod 0600 {}", path.display()));
    }
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > bytes_max {
        return Err(format!("has more than {bytes_max} bytes"));
    }
    Ok(text)
}
