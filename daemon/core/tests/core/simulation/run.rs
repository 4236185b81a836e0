//! One run: the same inputs to the core and to the model, and everything compared after each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use soramode_core::effect::{Action, Effects, Record};
use soramode_core::gate::Gate;
use soramode_core::handles::{ReplyHandle, SocketId, Timestamp};
use soramode_core::input::{HostState, Input};
use soramode_core::restore::{Seed, StartParams};
use soramode_core::settings::Settings;
use soramode_core::stored::Stored;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::id::EventId;
use soramode_protocol::mode::ModeState;
use soramode_protocol::node::Status;
use soramode_protocol::reply::Reply;
use soramode_protocol::request::GateRequest;
use soramode_protocol::session::{
    Connection, GetSession, ListConnections, ListRequest, ListSessions, Page, Session,
};
use soramode_testkit::record_store::RecordStore;

use super::etcd::{Driven, without_claims, without_token};
use super::inputs::{START, Transition};
use super::invariants;
use super::model::Model;
use super::replay::Replay;
use crate::show::{Detail, Show};

/// Asks on nobody's behalf, to look at the tables.
const OBSERVER: ReplyHandle = ReplyHandle {
    socket: SocketId(u64::MAX - 1),
    serial: 0,
};

/// The core's tables, as it lists them.
#[derive(Clone, PartialEq)]
pub(super) struct Tables {
    pub(super) status: Status,
    pub(super) sessions: Vec<Session>,
    pub(super) connections: Vec<Connection>,
}

pub(super) struct Run {
    driven: Driven,
    model: Model,
    replay: Replay,
    /// Records, as a store keeps them.
    record_store: RecordStore,
    /// Another one at each start.
    seed: u8,
    /// Time of the last step: at a later one, a look would do what is due.
    stepped: Timestamp,
    tables: Tables,
    of_core: Show,
    of_model: Show,
}

impl Run {
    pub(super) fn new(params: &StartParams, seed: u8) -> Self {
        let gate = Gate::restore(params.clone(), Seed([seed; 32]));
        let mut driven = Driven::new(gate, &params.settings);
        let tables = look(&mut driven.gate, params.started);
        let model = Model::start(params.clone());
        let replay = Replay::new(params.stored.next_seq, model.mode.clone());
        let mut record_store = RecordStore::new(params.stored.clone());
        let input = Input::Started(HostState::Running);
        for record in driven.step(params.started, input).records {
            record_store.read(&record);
        }
        let (of_core, of_model) = (
            Show::new(START, Detail::ByType),
            Show::new(START, Detail::ByType),
        );
        Self {
            driven,
            model,
            replay,
            record_store,
            seed,
            stepped: params.started,
            tables,
            of_core,
            of_model,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.driven.gate.next_deadline()
    }

    /// One thing that happens; what the core did, or where it parts from the model or from what must always be so.
    pub(super) fn apply(
        &mut self,
        now: Timestamp,
        transition: &Transition,
    ) -> Result<Vec<String>, String> {
        caught(|| match transition {
            Transition::Input(_) | Transition::Heartbeat | Transition::SessionsEnded => {
                self.step(now, transition)
            }
            Transition::Restart {
                settings,
                host,
                closed_by_storage,
            } => self.restart(now, settings, *host, *closed_by_storage),
        })
    }

    fn restart(
        &mut self,
        now: Timestamp,
        settings: &Settings,
        host: HostState,
        closed_by_storage: bool,
    ) -> Result<Vec<String>, String> {
        let stored = self.record_store.stored();
        // Two starts from the same state begin with the same.
        if RecordStore::new(stored.clone()).stored() != stored {
            return Err(format!(
                "what was stored is read as something else: {stored:?}"
            ));
        }
        let expires_at_boot = stored
            .expires_at_boot
            .filter(|_| host == HostState::Running);
        let params = StartParams {
            settings: settings.clone(),
            started: now,
            stored: Stored {
                expires_at_boot,
                closed_by_storage,
                ..stored
            },
        };
        self.seed += 1;
        self.driven
            .restart(Gate::restore(params, Seed([self.seed; 32])));
        self.driven.gate.check()?;
        self.model.restart(settings, now, host, closed_by_storage);
        self.replay.set_mode(self.model.mode.clone());
        self.step(now, &Transition::Input(Input::Started(host)))
    }

    fn step(&mut self, now: Timestamp, transition: &Transition) -> Result<Vec<String>, String> {
        let gate = &self.driven.gate;
        let is_late = gate
            .next_deadline()
            .is_some_and(|deadline| deadline <= now.boot);
        let Some(effects) = self.driven.apply(now, transition) else {
            return Ok(Vec::new());
        };
        self.stepped = now;
        let expected = self.model.step(now, transition);
        self.compare_effects(now, &effects, &expected)?;
        self.driven.gate.check()?;
        for record in &effects.records {
            self.replay.read(record)?;
            self.record_store.read(record);
        }
        let before = std::mem::replace(&mut self.tables, look(&mut self.driven.gate, now));
        self.compare_tables()?;
        let Tables {
            status,
            sessions,
            connections,
        } = &self.tables;
        // The shown expiry goes by the present clock.
        let mode = ModeState {
            expires_at: self.model.mode.expires_at,
            ..status.mode.clone()
        };
        self.replay.check(&mode, sessions, connections)?;
        invariants::check(&invariants::Step {
            before: &before,
            after: &self.tables,
            transition,
            effects: &effects,
            is_late,
        })?;
        Ok(shown(&mut self.of_core, &effects))
    }

    /// Checks that every list is the same in pages of one row as it is whole.
    pub(super) fn pages_agree(&mut self) -> Result<(), String> {
        caught(|| self.compare_pages())
    }

    fn compare_pages(&mut self) -> Result<(), String> {
        let now = self.stepped;
        let mut lists = vec![
            ListRequest::Sessions(ListSessions::default()),
            ListRequest::Connections(ListConnections::default()),
        ];
        for session in &self.tables.sessions {
            let channel_id = session.channel_id.clone();
            lists.push(ListRequest::Connections(ListConnections {
                channel_id: Some(channel_id.clone()),
                ..ListConnections::default()
            }));
            lists.push(ListRequest::Session(GetSession {
                channel_id,
                limit: None,
                cursor: None,
            }));
        }
        for list in lists {
            let whole = rows(&page(&mut self.driven.gate, now, list.slice(1_000, None)));
            let (mut paged, mut next) = (Vec::new(), Some(list.slice(1, None)));
            while let Some(slice) = next {
                let page = page(&mut self.driven.gate, now, slice);
                paged.extend(rows(&page));
                next = page.cursor().map(|cursor| list.slice(1, Some(cursor)));
            }
            if whole != paged {
                return Err(format!("pages part: {whole:?}\n    {paged:?}"));
            }
        }
        Ok(())
    }

    fn compare_effects(
        &mut self,
        now: Timestamp,
        effects: &Effects,
        (events, actions): &(Vec<EventKind>, Vec<Action>),
    ) -> Result<(), String> {
        let odd = effects
            .events()
            .find(|event| event.timestamp != now.wall || event.node_name.as_str() != "node-01");
        if let Some(odd) = odd {
            return Err(format!("an event of another time or place: {odd:?}"));
        }
        let of_core: Vec<String> = effects
            .kinds()
            .map(|kind| {
                self.of_core
                    .event(&dated(&without_token(kind.clone()), now))
            })
            .collect();
        let of_model: Vec<String> = events
            .iter()
            .map(|kind| self.of_model.event(&dated(kind, now)))
            .collect();
        compare("events", of_core, of_model)?;
        let of_core = effects
            .actions
            .iter()
            .flat_map(|action| self.of_core.act(&without_claims(action.clone()), name))
            .collect();
        let of_model = actions
            .iter()
            .flat_map(|action| self.of_model.act(action, name))
            .collect();
        compare("answers", of_core, of_model)
    }

    fn compare_tables(&mut self) -> Result<(), String> {
        let Tables {
            status,
            sessions,
            connections,
        } = &self.tables;
        let (mut of_core, mut of_model) = (status.clone(), self.model.status());
        (of_core.uptime_seconds, of_model.uptime_seconds) = (0, 0);
        of_core.cluster = None;
        if self
            .driven
            .gate
            .next_deadline()
            .is_some_and(|at| at <= self.model.now.boot)
        {
            // It was looked at by an earlier clock.
            of_core.mode.expires_at = of_model.mode.expires_at;
        }
        compare(
            "status",
            vec![self.of_core.status(&of_core)],
            vec![self.of_model.status(&of_model)],
        )?;
        let of_core = sessions
            .iter()
            .map(|session| self.of_core.session(session))
            .collect();
        let of_model = self
            .model
            .sessions
            .iter()
            .map(|session| self.of_model.session(&self.model.shown(session)))
            .collect();
        compare("sessions", of_core, of_model)?;
        let of_core = connections
            .iter()
            .map(|connection| self.of_core.connection(connection))
            .collect();
        let of_model = self.model.connections.iter().map(|it| {
            let session = self.model.session_of(it);
            self.of_model.connection(&Connection {
                connection_id: it.id.clone(),
                channel_id: session.channel_id.clone(),
                session_id: session.session_id.clone(),
                client_id: it.client_id.clone(),
                state: Model::state(it),
                created_at: it.created_at,
            })
        });
        compare("connections", of_core, of_model.collect())
    }
}

/// Runs a part of a test. A panic is a problem as others are, so that its seed is printed.
fn caught<T>(part: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let caught = catch_unwind(AssertUnwindSafe(part));
    caught.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        Err(message
            .or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()))
            .unwrap_or_else(|| "a panic".to_owned()))
    })
}

fn name(socket: SocketId) -> String {
    socket.0.to_string()
}

fn dated(kind: &EventKind, now: Timestamp) -> Event {
    let node_name = std::sync::Arc::new("node-01".parse().unwrap());
    Event {
        seq: 0,
        id: EventId::generate([0; 16]),
        kind: kind.clone(),
        timestamp: now.wall,
        node_name,
    }
}

/// The order within a step is the invariants' to check: of what comes at the same moment, either may come first.
fn compare(what: &str, mut core: Vec<String>, mut model: Vec<String>) -> Result<(), String> {
    core.sort();
    model.sort();
    if core == model {
        Ok(())
    } else {
        Err(format!(
            "{what} part:\n    core:  {}\n    model: {}",
            core.join("\n           "),
            model.join("\n           ")
        ))
    }
}

/// Shows the effects of a step of the core, without ids of its own making.
pub(super) fn shown(show: &mut Show, effects: &Effects) -> Vec<String> {
    let records = effects
        .records
        .iter()
        .map(|record| show.record(record))
        .collect::<Vec<String>>();
    let actions = effects
        .actions
        .iter()
        .flat_map(|action| show.act(action, name))
        .collect::<Vec<String>>();
    records.into_iter().chain(actions).collect()
}

pub(super) fn look(gate: &mut Gate, now: Timestamp) -> Tables {
    let limit = Some(1_000);
    let status = ask(gate, now, GateRequest::GetStatus);
    let sessions = page(
        gate,
        now,
        ListRequest::Sessions(ListSessions {
            limit,
            ..ListSessions::default()
        }),
    );
    let connections = page(
        gate,
        now,
        ListRequest::Connections(ListConnections {
            limit,
            ..ListConnections::default()
        }),
    );
    match (status, sessions, connections) {
        (Reply::Status(status), Page::Sessions(sessions), Page::Connections(connections)) => {
            Tables {
                status: *status,
                sessions: sessions.sessions,
                connections: connections.connections,
            }
        }
        other => panic!("looks are answered by {other:?}"),
    }
}

/// Each row of a page, and what the page says of all of them.
fn rows(page: &Page) -> Vec<String> {
    match page {
        Page::Sessions(page) => page.sessions.iter().map(|row| format!("{row:?}")).collect(),
        Page::Session(page) => page
            .connections
            .iter()
            .map(|row| format!("{row:?} of {:?}", page.session))
            .collect(),
        Page::Connections(page) => page
            .connections
            .iter()
            .map(|row| format!("{row:?}"))
            .collect(),
    }
}

fn page(gate: &mut Gate, now: Timestamp, list: ListRequest) -> Page {
    let reply = ask(gate, now, GateRequest::List(list));
    let Reply::Page(page) = reply else {
        panic!("a list is answered by {reply:?}")
    };
    page
}

/// Just before the next deadline, so that a look fires none.
fn ask(gate: &mut Gate, now: Timestamp, request: GateRequest) -> Reply {
    let before = gate
        .next_deadline()
        .map(|at| at.saturating_sub(Duration::from_nanos(1)));
    let now = Timestamp {
        boot: before.map_or(now.boot, |before| before.min(now.boot)),
        ..now
    };
    let Effects {
        records,
        mut actions,
    } = gate.step(
        now,
        Input::Request {
            reply_to: OBSERVER,
            actor: "observer".into(),
            request,
        },
    );
    assert_eq!(records, Vec::<Record>::new(), "a look changes something");
    match actions.pop() {
        Some(Action::Answer(OBSERVER, Ok(reply))) if actions.is_empty() => reply,
        other => panic!("a look is answered by {other:?} after {actions:?}"),
    }
}

/// The mode after a change, of a step's events.
pub(super) fn mode_after(before: &ModeState, effects: &Effects) -> soramode_protocol::mode::Mode {
    let changed = effects.kinds().filter_map(|kind| {
        if let EventKind::ModeChanged(change) = kind {
            Some(change.mode)
        } else {
            None
        }
    });
    changed.last().unwrap_or(before.mode)
}
