//! Reports of a Janus, and its answers to requests about locks, as a story writes them.

use soramode_core::handles::Timestamp;
use soramode_core::input::{Input, JanusInput, ListScope, Participant};
use soramode_core::locks::calls::LockOutcome;
use soramode_core::settings::SfuFeed;
use soramode_protocol::id::ChannelId;

use super::read::{Problem, Words, words};
use super::story::Story;

/// `sora`, `sora-api`, `sora-api-only`; `janus`, and `janus-lock` where it holds the mode, `janus-refuse` where it also refuses new sessions.
pub(super) fn feed(all: &mut Words) -> SfuFeed {
    let janus = |locks_rooms, refuses_sessions| SfuFeed::Janus {
        has_events: true,
        locks_rooms,
        refuses_sessions,
    };
    if all.has("janus-refuse") {
        janus(true, true)
    } else if all.has("janus-lock") {
        janus(true, false)
    } else if all.has("janus") {
        janus(false, false)
    } else if all.has("sora-api-only") {
        SfuFeed::Api
    } else if all.has("sora-api") {
        SfuFeed::WebhooksAndApi
    } else if all.has("sora") {
        SfuFeed::Webhooks
    } else {
        SfuFeed::None
    }
}

/// `listed rooms=1,2 1/a` (all), `room 1 1/a` (one), `restarted`, `secrets`, `sessions ok`, `failed why`
pub(super) fn input(mut all: Words, now: Timestamp) -> Result<JanusInput, Problem> {
    let input = match all.next()?.as_str() {
        "listed" => {
            let rooms = all.value::<String>("rooms")?.unwrap_or_default();
            let rooms = rooms.split(',').filter(|room| !room.is_empty());
            JanusInput::Listed {
                scope: ListScope::All,
                began: now.boot,
                rooms: rooms.map(channel).collect::<Result<_, _>>()?,
                participants: participants(&all.take())?,
            }
        }
        "room" => JanusInput::Listed {
            scope: ListScope::Channel(all.id()?),
            began: now.boot,
            rooms: Vec::new(),
            participants: participants(&all.take())?,
        },
        "restarted" => JanusInput::Restarted,
        "secrets" => JanusInput::SecretsChanged,
        "sessions" => JanusInput::SessionsAnswered {
            is_done: all.has("ok"),
        },
        "failed" => JanusInput::Failed { why: all.next()? },
        other => return Err(format!("Janus says no {other}")),
    };
    all.end(input)
}

fn channel(room: &str) -> Result<ChannelId, Problem> {
    ChannelId::new(room).map_err(|error| error.to_string())
}

/// `room/id`, each
fn participants(words: &[String]) -> Result<Vec<Participant>, Problem> {
    let participant = |word: &String| {
        let (room, _) = word.split_once('/').ok_or("a participant is room/id")?;
        Ok(Participant {
            channel_id: channel(room)?,
            connection_id: word.parse().map_err(|_| format!("{word}: no id"))?,
        })
    };
    words.iter().map(participant).collect()
}

/// `ok`, `tokens=2`, `no-room`, `no-secret` or `unreachable`
fn outcome(mut all: Words) -> Result<LockOutcome, Problem> {
    let tokens = all.value("tokens")?;
    let outcome = match (tokens, all.next().ok().as_deref()) {
        (Some(tokens), None) => LockOutcome::Done { tokens },
        (None, Some("ok")) => LockOutcome::Done { tokens: 0 },
        (None, Some("no-room")) => LockOutcome::NoRoom,
        (None, Some("no-secret")) => LockOutcome::NoSecret,
        (None, Some("unreachable")) => LockOutcome::Unreachable,
        (_, other) => return Err(format!("no outcome of a lock: {other:?}")),
    };
    all.end(outcome)
}

impl Story {
    /// Janus answers the request about a room, or `all`: those that there are, and those that follow from the answers.
    pub(super) fn lock_answered(&mut self, line: &str) -> Result<Vec<String>, Problem> {
        let (room, answer) = line.split_once(": ").ok_or("takes `lock 1: ok`")?;
        let outcome = outcome(Words::new(&words(answer)))?;
        let mut happened = Vec::new();
        loop {
            let is_answered = |call: &soramode_core::locks::calls::LockCall| {
                room == "all" || call.channel_id.as_str() == room
            };
            let Some(at) = self.locks.iter().position(is_answered) else {
                return match room {
                    "all" => Ok(happened),
                    _ => Err(format!("nothing is requested for {room}")),
                };
            };
            let call = self.locks.remove(at).ok_or("no request")?;
            happened.extend(self.step(Input::Janus(JanusInput::LockAnswered {
                channel_id: call.channel_id,
                outcome: outcome.clone(),
            }))?);
            if room != "all" {
                return Ok(happened);
            }
        }
    }
}
