//! Flags that select a node by its HTTP API.

#![expect(clippy::doc_markdown, reason = "what clap shows as help is plain text")]

use std::path::PathBuf;

use soramode_protocol::http_client::{Url, read_url};

use crate::api::{Api, ApiSource};
use crate::error::{Exit, Failure};

/// Variable with the default of `--api-url`.
const VARIABLE: &str = "SORAMODE_API_URL";

/// `--api-url` and the flags that belong to it.
#[derive(Debug, clap::Args)]
pub(crate) struct ApiFlags {
    /// Use the HTTP API at this URL, not the socket
    ///
    /// A soramoded (--api-listen) or a Sora, such as http://127.0.0.1:3000. Default: $SORAMODE_API_URL. Works with get, set, open, close, drain,
    /// wait, is, sessions, connections and nodes; with a soramoded also with status.
    #[arg(long, value_name = "URL", global = true, conflicts_with = "socket", value_parser = read_api_url, value_hint = clap::ValueHint::Url)]
    pub(crate) api_url: Option<Url>,
    /// Read the API's token from this file
    #[arg(long, value_name = "PATH", global = true, value_hint = clap::ValueHint::FilePath)]
    pub(crate) api_token_file: Option<PathBuf>,
    /// Allow sending the token unencrypted
    ///
    /// For --node and connect --follow, which take the URL of another node from etcd: without this flag the token is sent only to https: URLs
    /// and to loopback addresses.
    #[arg(long, global = true, requires = "api_token_file")]
    pub(crate) token_in_clear: bool,
}

impl ApiFlags {
    /// Returns whether the flag or the variable names a URL.
    pub(crate) fn is_set(&self) -> bool {
        self.api_url.is_some() || std::env::var_os(VARIABLE).is_some_and(|url| !url.is_empty())
    }

    /// Returns the node that the flags or the variable name; `--socket` takes precedence over the
    /// variable.
    pub(crate) fn node(&self, socket: Option<&PathBuf>) -> Result<Option<Api>, Failure> {
        let token_file = self.api_token_file.as_deref();
        if let Some(url) = &self.api_url {
            return Api::new(url.clone(), ApiSource::Url, token_file).map(Some);
        }
        let variable = std::env::var(VARIABLE)
            .ok()
            .filter(|url| !url.is_empty() && socket.is_none());
        let Some(text) = variable else {
            return Ok(None);
        };
        let url = read_api_url(&text)
            .map_err(|problem| Failure::new(Exit::Usage, format!("{VARIABLE}: {problem}")))?;
        Api::new(url, ApiSource::Url, token_file).map(Some)
    }
}

fn read_api_url(text: &str) -> Result<Url, String> {
    read_url(text).map_err(|problem| problem.to_string())
}
