//! Sessions and connections in lists, page by page.

use soramode_protocol::error::Error;
use soramode_protocol::session::{
    Connections, GetSession, LIST_LIMIT_DEFAULT, ListConnections, ListRequest, ListSessions, Page,
    Session, SessionDetail, Sessions as SessionList,
};
use soramode_protocol::time::Time;

use crate::handles::{ConnectionSlot, SessionSlot};
use crate::tables::sessions::Sessions;

impl Sessions {
    pub(crate) fn oldest_session(&self) -> Option<Session> {
        self.by_age(None)
            .next()
            .and_then(|slot| self.view_session(slot))
    }

    pub(crate) fn list(&self, list: &ListRequest) -> Result<Page, Error> {
        match list {
            ListRequest::Sessions(list) => self.list_sessions(list).map(Page::Sessions),
            ListRequest::Session(get) => self
                .get_session(get)
                .map(|session| Page::Session(Box::new(session))),
            ListRequest::Connections(list) => self.list_connections(list).map(Page::Connections),
        }
    }

    fn list_sessions(&self, list: &ListSessions) -> Result<SessionList, Error> {
        let after = list.cursor.as_deref().map(read_cursor).transpose()?;
        if let Some(channel_id) = &list.channel_id {
            let session = self.find_session(channel_id).filter(|_| after.is_none());
            return Ok(SessionList {
                sessions: session
                    .and_then(|slot| self.view_session(slot))
                    .into_iter()
                    .collect(),
                cursor: None,
            });
        }
        let mut slots = self.by_age(after).peekable();
        let page: Vec<SessionSlot> = slots.by_ref().take(page_size(list.limit)).collect();
        let given_last = page.last().copied().filter(|_| slots.peek().is_some());
        let cursor =
            given_last.and_then(|slot| Some(write_cursor(self.session(slot)?.created_at, slot)));
        Ok(SessionList {
            sessions: page
                .into_iter()
                .filter_map(|slot| self.view_session(slot))
                .collect(),
            cursor,
        })
    }

    fn get_session(&self, get: &GetSession) -> Result<SessionDetail, Error> {
        let slot = self.find_session(&get.channel_id);
        let session = slot.and_then(|slot| self.view_session(slot));
        let (Some(slot), Some(session)) = (slot, session) else {
            return Err(Error::no_session(&get.channel_id));
        };
        let after = get.cursor.as_deref().map(read_cursor).transpose()?;
        let page = self.page_of_session(slot, after, get.limit);
        Ok(SessionDetail {
            session,
            connections: page.connections,
            cursor: page.cursor,
        })
    }

    fn list_connections(&self, list: &ListConnections) -> Result<Connections, Error> {
        let after = list.cursor.as_deref().map(read_cursor).transpose()?;
        if let Some(channel_id) = &list.channel_id {
            let session = self.find_session(channel_id);
            return Ok(session
                .map(|slot| self.page_of_session(slot, after, list.limit))
                .unwrap_or_default());
        }
        let first = after.map_or(
            ConnectionSlot::FIRST,
            |(_, slot): (Time, ConnectionSlot)| slot.next(),
        );
        let mut slots = self
            .connections_from(first)
            .map(|(slot, _)| slot)
            .peekable();
        let page: Vec<ConnectionSlot> = slots.by_ref().take(page_size(list.limit)).collect();
        let given_last = page.last().copied().filter(|_| slots.peek().is_some());
        Ok(self.page(&page, given_last))
    }

    fn page_of_session(
        &self,
        session: SessionSlot,
        after: Option<(Time, ConnectionSlot)>,
        limit: Option<u32>,
    ) -> Connections {
        let mut slots = self.of_session(session, after).peekable();
        let page: Vec<ConnectionSlot> = slots.by_ref().take(page_size(limit)).collect();
        let given_last = page.last().copied().filter(|_| slots.peek().is_some());
        self.page(&page, given_last)
    }

    /// Returns a page of these rows; `given_last` is its last row if another page follows.
    fn page(&self, slots: &[ConnectionSlot], given_last: Option<ConnectionSlot>) -> Connections {
        Connections {
            connections: slots
                .iter()
                .filter_map(|&slot| self.view_connection(slot))
                .collect(),
            cursor: given_last
                .and_then(|slot| Some(write_cursor(self.connection(slot)?.created_at, slot))),
        }
    }
}

/// Returns the number of rows of a page.
pub(crate) fn page_size(limit: Option<u32>) -> usize {
    limit.unwrap_or(LIST_LIMIT_DEFAULT) as usize
}

/// Returns a cursor, which names the last row of a page: its time and its slot.
fn write_cursor(created_at: Time, slot: impl Into<u32>) -> String {
    format!("{}-{}", created_at.as_micros(), slot.into())
}

fn read_cursor<K: From<u32>>(cursor: &str) -> Result<(Time, K), Error> {
    let parts = cursor
        .rsplit_once('-')
        .and_then(|(micros, slot)| Some((micros.parse().ok()?, slot.parse::<u32>().ok()?)));
    parts
        .map(|(micros, slot)| (Time::from_micros(micros), K::from(slot)))
        .ok_or_else(|| {
            Error::invalid_params(
                "cursor",
                format_args!("got {cursor:?}, takes the cursor of the previous page"),
            )
        })
}
