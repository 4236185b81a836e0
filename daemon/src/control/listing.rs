//! Page of a list, requested from the gate in slices and written slice by slice, so that a long
//! page delays no other client.

use std::mem::{Discriminant, discriminant};

use serde::Serialize;
use soramode_protocol::envelope::{ReplyTo, write_answer};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::id::SessionId;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{LIST_LIMIT_DEFAULT, ListRequest, Page};

/// Maximum number of rows per request to the gate.
pub const SLICE_ROWS_MAX: u32 = 64;

/// Rows of the first request: their length determines how many more fit.
const FIRST_ROWS: u32 = 16;

/// The text of a page at which it ends, with a cursor, however many rows were asked for, in bytes. A page has at most `FIRST_ROWS` of the
/// longest rows more.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;

/// End of an answer with the last of all rows.
const END: &[u8] = b"]}}\n";

/// A page that is being put together.
#[derive(Debug)]
pub(super) struct PageBuilder {
    pub(super) reply_to: ReplyTo,
    list: ListRequest,
    /// Kind of the list, once its first slice has arrived.
    kind: Option<PageKind>,
    /// The answer as far as it is written: all but its end.
    line: Vec<u8>,
    rows: usize,
    /// Cursor of the next slice; `None` after the last.
    cursor: Option<String>,
}

/// Kind of a list, with the session of its connections.
type PageKind = (Discriminant<Page>, Option<SessionId>);

/// Next step of a page.
#[derive(Debug)]
pub(super) enum PageStep {
    /// Ask for one more slice.
    Ask(GateRequest),
    /// Send this line as the answer.
    Answer(Vec<u8>),
}

impl PageBuilder {
    /// `buffer` is memory for the answer.
    pub(super) const fn new(list: ListRequest, reply_to: ReplyTo, buffer: Vec<u8>) -> Self {
        Self {
            reply_to,
            list,
            kind: None,
            line: buffer,
            rows: 0,
            cursor: None,
        }
    }

    /// The request for the next slice.
    pub(super) fn slice(&self) -> GateRequest {
        GateRequest::List(self.list.slice(self.slice_rows(), self.cursor.as_deref()))
    }

    /// Takes in a slice. An error is the answer.
    pub(super) fn take(&mut self, slice: Answer) -> Result<PageStep, Error> {
        match (&self.kind, slice.and_then(page_of)) {
            (None, first) => self.begin(first?)?,
            (Some(listed), Ok(slice)) if kind(&slice) == *listed => self.append(slice)?,
            // The listed object ended between two slices, or another session took its channel: the
            // page ends here.
            (Some(_), Ok(_) | Err(_)) => self.cursor = None,
        }
        let is_long_enough = self.rows_left() == 0 || self.line.len() >= PAGE_BYTES_MAX;
        if is_long_enough || self.cursor.is_none() {
            self.end().map(PageStep::Answer)
        } else {
            Ok(PageStep::Ask(self.slice()))
        }
    }

    fn slice_rows(&self) -> u32 {
        let most = self.rows_left().min(SLICE_ROWS_MAX);
        let Some(row_bytes) = self.line.len().checked_div(self.rows) else {
            return most.min(FIRST_ROWS);
        };
        let fit = PAGE_BYTES_MAX.saturating_sub(self.line.len()) / row_bytes.max(1) + 1;
        most.min(u32::try_from(fit).unwrap_or(u32::MAX))
    }

    fn rows_left(&self) -> u32 {
        self.list
            .limit()
            .unwrap_or(LIST_LIMIT_DEFAULT)
            .saturating_sub(u32::try_from(self.rows).unwrap_or(u32::MAX))
    }

    fn begin(&mut self, mut first: Page) -> Result<(), Error> {
        (self.kind, self.rows, self.cursor) =
            (Some(kind(&first)), first.rows(), first.take_cursor());
        write_answer(&mut self.line, &self.reply_to, Ok(&first)).map_err(unwritable)?;
        self.line
            .truncate(self.line.len().saturating_sub(END.len()));
        Ok(())
    }

    fn append(&mut self, mut slice: Page) -> Result<(), Error> {
        self.cursor = slice.take_cursor();
        match &slice {
            Page::Sessions(page) => self.write_rows(&page.sessions),
            Page::Session(page) => self.write_rows(&page.connections),
            Page::Connections(page) => self.write_rows(&page.connections),
        }
    }

    fn write_rows(&mut self, rows: &[impl Serialize]) -> Result<(), Error> {
        for row in rows {
            if self.rows > 0 {
                self.line.push(b',');
            }
            serde_json::to_writer(&mut self.line, row).map_err(unwritable)?;
            self.rows += 1;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<u8>, Error> {
        if let Some(cursor) = &self.cursor {
            self.line.extend_from_slice(b"],\"cursor\":");
            serde_json::to_writer(&mut self.line, cursor).map_err(unwritable)?;
            self.line.extend_from_slice(b"}}\n");
        } else {
            self.line.extend_from_slice(END);
        }
        Ok(std::mem::take(&mut self.line))
    }
}

fn kind(page: &Page) -> PageKind {
    let session = match page {
        Page::Session(page) => Some(page.session.session_id.clone()),
        Page::Sessions(_) | Page::Connections(_) => None,
    };
    (discriminant(page), session)
}

fn page_of(reply: Reply) -> Result<Page, Error> {
    if let Reply::Page(page) = reply {
        Ok(page)
    } else {
        Err(Error::new(
            ErrorType::Internal,
            "a list request got another kind of answer",
        ))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn unwritable(error: serde_json::Error) -> Error {
    Error::new(ErrorType::Internal, format!("cannot write a page: {error}"))
}

#[cfg(test)]
pub(super) mod tests;
