//! The node that the flags and variables select: a socket on this machine, another host, or a server of the HTTP API.

use std::path::PathBuf;

use crate::api::Api;
use crate::commands::Command;
use crate::endpoint::Endpoint;
use crate::error::{Exit, Failure};
use crate::flags::Global;
use crate::fleet::hosts::{self, HostWord};
use crate::output::relay;
use crate::ssh::{Asks, SshHost};

/// The variable with the default of `-H`.
const HOST_VARIABLE: &str = "SORAMODE_HOST";

/// The selected node, or several.
pub(crate) enum Target {
    Node(NodeTarget),
    /// Hosts for a verb that works on several.
    Hosts(Vec<Endpoint>),
}

/// The selected node.
pub(crate) enum NodeTarget {
    Endpoint(Endpoint),
    Api(Box<Api>),
}

impl Target {
    fn local(socket: Option<PathBuf>) -> Self {
        Self::Node(NodeTarget::Endpoint(Endpoint::local(socket)))
    }
}

/// Returns the node for a verb. Flags win over variables.
pub(crate) fn find(global: &Global, command: &Command) -> Result<Target, Failure> {
    let socket = global.socket.clone();
    let usage = |message: &str| Failure::new(Exit::Usage, message);
    if command.is_local() {
        if !global.hosts.is_empty() {
            let message = format!("{} works on this machine alone, without -H", command.name());
            return Err(usage(&message));
        }
        return Ok(Target::local(socket));
    }
    if !global.hosts.is_empty() {
        if global.api.api_url.is_some() {
            return Err(usage("-H and --api-url cannot be used together"));
        }
        return over_ssh(&global.hosts, global, command);
    }
    let variable = std::env::var(HOST_VARIABLE)
        .ok()
        .filter(|host| !host.is_empty() && socket.is_none() && global.api.api_url.is_none());
    let Some(typed) = variable else {
        return Ok(match global.api.node(socket.as_ref())? {
            Some(api) => Target::Node(NodeTarget::Api(Box::new(api))),
            None => Target::local(socket),
        });
    };
    if global.api.is_set() {
        return Err(usage("SORAMODE_HOST and SORAMODE_API_URL are both set")
            .with_hint("Unset one, or use a flag"));
    }
    let words: Result<Vec<HostWord>, String> = typed.split(',').map(str::parse).collect();
    let words = words.map_err(|problem| usage(&format!("{HOST_VARIABLE}: {typed:?} {problem}")))?;
    if command.changes_node() && !global.output.quiet {
        relay(&format!("on {typed} ({HOST_VARIABLE})"));
    }
    over_ssh(&words, global, command)
}

fn over_ssh(words: &[HostWord], global: &Global, command: &Command) -> Result<Target, Failure> {
    let found = hosts::resolve(words)?;
    let asks = match found.len() {
        0 => return Err(Failure::new(Exit::Usage, "the fleet has no hosts")),
        1 if std::io::IsTerminal::is_terminal(&std::io::stdin()) => Asks::Terminal,
        1 => Asks::Nothing,
        _ => Asks::NothingOfSeveral,
    };
    let endpoint = |it: hosts::FleetHost| {
        let host = SshHost::new(it.host, it.remote, global.socket.clone(), asks);
        Endpoint::Ssh(host)
    };
    let mut endpoints: Vec<Endpoint> = found.into_iter().map(endpoint).collect();
    if matches!(command, Command::RollHosts(_)) {
        return Ok(Target::Hosts(endpoints));
    }
    match endpoints.pop() {
        Some(one) if endpoints.is_empty() => Ok(Target::Node(NodeTarget::Endpoint(one))),
        last => {
            endpoints.extend(last);
            Ok(Target::Hosts(endpoints))
        }
    }
}
