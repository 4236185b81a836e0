//! A page of a list, asked of the gate in slices and written slice by slice, so that a long page holds up nobody else.

use std::mem::{Discriminant, discriminant};

use serde::Serialize;
use soramode_protocol::envelope::{ReplyTo, write_answer};
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::id::SessionId;
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{LIST_LIMIT_DEFAULT, ListRequest, Page};

/// Rows that the gate is asked for at once.
pub const SLICE_ROWS_MAX: u32 = 64;

/// How an answer ends with the last of all rows.
const END: &[u8] = b"]}}\n";

/// A page that is being put together.
#[derive(Debug)]
pub(super) struct Listing {
    reply_to: ReplyTo,
    list: ListRequest,
    /// For the line, before there is one.
    room: Vec<u8>,
    sheet: Option<Sheet>,
}

/// The answer as far as it is written: all but its end.
#[derive(Debug)]
struct Sheet {
    of: Of,
    line: Vec<u8>,
    rows: usize,
    /// Where the next slice begins; nothing after the last.
    cursor: Option<String>,
}

/// What is listed: the kind of list, and whose connections where they are one session's.
type Of = (Discriminant<Page>, Option<SessionId>);

/// How a listing goes on.
#[derive(Debug)]
pub(super) enum Next {
    /// Ask for one more slice.
    Ask(GateRequest),
    /// This line is the answer.
    Answer(Vec<u8>),
    /// There is no page.
    Refuse(ReplyTo, Error),
}

impl Listing {
    /// `room` is memory for the answer.
    pub(super) const fn new(list: ListRequest, reply_to: ReplyTo, room: Vec<u8>) -> Self {
        Self { reply_to, list, room, sheet: None }
    }

    /// The request for the next slice.
    pub(super) fn slice(&self) -> GateRequest {
        let from = self.sheet.as_ref().and_then(|sheet| sheet.cursor.as_deref());
        GateRequest::List(self.list.slice(self.rows_left().min(SLICE_ROWS_MAX), from))
    }

    /// Takes in a slice.
    pub(super) fn take(&mut self, slice: Answer) -> Next {
        if let Err(error) = self.write(slice.and_then(page_of)) {
            return Next::Refuse(self.reply_to.clone(), error);
        }
        let rows_left = self.rows_left();
        match self.sheet.take_if(|sheet| rows_left == 0 || sheet.cursor.is_none()).map(Sheet::end) {
            Some(Ok(line)) => Next::Answer(line),
            Some(Err(error)) => Next::Refuse(self.reply_to.clone(), unwritable(&error)),
            None => Next::Ask(self.slice()),
        }
    }

    fn write(&mut self, slice: Result<Page, Error>) -> Result<(), Error> {
        match (&mut self.sheet, slice) {
            (None, slice) => {
                let room = std::mem::take(&mut self.room);
                self.sheet = Some(Sheet::begin(room, &self.reply_to, slice?).map_err(|error| unwritable(&error))?);
            }
            (Some(sheet), Ok(slice)) => sheet.append(slice).map_err(|error| unwritable(&error))?,
            // What was listed has gone between two slices: the page ends there.
            (Some(sheet), Err(_)) => sheet.cursor = None,
        }
        Ok(())
    }

    fn rows_left(&self) -> u32 {
        let rows = self.sheet.as_ref().map_or(0, |sheet| sheet.rows);
        self.list.limit().unwrap_or(LIST_LIMIT_DEFAULT).saturating_sub(u32::try_from(rows).unwrap_or(u32::MAX))
    }
}

impl Sheet {
    fn begin(mut line: Vec<u8>, reply_to: &ReplyTo, mut first: Page) -> Result<Self, serde_json::Error> {
        let (of, rows, cursor) = (of(&first), first.rows(), first.take_cursor());
        write_answer(&mut line, reply_to, Ok(&first))?;
        line.truncate(line.len().saturating_sub(END.len()));
        Ok(Self { of, line, rows, cursor })
    }

    fn append(&mut self, mut slice: Page) -> Result<(), serde_json::Error> {
        // The rows of another session are none of this one's.
        if of(&slice) != self.of {
            self.cursor = None;
            return Ok(());
        }
        self.cursor = slice.take_cursor();
        match &slice {
            Page::Sessions(page) => self.write_rows(&page.sessions),
            Page::Session(page) => self.write_rows(&page.connections),
            Page::Connections(page) => self.write_rows(&page.connections),
        }
    }

    fn write_rows(&mut self, rows: &[impl Serialize]) -> Result<(), serde_json::Error> {
        for row in rows {
            if self.rows > 0 {
                self.line.push(b',');
            }
            serde_json::to_writer(&mut self.line, row)?;
            self.rows += 1;
        }
        Ok(())
    }

    fn end(mut self) -> Result<Vec<u8>, serde_json::Error> {
        let Some(cursor) = &self.cursor else {
            self.line.extend_from_slice(END);
            return Ok(self.line);
        };
        self.line.extend_from_slice(b"],\"cursor\":");
        serde_json::to_writer(&mut self.line, cursor)?;
        self.line.extend_from_slice(b"}}\n");
        Ok(self.line)
    }
}

fn of(page: &Page) -> Of {
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
        Err(Error::new(ErrorType::Internal, "the gate answered a list with something else"))
    }
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::new(ErrorType::Internal, format!("a page cannot be written: {error}"))
}

#[cfg(test)]
pub(super) mod tests;
