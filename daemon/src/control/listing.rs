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

#[cfg(test)]
mod tests {
    use super::*;

    use soramode_protocol::id::{ChannelId, SessionId};
    use soramode_protocol::session::{ListSessions, Session, Sessions};
    use soramode_protocol::time::Time;

    fn listing(limit: Option<u32>) -> Listing {
        Listing::new(ListRequest::Sessions(ListSessions { limit, cursor: Some("asked".to_owned()), ..ListSessions::default() }), None)
    }

    fn page(rows: u32, cursor: Option<String>) -> Reply {
        let session = |_| Session {
            channel_id: ChannelId::generate([0; 16]),
            session_id: SessionId::generate([0; 16]),
            created_at: Time::default(),
            connections: 1,
            max_connections: 1,
            total_connections: 1,
        };
        Reply::Page(Page::Sessions(Sessions { sessions: (0..rows).map(session).collect(), cursor }))
    }

    fn asked(request: GateRequest) -> ListSessions {
        let GateRequest::List(ListRequest::Sessions(list)) = request else { panic!("{request:?}") };
        list
    }

    /// Puts a page together of so many rows out of so many, and gives the sizes of its slices and the page.
    fn put_together(limit: Option<u32>, there: u32) -> (Vec<u32>, Page) {
        let mut listing = listing(limit);
        let (mut request, mut slices, mut given) = (listing.slice(), Vec::new(), 0);
        loop {
            let list = asked(request);
            let cursor = if given == 0 { "asked".to_owned() } else { given.to_string() };
            assert_eq!(list.cursor, Some(cursor));
            let slice = list.limit.unwrap().min(there - given);
            slices.push(slice);
            given += slice;
            match listing.take(Ok(page(slice, (given < there).then(|| given.to_string())))) {
                Next::Ask(next) => request = next,
                Next::Answer(page) => return (slices, page.unwrap()),
            }
        }
    }

    #[test]
    fn a_page_is_asked_for_in_slices() {
        for (limit, there, slices) in [
            (None, 1_000, vec![64, 36]),
            (Some(1), 1_000, vec![1]),
            (Some(64), 64, vec![64]),
            (Some(65), 1_000, vec![64, 1]),
            (Some(200), 100, vec![64, 36]),
            (Some(10), 0, vec![0]),
        ] {
            let (asked, page) = put_together(limit, there);
            assert_eq!(asked, slices);
            let rows: u32 = slices.iter().sum();
            assert_eq!(page.rows(), rows as usize);
            assert_eq!(page.cursor().map(str::to_owned), (rows < there).then(|| rows.to_string()));
        }
        let (slices, page) = put_together(Some(1_000), 5_000);
        assert_eq!((slices.len(), page.rows()), (16, 1_000));
        assert!(slices.iter().all(|rows| *rows <= SLICE_ROWS_MAX));
    }

    #[test]
    fn what_goes_between_two_slices_ends_the_page() {
        let mut whole = listing(Some(200));
        assert!(matches!(whole.take(Ok(page(64, Some("64".to_owned())))), Next::Ask(_)));
        let Next::Answer(Ok(page)) = whole.take(Err(Error::new(ErrorType::NotFound, "gone"))) else { panic!("no page") };
        assert_eq!((page.rows(), page.cursor()), (64, None));
        let mut refused = listing(Some(200));
        assert!(matches!(refused.take(Err(Error::new(ErrorType::InvalidParams, "no such cursor"))), Next::Answer(Err(_))));
    }
}
