//! Webhooks to chat services: one sentence for people, in the payload that each service documents.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::actor::SystemActor;
use crate::event::{Event, EventKind, EventType};
use crate::http_client::Url;
use crate::mode::{Mode, ModeChange};
use crate::plan::{PlanOutcome, StallCause};
use crate::plan_event::{EndRequested, MaintenanceAnnounced, PlanCreated, PlanOver};
use crate::text::shorten;
use crate::time::Time;
use crate::webhook;

/// Length of a name in a sentence, in bytes.
const NAME_BYTES_SHOWN: usize = 64;

/// Length of a reason in a sentence, in bytes.
const REASON_BYTES_SHOWN: usize = 200;

/// Length of the status page's URL, in bytes. Discord's messages have at most 2,000 characters.
pub const PAGE_URL_BYTES_MAX: usize = 500;

/// Discord's flag of a message without previews of its links.
const SUPPRESS_EMBEDS: u32 = 1 << 2;

/// Format of a webhook's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WebhookFormat {
    /// The event, for programs.
    #[default]
    Json,
    /// Incoming webhook of Slack.
    Slack,
    /// Incoming webhook of Mattermost.
    Mattermost,
    /// Webhook of a Discord channel.
    Discord,
    /// Webhook of a workflow in Teams: an adaptive card.
    Teams,
}

/// Error: an unknown format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("got {0:?}, takes json, slack, mattermost, discord or teams")]
pub struct UnknownFormat(String);

impl FromStr for WebhookFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

impl fmt::Display for WebhookFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl WebhookFormat {
    /// All formats.
    pub const ALL: [Self; 5] = [
        Self::Json,
        Self::Slack,
        Self::Mattermost,
        Self::Discord,
        Self::Teams,
    ];

    /// Returns the name of the format.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::Discord => "discord",
            Self::Teams => "teams",
        }
    }

    /// Returns the types of events that are sent if none are chosen: for people, those that an
    /// operator of the node waits for.
    pub const fn default_types(self) -> &'static [EventType] {
        match self {
            Self::Json => &[EventType::SessionVanished],
            Self::Slack | Self::Mattermost | Self::Discord | Self::Teams => &[
                EventType::SessionVanished,
                EventType::ModeChanged,
                EventType::NodeIsolated,
                EventType::NodeFenced,
                EventType::PlanCreated,
                EventType::PlanStalled,
                EventType::PlanOver,
            ],
        }
    }

    /// Creates the body of a delivery. `label` and `generation` are in the format for programs
    /// alone, `page_url` is in the others.
    pub fn body(
        self,
        event: &Event,
        (label, generation): (&str, u64),
        page_url: Option<&Url>,
    ) -> serde_json::Result<Vec<u8>> {
        if self == Self::Json {
            webhook::body(event, label, generation)
        } else {
            serde_json::to_vec(&self.message(&sentence(event), page_url))
        }
    }

    fn message(self, sentence: &[Part<'_>], page_url: Option<&Url>) -> Value {
        let written = |escape: fn(&str) -> String| -> String {
            let part = |part: &Part<'_>| match part {
                Part::Fixed(text) => (*text).to_owned(),
                Part::Value(text) => escape(text),
            };
            sentence.iter().map(part).collect()
        };
        let linked = |text: String| match page_url {
            Some(url) => format!("{text} <{url}>"),
            None => text,
        };
        match self {
            Self::Json => Value::Null,
            Self::Slack => {
                let link = page_url.map_or_else(String::new, |url| {
                    format!(" {}", escape_entities(url.as_str()))
                });
                json!({"text": written(escape_entities) + &link, "mrkdwn": false})
            }
            Self::Mattermost => json!({"text": linked(written(escape_markdown))}),
            Self::Discord => json!({
                "content": linked(written(escape_markdown)),
                "allowed_mentions": {"parse": []},
                "flags": SUPPRESS_EMBEDS,
            }),
            Self::Teams => teams_card(&written(str::to_owned), page_url),
        }
    }
}

/// Returns a message with an adaptive card. A `TextRun` is shown as it is, without markup.
fn teams_card(text: &str, page_url: Option<&Url>) -> Value {
    let actions: Vec<Value> = page_url
        .into_iter()
        .map(|url| json!({"type": "Action.OpenUrl", "title": "Status page", "url": url.as_str()}))
        .collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text}]}],
                "actions": actions,
            },
        }],
    })
}

/// Escapes a text for Slack: its markup is in angle brackets.
fn escape_entities(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Escapes a text for Markdown: no markup, link or mention is left.
fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '-' | ',' | ';' | '\'' | '"') {
            escaped.push('\\');
        }
        escaped.push(c);
        if c == '@' {
            // A mention needs the name at once after it.
            escaped.push(ZERO_WIDTH_SPACE);
        }
    }
    escaped
}

const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// Part of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// Our own words.
    Fixed(&'a str),
    /// A value, of which nothing may be markup.
    Value(String),
}

/// Makes a value of a name.
fn name<'a>(text: &str) -> Part<'a> {
    value(text, NAME_BYTES_SHOWN)
}

fn value<'a>(text: &str, bytes_max: usize) -> Part<'a> {
    // A control character or a change of the direction could hide the rest of the sentence.
    let is_hidden =
        |c: char| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    Part::Value(shorten(text, bytes_max).replace(is_hidden, " "))
}

fn number<'a>(number: u64) -> Part<'a> {
    Part::Value(number.to_string())
}

/// `2026-12-01 02:00 UTC`
fn time<'a>(time: Time) -> Part<'a> {
    let text = time.to_string();
    let minute = text.get(..16).unwrap_or(&text).replace('T', " ");
    Part::Value(format!("{minute} UTC"))
}

/// Returns the sentence that says what happened, on which node, by which client and why.
fn sentence(event: &Event) -> Vec<Part<'static>> {
    let mut parts = vec![name(event.node_name.as_str())];
    let fixed = |text: &'static str| vec![Part::Fixed(text)];
    parts.extend(match &event.kind {
        EventKind::ModeChanged(change) => mode_changed(change),
        EventKind::SessionVanished => fixed(" is drained: its last session has ended."),
        EventKind::NodeJoined { .. } => fixed(" has joined its cluster."),
        EventKind::NodeIsolated { .. } => fixed(" has lost contact with its cluster."),
        EventKind::NodeFenced { .. } => {
            fixed(" is fenced: it ends its sessions and admits no client.")
        }
        EventKind::PlanCreated(plan) => plan_created(plan),
        EventKind::PlanStep(step) => vec![
            Part::Fixed(": step "),
            number(step.step.into()),
            Part::Fixed(" of its maintenance plan is done."),
        ],
        EventKind::PlanStalled { cause, .. } => vec![
            Part::Fixed(": its maintenance plan does not progress, "),
            Part::Fixed(describe_cause(*cause)),
            Part::Fixed("."),
        ],
        EventKind::PlanOver(over) => plan_over(over),
        EventKind::MaintenanceAnnounced(announced) => announcement(announced),
        EventKind::EndRequested(request) => end_requested(request),
        EventKind::SessionCreated { channel_id, .. } => {
            of_channel(channel_id.as_str(), "session begun")
        }
        EventKind::SessionDestroyed { channel_id, .. } => {
            of_channel(channel_id.as_str(), "session ended")
        }
        EventKind::ConnectionCreated { channel_id, .. } => {
            of_channel(channel_id.as_str(), "client connected")
        }
        EventKind::ConnectionDestroyed { channel_id, .. } => {
            of_channel(channel_id.as_str(), "client disconnected")
        }
        // Webhooks do not deliver these.
        EventKind::WebhookReceived { .. }
        | EventKind::DeliverySucceeded(_)
        | EventKind::DeliveryFailed(_)
        | EventKind::Unknown => fixed(": an event."),
    });
    parts
}

fn of_channel(channel: &str, what: &'static str) -> Vec<Part<'static>> {
    vec![
        Part::Fixed(": "),
        Part::Fixed(what),
        Part::Fixed(" in channel "),
        name(channel),
        Part::Fixed("."),
    ]
}

fn mode_changed(change: &ModeChange) -> Vec<Part<'static>> {
    let is_same = change.mode == change.previous_mode;
    let what = match change.mode {
        Mode::Normal => " is open",
        Mode::BlockNewSession if is_same => " still rejects new sessions",
        Mode::BlockNewConnection if is_same => " still rejects new connections",
        Mode::BlockNewSession => " rejects new sessions from now on",
        Mode::BlockNewConnection => " rejects new connections from now on",
        Mode::Initial => " admits no client: it is not in its cluster",
    };
    let mut parts = vec![Part::Fixed(what)];
    for (words, at) in [
        (", opens by itself at ", change.expires_at),
        (", expected end ", change.expected_end_at),
    ] {
        parts.extend(at.into_iter().flat_map(|at| [Part::Fixed(words), time(at)]));
    }
    parts.extend(origin(
        &change.actor,
        change.on_behalf_of.as_deref(),
        change.reason.as_deref(),
    ));
    parts
}

/// ` (by uid:1000(ops) for alice: CHG-123).`
fn origin(actor: &str, on_behalf_of: Option<&str>, reason: Option<&str>) -> Vec<Part<'static>> {
    let actor = match SystemActor::from_name(actor) {
        // The sentence is about the plan.
        Some(SystemActor::Plan) => return vec![Part::Fixed(".")],
        Some(system) => {
            let words = Part::Fixed(system.describe());
            return vec![Part::Fixed(", by "), words, Part::Fixed(".")];
        }
        None => name(actor),
    };
    let mut parts = vec![Part::Fixed(" (by "), actor];
    parts.extend(
        on_behalf_of
            .into_iter()
            .flat_map(|person| [Part::Fixed(" for "), name(person)]),
    );
    parts.extend(
        reason
            .into_iter()
            .flat_map(|reason| [Part::Fixed(": "), value(reason, REASON_BYTES_SHOWN)]),
    );
    parts.push(Part::Fixed(")."));
    parts
}

fn plan_created(plan: &PlanCreated) -> Vec<Part<'static>> {
    let mut parts = vec![
        Part::Fixed(": maintenance is planned, the node closes at "),
        time(plan.closes_at),
    ];
    let end = plan.sessions_end_at;
    parts.extend(
        end.into_iter()
            .flat_map(|end| [Part::Fixed(", and its sessions end from "), time(end)]),
    );
    parts.extend(origin(
        &plan.actor,
        plan.on_behalf_of.as_deref(),
        plan.reason.as_deref(),
    ));
    parts
}

fn plan_over(over: &PlanOver) -> Vec<Part<'static>> {
    let what = match over.outcome {
        PlanOutcome::Done => ": the maintenance plan is done, the node is drained",
        PlanOutcome::Cancelled => ": the maintenance plan is cancelled",
        PlanOutcome::Replaced => ": the maintenance plan is replaced by another",
        PlanOutcome::Missed => ": the maintenance plan was missed",
        PlanOutcome::Failed => ": the maintenance plan has failed",
    };
    let mut parts = vec![Part::Fixed(what)];
    parts.extend(
        over.why
            .iter()
            .flat_map(|why| [Part::Fixed(", "), value(why, REASON_BYTES_SHOWN)]),
    );
    parts.extend(origin(&over.actor, None, over.reason.as_deref()));
    parts
}

fn announcement(announced: &MaintenanceAnnounced) -> Vec<Part<'static>> {
    let what = if announced.cancelled {
        ": the announced maintenance does not take place, clients are notified in channels: "
    } else {
        ": maintenance is announced to clients in channels: "
    };
    let mut parts = vec![Part::Fixed(what), number(announced.channels)];
    parts.extend(origin(&announced.actor, None, announced.reason.as_deref()));
    parts
}

fn end_requested(request: &EndRequested) -> Vec<Part<'static>> {
    let mut parts = vec![
        Part::Fixed(": sessions are being ended: "),
        number(request.sessions),
    ];
    parts.extend(origin(&request.actor, None, request.reason.as_deref()));
    parts
}

const fn describe_cause(cause: StallCause) -> &'static str {
    match cause {
        StallCause::NoDepartures => "no session has ended by itself",
        StallCause::SessionsIncomplete => "the session list may lack sessions of the SFU",
        StallCause::NoMeans => "soramoded has no means to announce or to end sessions",
        StallCause::EndFailing => "the SFU does not end the sessions that it was asked to",
        StallCause::StorageFailed => "the state cannot be written",
    }
}

#[cfg(test)]
mod tests;
