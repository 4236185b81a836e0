//! Commands to the tasks of receivers, and the channels that carry them.

use soramode_core::effect::Attempt;
use soramode_core::handles::ReceiverIndex;
use soramode_protocol::chat::WebhookFormat;
use soramode_protocol::http_client::kept::UnusableClient;
use soramode_protocol::http_client::{Outgoing, Url};
use soramode_protocol::webhook::Sender;
use tokio::sync::mpsc;

use crate::args::http::HttpUrl;
use crate::config::{WebhookConfig, WebhookReceiver};

/// A command to a receiver's task.
#[derive(Debug)]
pub(crate) enum ReceiverCommand {
    /// Sends this attempt.
    Send(Box<Attempt>),
    /// Sends in this way from now on.
    Reload(Box<SendOptions>),
    /// The outcome of the last attempt was applied; a follow-up attempt was sent before this.
    OutcomeApplied,
}

/// Options of sending to a receiver.
#[derive(Debug)]
pub(crate) struct SendOptions {
    pub(super) sender: Sender,
    pub(super) format: WebhookFormat,
    pub(super) label: String,
    pub(super) page_url: Option<Url>,
}

impl SendOptions {
    pub(super) fn of(
        receiver: &WebhookReceiver,
        config: &WebhookConfig,
        outgoing: &Outgoing,
    ) -> Result<Self, UnusableClient> {
        let sender = Sender::new(receiver.url.0.clone(), config.secrets.clone(), outgoing)?;
        Ok(Self {
            sender,
            format: receiver.format,
            label: config.label.clone(),
            page_url: config.page_url.clone().map(|HttpUrl(url)| url),
        })
    }
}

/// Senders to the receivers' tasks, each at the index of its receiver.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReceiverSenders(pub(super) Vec<mpsc::UnboundedSender<ReceiverCommand>>);

impl ReceiverSenders {
    /// Sends a command. A receiver that ended with the daemon gets its deliveries at the next
    /// start.
    pub(crate) fn send(&self, index: ReceiverIndex, command: ReceiverCommand) {
        if let Some(sender) = self.0.get(index.0) {
            sender.send(command).unwrap_or_default();
        }
    }
}
