//! A line of a story as input of the gate.

use std::collections::BTreeMap;
use std::time::Duration;

use soramode_core::commit_failure::Refused;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{Input, PolledConnection, SoraInput};
use soramode_protocol::cluster::{
    Acknowledge, InitCluster, PurgeClusterNode, RISK_OF_INIT, RISK_OF_PURGE, RISK_OF_SECOND,
};
use soramode_protocol::decision::{
    Connect, Disconnect, Explain, Lifetime, Report, ReportedConnection,
};
use soramode_protocol::delivery::{ListDeliveries, ResendDelivery};
use soramode_protocol::event::WebhookSource;
use soramode_protocol::mode::{ChangeMode, ListModeChanges, Mode, SettableMode};
use soramode_protocol::node::ListClusterNodes;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{GetSession, ListConnections, ListRequest, ListSessions};
use soramode_protocol::time::Time;
use soramode_protocol::wait::{Wait, WaitFor};

/// Begins the problem with a request that does not reach the gate.
pub(super) const REFUSED: &str = "refused before the gate: ";

/// Problem with a line.
pub(super) type Problem = String;

/// Words between spaces; what stands between quotes is one.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    for char in line.chars() {
        match char {
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(String::new()),
            _ => words.last_mut().unwrap().push(char),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `90s`, `5m`, `1.5s`, `1us`
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let units = [
        ("us", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3_600.0),
    ];
    let amount = |unit: &str| text.strip_suffix(unit)?.parse::<f64>().ok();
    let seconds = units
        .into_iter()
        .find_map(|(unit, seconds)| Some(amount(unit)? * seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text:?} is no time"))
}

/// The words of an input: those alone, and those with a value.
pub(super) struct Words {
    plain: Vec<String>,
    named: BTreeMap<String, String>,
}

impl Words {
    pub(super) fn new(words: &[String]) -> Self {
        let (named, plain): (Vec<&String>, Vec<&String>) =
            words.iter().partition(|word| word.contains('='));
        let named = named.into_iter().filter_map(|word| word.split_once('='));
        Self {
            plain: plain.into_iter().cloned().collect(),
            named: named
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    pub(super) fn next(&mut self) -> Result<String, Problem> {
        if self.plain.is_empty() {
            Err("a word is missing".to_owned())
        } else {
            Ok(self.plain.remove(0))
        }
    }

    pub(super) fn id<T: std::str::FromStr<Err: ToString>>(&mut self) -> Result<T, Problem> {
        self.next()?
            .parse()
            .map_err(|error: T::Err| error.to_string())
    }

    /// All words without a value that are left.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.plain)
    }

    /// Returns whether the line has this word.
    pub(super) fn has(&mut self, word: &str) -> bool {
        let found = self.plain.iter().position(|it| it == word);
        found.map(|at| self.plain.remove(at)).is_some()
    }

    pub(super) fn value<T: std::str::FromStr<Err: ToString>>(
        &mut self,
        name: &str,
    ) -> Result<Option<T>, Problem> {
        self.named
            .remove(name)
            .map(|value| {
                value
                    .parse()
                    .map_err(|error: T::Err| format!("{name}: {}", error.to_string()))
            })
            .transpose()
    }

    pub(super) fn time(&mut self, name: &str) -> Result<Option<Duration>, Problem> {
        self.named
            .remove(name)
            .map(|value| duration(&value))
            .transpose()
    }

    pub(super) fn end<T>(self, result: T) -> Result<T, Problem> {
        let left: Vec<String> = self
            .plain
            .into_iter()
            .chain(self.named.into_keys())
            .collect();
        if left.is_empty() {
            Ok(result)
        } else {
            Err(format!("what is {left:?}?"))
        }
    }
}

/// Clients by their sockets, requests so far, and the cursors that lists ended with.
#[derive(Default)]
pub(super) struct Speakers {
    sockets: BTreeMap<String, SocketId>,
    asked: u64,
    pub(super) cursor: Option<String>,
}

impl Speakers {
    pub(super) fn socket(&mut self, name: &str) -> SocketId {
        let next = match name {
            "http" => SocketId::HTTP_REPORT,
            _ => SocketId(self.sockets.len() as u64 + 1),
        };
        *self.sockets.entry(name.to_owned()).or_insert(next)
    }

    pub(super) fn name(&self, socket: SocketId) -> String {
        self.sockets
            .iter()
            .find(|(_, other)| **other == socket)
            .map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
    }

    fn reply_to(&mut self, name: &str) -> ReplyHandle {
        self.asked += 1;
        ReplyHandle {
            socket: self.socket(name),
            serial: self.asked,
        }
    }

    /// Reads `client: request`; it is `now`.
    pub(super) fn input(&mut self, line: &str, now: Timestamp) -> Result<Input, Problem> {
        if line == "tick" {
            return Ok(Input::Tick);
        }
        if line == "clock set" {
            return Ok(Input::WallClockSet);
        }
        if let Some(counts) = line.strip_prefix("subscribers") {
            return super::plan::subscribers(Words::new(&words(counts)));
        }
        if let Some(name) = line.strip_suffix(" gone") {
            return Ok(Input::SocketClosed(self.socket(name)));
        }
        let (who, what) = line.split_once(": ").ok_or("takes `who: what`")?;
        let mut all = Words::new(&words(what));
        match who {
            "storage" => {
                let input = match all.next()?.as_str() {
                    "failed" => Input::StorageFailed(Refused {
                        generations: all.value("refused")?.into_iter().collect(),
                        plans: all.value("plan")?.into_iter().collect(),
                        calls: all.value("call")?.into_iter().collect(),
                        locks: Vec::new(),
                        connections: all.plain.drain(..).map(|id| id.parse().unwrap()).collect(),
                    }),
                    "restored" => Input::StorageRestored,
                    other => return Err(format!("{who} cannot be {other}")),
                };
                all.end(input)
            }
            "sora" => self.sora(all, now).map(Input::Sora),
            "janus" => super::janus::input(all, now).map(Input::Janus),
            "etcd" => {
                let serial = self.asked;
                super::etcd::response(all, now, |who| ReplyHandle {
                    socket: self.socket(who),
                    serial,
                })
            }
            _ => {
                let request = self.request(all)?;
                request
                    .check()
                    .map_err(|error| format!("{REFUSED}{error}"))?;
                Ok(Input::Request {
                    reply_to: self.reply_to(who),
                    actor: format!("uid:1000({who})").into(),
                    request,
                })
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each form of a line")]
    fn request(&self, mut all: Words) -> Result<GateRequest, Problem> {
        let method = all.next()?;
        let request = match method.as_str() {
            "GetMode" => GateRequest::GetMode,
            "GetStatus" => GateRequest::GetStatus,
            "ListClusterNodes" => GateRequest::ListClusterNodes(ListClusterNodes {
                count_orphaned: all.has("count_orphaned"),
            }),
            "ListModeChanges" => GateRequest::ListModeChanges(ListModeChanges {
                limit: all.value("limit")?,
            }),
            "ChangeMode" => GateRequest::ChangeMode(Box::new(change_mode(&mut all)?)),
            "Connect" => {
                let lifetime = if all.has("socket") {
                    Lifetime::Socket
                } else {
                    Lifetime::Explicit
                };
                let (channel_id, client_id) = (all.id()?, all.value("client")?);
                let connection_id = if all.plain.is_empty() {
                    None
                } else {
                    Some(all.id()?)
                };
                let hops = all.value("hops")?.unwrap_or(0);
                GateRequest::Connect(Connect {
                    channel_id,
                    connection_id,
                    client_id,
                    lifetime,
                    hops,
                })
            }
            "Grant" => GateRequest::Grant,
            "Acknowledge" => GateRequest::Acknowledge(Acknowledge {
                id: all.next()?.parse().map_err(|_| "takes a number")?,
            }),
            "PurgeClusterNode" => GateRequest::PurgeClusterNode(PurgeClusterNode {
                node_name: all.id()?,
                accept_risk: RISK_OF_PURGE.to_owned(),
            }),
            "InitCluster" => GateRequest::InitCluster(InitCluster {
                accept_risk: [RISK_OF_INIT, RISK_OF_SECOND]
                    .into_iter()
                    .find(|risk| all.has(risk))
                    .map(str::to_owned),
            }),
            "Disconnect" => GateRequest::Disconnect(Disconnect {
                connection_id: all.id()?,
            }),
            "Report" => {
                let complete = all.has("complete");
                let connections = std::mem::take(&mut all.plain)
                    .iter()
                    .map(|word| reported(word))
                    .collect::<Result<_, _>>()?;
                GateRequest::Report(Report {
                    connections,
                    complete,
                })
            }
            "Reserve" | "Release" => super::reservation::request(&method, &mut all)?,
            "End" | "Announce" | "StartPlan" | "GetPlan" | "CancelPlan" => {
                super::plan::request(&method, &mut all)?
            }
            "ListDeliveries" => {
                let (cursor, limit) = (all.named.remove("cursor"), all.value("limit")?);
                GateRequest::ListDeliveries(ListDeliveries {
                    state: all.value("state")?,
                    limit,
                    cursor,
                })
            }
            "ResendDelivery" => {
                let id = all.next()?.parse().map_err(|_| "takes a number")?;
                GateRequest::ResendDelivery(ResendDelivery { id })
            }
            "Explain" => GateRequest::Explain(Explain {
                channel_id: all.id()?,
            }),
            "ListSessions" => {
                let (cursor, limit) = (self.cursor(&mut all), all.value("limit")?);
                GateRequest::List(ListRequest::Sessions(ListSessions {
                    channel_id: all.value("channel")?,
                    limit,
                    cursor,
                }))
            }
            "GetSession" => {
                let (cursor, limit) = (self.cursor(&mut all), all.value("limit")?);
                GateRequest::List(ListRequest::Session(GetSession {
                    channel_id: all.id()?,
                    limit,
                    cursor,
                }))
            }
            "ListConnections" => {
                let (cursor, limit) = (self.cursor(&mut all), all.value("limit")?);
                GateRequest::List(ListRequest::Connections(ListConnections {
                    channel_id: all.value("channel")?,
                    limit,
                    cursor,
                }))
            }
            "Wait" => GateRequest::Wait(Box::new(wait(&mut all)?)),
            other => return Err(format!("no method {other}")),
        };
        all.end(request)
    }

    /// `onward`: the cursor that the last page ended with.
    fn cursor(&self, all: &mut Words) -> Option<String> {
        if all.has("onward") {
            Some(self.cursor.clone().unwrap_or_default())
        } else {
            all.named.remove("cursor")
        }
    }

    fn sora(&mut self, mut all: Words, now: Timestamp) -> Result<SoraInput, Problem> {
        let input = match all.next()?.as_str() {
            "admit" => {
                let reply_to = self.reply_to("sora");
                SoraInput::Admit {
                    reply_to,
                    channel_id: all.id()?,
                    connection_id: all.id()?,
                    client_id: all.value("client")?,
                }
            }
            "denied" => SoraInput::Denied {
                connection_id: all.id()?,
            },
            "connection.created" => SoraInput::ConnectionCreated {
                channel_id: all.id()?,
                connection_id: all.id()?,
                session_id: all.value("session")?,
                client_id: all.value("client")?,
            },
            "connection.destroyed" => SoraInput::ConnectionDestroyed {
                connection_id: all.id()?,
            },
            "session.created" => SoraInput::SessionCreated {
                channel_id: all.id()?,
                session_id: all.id()?,
                created_time: now.wall,
            },
            "session.destroyed" => SoraInput::SessionDestroyed {
                channel_id: all.id()?,
                session_id: all.id()?,
            },
            "passed" => {
                let source = if all.next()? == "session" {
                    WebhookSource::Session
                } else {
                    WebhookSource::Event
                };
                SoraInput::PassedThrough {
                    source,
                    sora_type: all.next()?,
                }
            }
            "polled" => {
                let began = now
                    .boot
                    .saturating_sub(all.time("ago")?.unwrap_or_default());
                let connections = std::mem::take(&mut all.plain)
                    .iter()
                    .map(|word| polled(word, now))
                    .collect::<Result<_, _>>()?;
                SoraInput::Polled { began, connections }
            }
            "poll-failed" => SoraInput::PollFailed { why: all.next()? },
            other => return Err(format!("Sora says no {other}")),
        };
        all.end(input)
    }
}

fn change_mode(all: &mut Words) -> Result<ChangeMode, Problem> {
    let mode: Mode = all.id()?;
    let mode = SettableMode::try_from(mode).map_err(|error| error.to_string())?;
    Ok(ChangeMode {
        mode,
        reason: all.value("reason")?,
        expires_in_seconds: all.time("expires")?.map(|time| time.as_secs()),
        expected_end_at: all
            .value::<String>("expected_end")?
            .as_deref()
            .map(super::plan::time)
            .transpose()?,
        if_mode: all.value("if_mode")?,
        if_generation: all.value("if_generation")?,
        if_plan: all.value("if_plan")?,
        if_roll: all.value("if_roll")?,
        roll: all.value("roll")?,
        round: all.value("round")?,
        unless_reserved: all.has("unless_reserved"),
        on_behalf_of: all.value("for")?,
    })
}

/// `channel/connection`, then `@session` and `^client` if need be.
fn reported(word: &str) -> Result<ReportedConnection, Problem> {
    let (word, client) = word
        .split_once('^')
        .map_or((word, None), |(word, client)| (word, Some(client)));
    let (word, session) = word
        .split_once('@')
        .map_or((word, None), |(word, session)| (word, Some(session)));
    let (channel, connection) = word
        .split_once('/')
        .ok_or("a reported connection is channel/connection")?;
    let problem = |error: soramode_protocol::id::InvalidId| error.to_string();
    Ok(ReportedConnection {
        channel_id: channel.parse().map_err(problem)?,
        connection_id: connection.parse().map_err(problem)?,
        client_id: client.map(str::parse).transpose().map_err(problem)?,
        session_id: session.map(str::parse).transpose().map_err(problem)?,
    })
}

/// Reads one like a reported one; `~5s` behind it is its age.
fn polled(word: &str, now: Timestamp) -> Result<PolledConnection, Problem> {
    let (word, ago) = word
        .split_once('~')
        .map_or((word, None), |(word, ago)| (word, Some(ago)));
    let ReportedConnection {
        channel_id,
        connection_id,
        client_id,
        session_id,
    } = reported(word)?;
    let ago = ago.map(duration).transpose()?;
    let created_at = ago.map(|ago| {
        Time::from_micros(now.wall.as_micros() - i64::try_from(ago.as_micros()).unwrap_or(i64::MAX))
    });
    Ok(PolledConnection {
        channel_id,
        session_id,
        connection_id,
        client_id,
        created_at,
    })
}

fn wait(all: &mut Words) -> Result<Wait, Problem> {
    let mode = all.value("mode")?;
    let wait_for = match mode {
        Some(_) => WaitFor::Mode,
        None if all.has("joined") => WaitFor::Joined,
        None if all.has("ended") => WaitFor::Ended,
        None if all.has("drained") => WaitFor::Drained,
        None => return Err("takes drained, joined or mode=".to_owned()),
    };
    Ok(Wait {
        wait_for,
        mode,
        generation: all.value("generation")?,
        max_sessions: all.value("max")?,
        settle_seconds: all.time("settle")?.map(|time| time.as_secs_f64()),
        timeout_seconds: all.time("timeout")?.map(|time| time.as_secs_f64()),
        progress_seconds: all.time("progress")?.map(|time| time.as_secs_f64()),
        assume_in_force: all.has("assume_in_force"),
        assume_complete: all.has("assume_complete"),
        plan: all.value("plan")?,
        end_id: all.value("end")?,
    })
}
