//! Lines out of a stream of bytes, with a limit.

// The portable searcher: runtime CPU detection (`CPUID` traps in virtual machines) costs more than
// the search.
use memchr::arch::all::memchr::One;

/// The longest request, in bytes without its line feed.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The longest line that a client takes from the daemon, in bytes: a full page of the longest ids, each character escaped.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of free space that each read gets.
const READ_BYTES: usize = 16 * 1024;

/// A line is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line has more than {limit} bytes")]
pub struct LineTooLong {
    /// The limit, in bytes without the line feed.
    pub limit: usize,
}

/// Buffer that splits input into lines. Holds at most the limit and one read.
#[derive(Debug)]
pub struct LineBuffer {
    bytes: Vec<u8>,
    /// Number of `bytes` that were already returned as lines.
    read_buf: usize,
    /// Up to where `bytes` are known to have no more line feeds.
    searched: usize,
    limit: usize,
}

impl LineBuffer {
    /// An empty one for lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            read_buf: 0,
            searched: 0,
            limit,
        }
    }

    /// Returns the buffer to read into, with free space.
    pub fn read_buf(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.read_buf);
        self.searched -= self.read_buf;
        self.read_buf = 0;
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    /// The next whole line, without its line feed and a carriage return before that; `None` if more must be read first.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let unsearched = self.bytes.get(self.searched..).unwrap_or_default();
        let Some(found) = One::new(b'\n').find(unsearched) else {
            self.searched = self.bytes.len();
            return if self.searched - self.read_buf > self.limit {
                Err(LineTooLong { limit: self.limit })
            } else {
                Ok(None)
            };
        };
        let (begin, end) = (self.read_buf, self.searched + found);
        (self.read_buf, self.searched) = (end + 1, end + 1);
        let line = self.bytes.get(begin..end).unwrap_or_default();
        if line.len() > self.limit {
            return Err(LineTooLong { limit: self.limit });
        }
        Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// The first byte that was not given out yet.
    pub fn first_byte(&self) -> Option<u8> {
        self.bytes.get(self.read_buf).copied()
    }

    /// The stream has ended: a last line may end with it in place of a line feed.
    pub fn end(&mut self) {
        if self.has_partial() {
            self.bytes.extend_from_slice(b"\n");
        }
    }

    /// Returns true if an incomplete line is buffered.
    pub fn has_partial(&self) -> bool {
        self.bytes.len() > self.read_buf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(buffer: &mut LineBuffer) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = buffer.next_line().unwrap() {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        lines
    }

    #[test]
    fn lines_come_out_whole_however_they_are_cut() {
        let text = b"one\ntwo\r\n\nfour";
        for cut in 0..text.len() {
            let mut buffer = LineBuffer::new(8);
            buffer.read_buf().extend_from_slice(&text[..cut]);
            let mut got = lines(&mut buffer);
            buffer.read_buf().extend_from_slice(&text[cut..]);
            got.extend(lines(&mut buffer));
            assert_eq!(got, ["one", "two", ""], "cut at {cut}");
            assert!(buffer.has_partial());
        }
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
        for (bytes, passes) in [(REQUEST_BYTES_MAX, true), (REQUEST_BYTES_MAX + 1, false)] {
            let mut whole = LineBuffer::new(REQUEST_BYTES_MAX);
            whole.read_buf().extend_from_slice(&vec![b'x'; bytes]);
            whole.read_buf().extend_from_slice(b"\n");
            assert_eq!(whole.next_line().is_ok(), passes);
            let mut partial = LineBuffer::new(REQUEST_BYTES_MAX);
            partial.read_buf().extend_from_slice(&vec![b'x'; bytes]);
            assert_eq!(partial.next_line().is_ok(), passes);
        }
    }
}
