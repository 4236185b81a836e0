//! Precedence of settings: flags before variables before the file.

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::settings::Settings;
use super::values::first_non_empty;

/// Error: `--assume-complete` and `--assume-incomplete` contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("assume-complete and assume-incomplete exclude each other")]
pub struct Conflict;

impl Settings {
    /// Takes settings that are not given here from `weaker`.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        // The two flags are one setting: either of them counts as given.
        let sessions = if (self.assume_complete, self.assume_incomplete) == (None, None) {
            &weaker
        } else {
            &self
        };
        let (assume_complete, assume_incomplete) =
            (sessions.assume_complete, sessions.assume_incomplete);
        Self {
            socket: self.socket.or(weaker.socket),
            socket_mode: self.socket_mode.or(weaker.socket_mode),
            operator_group: self.operator_group.or(weaker.operator_group),
            state_dir: self.state_dir.or(weaker.state_dir),
            ephemeral: self.ephemeral.or(weaker.ephemeral),
            mode: self.mode.or(weaker.mode),
            node_name: self.node_name.or(weaker.node_name),
            reconnect_grace: self.reconnect_grace.or(weaker.reconnect_grace),
            stall_after: self.stall_after.or(weaker.stall_after),
            max_connections: self.max_connections.or(weaker.max_connections),
            keep_events: self.keep_events.or(weaker.keep_events),
            socket_grace: self.socket_grace.or(weaker.socket_grace),
            assume_complete,
            assume_incomplete,
            api_listen: first_non_empty(self.api_listen, weaker.api_listen),
            sora_listen: self.sora_listen.or(weaker.sora_listen),
            observe_listen: self.observe_listen.or(weaker.observe_listen),
            peer: first_non_empty(self.peer, weaker.peer),
            no_status_page: self.no_status_page.or(weaker.no_status_page),
            cors_origin: first_non_empty(self.cors_origin, weaker.cors_origin),
            http_host: first_non_empty(self.http_host, weaker.http_host),
            http_token_file: self.http_token_file.or(weaker.http_token_file),
            sora_token_file: self.sora_token_file.or(weaker.sora_token_file),
            sora_peer: first_non_empty(self.sora_peer, weaker.sora_peer),
            sora_api: self.sora_api.or(weaker.sora_api),
            sora_mode: self.sora_mode.or(weaker.sora_mode),
            shadow: self.shadow.or(weaker.shadow),
            pending_timeout: self.pending_timeout.or(weaker.pending_timeout),
            session_max_linger: self.session_max_linger.or(weaker.session_max_linger),
            auth_upstream: self.auth_upstream.or(weaker.auth_upstream),
            session_upstream: self.session_upstream.or(weaker.session_upstream),
            event_upstream: self.event_upstream.or(weaker.event_upstream),
            upstream_timeout: self.upstream_timeout.or(weaker.upstream_timeout),
            janus_admin: self.janus_admin.or(weaker.janus_admin),
            janus_way: self.janus_way.or(weaker.janus_way),
            janus_admin_secret_file: self
                .janus_admin_secret_file
                .or(weaker.janus_admin_secret_file),
            janus_admin_key_file: self.janus_admin_key_file.or(weaker.janus_admin_key_file),
            janus_listen: self.janus_listen.or(weaker.janus_listen),
            janus_room_secrets_file: self
                .janus_room_secrets_file
                .or(weaker.janus_room_secrets_file),
            janus_end: self.janus_end.or(weaker.janus_end),
            janus_refuse_sessions: self.janus_refuse_sessions.or(weaker.janus_refuse_sessions),
            webhook: first_non_empty(self.webhook, weaker.webhook),
            webhook_format: first_non_empty(self.webhook_format, weaker.webhook_format),
            page_url: self.page_url.or(weaker.page_url),
            webhook_events: first_non_empty(self.webhook_events, weaker.webhook_events),
            webhook_secret_file: self.webhook_secret_file.or(weaker.webhook_secret_file),
            ca_file: self.ca_file.or(weaker.ca_file),
            label: self.label.or(weaker.label),
            shutdown_grace: self.shutdown_grace.or(weaker.shutdown_grace),
            cluster: first_non_empty(self.cluster, weaker.cluster),
            cluster_name: self.cluster_name.or(weaker.cluster_name),
            cluster_ttl: self.cluster_ttl.or(weaker.cluster_ttl),
            cluster_heartbeat: self.cluster_heartbeat.or(weaker.cluster_heartbeat),
            isolated_after: self.isolated_after.or(weaker.isolated_after),
            fence_after: self.fence_after.or(weaker.fence_after),
            fence_budget: self.fence_budget.or(weaker.fence_budget),
            on_fence: self.on_fence.or(weaker.on_fence),
            dead_man: self.dead_man.or(weaker.dead_man),
            signaling_url: self.signaling_url.or(weaker.signaling_url),
            api_url: self.api_url.or(weaker.api_url),
            cluster_ca_file: self.cluster_ca_file.or(weaker.cluster_ca_file),
            cluster_cert_file: self.cluster_cert_file.or(weaker.cluster_cert_file),
            cluster_key_file: self.cluster_key_file.or(weaker.cluster_key_file),
            cluster_user: self.cluster_user.or(weaker.cluster_user),
            cluster_password_file: self.cluster_password_file.or(weaker.cluster_password_file),
            log_format: self.log_format.or(weaker.log_format),
            log_level: self.log_level.or(weaker.log_level),
        }
    }

    /// Returns the combined value of the two flags, if given.
    pub fn assume_complete(&self) -> Result<Option<bool>, Conflict> {
        match (self.assume_complete, self.assume_incomplete) {
            (Some(known), Some(unknown)) if known == unknown => Err(Conflict),
            (Some(known), _) => Ok(Some(known)),
            (None, unknown) => Ok(unknown.map(|unknown| !unknown)),
        }
    }

    /// Ignores variables that contradict the command line.
    pub(super) fn prefer_command_line(&mut self, matches: &ArgMatches) {
        let source = |id| matches.value_source(id);
        match (source("assume_complete"), source("assume_incomplete")) {
            (Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable)) => {
                self.assume_incomplete = None;
            }
            (Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine)) => {
                self.assume_complete = None;
            }
            _ => {}
        }
    }
}
