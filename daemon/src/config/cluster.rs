//! Settings of the cluster that the node joins, and checks of their combinations.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use soramode_core::fault::PlantedFault;
use soramode_protocol::certificates::{PEM_BYTES_MAX, check_identity};

use super::error::ConfigError;
use super::limits::check_duration;
use super::pem;
use super::secret_file::read_secret;
use crate::args::cluster::{ClusterName, DeadMan, EtcdUrl, FenceAfter, NodeUrl, OnFence};
use crate::args::{DurationArg, Settings};

/// Members of etcd that are named, at most.
pub const ENDPOINTS_MAX: usize = 9;

/// Range of `--cluster-ttl`: etcd's own minimum with its default election timeout, and a maximum
/// that is still useful.
pub const TTL_RANGE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(10));

/// The shortest and the longest `--cluster-heartbeat`.
pub const HEARTBEAT_RANGE: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_mins(1));

/// The longest `--fence-after`, `--isolated-after` and `--fence-budget`.
pub const FENCE_MAX: Duration = Duration::from_hours(24);

/// The longest password, in bytes.
const PASSWORD_BYTES_MAX: u64 = 1024;

const TTL_DEFAULT: Duration = Duration::from_secs(10);
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(2);
const ISOLATED_AFTER_DEFAULT: Duration = Duration::from_secs(6);
const FENCE_AFTER_DEFAULT: Duration = Duration::from_secs(30);
const FENCE_BUDGET_DEFAULT: Duration = Duration::from_secs(5);

/// Settings of the cluster, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// The members of etcd.
    pub endpoints: Vec<EtcdUrl>,
    /// Name of the cluster.
    pub name: ClusterName,
    /// The lease of the node's keys, in whole seconds.
    pub ttl: Duration,
    /// Interval of the ownership lease's renewal.
    pub heartbeat: Duration,
    /// Time without a renewal after which the node is isolated.
    pub isolated_after: Duration,
    /// Time without a renewal after which the node is fenced; `None` if the ownership lease does
    /// not expire.
    pub fence_after: Option<Duration>,
    /// Why it is without end.
    pub no_takeover_reason: Option<String>,
    /// Time budget for ending all sessions at a fence.
    pub fence_budget: Duration,
    /// Means of ending sessions at a fence.
    pub on_fence: OnFence,
    /// Means of ending sessions if the daemon is dead.
    pub dead_man: DeadMan,
    /// URL to which other nodes redirect clients.
    pub signaling_url: Option<NodeUrl>,
    /// URL of the node's API.
    pub api_url: Option<NodeUrl>,
    /// URL of the node's status page.
    pub page_url: Option<NodeUrl>,
    /// TLS settings for etcd.
    pub tls: Tls,
    /// The user that it is asked as, if it wants one.
    pub login: Option<Login>,
    /// Mistake that a test has planted; not configurable.
    pub fault: PlantedFault,
}

/// The user that etcd knows the node as.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Name of the etcd user.
    pub user: String,
    /// Password of the etcd user.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// TLS settings for etcd, in PEM: trusted authorities, and this node's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Authorities that may sign etcd's certificates.
    pub authorities: Option<Vec<u8>>,
    /// The node's own certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

pub(super) fn check(settings: &Settings) -> Result<Option<ClusterConfig>, ConfigError> {
    if settings.cluster.is_empty() {
        return check_absent(settings).map(|()| None);
    }
    if !cfg!(feature = "cluster") {
        return Err(ConfigError::WithoutCluster);
    }
    if settings.cluster.len() > ENDPOINTS_MAX {
        let got = settings.cluster.len().to_string();
        return Err(ConfigError::OutOfRange {
            name: "cluster",
            got,
            takes: format!("1 to {ENDPOINTS_MAX} members"),
        });
    }
    if settings.shadow == Some(true) {
        // A node in shadow mode would admit clients to channels of other nodes.
        return Err(ConfigError::Excludes {
            name: "shadow",
            other: "cluster",
        });
    }
    let (fence_after, no_takeover_reason) = check_fence(settings)?;
    let ttl = check_range(
        "cluster-ttl",
        settings.cluster_ttl,
        (TTL_DEFAULT, TTL_RANGE),
    )?;
    let config = ClusterConfig {
        endpoints: settings.cluster.clone(),
        name: settings.cluster_name.clone().unwrap_or_default(),
        ttl: Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)),
        heartbeat: check_range(
            "cluster-heartbeat",
            settings.cluster_heartbeat,
            (HEARTBEAT_DEFAULT, HEARTBEAT_RANGE),
        )?,
        isolated_after: check_range(
            "isolated-after",
            settings.isolated_after,
            (ISOLATED_AFTER_DEFAULT, (Duration::ZERO, FENCE_MAX)),
        )?,
        fence_after,
        no_takeover_reason,
        fence_budget: check_range(
            "fence-budget",
            settings.fence_budget,
            (FENCE_BUDGET_DEFAULT, (Duration::ZERO, FENCE_MAX)),
        )?,
        on_fence: settings.on_fence.clone().unwrap_or_default(),
        dead_man: settings.dead_man.unwrap_or_default(),
        signaling_url: settings.signaling_url.clone(),
        api_url: settings.api_url.clone(),
        page_url: settings
            .page_url
            .as_ref()
            .and_then(|url| url.0.as_str().parse().ok()),
        tls: check_tls(settings)?,
        login: check_login(settings)?,
        fault: PlantedFault::NONE,
    };
    check_order(&config)?;
    Ok(Some(config))
}

/// Refuses settings of the cluster without a cluster: they would have no effect.
fn check_absent(settings: &Settings) -> Result<(), ConfigError> {
    let said = [
        ("cluster-name", settings.cluster_name.is_some()),
        ("cluster-ttl", settings.cluster_ttl.is_some()),
        ("cluster-heartbeat", settings.cluster_heartbeat.is_some()),
        ("isolated-after", settings.isolated_after.is_some()),
        ("fence-after", settings.fence_after.is_some()),
        ("fence-budget", settings.fence_budget.is_some()),
        ("on-fence", settings.on_fence.is_some()),
        ("dead-man", settings.dead_man.is_some()),
        ("signaling-url", settings.signaling_url.is_some()),
        ("api-url", settings.api_url.is_some()),
        ("cluster-ca-file", settings.cluster_ca_file.is_some()),
        ("cluster-cert-file", settings.cluster_cert_file.is_some()),
        ("cluster-key-file", settings.cluster_key_file.is_some()),
        ("cluster-user", settings.cluster_user.is_some()),
        (
            "cluster-password-file",
            settings.cluster_password_file.is_some(),
        ),
    ];
    match said.into_iter().find(|(_, is_said)| *is_said) {
        Some((name, _)) => Err(ConfigError::Needs {
            name,
            needed: "cluster",
        }),
        None => Ok(()),
    }
}

/// Checks the fencing settings and returns the lease's length, or the reason why it does not
/// expire: a node that cannot end its sessions in time must not let others take over automatically.
fn check_fence(settings: &Settings) -> Result<(Option<Duration>, Option<String>), ConfigError> {
    let on_fence = settings.on_fence.clone().unwrap_or_default();
    if on_fence == OnFence::SoraApi && settings.sora_api.is_none() {
        return Err(ConfigError::Needs {
            name: "on-fence = sora-api",
            needed: "sora-api",
        });
    }
    let missing = match (&on_fence, settings.dead_man.unwrap_or_default()) {
        (OnFence::None, DeadMan::None) => {
            Some("without --on-fence and --dead-man nothing would end its sessions")
        }
        (OnFence::None, _) => Some("without --on-fence nothing would end its sessions"),
        (_, DeadMan::None) => {
            Some("without --dead-man nothing would end its sessions if soramoded were dead")
        }
        (_, DeadMan::Grant) => None,
    };
    match (settings.fence_after, missing) {
        (Some(FenceAfter::Never), _) => Ok((None, Some("--fence-after is never".to_owned()))),
        (Some(FenceAfter::After(_)), Some(_)) => Err(ConfigError::Needs {
            name: "fence-after",
            needed: "on-fence and dead-man",
        }),
        (None, Some(missing)) => Ok((None, Some(missing.to_owned()))),
        (Some(FenceAfter::After(time)), None) if time <= FENCE_MAX => Ok((Some(time), None)),
        (Some(FenceAfter::After(time)), None) => Err(out_of_range(
            "fence-after",
            time,
            (Duration::ZERO, FENCE_MAX),
        )),
        (None, None) => Ok((Some(FENCE_AFTER_DEFAULT), None)),
    }
}

/// Each deadline lies behind the one before it, with room for a renewal that fails once.
fn check_order(config: &ClusterConfig) -> Result<(), ConfigError> {
    let least = config.heartbeat * 2;
    if config.isolated_after < least {
        return Err(out_of_range(
            "isolated-after",
            config.isolated_after,
            (least, FENCE_MAX),
        ));
    }
    match config.fence_after {
        Some(fence_after) if fence_after <= config.isolated_after => Err(ConfigError::OutOfRange {
            name: "fence-after",
            got: humantime::format_duration(fence_after).to_string(),
            takes: format!(
                "more than isolated-after ({})",
                humantime::format_duration(config.isolated_after)
            ),
        }),
        Some(_) | None => Ok(()),
    }
}

fn check_range(
    name: &'static str,
    said: Option<DurationArg>,
    (default, range): (Duration, (Duration, Duration)),
) -> Result<Duration, ConfigError> {
    match check_duration(name, said, default)? {
        time if (range.0..=range.1).contains(&time) => Ok(time),
        time => Err(out_of_range(name, time, range)),
    }
}

fn out_of_range(
    name: &'static str,
    got: Duration,
    (least, most): (Duration, Duration),
) -> ConfigError {
    let (least, most) = (
        humantime::format_duration(least),
        humantime::format_duration(most),
    );
    ConfigError::OutOfRange {
        name,
        got: humantime::format_duration(got).to_string(),
        takes: format!("{least} to {most}"),
    }
}

fn check_tls(settings: &Settings) -> Result<Tls, ConfigError> {
    let wants = settings.cluster.iter().any(EtcdUrl::is_https);
    let files = [
        ("cluster-ca-file", &settings.cluster_ca_file),
        ("cluster-cert-file", &settings.cluster_cert_file),
        ("cluster-key-file", &settings.cluster_key_file),
    ];
    if let Some((name, _)) = files.iter().find(|(_, path)| path.is_some() && !wants) {
        return Err(ConfigError::Needs {
            name,
            needed: "an https URL in cluster",
        });
    }
    let identity = match (&settings.cluster_cert_file, &settings.cluster_key_file) {
        (Some(certificate), Some(key)) => Some(read_identity(certificate, key)?),
        (Some(_), None) => {
            return Err(ConfigError::Needs {
                name: "cluster-cert-file",
                needed: "cluster-key-file",
            });
        }
        (None, Some(_)) => {
            return Err(ConfigError::Needs {
                name: "cluster-key-file",
                needed: "cluster-cert-file",
            });
        }
        (None, None) => None,
    };
    let authorities = settings
        .cluster_ca_file
        .as_deref()
        .map(|path| pem::read_certificates("cluster-ca-file", path))
        .transpose()?;
    Ok(Tls {
        authorities,
        identity,
    })
}

fn check_login(settings: &Settings) -> Result<Option<Login>, ConfigError> {
    let name = "cluster-password-file";
    let (user, path) = match (&settings.cluster_user, &settings.cluster_password_file) {
        (Some(user), Some(path)) => (user, path),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(ConfigError::Needs {
                name: "cluster-user",
                needed: name,
            });
        }
        (None, Some(_)) => {
            return Err(ConfigError::Needs {
                name,
                needed: "cluster-user",
            });
        }
    };
    let wrong = |problem: String| ConfigError::SecretFile {
        name,
        path: path.clone(),
        problem,
    };
    let text = read_secret(path, PASSWORD_BYTES_MAX).map_err(wrong)?;
    let password = text.strip_suffix('\n').unwrap_or(&text).to_owned();
    if user.is_empty() || password.is_empty() || password.contains('\n') {
        return Err(wrong(
            "takes a user with a name, and one line with its password".to_owned(),
        ));
    }
    Ok(Some(Login {
        user: user.clone(),
        password,
    }))
}

fn read_identity(certificate: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), ConfigError> {
    let wrong = |problem: String| pem::wrong("cluster-key-file", key, problem);
    let certificates = pem::read_certificates("cluster-cert-file", certificate)?;
    let key = read_secret(key, PEM_BYTES_MAX).map_err(wrong)?.into_bytes();
    check_identity(&certificates, &key).map_err(wrong)?;
    Ok((certificates, key))
}
