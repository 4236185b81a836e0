//! Reload of the configuration: applies what can change at run time, and reports what needs a
//! restart. Every setting is in one of the two groups.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use soramode_core::settings::EventReceiver;
use soramode_protocol::chat::WebhookFormat;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::args::http::HttpUrl;
use crate::config::{
    ApiConfig, Config, HttpConfig, SoraConfig, Upstreams, WebhookConfig, WebhookReceiver,
};
use crate::control::Operators;
use crate::engine::Engine;
use crate::health::Health;
use crate::log;
use crate::notify;
use crate::sfu::sora::webhooks::UpstreamClients;
use crate::socket_file::{self, FileHandle};
use crate::webhook::Receivers;

/// Result of loading the configuration again.
pub type Reading = Result<Box<Config>, String>;

/// Configurations that were read again, for [`serve`](crate::serve).
pub type Reloads = mpsc::Receiver<Reading>;

/// Parts of the daemon that a reload can change.
#[derive(Debug)]
pub(crate) struct Reloadable {
    /// Receivers of events.
    pub(crate) receivers: Receivers,
    /// The application's own webhooks.
    pub(crate) upstream_clients: Arc<UpstreamClients>,
    /// Health of the servers.
    pub(crate) health: Arc<Health>,
    /// Users that may operate.
    pub(crate) operators: watch::Sender<Operators>,
    /// The control socket's file, if it is ours.
    pub(crate) control: Option<FileHandle>,
    /// Files of the API's Unix sockets.
    pub(crate) api: Vec<FileHandle>,
}

/// Task that applies configurations.
#[derive(Debug)]
pub(crate) struct Reloader {
    /// Configuration in effect.
    pub(crate) config: Config,
    /// Path of the control socket.
    pub(crate) socket_path: PathBuf,
    pub(crate) reloadable: Reloadable,
    pub(crate) engine: Engine,
    pub(crate) stop: CancellationToken,
}

/// Outcome of a reload.
#[derive(Debug, Default)]
struct Outcome {
    taken: Vec<&'static str>,
    refused: Vec<String>,
}

impl Outcome {
    fn note(&mut self, names: &[&'static str], outcome: Result<(), impl Display>) {
        match outcome {
            Ok(()) => self.taken.extend(names),
            Err(problem) => self
                .refused
                .push(format!("{}: {problem}", names.join(", "))),
        }
    }
}

impl Reloader {
    /// Applies configurations until the daemon stops.
    pub(crate) async fn run(mut self, mut reloads: Reloads) {
        let stop = self.stop.clone();
        loop {
            let config = tokio::select! {
                config = reloads.recv() => config,
                () = stop.cancelled() => return,
            };
            let config = match config {
                Some(Ok(config)) => config,
                Some(Err(problem)) => {
                    self.report_failure(&problem);
                    continue;
                }
                None => return,
            };
            // The user database may take its time; a stop does not wait for it.
            tokio::select! {
                () = self.apply(*config) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Reports a failed reload until one succeeds, because the next start would fail too.
    fn report_failure(&self, problem: &str) {
        tracing::error!("configuration not reloaded, keeping the current one: {problem}");
        let problem = problem.trim_end();
        self.reloadable.health.note_reading(Some(format!(
            "the configuration file has an error, and soramoded would not start with it: {problem}. Correct it, then run: systemctl reload \
             soramoded"
        )));
        notify::reloaded("serving; configuration not reloaded, see the log");
    }

    async fn apply(&mut self, new: Config) {
        self.reloadable.health.note_reading(None);
        let mut outcome = Outcome::default();
        self.apply_webhooks(&new, &mut outcome);
        self.apply_upstreams(&new, &mut outcome);
        let asks_sora = self.config.http.sora.api.is_some();
        if !asks_sora {
            self.config.authorities = new.authorities.clone();
        }
        self.apply_log_level(&new, &mut outcome);
        self.apply_operators(&new, &mut outcome).await;
        let needs_restart = needs_restart(&self.config, &new);
        for problem in &outcome.refused {
            tracing::error!("setting not applied: {problem}");
        }
        let (taken, waits) = (or_none(&outcome.taken), or_none(&needs_restart));
        tracing::info!("configuration reloaded; applied: {taken}; restart required for: {waits}");
        notify::reloaded(&match needs_restart.as_slice() {
            [] => format!("serving {}", self.socket_path.display()),
            names => format!(
                "serving {}; restart required for: {}",
                self.socket_path.display(),
                names.join(", ")
            ),
        });
    }

    fn apply_webhooks(&mut self, new: &Config, outcome: &mut Outcome) {
        let authorities = new.authorities.clone();
        // Settings that need a restart keep their values.
        let new = WebhookConfig {
            shutdown_grace: self.config.webhooks.shutdown_grace,
            ..new.webhooks.clone()
        };
        let mut changed = webhooks_changed(&self.config.webhooks, &new);
        changed.extend(
            (self.config.authorities != authorities && !new.receivers.is_empty())
                .then_some("ca-file"),
        );
        if changed.is_empty() {
            return;
        }
        match self.reloadable.receivers.reload(&new, authorities) {
            Ok(senders) => {
                let receivers: Vec<EventReceiver> = self.reloadable.receivers.settings(&new);
                self.engine.replace_receivers(receivers, senders);
                self.config.webhooks = new;
                outcome.taken.extend(changed);
            }
            Err(problem) => outcome.note(&changed, Err(problem)),
        }
    }

    fn apply_upstreams(&mut self, new: &Config, outcome: &mut Outcome) {
        let (authorities, are_others) =
            (&new.authorities, self.config.authorities != new.authorities);
        let (old, new) = (
            &mut self.config.http.sora.upstreams,
            &new.http.sora.upstreams,
        );
        let changed = differing([
            ("auth-upstream", old.auth != new.auth),
            ("session-upstream", old.session != new.session),
            ("event-upstream", old.event != new.event),
            ("ca-file", are_others && *new != Upstreams::default()),
        ]);
        if changed.is_empty() {
            return;
        }
        let before = std::mem::replace(old, new.clone());
        let renewed = self
            .reloadable
            .upstream_clients
            .reload(&self.config.http.sora, authorities);
        match &renewed {
            Ok(()) => self.reloadable.health.reload(&self.config.http),
            Err(_) => self.config.http.sora.upstreams = before,
        }
        outcome.note(&changed, renewed);
    }

    fn apply_log_level(&mut self, new: &Config, outcome: &mut Outcome) {
        if self.config.log_level != new.log_level {
            let set = log::set_level(new.log_level);
            if set.is_ok() {
                self.config.log_level = new.log_level;
            }
            outcome.note(&["log-level"], set);
        }
    }

    /// Changes the operator group. Connected clients keep their access.
    async fn apply_operators(&mut self, new: &Config, outcome: &mut Outcome) {
        let group = new.operator_group.clone();
        if self.config.operator_group == group {
            return;
        }
        let before = self.reloadable.operators.borrow().gid();
        // The user database may be a server far away.
        let looked_up = tokio::task::spawn_blocking({
            let group = group.clone();
            move || Operators::look_up(group)
        });
        let admitted = match looked_up.await {
            Ok(Ok(operators)) => {
                self.set_access(operators.gid())
                    .map(|()| operators)
                    .inspect_err(|_| {
                        // Restores the previous access as far as possible.
                        let _ = self.set_access(before);
                    })
            }
            Ok(Err(problem)) => Err(problem.to_string()),
            Err(problem) => Err(problem.to_string()),
        };
        let taken = admitted.map(|operators| {
            if self.reloadable.control.is_none() {
                tracing::warn!(
                    "the control socket comes from systemd, so its group is not changed here: set SocketGroup= in soramoded.socket"
                );
            }
            self.reloadable.operators.send_replace(operators);
            self.config.operator_group = group;
        });
        outcome.note(&["operator-group"], taken);
    }

    fn set_access(&self, gid: Option<u32>) -> Result<(), String> {
        let control = self
            .reloadable
            .control
            .iter()
            .map(|file| (file, self.config.socket_mode));
        let api = self
            .reloadable
            .api
            .iter()
            .map(|file| (file, socket_file::operators_mode(gid)));
        control
            .chain(api)
            .try_for_each(|(file, bits)| file.set_access(gid, bits))
            .map_err(|problem| problem.to_string())
    }
}

fn or_none(names: &[&str]) -> String {
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

fn differing<const N: usize>(settings: [(&'static str, bool); N]) -> Vec<&'static str> {
    settings
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name)
        .collect()
}

fn urls(receivers: &[WebhookReceiver]) -> impl Iterator<Item = &HttpUrl> {
    receivers.iter().map(|receiver| &receiver.url)
}

fn formats(receivers: &[WebhookReceiver]) -> impl Iterator<Item = WebhookFormat> {
    receivers.iter().map(|receiver| receiver.format)
}

fn webhooks_changed(old: &WebhookConfig, new: &WebhookConfig) -> Vec<&'static str> {
    let WebhookConfig {
        receivers,
        types,
        page_url,
        secrets,
        label,
        shutdown_grace: _,
    } = old;
    differing([
        ("webhook", !urls(receivers).eq(urls(&new.receivers))),
        (
            "webhook-format",
            !formats(receivers).eq(formats(&new.receivers)),
        ),
        ("page-url", *page_url != new.page_url),
        ("webhook-events", *types != new.types),
        ("webhook-secret-file", *secrets != new.secrets),
        ("label", *label != new.label),
    ])
}

/// Returns the changed settings that only a start applies. A new setting belongs here or above.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let Config {
        node_name,
        socket,
        socket_mode,
        mode,
        reconnect_grace,
        stall_after,
        max_connections,
        keep_events,
        ..
    } = old;
    let Config {
        socket_grace,
        assume_complete,
        state_dir,
        http,
        webhooks,
        cluster,
        log_format,
        authorities,
        ..
    } = old;
    let Config {
        operator_group: _,
        log_level: _,
        ..
    } = old;
    let own = differing([
        ("node-name", *node_name != new.node_name),
        ("socket", *socket != new.socket),
        ("socket-mode", *socket_mode != new.socket_mode),
        ("mode", *mode != new.mode),
        ("reconnect-grace", *reconnect_grace != new.reconnect_grace),
        ("stall-after", *stall_after != new.stall_after),
        ("max-connections", *max_connections != new.max_connections),
        ("keep-events", *keep_events != new.keep_events),
        ("socket-grace", *socket_grace != new.socket_grace),
        ("assume-complete", *assume_complete != new.assume_complete),
        ("state-dir", *state_dir != new.state_dir),
        ("cluster and what belongs to it", *cluster != new.cluster),
        (
            "shutdown-grace",
            webhooks.shutdown_grace != new.webhooks.shutdown_grace,
        ),
        ("ca-file for sora-api", *authorities != new.authorities),
        ("log-format", *log_format != new.log_format),
    ]);
    own.into_iter()
        .chain(http_needs_restart(http, &new.http))
        .collect()
}

fn http_needs_restart(old: &HttpConfig, new: &HttpConfig) -> Vec<&'static str> {
    let HttpConfig {
        api,
        sora,
        janus,
        observe_listen,
        status_page,
    } = old;
    let ApiConfig {
        listen,
        cors_origins,
        hosts,
        tokens,
    } = api;
    let SoraConfig {
        listen: sora_listen,
        peers,
        tokens: sora_tokens,
        api: sora_api,
        mode,
        admission,
        upstreams: _,
        ..
    } = sora;
    let SoraConfig {
        upstream_timeout,
        pending_timeout,
        session_max_linger,
        ..
    } = sora;
    differing([
        ("api-listen", *listen != new.api.listen),
        ("cors-origin", *cors_origins != new.api.cors_origins),
        ("http-host", *hosts != new.api.hosts),
        ("http-token-file", *tokens != new.api.tokens),
        ("sora-listen", *sora_listen != new.sora.listen),
        ("sora-peer", *peers != new.sora.peers),
        ("sora-token-file", *sora_tokens != new.sora.tokens),
        ("sora-api", *sora_api != new.sora.api),
        ("sora-mode", *mode != new.sora.mode),
        ("shadow", *admission != new.sora.admission),
        (
            "upstream-timeout",
            *upstream_timeout != new.sora.upstream_timeout,
        ),
        (
            "pending-timeout",
            *pending_timeout != new.sora.pending_timeout,
        ),
        (
            "session-max-linger",
            *session_max_linger != new.sora.session_max_linger,
        ),
        ("janus-admin and what belongs to it", *janus != new.janus),
        ("observe-listen", *observe_listen != new.observe_listen),
        ("peer and no-status-page", *status_page != new.status_page),
    ])
}
