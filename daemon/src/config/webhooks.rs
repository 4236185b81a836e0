//! Settings of outgoing webhooks.

use std::path::Path;
use std::time::Duration;

use soramode_protocol::chat::{PAGE_URL_BYTES_MAX, WebhookFormat};
use soramode_protocol::event::{EventPattern, EventType};
use soramode_protocol::webhook::{SECRET_FILE_BYTES_MAX, Secrets};

use super::error::ConfigError;
use super::limits::check_duration;
use super::secret_file::read_secret;
use crate::args::Settings;
use crate::args::http::HttpUrl;

/// Default time to keep delivering on shutdown.
const SHUTDOWN_GRACE_DEFAULT: Duration = Duration::from_secs(5);

/// Receivers of events, and the options of their requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// The receivers; each gets every event of its types.
    pub receivers: Vec<WebhookReceiver>,
    /// Types of the delivered events; those of each receiver's format if absent.
    pub types: Option<Vec<EventType>>,
    /// URL at which people reach the status page.
    pub page_url: Option<HttpUrl>,
    /// Secrets for signing requests.
    pub secrets: Option<Secrets>,
    /// Value of the field `label`, as in Sora's webhooks.
    pub label: String,
    /// Time to keep delivering on shutdown.
    pub shutdown_grace: Duration,
}

/// A receiver of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookReceiver {
    /// Its URL, of which the path may be a secret.
    pub url: HttpUrl,
    /// Format of the requests' bodies.
    pub format: WebhookFormat,
}

impl WebhookConfig {
    /// Returns the types of the events that a receiver gets.
    pub(crate) fn types_of(&self, receiver: &WebhookReceiver) -> Vec<EventType> {
        self.types
            .clone()
            .unwrap_or_else(|| receiver.format.default_types().to_vec())
    }

    /// Returns the receiver with this URL.
    pub(crate) fn receiver(&self, url: &HttpUrl) -> Option<&WebhookReceiver> {
        self.receivers.iter().find(|receiver| receiver.url == *url)
    }
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            receivers: Vec::new(),
            types: None,
            page_url: None,
            secrets: None,
            label: String::new(),
            shutdown_grace: SHUTDOWN_GRACE_DEFAULT,
        }
    }
}

pub(super) fn check(settings: &Settings) -> Result<WebhookConfig, ConfigError> {
    let needs_a_webhook = [
        ("webhook-events", !settings.webhook_events.is_empty()),
        ("webhook-format", !settings.webhook_format.is_empty()),
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
        receivers: receivers(settings)?,
        types: if settings.webhook_events.is_empty() {
            None
        } else {
            Some(types(&settings.webhook_events)?)
        },
        page_url: settings.page_url.clone().map(check_page_url).transpose()?,
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

/// Pairs the URLs with their formats: one for all, or one for each in the same order.
fn receivers(settings: &Settings) -> Result<Vec<WebhookReceiver>, ConfigError> {
    let (urls, formats) = (&settings.webhook, &settings.webhook_format);
    let format_of = |index: usize| match formats.as_slice() {
        [] => Some(WebhookFormat::Json),
        [all] => Some(*all),
        each => each.get(index).copied(),
    };
    let is_paired = formats.len() <= 1 || formats.len() == urls.len();
    let paired = urls.iter().enumerate().map(|(index, url)| {
        Some(WebhookReceiver {
            url: url.clone(),
            format: format_of(index)?,
        })
    });
    let paired: Option<Vec<_>> = paired.collect();
    paired
        .filter(|_| is_paired)
        .ok_or_else(|| ConfigError::OutOfRange {
            name: "webhook-format",
            got: format!("{} for {} URLs", formats.len(), urls.len()),
            takes: "one for all, or one for each webhook in the same order".to_owned(),
        })
}

/// Checks a URL that every client with the access `view`, chats and other nodes get to see.
fn check_page_url(url: HttpUrl) -> Result<HttpUrl, ConfigError> {
    if !url.0.username().is_empty() || url.0.password().is_some() {
        return Err(ConfigError::OutOfRange {
            name: "page-url",
            got: "a URL with a user or a password".to_owned(),
            takes: "one without, since it is published".to_owned(),
        });
    }
    let bytes = url.0.as_str().len();
    if bytes <= PAGE_URL_BYTES_MAX {
        return Ok(url);
    }
    Err(ConfigError::OutOfRange {
        name: "page-url",
        got: format!("{bytes} bytes"),
        takes: format!("at most {PAGE_URL_BYTES_MAX}"),
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
