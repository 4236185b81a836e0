//! The settings that flags, variables and the file share.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use serde::Deserialize;
use soramode_protocol::chat::WebhookFormat;
use soramode_protocol::event::EventPattern;
use soramode_protocol::id::{NodeName, chosen_if_any};
use soramode_protocol::mode::SettableMode;

use super::cluster::{ClusterName, DeadMan, EtcdUrl, FenceAfter, NodeUrl, OnFence};
use super::http::{CorsOrigin, HostName, HttpUrl, Listen, SoraMode};
use super::janus::{JanusEnd, JanusWay};
use super::log::{LogFormat, LogLevel};
use super::socket_mode::SocketMode;
use super::values::{
    DurationArg, addresses_from_text, from_text, ip_address, janus_address,
    janus_address_from_text, list_from_text, observe_address, observe_address_from_text,
    settable_mode, sora_address, sora_address_from_text, whole_number,
};

/// Settings that flags, variables and the file share. `None` if not given there.
#[expect(
    clippy::doc_markdown,
    reason = "these words are the help, where backticks would be shown"
)]
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Path of the control socket
    ///
    /// $SORAMODE_SOCKET sets it too, for the daemon and for its clients. The default is soramode.sock in $RUNTIME_DIRECTORY, else in
    /// /run/soramode for root, else in $XDG_RUNTIME_DIR/soramode, else in /tmp/soramode-UID.
    #[arg(long, value_name = "PATH", env = "SORAMODED_SOCKET")]
    pub socket: Option<PathBuf>,

    /// Permission bits of the control socket, in octal, from 0600 to 0777 [default: 0660]
    ///
    /// With 0666 every user of this machine can read the status; only root, the daemon's own user and the operator group can change
    /// anything.
    #[arg(long, value_name = "OCTAL", env = "SORAMODED_SOCKET_MODE")]
    #[serde(deserialize_with = "from_text")]
    pub socket_mode: Option<SocketMode>,

    /// Give the control socket to this group (name or number), and let its members change the mode
    ///
    /// A client is a member if its process has the group, or if the user database lists its user in the group.
    #[arg(long, value_name = "GROUP", env = "SORAMODED_OPERATOR_GROUP")]
    pub operator_group: Option<String>,

    /// Keep the state in this folder
    ///
    /// The default is $STATE_DIRECTORY, else /var/lib/soramode for root, else soramode in $XDG_STATE_HOME or in ~/.local/state.
    #[arg(long, value_name = "FOLDER", env = "SORAMODED_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Keep the state in memory only: it is lost when the daemon stops, and --state-dir is not used
    #[arg(long, env = "SORAMODED_EPHEMERAL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub ephemeral: Option<bool>,

    /// Set this mode at every start: normal, block_new_session or block_new_connection [default: the stored mode; at first normal]
    ///
    /// With normal, a restart opens a node that was closed for maintenance.
    #[arg(long, value_name = "MODE", env = "SORAMODED_MODE", value_parser = settable_mode)]
    pub mode: Option<SettableMode>,

    /// Name of this node, 1 to 255 bytes [default: the host name]
    #[arg(long, value_name = "NAME", env = "SORAMODED_NODE_NAME")]
    #[serde(deserialize_with = "chosen_if_any")]
    pub node_name: Option<NodeName>,

    /// Let clients of a closed node rejoin their channel for this long after its last connection has ended, at most 366 days [default: 0s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_RECONNECT_GRACE")]
    #[serde(deserialize_with = "from_text")]
    pub reconnect_grace: Option<DurationArg>,

    /// Report a drain as stalled if no session has ended for this long, 1s to 366 days [default: 10m]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_STALL_AFTER")]
    #[serde(deserialize_with = "from_text")]
    pub stall_after: Option<DurationArg>,

    /// Reject clients above this number of connections, at most 10000000 [default: 1000000]
    #[arg(long, value_name = "COUNT", env = "SORAMODED_MAX_CONNECTIONS", value_parser = whole_number)]
    pub max_connections: Option<u64>,

    /// Number of events to keep for subscribers that connect late or reconnect, at most 10000000 [default: 100000]
    #[arg(long, value_name = "COUNT", env = "SORAMODED_KEEP_EVENTS", value_parser = whole_number)]
    pub keep_events: Option<u64>,

    /// Keep connections of lifetime "socket" for this long after their client's socket has closed, at most 366 days [default: 30s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_SOCKET_GRACE")]
    #[serde(deserialize_with = "from_text")]
    pub socket_grace: Option<DurationArg>,

    /// Assume that the session list is complete at the start, as soramoded starts before the SFU [default: yes; with Sora: no]
    #[arg(long, env = "SORAMODED_ASSUME_COMPLETE")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub assume_complete: Option<bool>,

    /// Assume that the SFU is already running: the node is not drained before a complete Report, which lists every connection
    #[arg(long, env = "SORAMODED_ASSUME_INCOMPLETE")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub assume_incomplete: Option<bool>,

    /// Serve Sora's HTTP API on this ADDRESS:PORT or unix:PATH; can be given several times
    ///
    /// soramoded answers GetMode, ChangeMode, its own targets and POST /v1/ (soramode-protocol(7)); with --sora-api it forwards all other requests to Sora.
    /// `soramode --api-url` uses this listener. Without --http-token-file every user of this machine can change the mode through a loopback address; other addresses require
    /// the file. On a Unix socket only root, the daemon's own user and the operator group can change it, as on the control socket.
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "SORAMODED_API_LISTEN",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub api_listen: Vec<Listen>,

    /// Receive Sora's webhooks on this ADDRESS:PORT: POST /sora/auth, /sora/session and /sora/event
    ///
    /// Without --sora-token-file every user of this machine can impersonate Sora, for example report connections as ended.
    #[arg(long, value_name = "ADDRESS", env = "SORAMODED_SORA_LISTEN", value_parser = sora_address)]
    #[serde(deserialize_with = "sora_address_from_text")]
    pub sora_listen: Option<SocketAddr>,

    /// Serve a status page at /, and /status.json, /live, /ready, /ready/new-session and /metrics, on this ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS", env = "SORAMODED_OBSERVE_LISTEN", value_parser = observe_address)]
    #[serde(deserialize_with = "observe_address_from_text")]
    pub observe_listen: Option<SocketAddr>,

    /// Show this node, such as http://sfu-02:9400, on the status page; can be given several times
    ///
    /// soramoded reads its /status.json, at most every 5 s and only while the page is open.
    #[arg(
        long,
        value_name = "URL",
        env = "SORAMODED_PEER",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub peer: Vec<HttpUrl>,

    /// Do not serve the status page and /status.json, which ask for no token and show the names of channels
    #[arg(long, env = "SORAMODED_NO_STATUS_PAGE")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub no_status_page: Option<bool>,

    /// Allow web pages of this origin, such as http://127.0.0.1:5000, to use the API; can be given several times
    #[arg(
        long,
        value_name = "ORIGIN",
        env = "SORAMODED_CORS_ORIGIN",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub cors_origin: Vec<CorsOrigin>,

    /// Accept this host name or address, without a port, as Host of API requests, besides the loopback's; can be given several times
    #[arg(
        long,
        value_name = "NAME",
        env = "SORAMODED_HTTP_HOST",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub http_host: Vec<HostName>,

    /// Require one of the tokens in this file for API requests; one a line, as TOKEN or NAME TOKEN; file mode 0600
    #[arg(long, value_name = "FILE", env = "SORAMODED_HTTP_TOKEN_FILE")]
    pub http_token_file: Option<PathBuf>,

    /// Require Sora's webhook URLs to end in a token of this file, as http://127.0.0.1:3100/sora/auth/TOKEN; file mode 0600
    #[arg(long, value_name = "FILE", env = "SORAMODED_SORA_TOKEN_FILE")]
    pub sora_token_file: Option<PathBuf>,

    /// Accept Sora's webhooks from this address, besides the loopback; can be given several times
    #[arg(long, value_name = "ADDRESS", env = "SORAMODED_SORA_PEER", value_delimiter = ',', value_parser = ip_address)]
    #[serde(deserialize_with = "addresses_from_text")]
    pub sora_peer: Vec<IpAddr>,

    /// URL of Sora's own API, such as http://127.0.0.1:3001, to poll connections, end sessions and forward other requests
    #[arg(long, value_name = "URL", env = "SORAMODED_SORA_API")]
    #[serde(deserialize_with = "from_text")]
    pub sora_api: Option<HttpUrl>,

    /// Keep the mode in soramoded alone (own), or set Sora's mode as well at each change (mirror) [default: own]
    #[arg(long, value_name = "OWN|MIRROR", env = "SORAMODED_SORA_MODE")]
    pub sora_mode: Option<SoraMode>,

    /// Decide, count and log, but admit every client that Sora asks about: to try soramode with a live Sora
    #[arg(long, env = "SORAMODED_SHADOW")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub shadow: Option<bool>,

    /// Forget a client that Sora asked about if it has not connected within this time, at most 366 days [default: 30s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_PENDING_TIMEOUT")]
    #[serde(deserialize_with = "from_text")]
    pub pending_timeout: Option<DurationArg>,

    /// End a session this long after Sora's API shows it empty, without waiting longer for session.destroyed [default: 60s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_SESSION_MAX_LINGER")]
    #[serde(deserialize_with = "from_text")]
    pub session_max_linger: Option<DurationArg>,

    /// URL of the application's own auth webhook, which can also reject a client
    #[arg(long, value_name = "URL", env = "SORAMODED_AUTH_UPSTREAM")]
    #[serde(deserialize_with = "from_text")]
    pub auth_upstream: Option<HttpUrl>,

    /// Forward Sora's session webhooks to this URL
    #[arg(long, value_name = "URL", env = "SORAMODED_SESSION_UPSTREAM")]
    #[serde(deserialize_with = "from_text")]
    pub session_upstream: Option<HttpUrl>,

    /// Forward Sora's event webhooks to this URL
    #[arg(long, value_name = "URL", env = "SORAMODED_EVENT_UPSTREAM")]
    #[serde(deserialize_with = "from_text")]
    pub event_upstream: Option<HttpUrl>,

    /// Timeout of requests to upstreams and to Sora's API, at most 5m [default: 5s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_UPSTREAM_TIMEOUT")]
    #[serde(deserialize_with = "from_text")]
    pub upstream_timeout: Option<DurationArg>,

    /// URL of Janus's Admin API, such as http://127.0.0.1:7088/admin, to list participants and end sessions
    #[arg(long, value_name = "URL", env = "SORAMODED_JANUS_ADMIN")]
    #[serde(deserialize_with = "from_text")]
    pub janus_admin: Option<HttpUrl>,

    /// Way to apply the mode to Janus: the application asks soramoded before a client joins (ask), or soramoded locks the rooms (lock)
    ///
    /// Required with --janus-admin. lock does not go with --cluster and --max-connections.
    #[arg(long, value_name = "ASK|LOCK", env = "SORAMODED_JANUS_WAY")]
    pub janus_way: Option<JanusWay>,

    /// Secret of Janus's Admin API (admin_secret in janus.jcfg), in a file of mode 0600
    #[arg(long, value_name = "FILE", env = "SORAMODED_JANUS_ADMIN_SECRET_FILE")]
    pub janus_admin_secret_file: Option<PathBuf>,

    /// Key of the VideoRoom plugin (admin_key in janus.plugin.videoroom.jcfg), to list private rooms, in a file of mode 0600
    #[arg(long, value_name = "FILE", env = "SORAMODED_JANUS_ADMIN_KEY_FILE")]
    pub janus_admin_key_file: Option<PathBuf>,

    /// Accept Janus's events on this address, as POST /janus; without them rooms are listed each second
    #[arg(long, value_name = "ADDRESS:PORT", env = "SORAMODED_JANUS_LISTEN", value_parser = janus_address)]
    #[serde(deserialize_with = "janus_address_from_text")]
    pub janus_listen: Option<SocketAddr>,

    /// Secrets of Janus's rooms, one a line, as ROOM SECRET, or * SECRET for the others; file mode 0600
    ///
    /// The file is read again when it changes.
    #[arg(long, value_name = "FILE", env = "SORAMODED_JANUS_ROOM_SECRETS_FILE")]
    pub janus_room_secrets_file: Option<PathBuf>,

    /// Means to end a session on Janus: remove its participants (kick), or the room as well (destroy) [default: kick]
    ///
    /// A room of Janus's configuration that was destroyed is missing until Janus is restarted.
    #[arg(long, value_name = "KICK|DESTROY", env = "SORAMODED_JANUS_END")]
    pub janus_end: Option<JanusEnd>,

    /// Have Janus refuse new sessions of all its plugins (accept_new_sessions) in a mode that lets nobody in; with --janus-way lock
    ///
    /// In block_new_session it refuses them only after a restart, until its rooms are locked. Before this flag is removed, run: soramode set normal
    #[arg(long, env = "SORAMODED_JANUS_REFUSE_SESSIONS")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub janus_refuse_sessions: Option<bool>,

    /// Send events to this URL; can be given several times
    ///
    /// Each receiver gets each event at least once and in order; failed deliveries are retried for 36 hours. Separate several URLs by
    /// spaces; write a space inside a URL as %20.
    #[arg(
        long,
        value_name = "URL",
        env = "SORAMODED_WEBHOOK",
        value_delimiter = ' '
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub webhook: Vec<HttpUrl>,

    /// Format of the webhooks' bodies: json, or slack, mattermost, discord or teams for a sentence in that chat [default: json]
    ///
    /// Give it once for all webhooks, or once for each --webhook in the same order. A chat gets session.vanished, mode.changed, node.isolated,
    /// node.fenced, plan.created, plan.stalled and plan.over, unless --webhook-events chooses others.
    #[arg(
        long,
        value_name = "FORMAT",
        env = "SORAMODED_WEBHOOK_FORMAT",
        value_delimiter = ' '
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub webhook_format: Vec<WebhookFormat>,

    /// URL at which people and other nodes reach this node's status page, for messages in chats and the pages of a cluster's nodes
    #[arg(long, value_name = "URL", env = "SORAMODED_PAGE_URL")]
    #[serde(deserialize_with = "from_text")]
    pub page_url: Option<HttpUrl>,

    /// Types of events to send, such as session.* or mode.changed; can be given several times [default: session.vanished]
    ///
    /// session.vanished: the last session of a closed node has ended, so the node is drained. The others: session.created,
    /// session.destroyed, connection.created, connection.destroyed, mode.changed, node.joined, node.isolated, node.fenced,
    /// plan.created, plan.step, plan.stalled, plan.over, maintenance.announced, end.requested.
    #[arg(
        long,
        value_name = "TYPE",
        env = "SORAMODED_WEBHOOK_EVENTS",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub webhook_events: Vec<EventPattern>,

    /// Sign outgoing webhooks (Standard Webhooks) with the secrets in this file; one a line, as whsec_BASE64; file mode 0600
    #[arg(long, value_name = "FILE", env = "SORAMODED_WEBHOOK_SECRET_FILE")]
    pub webhook_secret_file: Option<PathBuf>,

    /// Trust the CA certificates in this PEM file, besides the system's, for upstreams, Sora's API and webhook receivers
    ///
    /// $SSL_CERT_FILE and $SSL_CERT_DIR replace the system's. A server's self-signed certificate must not be a CA's (basicConstraints
    /// CA:FALSE). Proxy settings of the environment are ignored.
    #[arg(
        long,
        alias = "webhook-ca-file",
        value_name = "FILE",
        env = "SORAMODED_CA_FILE"
    )]
    #[serde(alias = "webhook-ca-file")]
    pub ca_file: Option<PathBuf>,

    /// Value of the `label` field in outgoing webhooks [default: empty]
    #[arg(long, value_name = "TEXT", env = "SORAMODED_LABEL")]
    pub label: Option<String>,

    /// Keep delivering pending webhooks for this long on shutdown; the rest are sent after the next start [default: 5s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_SHUTDOWN_GRACE")]
    #[serde(deserialize_with = "from_text")]
    pub shutdown_grace: Option<DurationArg>,

    /// Join the cluster on the etcd member at this URL; give it once for each member
    ///
    /// The same channel is then never processed on two nodes. Needs a soramoded that was built with cluster support.
    #[arg(
        long,
        value_name = "URL",
        env = "SORAMODED_CLUSTER",
        value_delimiter = ','
    )]
    #[serde(deserialize_with = "list_from_text")]
    pub cluster: Vec<EtcdUrl>,

    /// Name of the cluster, for several that share an etcd, 1 to 64 bytes [default: default]
    #[arg(long, value_name = "NAME", env = "SORAMODED_CLUSTER_NAME")]
    #[serde(deserialize_with = "from_text")]
    pub cluster_name: Option<ClusterName>,

    /// TTL of this node's etcd lease, 2s to 10m: after this time without renewal the node counts as lost [default: 10s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_CLUSTER_TTL")]
    #[serde(deserialize_with = "from_text")]
    pub cluster_ttl: Option<DurationArg>,

    /// Interval at which the node reads etcd and renews its ownership lease, 100ms to 1m [default: 2s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_CLUSTER_HEARTBEAT")]
    #[serde(deserialize_with = "from_text")]
    pub cluster_heartbeat: Option<DurationArg>,

    /// Isolate the node, which then rejects new clients, after this time without a renewal of its ownership lease [default: 6s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_ISOLATED_AFTER")]
    #[serde(deserialize_with = "from_text")]
    pub isolated_after: Option<DurationArg>,

    /// Fence the node (end its sessions) after this time without a renewal of its ownership lease [default: 30s or never]
    ///
    /// Other nodes can then take over its channels. The default is 30s with --on-fence and --dead-man. Without them it is never, because
    /// nothing would end the sessions: the channels stay reserved until the node returns or an operator runs `soramode nodes purge`.
    #[arg(long, value_name = "DURATION|never", env = "SORAMODED_FENCE_AFTER")]
    #[serde(deserialize_with = "from_text")]
    pub fence_after: Option<FenceAfter>,

    /// Time allowed for ending all sessions after fencing; other nodes wait this much longer before a takeover [default: 5s]
    #[arg(long, value_name = "DURATION", env = "SORAMODED_FENCE_BUDGET")]
    #[serde(deserialize_with = "from_text")]
    pub fence_budget: Option<DurationArg>,

    /// Means of ending sessions after fencing: sora-api, exec:COMMAND, socket or none [default: none]
    #[arg(long, value_name = "MEANS", env = "SORAMODED_ON_FENCE")]
    #[serde(deserialize_with = "from_text")]
    pub on_fence: Option<OnFence>,

    /// Means of ending sessions when soramoded is dead or frozen: grant (the SFU stops if it gets no grant) or none [default: none]
    #[arg(long, value_name = "MEANS", env = "SORAMODED_DEAD_MAN")]
    #[serde(deserialize_with = "from_text")]
    pub dead_man: Option<DeadMan>,

    /// URL to which other nodes redirect clients, such as wss://node-01.example.com/signaling
    #[arg(long, value_name = "URL", env = "SORAMODED_SIGNALING_URL")]
    #[serde(deserialize_with = "from_text")]
    pub signaling_url: Option<NodeUrl>,

    /// URL of this node's --api-listen for `soramode --node` on other nodes
    #[arg(long, value_name = "URL", env = "SORAMODED_API_URL")]
    #[serde(deserialize_with = "from_text")]
    pub api_url: Option<NodeUrl>,

    /// Trust the CA certificates in this PEM file for etcd
    #[arg(long, value_name = "FILE", env = "SORAMODED_CLUSTER_CA_FILE")]
    pub cluster_ca_file: Option<PathBuf>,

    /// Client certificate for etcd, in a PEM file
    #[arg(long, value_name = "FILE", env = "SORAMODED_CLUSTER_CERT_FILE")]
    pub cluster_cert_file: Option<PathBuf>,

    /// Key of the client certificate, in a PEM file of mode 0600
    #[arg(long, value_name = "FILE", env = "SORAMODED_CLUSTER_KEY_FILE")]
    pub cluster_key_file: Option<PathBuf>,

    /// Log in to etcd as this user; use https in --cluster, or the password is sent in the clear
    #[arg(long, value_name = "NAME", env = "SORAMODED_CLUSTER_USER")]
    pub cluster_user: Option<String>,

    /// Password of the etcd user, in a file of mode 0600
    #[arg(long, value_name = "FILE", env = "SORAMODED_CLUSTER_PASSWORD_FILE")]
    pub cluster_password_file: Option<PathBuf>,

    /// Format of the log on standard error [default: text]
    #[arg(long, value_name = "FORMAT", env = "SORAMODED_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,

    /// Lowest level to log [default: info]
    #[arg(long, value_name = "LEVEL", env = "SORAMODED_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,
}
