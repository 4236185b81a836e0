//! Tests of listings: slices and their output.

use super::*;

use soramode_protocol::id::{ChannelId, ConnectionId};
use soramode_protocol::request::RequestId;
use soramode_protocol::session::{
    Connection, ConnectionState, Connections, GetSession, ListConnections, ListSessions, Session,
    SessionDetail, Sessions,
};
use soramode_protocol::time::Time;

const CURSOR: &str = "a \"cursor\"";

fn listing(limit: Option<u32>) -> PageBuilder {
    let list = ListSessions {
        limit,
        cursor: Some("asked".to_owned()),
        ..ListSessions::default()
    };
    PageBuilder::new(ListRequest::Sessions(list), reply_to(), Vec::new())
}

fn reply_to() -> ReplyTo {
    ReplyTo::Id(RequestId::Number(7))
}

/// The answer as it would be in one piece.
fn whole(page: &Page) -> String {
    let mut line = Vec::new();
    write_answer(&mut line, &reply_to(), Ok(page)).unwrap();
    String::from_utf8(line).unwrap()
}

fn session(number: u8) -> Session {
    Session {
        channel_id: ChannelId::generate([0; 16]),
        session_id: SessionId::generate([number; 16]),
        created_at: Time::default(),
        connections: 1,
        pending: 0,
        max_connections: 1,
        total_connections: 1,
    }
}

fn sessions(rows: u32, cursor: Option<String>) -> Page {
    Page::Sessions(Sessions {
        sessions: (0..rows).map(|_| session(0)).collect(),
        cursor,
    })
}

fn connections(rows: usize) -> Vec<Connection> {
    let connection = Connection {
        connection_id: ConnectionId::generate([0; 16]),
        channel_id: ChannelId::generate([0; 16]),
        session_id: SessionId::generate([0; 16]),
        client_id: None,
        state: ConnectionState::Live,
        created_at: Time::default(),
    };
    vec![connection; rows]
}

/// Creates a slice with this number of rows.
pub(in super::super) fn slice(rows: u32, cursor: Option<String>) -> Reply {
    Reply::Page(sessions(rows, cursor))
}

fn asked(request: GateRequest) -> ListSessions {
    let GateRequest::List(ListRequest::Sessions(list)) = request else {
        panic!("{request:?}")
    };
    list
}

fn answer(next: Result<PageStep, Error>) -> String {
    let Ok(PageStep::Answer(line)) = next else {
        panic!("{next:?}")
    };
    String::from_utf8(line).unwrap()
}

/// Builds a page from `there` rows; returns the sizes of its slices and the answer.
fn put_together(limit: Option<u32>, there: u32) -> (Vec<u32>, String) {
    let mut listing = listing(limit);
    let (mut request, mut slices, mut given) = (listing.slice(), Vec::new(), 0);
    loop {
        let list = asked(request);
        let cursor = if given == 0 {
            "asked".to_owned()
        } else {
            given.to_string()
        };
        assert_eq!(list.cursor, Some(cursor));
        let rows = list.limit.unwrap().min(there - given);
        slices.push(rows);
        given += rows;
        match listing.take(Ok(slice(rows, (given < there).then(|| given.to_string())))) {
            Ok(PageStep::Ask(next)) => request = next,
            next @ (Ok(PageStep::Answer(_)) | Err(_)) => return (slices, answer(next)),
        }
    }
}

#[test]
fn a_page_is_asked_for_in_slices() {
    for (limit, there, slices) in [
        (None, 1_000, vec![16, 64, 20]),
        (Some(1), 1_000, vec![1]),
        (Some(64), 64, vec![16, 48]),
        (Some(81), 1_000, vec![16, 64, 1]),
        (Some(200), 100, vec![16, 64, 20]),
        (Some(10), 0, vec![0]),
    ] {
        let (asked, answer) = put_together(limit, there);
        assert_eq!(asked, slices);
        let rows = slices.iter().sum();
        assert_eq!(
            answer,
            whole(&sessions(rows, (rows < there).then(|| rows.to_string())))
        );
    }
    let (slices, _) = put_together(Some(1_000), 5_000);
    assert!(slices.iter().all(|rows| *rows <= SLICE_ROWS_MAX));
}

#[test]
fn a_page_ends_once_its_text_is_long_enough() {
    let (slices, answer) = put_together(Some(1_000), 5_000);
    let rows: u32 = slices.iter().sum();
    assert_eq!(answer, whole(&sessions(rows, Some(rows.to_string()))));
    let row_bytes = answer.len() / usize::try_from(rows).unwrap();
    assert!(
        (PAGE_BYTES_MAX..PAGE_BYTES_MAX + 2 * row_bytes).contains(&answer.len()),
        "{}",
        answer.len()
    );
}

#[test]
fn a_page_of_the_longest_rows_is_bounded() {
    let id = ChannelId::new(&"\u{1}".repeat(255)).unwrap();
    let longest = Page::Sessions(Sessions {
        sessions: vec![
            Session {
                channel_id: id,
                ..session(0)
            };
            usize::try_from(FIRST_ROWS).unwrap()
        ],
        cursor: Some("more".to_owned()),
    });
    let slice_bytes = whole(&longest).len();
    let mut listing = listing(Some(1_000));
    let mut asked_for = asked(listing.slice()).limit.unwrap();
    loop {
        let Page::Sessions(page) = &longest else {
            unreachable!()
        };
        let rows = page
            .sessions
            .iter()
            .cycle()
            .take(usize::try_from(asked_for).unwrap())
            .cloned()
            .collect();
        match listing.take(Ok(Reply::Page(Page::Sessions(Sessions {
            sessions: rows,
            cursor: Some("more".to_owned()),
        })))) {
            Ok(PageStep::Ask(next)) => asked_for = asked(next).limit.unwrap(),
            next => return assert!(answer(next).len() <= PAGE_BYTES_MAX + slice_bytes),
        }
    }
}

/// A slice of a session's connections.
fn detail(number: u8, rows: usize, cursor: Option<&str>) -> Page {
    let cursor = cursor.map(str::to_owned);
    Page::Session(Box::new(SessionDetail {
        session: session(number),
        connections: connections(rows),
        cursor,
    }))
}

fn all(rows: usize, cursor: Option<&str>) -> Page {
    Page::Connections(Connections {
        connections: connections(rows),
        cursor: cursor.map(str::to_owned),
    })
}

fn detail_listing() -> PageBuilder {
    let get = GetSession {
        channel_id: ChannelId::generate([0; 16]),
        limit: Some(3),
        cursor: None,
    };
    PageBuilder::new(ListRequest::Session(get), reply_to(), Vec::new())
}

fn all_listing() -> PageBuilder {
    PageBuilder::new(
        ListRequest::Connections(ListConnections {
            limit: Some(3),
            ..ListConnections::default()
        }),
        reply_to(),
        Vec::new(),
    )
}

#[test]
fn every_list_reads_as_if_it_were_written_in_one_piece() {
    let detail: fn(usize, Option<&str>) -> Page = |rows, cursor| detail(0, rows, cursor);
    for (mut listing, page) in [(detail_listing(), detail), (all_listing(), all)] {
        for rows in [0, 1] {
            let next = listing.take(Ok(Reply::Page(page(rows, Some("more")))));
            assert!(matches!(next, Ok(PageStep::Ask(_))), "{next:?}");
        }
        assert_eq!(
            answer(listing.take(Ok(Reply::Page(page(2, Some(CURSOR)))))),
            whole(&page(3, Some(CURSOR)))
        );
    }
}

#[test]
fn a_row_that_leaves_between_two_slices_ends_the_page() {
    let gone = || Err(Error::new(ErrorType::NotFound, "gone"));
    for next in [gone(), Ok(Reply::Page(detail(1, 2, Some(CURSOR))))] {
        let mut listing = detail_listing();
        assert!(matches!(
            listing.take(Ok(Reply::Page(detail(0, 2, Some("more"))))),
            Ok(PageStep::Ask(_))
        ));
        assert_eq!(answer(listing.take(next)), whole(&detail(0, 2, None)));
    }
    assert!(detail_listing().take(gone()).is_err());
}
