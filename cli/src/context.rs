//! The context of a command: its node and its output.

use std::path::Path;

use soramode_protocol::node::GetStatus;

use crate::api::{Api, Want};
use crate::daemon::Socket;
use crate::error::Failure;
use crate::output::Output;
use crate::seen::Seen;

/// What a command works with.
pub(crate) struct Context<'a> {
    /// Where the daemon is.
    pub(crate) socket: &'a Socket,
    /// A node that is asked over Sora's API instead.
    pub(crate) api: Option<&'a Api>,
    /// The file that has the token for it, and for any other node's API.
    pub(crate) token_file: Option<&'a Path>,
    /// The token may be sent in the clear to a URL that the cluster's etcd names.
    pub(crate) token_in_clear: bool,
    /// Where the answer goes.
    pub(crate) output: Output,
}

impl Context<'_> {
    /// The node that this command asks, with its sessions.
    pub(crate) async fn see(&self) -> Result<Seen, Failure> {
        match self.api {
            Some(api) => api.see(Want::Counts).await,
            None => self
                .socket
                .connect()
                .await?
                .call(&GetStatus {})
                .await
                .map(|status| Seen::Daemon(Box::new(status))),
        }
    }

    /// This command as it is typed for whoever is asked here.
    pub(crate) fn command(&self, words: &str) -> String {
        self.api
            .map_or_else(|| self.socket.command(words), |api| api.command(words))
    }

    /// The flags that say whom this command asks, but for the token's file.
    pub(crate) fn flags(&self) -> String {
        self.api.map_or_else(|| self.socket.flags(), Api::flags)
    }
}
