//! Plans, announcements and requests to end sessions in the database, as JSON. The part of each that changes is a value of its own.

use std::time::Duration;

use rusqlite::{Connection, Row, Transaction, params};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use soramode_core::plan::stored::{
    AnnouncementProgress, EndProgress, Moment, PlanProgress, StoredAnnouncement, StoredEnd,
    StoredOutcome, StoredPlan,
};
use soramode_protocol::announce::NoticeData;
use soramode_protocol::id::{AnnouncementId, ChannelId, EndId, PlanId, RollId};
use soramode_protocol::plan::{EndRate, PlanAnnounced, PlanOutcome, PlanStep};
use soramode_protocol::time::Time;

use super::meta::MetaKey;
use super::rows::{all, has_table, read_json};
use super::statements::{json, run};

/// Writes a plan in place of the one before.
pub(super) fn write_plan(to: &Transaction<'_>, plan: &StoredPlan) -> rusqlite::Result<()> {
    MetaKey::Plan.write(to, json(&PlanRef(plan))?)?;
    write_plan_progress(to, &plan.progress)
}

pub(super) fn write_plan_progress(
    to: &Transaction<'_>,
    progress: &PlanProgress,
) -> rusqlite::Result<()> {
    MetaKey::PlanProgress.write(to, json(&PlanProgressRef(progress))?)
}

pub(super) fn add_announcement(
    to: &Transaction<'_>,
    it: &StoredAnnouncement,
) -> rusqlite::Result<()> {
    let (announcement, progress) = (
        json(&AnnouncementRef(it))?,
        json(&AnnouncementProgressRef(&it.progress))?,
    );
    run(
        to,
        "INSERT INTO announcements (id, announcement, progress) VALUES (?1, ?2, ?3)",
        params![it.id.as_str(), announcement, progress],
    )
}

pub(super) fn write_announcement_progress(
    to: &Transaction<'_>,
    id: &AnnouncementId,
    progress: &AnnouncementProgress,
) -> rusqlite::Result<()> {
    run(
        to,
        "UPDATE announcements SET progress = ?2 WHERE id = ?1",
        params![id.as_str(), json(&AnnouncementProgressRef(progress))?],
    )
}

pub(super) fn remove_announcement(
    to: &Transaction<'_>,
    id: &AnnouncementId,
) -> rusqlite::Result<()> {
    run(
        to,
        "DELETE FROM announcements WHERE id = ?1",
        params![id.as_str()],
    )
}

pub(super) fn add_end(to: &Transaction<'_>, it: &StoredEnd) -> rusqlite::Result<()> {
    let (request, progress) = (json(&EndRef(it))?, json(&EndProgressRef(&it.progress))?);
    run(
        to,
        "INSERT INTO ends (id, request, progress) VALUES (?1, ?2, ?3)",
        params![it.id.as_str(), request, progress],
    )
}

pub(super) fn write_end_progress(
    to: &Transaction<'_>,
    id: &EndId,
    progress: &EndProgress,
) -> rusqlite::Result<()> {
    run(
        to,
        "UPDATE ends SET progress = ?2 WHERE id = ?1",
        params![id.as_str(), json(&EndProgressRef(progress))?],
    )
}

pub(super) fn remove_end(to: &Transaction<'_>, id: &EndId) -> rusqlite::Result<()> {
    run(to, "DELETE FROM ends WHERE id = ?1", params![id.as_str()])
}

/// Loads the plan that runs, or the last one.
pub(super) fn plan(connection: &Connection) -> rusqlite::Result<Option<StoredPlan>> {
    let (Some(plan), Some(progress)) = (
        MetaKey::Plan.read::<String>(connection)?,
        MetaKey::PlanProgress.read::<String>(connection)?,
    ) else {
        return Ok(None);
    };
    let Plan(plan) = read_json(&plan, 0)?;
    let Progress(progress) = read_json(&progress, 0)?;
    Ok(Some(StoredPlan { progress, ..plan }))
}

/// Loads the announcements that have not reached every channel, in their order.
pub(super) fn announcements(connection: &Connection) -> rusqlite::Result<Vec<StoredAnnouncement>> {
    if !has_table(connection, "announcements")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT announcement, progress FROM announcements ORDER BY place";
    all(connection, sql, |row: &Row<'_>| {
        let Announcement(announcement) = read_json(row.get_ref(0)?.as_str()?, 0)?;
        let ProgressOfAnnouncement(progress) = read_json(row.get_ref(1)?.as_str()?, 1)?;
        Ok(StoredAnnouncement {
            progress,
            ..announcement
        })
    })
}

/// Loads the requests to end sessions that are not over, in their order.
pub(super) fn ends(connection: &Connection) -> rusqlite::Result<Vec<StoredEnd>> {
    if !has_table(connection, "ends")? {
        return Ok(Vec::new());
    }
    let sql = "SELECT request, progress FROM ends ORDER BY place";
    all(connection, sql, |row: &Row<'_>| {
        let End(end) = read_json(row.get_ref(0)?.as_str()?, 0)?;
        let ProgressOfEnd(progress) = read_json(row.get_ref(1)?.as_str()?, 1)?;
        Ok(StoredEnd { progress, ..end })
    })
}

#[derive(Deserialize)]
struct Plan(#[serde(with = "StoredPlanJson")] StoredPlan);

#[derive(Serialize)]
struct PlanRef<'a>(#[serde(with = "StoredPlanJson")] &'a StoredPlan);

#[derive(Deserialize)]
struct Progress(#[serde(with = "PlanProgressJson")] PlanProgress);

#[derive(Serialize)]
struct PlanProgressRef<'a>(#[serde(with = "PlanProgressJson")] &'a PlanProgress);

#[derive(Deserialize)]
struct Outcome(#[serde(with = "StoredOutcomeJson")] StoredOutcome);

#[derive(Serialize)]
struct OutcomeRef<'a>(#[serde(with = "StoredOutcomeJson")] &'a StoredOutcome);

#[derive(Deserialize)]
struct Announcement(#[serde(with = "StoredAnnouncementJson")] StoredAnnouncement);

#[derive(Serialize)]
struct AnnouncementRef<'a>(#[serde(with = "StoredAnnouncementJson")] &'a StoredAnnouncement);

#[derive(Deserialize)]
struct ProgressOfAnnouncement(#[serde(with = "AnnouncementProgressJson")] AnnouncementProgress);

#[derive(Serialize)]
struct AnnouncementProgressRef<'a>(
    #[serde(with = "AnnouncementProgressJson")] &'a AnnouncementProgress,
);

#[derive(Deserialize)]
struct End(#[serde(with = "StoredEndJson")] StoredEnd);

#[derive(Serialize)]
struct EndRef<'a>(#[serde(with = "StoredEndJson")] &'a StoredEnd);

#[derive(Deserialize)]
struct ProgressOfEnd(#[serde(with = "EndProgressJson")] EndProgress);

#[derive(Serialize)]
struct EndProgressRef<'a>(#[serde(with = "EndProgressJson")] &'a EndProgress);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Moment")]
struct MomentJson {
    wall: Time,
    boot_micros: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StoredPlan")]
struct StoredPlanJson {
    id: PlanId,
    owner: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    on_behalf_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    roll: Option<RollId>,
    created_at: Time,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    requested_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    expected_end_at: Option<Time>,
    steps: Vec<PlanStep>,
    max_delay: Duration,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    keep_open: Option<u64>,
    /// A value of its own.
    #[serde(skip, default = "no_plan_progress")]
    progress: PlanProgress,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "PlanProgress")]
struct PlanProgressJson {
    #[serde(with = "MomentJson")]
    closes: Moment,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    round: Option<u64>,
    done: Vec<Time>,
    delay: Duration,
    late: Duration,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    announced: Option<PlanAnnounced>,
    #[serde(
        serialize_with = "write_moment",
        deserialize_with = "read_moment",
        skip_serializing_if = "Option::is_none",
        default
    )]
    announced_end: Option<Moment>,
    asked: u64,
    ended: u64,
    #[serde(
        serialize_with = "write_outcome",
        deserialize_with = "read_outcome",
        skip_serializing_if = "Option::is_none",
        default
    )]
    over: Option<StoredOutcome>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StoredOutcome")]
struct StoredOutcomeJson {
    outcome: PlanOutcome,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<String>,
    at: Time,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    generation: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StoredAnnouncement")]
struct StoredAnnouncementJson {
    id: AnnouncementId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    plan_id: Option<PlanId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sessions_end_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    data: Option<NoticeData>,
    cancelled: bool,
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        alias = "channel_id",
        deserialize_with = "read_channels"
    )]
    channel_ids: Option<Vec<ChannelId>>,
    #[serde(default)]
    webhooks: u64,
    #[serde(with = "MomentJson")]
    began: Moment,
    /// A value of its own.
    #[serde(skip, default = "no_announcement_progress")]
    progress: AnnouncementProgress,
}

/// One channel, as it was stored at first, or some.
#[derive(Deserialize)]
#[serde(untagged)]
enum Channels {
    One(ChannelId),
    Some(Vec<ChannelId>),
}

fn read_channels<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<ChannelId>>, D::Error> {
    Ok(Some(match Channels::deserialize(deserializer)? {
        Channels::One(channel_id) => vec![channel_id],
        Channels::Some(channel_ids) => channel_ids,
    }))
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "AnnouncementProgress")]
struct AnnouncementProgressJson {
    cursor: Time,
    channels: u64,
    told: u64,
    failed: u64,
    #[serde(default)]
    unreached: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    had_told: bool,
    subscribers: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "StoredEnd")]
struct StoredEndJson {
    id: EndId,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    plan_id: Option<PlanId>,
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    channel_id: Option<ChannelId>,
    rate: EndRate,
    /// A value of its own.
    #[serde(skip, default = "no_end_progress")]
    progress: EndProgress,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "EndProgress")]
struct EndProgressJson {
    cutoff: Time,
    #[serde(with = "MomentJson")]
    next: Moment,
}

#[expect(clippy::ref_option, reason = "serde asks in this way")]
fn write_outcome<S: Serializer>(
    over: &Option<StoredOutcome>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    over.as_ref().map(OutcomeRef).serialize(serializer)
}

fn read_outcome<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<StoredOutcome>, D::Error> {
    Option::<Outcome>::deserialize(deserializer).map(|over| over.map(|Outcome(outcome)| outcome))
}

#[derive(Serialize)]
struct MomentRef<'a>(#[serde(with = "MomentJson")] &'a Moment);

/// A moment by both clocks, or by the wall clock alone, as it was stored at first.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredMoment {
    Both(#[serde(with = "MomentJson")] Moment),
    Wall(Time),
}

#[expect(clippy::ref_option, reason = "serde asks in this way")]
fn write_moment<S: Serializer>(moment: &Option<Moment>, serializer: S) -> Result<S::Ok, S::Error> {
    moment.as_ref().map(MomentRef).serialize(serializer)
}

fn read_moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Moment>, D::Error> {
    let stored = Option::<StoredMoment>::deserialize(deserializer)?;
    Ok(stored.map(|moment| match moment {
        StoredMoment::Both(moment) => moment,
        // It has come by the boot clock: only the wall clock counts.
        StoredMoment::Wall(wall) => Moment {
            wall,
            boot_micros: 0,
        },
    }))
}

/// A moment that stands for none until the progress is read.
const NO_MOMENT: Moment = Moment {
    wall: Time::from_micros(0),
    boot_micros: 0,
};

const fn no_plan_progress() -> PlanProgress {
    PlanProgress {
        closes: NO_MOMENT,
        round: None,
        done: Vec::new(),
        delay: Duration::ZERO,
        late: Duration::ZERO,
        announced: None,
        announced_end: None,
        asked: 0,
        ended: 0,
        over: None,
    }
}

const fn no_announcement_progress() -> AnnouncementProgress {
    AnnouncementProgress {
        cursor: NO_MOMENT.wall,
        channels: 0,
        told: 0,
        failed: 0,
        unreached: 0,
        had_told: false,
        subscribers: 0,
    }
}

const fn no_end_progress() -> EndProgress {
    EndProgress {
        cutoff: NO_MOMENT.wall,
        next: NO_MOMENT,
    }
}

#[cfg(test)]
pub(super) mod tests;
