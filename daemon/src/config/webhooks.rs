//! Settings of outgoing webhooks.

use std::path::Path;
use std::time::Duration;

use soramode_protocol::event::{EventPattern, EventType};
use soramode_protocol::webhook::{SECRET_FILE_BYTES_MAX, Secrets};

use super::{ConfigError, check_duration, read_secret};
use crate::args::Settings;
use crate::args::http::HttpUrl;

/// Default time to keep delivering on shutdown.
const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// Receivers of events, and the options of their requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// URLs of the receivers; each gets every event.
    pub urls: Vec<HttpUrl>,
    /// Types of the delivered events.
    pub types: Vec<EventType>,
    /// Secrets for signing requests.
    pub secrets: Option<Secrets>,
    /// Value of the field `label`, as in Sora's webhooks.
    pub label: String,
    /// Time to keep delivering on shutdown.
    pub shutdown_grace: Duration,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            types: vec![EventType::SessionVanished],
            secrets: None,
            label: String::new(),
            shutdown_grace: SHUTDOWN_GRACE_DEFAULT,
        }
    }
}

pub(super) fn check(settings: &Settings) -> Result<WebhookConfig, ConfigError> {
    let default = WebhookConfig::default();
    let needs_a_webhook = [
        ("webhook-events", !settings.webhook_events.is_empty()),
        (
            "webhook-secret-file",
            settings.webhook_secret_file.is_some(),
        ),
    ];
    if settings.webhook.is_empty()
        && let Some((name, _)) = needs_a_webhook.into_iter().find(|(_, is_said)| *is_said)
    {
        return Err(ConfigError::Needs {
            name,
            needed: "webhook",
        });
    }
    Ok(WebhookConfig {
        urls: settings.webhook.clone(),
        types: if settings.webhook_events.is_empty() {
            default.types
        } else {
            types(&settings.webhook_events)?
        },
        secrets: settings
            .webhook_secret_file
            .as_deref()
            .map(read_secrets)
            .transpose()?,
        label: settings.label.clone().unwrap_or_default(),
        shutdown_grace: check_duration(
            "shutdown-grace",
            settings.shutdown_grace,
            SHUTDOWN_GRACE_DEFAULT,
        )?,
    })
}

/// Returns the matching types that can be delivered.
fn types(patterns: &[EventPattern]) -> Result<Vec<EventType>, ConfigError> {
    let deliverable = || {
        EventType::ALL
            .into_iter()
            .filter(|event_type| event_type.is_deliverable())
    };
    if let Some(useless) = patterns
        .iter()
        .find(|pattern| !deliverable().any(|event_type| pattern.matches(event_type)))
    {
        let takes = deliverable()
            .map(EventType::name)
            .collect::<Vec<&str>>()
            .join(", ");
        return Err(ConfigError::OutOfRange {
            name: "webhook-events",
            got: useless.to_string(),
            takes,
        });
    }
    Ok(deliverable()
        .filter(|event_type| patterns.iter().any(|pattern| pattern.matches(*event_type)))
        .collect())
}

fn read_secrets(path: &Path) -> Result<Secrets, ConfigError> {
    let wrong = |problem: String| ConfigError::SecretFile {
        name: "webhook-secret-file",
        path: path.to_owned(),
        problem,
    };
    let text = read_secret(path, SECRET_FILE_BYTES_MAX).map_err(wrong)?;
    Secrets::parse(&text).map_err(wrong)
}
