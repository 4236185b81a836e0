//! State that the daemon starts from: stored on the disk, or none. If in doubt, the node starts
//! closed.

use std::sync::Arc;

use soramode_core::commit_failure::Refused;
use soramode_core::input::{HostState, Input};
use soramode_core::stored::Stored;
use soramode_protocol::id::LogId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::{Storage, StorageState};

use crate::config::Config;
use crate::event_log::EventLog;
use crate::store::Store;
use crate::store::open::{self, AlreadyLocked, OpenError, OpenOptions, Opened};

/// State that a start begins with: the parts that hold it, and the first inputs of the gate.
#[derive(Debug)]
pub(crate) struct StartState {
    pub(crate) store: Store,
    pub(crate) event_log: Arc<EventLog>,
    pub(crate) stored: Stored,
    pub(crate) storage: Storage,
    pub(crate) inputs: Vec<Input>,
    /// Problem of a stored state that cannot be used: then the node starts closed, and with an
    /// incomplete session list.
    pub(crate) warning: Option<String>,
}

impl StartState {
    /// Opens the stored state. `new_log_id` is for a log that begins now.
    pub(crate) fn open(config: &Config, new_log_id: LogId) -> Result<Self, AlreadyLocked> {
        let Some(folder) = &config.state_dir else {
            return Ok(Self::in_memory(config, new_log_id));
        };
        let path = Some(open::database(folder).display().to_string());
        let boot_id = open::boot_id();
        let options = OpenOptions {
            keep_events: config.keep_events,
            log_id: &new_log_id,
            boot_id: boot_id.as_deref(),
        };
        let opened = open::open(folder, options).inspect(|opened| log_start(opened, config));
        match opened {
            Ok(Opened {
                disk,
                archive,
                stored,
                log_id,
                host,
            }) => Ok(Self {
                store: Store::Disk(disk),
                event_log: Arc::new(EventLog::resumed(log_id, stored.next_seq, archive)),
                stored,
                storage: Storage {
                    state: StorageState::Ok,
                    path,
                },
                inputs: vec![Input::Started(host)],
                warning: None,
            }),
            Err(OpenError::AlreadyLocked(held)) => Err(held),
            Err(OpenError::Unusable(unusable)) => {
                let warning = format!(
                    "{unusable}. The node is closed and keeps its state in memory only. {}",
                    open::remedy(&unusable)
                );
                tracing::error!("{warning}");
                let storage = Storage {
                    state: StorageState::Failed,
                    path,
                };
                let inputs = vec![
                    Input::Started(HostState::Running),
                    Input::StorageFailed(Refused::default()),
                ];
                Ok(Self {
                    storage,
                    inputs,
                    warning: Some(warning),
                    ..Self::in_memory(config, new_log_id)
                })
            }
        }
    }

    fn in_memory(config: &Config, log_id: LogId) -> Self {
        Self {
            store: Store::Memory,
            event_log: Arc::new(EventLog::new(log_id, config.keep_events)),
            stored: Stored::default(),
            storage: Storage {
                state: StorageState::Memory,
                path: None,
            },
            inputs: vec![Input::Started(HostState::Running)],
            warning: None,
        }
    }
}

/// Returns whether the node closed itself because its state could not be written. One that an operator had closed before is as the operator closed it.
fn has_closed_itself(stored: &Stored) -> bool {
    let mode = stored.mode.as_ref().map(|state| state.mode);
    stored.closed_by_storage && mode != Some(Mode::BlockNewConnection)
}

/// Logs the state that was found.
fn log_start(opened: &Opened, config: &Config) {
    let Opened { stored, host, .. } = opened;
    let (sessions, connections) = (stored.sessions.len(), stored.connections.len());
    if let Some(state) = &stored.mode {
        tracing::info!(mode = %state.mode, sessions, connections, events = stored.next_seq - 1, "state restored");
    }
    if has_closed_itself(stored) && config.mode.is_none() {
        tracing::warn!(
            "the node closed itself because its state could not be written, and stays closed. To open it, run: soramode set normal"
        );
    }
    if *host == HostState::Rebooted && connections > 0 {
        tracing::warn!(
            sessions,
            connections,
            "the machine was rebooted: all connections are removed"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use soramode_protocol::mode::ModeState;

    use super::*;

    #[test]
    fn a_node_that_an_operator_had_closed_has_not_closed_itself() {
        let stored = |mode: Option<Mode>, closed_by_storage| {
            Stored {
            mode: mode.map(|mode| {
                let state = json!({"mode": mode, "generation": 1, "since": "2026-01-01T00:00:00Z", "actor": "uid:0(root)"});
                serde_json::from_value::<ModeState>(state).unwrap()
            }),
            closed_by_storage,
            ..Stored::default()
        }
        };
        for mode in [None, Some(Mode::Normal), Some(Mode::BlockNewSession)] {
            assert!(has_closed_itself(&stored(mode, true)));
            assert!(!has_closed_itself(&stored(mode, false)));
        }
        assert!(!has_closed_itself(&stored(
            Some(Mode::BlockNewConnection),
            true
        )));
    }
}
