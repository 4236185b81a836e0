//! Settings of a node without a cluster, an SFU or a webhook, from which tests depart.

use std::time::Duration;

use soramode_core::settings::{Settings, SfuMeans, SfuSettings};
use soramode_protocol::node::{Storage, StorageState};

pub(crate) fn plain_settings() -> Settings {
    Settings {
        node_name: "node-01".parse().unwrap(),
        cluster: None,
        mode: None,
        reconnect_grace: Duration::ZERO,
        stall_after: Duration::from_mins(10),
        max_connections: 100,
        pending_timeout: Duration::from_secs(30),
        socket_grace: Duration::from_secs(30),
        assume_complete: true,
        sfu: SfuSettings {
            means: SfuMeans::SORA_API,
            ..SfuSettings::default()
        },
        storage: Storage {
            state: StorageState::Ok,
            path: None,
        },
        receivers: Vec::new(),
    }
}
