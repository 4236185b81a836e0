//! Connects to the hosts at the start of a roll, and reads their facts.

use std::ffi::OsString;

use soramode_protocol::node::{GetInfo, GetStatus};
use soramode_protocol::session::ListSessions;
use soramode_protocol::time::Time;
use soramode_roll::{HostFacts, HostIndex, Stop};

use super::stop::stop_of;
use crate::endpoint::Endpoint;
use crate::error::Failure;

/// A host as it was found at the start.
pub(super) struct HostAtStart {
    pub(super) facts: HostFacts,
    pub(super) node_name: String,
    /// The begin of its oldest session.
    pub(super) oldest: Option<Time>,
}

/// A host that was connected to, or not.
pub(super) type Connected = Result<HostAtStart, Failure>;

/// Reads the facts of a host.
pub(super) async fn connect(endpoint: &Endpoint) -> Connected {
    let mut daemon = endpoint.connect().await?;
    let (info, status) = daemon.call_both(&GetInfo {}, &GetStatus {}).await?;
    let first = ListSessions {
        limit: Some(1),
        ..ListSessions::default()
    };
    let oldest = daemon.call(&first).await?.sessions;
    let facts = HostFacts {
        log_id: info.log_id,
        access: info.access,
        can_reserve: info.methods.iter().any(|method| method == "Reserve"),
        cannot_work: None,
        status: Box::new(status),
    };
    Ok(HostAtStart {
        facts,
        node_name: info.node_name.to_string(),
        oldest: oldest.first().map(|session| session.created_at),
    })
}

/// Finds the reason why a command cannot be run on a host. Later connections to it ask for nothing, and neither does this one.
pub(super) async fn find_obstacle(
    number: HostIndex,
    endpoint: &Endpoint,
    command: &[OsString],
) -> Option<Stop> {
    let host = endpoint.host()?.clone().without_prompts();
    let failure = host.check_exec(command).await.err()?;
    Some(stop_of(number, &failure))
}
