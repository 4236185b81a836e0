//! How the way to a node over Sora's API is said.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::path::PathBuf;

use soramode_protocol::http_client::{Url, read_url};

use super::{Api, Named};
use crate::error::{Exit, Failure};

/// The variable that stands for `--api-url`.
const VARIABLE: &str = "SORAMODE_API_URL";

/// How `--api-url` and its companions are said.
#[derive(Debug, clap::Args)]
pub(crate) struct ApiFlags {
    /// Ask a server that speaks Sora's HTTP API (http://127.0.0.1:3000) instead of soramoded's socket: with get, set, is, sessions,
    /// connections, nodes, drain and wait; else $SORAMODE_API_URL
    #[arg(long, value_name = "URL", global = true, conflicts_with = "socket", value_parser = read_api_url, value_hint = clap::ValueHint::Url)]
    pub(crate) api_url: Option<Url>,
    /// The file that has the token for it
    #[arg(long, value_name = "PATH", global = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) api_token_file: Option<PathBuf>,
    /// Send the token also over http: to a node on another host, whose URL the cluster's etcd names (--node, connect --follow)
    #[arg(long, global = true, requires = "api_token_file")]
    pub(crate) token_in_clear: bool,
}

impl ApiFlags {
    /// The node that these name, if any does; `--socket` weighs more than the variable.
    pub(crate) fn node(&self, socket: Option<&PathBuf>) -> Result<Option<Api>, Failure> {
        let token_file = self.api_token_file.as_deref();
        if let Some(url) = &self.api_url {
            return Api::new(url.clone(), Named::Flag, token_file).map(Some);
        }
        let variable = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty() && socket.is_none());
        let Some(text) = variable else { return Ok(None) };
        let url = read_api_url(&text).map_err(|problem| Failure::new(Exit::Usage, format!("{VARIABLE}: {problem}")))?;
        Api::new(url, Named::Variable, token_file).map(Some)
    }
}

fn read_api_url(text: &str) -> Result<Url, String> {
    read_url(text).map_err(|problem| problem.to_string())
}
