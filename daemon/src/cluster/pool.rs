//! Members of etcd, each with a client of its own: etcd-client's client for several members keeps
//! asking one that is frozen.
//!
//! Each attempt and each operation has a timeout. A client that timed out is dropped: its
//! connection may be dead for minutes.

use std::error::Error as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, Identity, TlsOptions};
use soramode_protocol::http_client::{PEER_TEXT_BYTES_MAX, root_cause};
use soramode_protocol::text::shorten;
use tokio::time::{Instant, sleep, timeout};

use crate::config::{ClusterConfig, Login, Tls};
use crate::health::Health;
use crate::lock::lock;

/// Timeout of an attempt at one member.
pub(super) const TRY_TIME: Duration = Duration::from_secs(1);

/// Timeout of an operation, over all members.
const OPERATION_TIME: Duration = Duration::from_secs(2);

/// Timeout for opening a connection.
const CONNECT_TIME: Duration = Duration::from_millis(500);

/// Interval and timeout of keep-alive probes. etcd closes connections that are probed more often
/// than every 5 s.
const PROBE_PAUSE: Duration = Duration::from_secs(7);
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Pause after all members have failed, before they are asked again.
const ROUND_PAUSE: Duration = Duration::from_millis(100);

/// Pool of clients, one per member.
pub(super) struct Pool {
    endpoints: Vec<Endpoint>,
    options: ConnectOptions,
    /// Index of the member that answered last, which is asked first.
    preferred: Mutex<usize>,
    /// Receiver of the members' health.
    health: Arc<Health>,
}

pub(super) struct Endpoint {
    url: String,
    /// The client, and how many there were before it.
    client: Mutex<(u64, Option<Client>)>,
}

impl Pool {
    pub(super) fn new(config: &ClusterConfig, health: Arc<Health>) -> Self {
        let options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_TIME)
            .with_keep_alive(PROBE_PAUSE, PROBE_TIME)
            .with_require_leader(true);
        let is_https = config
            .endpoints
            .iter()
            .any(crate::args::cluster::EtcdUrl::is_https);
        let options = if is_https {
            options.with_tls(tls(&config.tls))
        } else {
            options
        };
        let options = match &config.login {
            Some(Login { user, password }) => options.with_user(user, password),
            None => options,
        };
        let endpoint = |url: &crate::args::cluster::EtcdUrl| Endpoint {
            url: url.as_str().to_owned(),
            client: Mutex::new((0, None)),
        };
        Self {
            endpoints: config.endpoints.iter().map(endpoint).collect(),
            options,
            preferred: Mutex::new(0),
            health,
        }
    }

    /// Runs an operation on any member that can, within a timeout. It may have been executed more
    /// than once, or although it failed.
    pub(super) async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        operation: impl Fn(Client) -> F,
    ) -> Result<T, String> {
        let until = Instant::now() + OPERATION_TIME;
        // The latest failure of each member.
        let mut failed: Vec<Option<MemberFailure>> = Vec::new();
        failed.resize_with(self.endpoints.len(), || None);
        loop {
            let first = *lock(&self.preferred);
            for turn in 0..self.endpoints.len() {
                let index = (first + turn) % self.endpoints.len();
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                match self.attempt(index, &operation, left.min(TRY_TIME)).await {
                    Ok(done) => return Ok(self.prefer(index, done)),
                    Err(Failure::Final(why)) => return Err(why),
                    Err(Failure::Here(failure)) => {
                        failed.get_mut(index).and_then(|it| it.replace(failure));
                    }
                }
            }
            if Instant::now() + ROUND_PAUSE >= until {
                return Err(describe_failures(&failed, &self.urls()));
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    async fn attempt<T, F: Future<Output = Result<T, Error>>>(
        &self,
        index: usize,
        operation: &impl Fn(Client) -> F,
        time: Duration,
    ) -> Result<T, Failure> {
        let Some(endpoint) = self.endpoints.get(index) else {
            return Err(Failure::Final("etcd has no members".to_owned()));
        };
        let mut number = endpoint.number();
        let tried = timeout(time, async {
            let (count, client) = endpoint.client(&self.options).await?;
            number = count;
            operation(client).await
        });
        let (failure, why) = match tried.await {
            Ok(Ok(done)) => {
                self.health.note_etcd(index, Ok(()));
                return Ok(done);
            }
            Ok(Err(error)) if is_final(&error) => {
                self.health.note_etcd(index, Err(describe(&error)));
                return Err(Failure::Final(endpoint.fails(&error)));
            }
            Ok(Err(error)) => (
                MemberFailure {
                    has_answered: has_answered(&error),
                    words: endpoint.fails(&error),
                },
                describe(&error),
            ),
            Err(_) => (
                MemberFailure {
                    has_answered: false,
                    words: endpoint.is_silent(),
                },
                "does not answer".to_owned(),
            ),
        };
        endpoint.discard_client(number);
        self.health.note_etcd(index, Err(why));
        Err(Failure::Here(failure))
    }

    /// `http://10.0.0.11:2379, http://10.0.0.12:2379`
    pub(super) fn urls(&self) -> String {
        let urls: Vec<&str> = self.endpoints.iter().map(|it| it.url.as_str()).collect();
        urls.join(", ")
    }

    /// Prefers this member from now on.
    fn prefer<T>(&self, index: usize, done: T) -> T {
        *lock(&self.preferred) = index;
        done
    }

    /// Reads a key of each member that was not heard for `silence`.
    pub(super) async fn probe(&self, key: &[u8], silence: Duration) {
        let read = |mut client: Client| async move { client.get(key, None).await };
        for index in 0..self.endpoints.len() {
            if !self.health.has_etcd_answered(index, silence) {
                // Only the effect on the member's health matters.
                drop(self.attempt(index, &read, TRY_TIME).await);
            }
        }
    }

    /// Returns the preferred member and a client of it, for a stream.
    pub(super) async fn any(&self) -> Result<(&Endpoint, Client), String> {
        let first = *lock(&self.preferred);
        let Some(endpoint) = self.endpoints.get(first) else {
            return Err("etcd has no members".to_owned());
        };
        // A client that logs in asks etcd for that.
        let made = timeout(TRY_TIME, endpoint.client(&self.options))
            .await
            .map_err(|_| endpoint.is_silent())?;
        made.map(|(_, client)| (endpoint, client))
            .map_err(|error| endpoint.fails(&error))
    }
}

impl Endpoint {
    /// Describes an error of this member.
    pub(super) fn fails(&self, error: &Error) -> String {
        format!("{} fails: {}", self.url, describe(error))
    }

    /// Describes that this member has not answered in time.
    pub(super) fn is_silent(&self) -> String {
        format!("{} does not answer", self.url)
    }

    fn number(&self) -> u64 {
        lock(&self.client).0
    }

    /// The client; a new one if there is none. It connects when it is used.
    async fn client(&self, options: &ConnectOptions) -> Result<(u64, Client), Error> {
        if let (number, Some(client)) = &*lock(&self.client) {
            return Ok((*number, client.clone()));
        }
        let made = Client::connect([&self.url], Some(options.clone())).await?;
        let mut kept = lock(&self.client);
        let client = kept.1.get_or_insert(made).clone();
        Ok((kept.0, client))
    }

    /// Drops the client of a failed attempt, unless it was replaced already.
    fn discard_client(&self, number: u64) {
        let mut kept = lock(&self.client);
        if kept.0 == number {
            *kept = (number + 1, None);
        }
    }
}

enum Failure {
    /// Another member may do better.
    Here(MemberFailure),
    /// Failure that every member would return.
    Final(String),
}

/// Failure of one member.
struct MemberFailure {
    /// It has answered with an error: only a part of etcd's quorum, for example.
    has_answered: bool,
    /// Member, and its error.
    words: String,
}

/// Describes the failure of an operation that no member has carried out: how many do not answer, and the first of them.
fn describe_failures(members: &[Option<MemberFailure>], urls: &str) -> String {
    let failed = || members.iter().flatten();
    let silent = failed().filter(|it| !it.has_answered).count();
    let first = failed()
        .find(|it| !it.has_answered)
        .or_else(|| failed().next());
    match (first, silent, members.len()) {
        (None, _, _) => format!("etcd does not answer: {urls}"),
        (Some(first), _, 1) => first.words.clone(),
        (Some(first), 0, all) => format!(
            "{} of {all} members of etcd answer with an error: {}",
            failed().count(),
            first.words
        ),
        (Some(first), silent, all) => {
            format!(
                "{silent} of {all} members of etcd do not answer: {}",
                first.words
            )
        }
    }
}

/// Returns true for an error that the member itself has sent.
fn has_answered(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if status.source().is_none())
}

/// gRPC codes that concern the request, not the member.
const FINAL_CODES: [i32; 5] = [
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    FAILED_PRECONDITION,
];
const INVALID_ARGUMENT: i32 = 3;
const NOT_FOUND: i32 = 5;
const PERMISSION_DENIED: i32 = 7;
const RESOURCE_EXHAUSTED: i32 = 8;
const FAILED_PRECONDITION: i32 = 9;

/// etcd's message for a login that ended because its users changed; a new client logs in again. An
/// expired login has a code that is not final.
const LOGIN_OVER: &str = "revision of auth store is old";

fn is_final(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else {
        return false;
    };
    FINAL_CODES.contains(&(status.code() as i32)) && !status.message().contains(LOGIN_OVER)
}

/// Describes a failure, with the remedy if known.
pub(super) fn describe(error: &Error) -> String {
    let text = if let Error::GRpcStatus(status) = error {
        if status.source().is_some() {
            root_cause(status)
        } else {
            shorten(status.message(), PEER_TEXT_BYTES_MAX)
        }
    } else if let Error::TransportError(error) = error {
        root_cause(error)
    } else {
        error.to_string()
    };
    match REMEDIES.iter().find(|(said, _)| text.contains(said)) {
        Some((_, meant)) => format!("{text}: {meant}"),
        None => text,
    }
}

/// Messages of etcd and its TLS, and their meaning.
const REMEDIES: [(&str, &str); 11] = [
    (
        "user name is empty",
        "etcd requires a user: set --cluster-user and --cluster-password-file",
    ),
    (
        "invalid user ID or password",
        "check --cluster-user and --cluster-password-file",
    ),
    (
        "etcdserver: permission denied",
        "its role must be able to read and write the keys under /soramode/v1/",
    ),
    (
        "authentication is not enabled",
        "leave --cluster-user and --cluster-password-file out, or enable it at etcd",
    ),
    (
        "CertificateRequired",
        "etcd requires a client certificate: set --cluster-cert-file and --cluster-key-file",
    ),
    (
        "BadCertificate",
        "etcd requires a client certificate that it trusts: set --cluster-cert-file and --cluster-key-file",
    ),
    (
        "stream closed because of a broken pipe",
        "if this member speaks TLS, name it with https:",
    ),
    (
        "tls handshake eof",
        "this member does not speak TLS: name it with http:",
    ),
    (
        "InvalidContentType",
        "this member does not speak TLS: name it with http:",
    ),
    (
        "HandshakeFailure",
        "etcd and soramode have no curve or cipher in common: give etcd a certificate of P-256, P-384 or RSA, and no --auto-tls",
    ),
    (
        "message length too large",
        "something else wrote large values among the cluster's members in etcd: remove them",
    ),
];

fn tls(config: &Tls) -> TlsOptions {
    let mut options = TlsOptions::new();
    if let Some(pem) = &config.authorities {
        options = options.ca_certificate(Certificate::from_pem(pem));
    }
    if let Some((certificate, key)) = &config.identity {
        options = options.identity(Identity::from_pem(certificate, key));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_that_do_not_answer_are_counted() {
        let failure = |words: &str, has_answered| {
            let words = words.to_owned();
            Some(MemberFailure {
                has_answered,
                words,
            })
        };
        let refused = || failure("http://b:2379 fails: Connection refused", false);
        let no_leader = || failure("http://a:2379 fails: etcdserver: no leader", true);
        for (members, words) in [
            (vec![None], "etcd does not answer: http://a:2379"),
            (vec![refused()], "http://b:2379 fails: Connection refused"),
            (
                vec![no_leader(), refused(), refused()],
                "2 of 3 members of etcd do not answer: http://b:2379 fails: Connection refused",
            ),
            (
                vec![no_leader(), no_leader(), None],
                "2 of 3 members of etcd answer with an error: http://a:2379 fails: etcdserver: no leader",
            ),
        ] {
            assert_eq!(describe_failures(&members, "http://a:2379"), words);
        }
    }
}
