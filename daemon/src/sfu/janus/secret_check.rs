//! Check of the rooms' secrets, for `status` and `doctor`: which rooms soramoded can neither lock nor end, and which any client can unlock.
//! Each room is checked once, by a request that changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use soramode_protocol::text::list_first;

use super::admin::AdminApi;
use super::admin_error::AdminError;
use super::ids::Id;
use crate::args::janus::JanusWay;
use crate::config::RoomSecrets;

/// Secret of a room, as far as it concerns soramoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomSecret {
    /// It has one, which soramoded knows.
    Known,
    /// It has one, which soramoded does not know.
    Unknown,
    /// It has none.
    Absent,
}

/// Secrets of all rooms.
#[derive(Debug, Default)]
pub(crate) struct SecretCheck {
    checked: BTreeMap<Id, RoomSecret>,
    unchecked: BTreeSet<Id>,
}

impl SecretCheck {
    /// Takes in all rooms that there are.
    pub(super) fn on_listed(&mut self, rooms: impl Iterator<Item = Id>) {
        let rooms: BTreeSet<Id> = rooms.collect();
        self.checked.retain(|room, _| rooms.contains(room));
        let is_new = |room: &Id| !self.checked.contains_key(room);
        self.unchecked = rooms.into_iter().filter(is_new).collect();
    }

    /// Has all rooms checked anew, once they are listed.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Takes a room that is to be checked.
    pub(super) fn next(&mut self) -> Option<Id> {
        self.unchecked.pop_first()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.unchecked.is_empty()
    }

    pub(super) fn note(&mut self, room: Id, secret: RoomSecret) {
        self.checked.insert(room, secret);
    }

    /// Returns a warning for each finding. Where nothing is locked, any client may unlock.
    pub(super) fn findings(&self, way: JanusWay) -> Vec<String> {
        let mut findings = Vec::new();
        if let Some((count, named)) = self.with(RoomSecret::Unknown) {
            let (rooms, have, them) = forms(count);
            let cannot = match way {
                JanusWay::Lock => "neither lock nor end",
                JanusWay::Ask => "not end",
            };
            findings.push(format!(
                "{count} {rooms} of Janus {have} a secret that soramoded does not know: {named}. It can {cannot} {them}. Give the secrets in \
                 --janus-room-secrets-file"
            ));
        }
        if way == JanusWay::Lock
            && let Some((count, named)) = self.with(RoomSecret::Absent)
        {
            let (rooms, have, them) = forms(count);
            findings.push(format!(
                "{count} {rooms} of Janus {have} no secret: {named}. Any client can unlock {them}. Set secrets where rooms are created, and in \
                 --janus-room-secrets-file"
            ));
        }
        findings
    }

    /// Returns the number of rooms with such a secret, and the first of them; `None` if there are none.
    fn with(&self, secret: RoomSecret) -> Option<(usize, String)> {
        let rooms = self.checked.iter().filter(|(_, it)| **it == secret);
        let ids: Vec<String> = rooms.map(|(room, _)| room.to_string()).collect();
        Some((ids.len(), list_first(&ids)?))
    }
}

const fn forms(count: usize) -> (&'static str, &'static str, &'static str) {
    if count == 1 {
        ("room", "has", "it")
    } else {
        ("rooms", "have", "them")
    }
}

/// Asks Janus whether a room has a secret, and whether soramoded knows it. Janus logs an error for each request with a wrong secret, or with
/// none where one is needed; where nothing is locked, a room without a secret is no finding, and the known secret is enough.
pub(super) async fn check(
    api: &AdminApi,
    secrets: Option<&RoomSecrets>,
    (room, way): (&Id, JanusWay),
) -> Result<RoomSecret, AdminError> {
    let name = room.to_string();
    let secret = secrets.and_then(|it| it.of(&name));
    if way == JanusWay::Lock || secret.is_none() {
        match api.show_tokens(&name, None).await {
            Ok(_) => return Ok(RoomSecret::Absent),
            Err(error) if error.is_secret() => {}
            Err(error) => return Err(error),
        }
    }
    let Some(secret) = secret else {
        return Ok(RoomSecret::Unknown);
    };
    match api.show_tokens(&name, Some(&secret)).await {
        Ok(_) => Ok(RoomSecret::Known),
        Err(error) if error.is_secret() => Ok(RoomSecret::Unknown),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_checked_once_and_counted() {
        let mut check = SecretCheck::default();
        check.on_listed((1..=5).map(Id::Number));
        let secrets = [
            RoomSecret::Known,
            RoomSecret::Unknown,
            RoomSecret::Absent,
            RoomSecret::Absent,
            RoomSecret::Absent,
        ];
        for secret in secrets {
            let room = check.next().unwrap();
            check.note(room, secret);
        }
        assert!(check.is_finished());
        let [unknown, absent] = &check.findings(JanusWay::Lock)[..] else {
            panic!("takes two findings");
        };
        assert!(
            unknown.starts_with("1 room of Janus has a secret that soramoded does not know: \"2\". It can neither lock nor end it."),
            "{unknown}"
        );
        assert!(
            absent.starts_with(
                "3 rooms of Janus have no secret: \"3\", \"4\", \"5\". Any client can unlock them."
            ),
            "{absent}"
        );
        assert_eq!(check.findings(JanusWay::Ask).len(), 1);
        // One has gone, another is new.
        check.on_listed((2..=6).map(Id::Number));
        assert_eq!(check.next(), Some(Id::Number(6)));
        assert_eq!(check.next(), None);
        check.restart();
        assert_eq!(check.findings(JanusWay::Lock), Vec::<String>::new());
    }
}
