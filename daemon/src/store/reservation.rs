//! The node's reservation in the database, as JSON.

use std::time::Duration;

use rusqlite::{Connection, Transaction};
use serde::{Deserialize, Serialize};
use soramode_core::stored::StoredReservation;
use soramode_protocol::id::RollId;
use soramode_protocol::reservation::RollStep;
use soramode_protocol::time::Time;

use super::meta::MetaKey;
use super::rows::read_json;
use super::statements::json;

pub(super) fn write(to: &Transaction<'_>, it: &StoredReservation) -> rusqlite::Result<()> {
    MetaKey::Reservation.write(to, json(&ReservationRef(it))?)
}

/// Loads the reservation, or the last one.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Option<StoredReservation>> {
    let stored = MetaKey::Reservation.read::<String>(connection)?;
    let read = |json: String| read_json::<Reservation>(&json, 0).map(|Reservation(it)| it);
    stored.map(read).transpose()
}

#[derive(Deserialize)]
struct Reservation(#[serde(with = "StoredReservationJson")] StoredReservation);

#[derive(Serialize)]
struct ReservationRef<'a>(#[serde(with = "StoredReservationJson")] &'a StoredReservation);

#[derive(Serialize, Deserialize)]
#[serde(remote = "StoredReservation")]
struct StoredReservationJson {
    roll: RollId,
    by: String,
    actor: String,
    since: Time,
    round: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    step: Option<RollStep>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    command_exit: Option<u8>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    rebooted: bool,
    time: Duration,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expires: Option<Duration>,
}

#[cfg(test)]
pub(super) mod tests;
