//! A page of a list, asked of the gate in slices, so that a long page holds up nobody else.

use soramode_protocol::envelope::ReplyTo;
use soramode_protocol::error::{Error, ErrorType};
use soramode_protocol::reply::{Answer, Reply};
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{LIST_LIMIT_DEFAULT, ListRequest, Page};

/// Rows that the gate is asked for at once.
pub const SLICE_ROWS_MAX: u32 = 64;

/// A page that is being put together.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) reply_to: Option<ReplyTo>,
    list: ListRequest,
    page: Option<Page>,
}

/// How a listing goes on.
pub(super) enum Next {
    /// Ask for one more slice.
    Ask(GateRequest),
    /// This is the answer.
    Answer(Result<Page, Error>),
}

impl Listing {
    pub(super) const fn new(list: ListRequest, reply_to: Option<ReplyTo>) -> Self {
        Self { reply_to, list, page: None }
    }

    /// The request for the next slice.
    pub(super) fn slice(&self) -> GateRequest {
        let from = self.page.as_ref().and_then(Page::cursor);
        GateRequest::List(self.list.slice(self.rows_left().min(SLICE_ROWS_MAX), from))
    }

    /// Takes in a slice.
    pub(super) fn take(&mut self, slice: Answer) -> Next {
        match (&mut self.page, slice.and_then(page_of)) {
            (None, Err(error)) => return Next::Answer(Err(error)),
            (None, Ok(slice)) => self.page = Some(slice),
            (Some(page), Ok(slice)) => page.append(slice),
            // What was listed has gone between two slices: the page ends there.
            (Some(page), Err(_)) => page.end_here(),
        }
        let is_whole = self.rows_left() == 0 || self.page.as_ref().and_then(Page::cursor).is_none();
        match self.page.take_if(|_| is_whole) {
            Some(page) => Next::Answer(Ok(page)),
            None => Next::Ask(self.slice()),
        }
    }

    fn rows_left(&self) -> u32 {
        let rows = self.page.as_ref().map_or(0, Page::rows);
        self.list.limit().unwrap_or(LIST_LIMIT_DEFAULT).saturating_sub(u32::try_from(rows).unwrap_or(u32::MAX))
    }
}

fn page_of(reply: Reply) -> Result<Page, Error> {
    if let Reply::Page(page) = reply {
        Ok(page)
    } else {
        Err(Error::new(ErrorType::Internal, "the gate answered a list with something else"))
    }
}
