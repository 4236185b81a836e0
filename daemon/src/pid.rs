//! The pid in a lock file: who holds it, for people.

use std::fs::File;
use std::io::{self, Read, Write};

/// The most that is read of a lock file, in bytes: a pid and a line's end.
const PID_BYTES_MAX: u64 = 16;

/// Whose the file is, where that can be told.
pub(crate) fn read(file: File) -> Option<i32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok().filter(|pid| *pid > 0)
}

/// Says that it is ours.
pub(crate) fn write(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}
