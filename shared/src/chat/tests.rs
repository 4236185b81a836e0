//! Tests of the payloads, the escaping and the lengths.

use super::*;

const CHATS: [WebhookFormat; 4] = [
    WebhookFormat::Slack,
    WebhookFormat::Mattermost,
    WebhookFormat::Discord,
    WebhookFormat::Teams,
];

fn event(kind: &Value) -> Event {
    let mut event = json!({
        "seq": 1, "id": "J8486AV8KN7H92SBDFZ2NPKWPM", "timestamp": "2026-11-22T20:00:05.123456Z", "node_name": "sfu-01",
    });
    for (name, value) in kind.as_object().unwrap() {
        event[name] = value.clone();
    }
    serde_json::from_value(event).unwrap()
}

fn closed(reason: &str) -> Event {
    event(&json!({
        "type": "mode.changed", "mode": "block_new_session", "previous_mode": "normal", "generation": 3,
        "actor": "uid:0(root)", "on_behalf_of": "alice", "reason": reason, "expected_end_at": "2026-11-23T04:00:00.000000Z",
    }))
}

fn message(format: WebhookFormat, event: &Event, page: Option<&str>) -> Value {
    let page = page.map(|page| Url::parse(page).unwrap());
    let body = format.body(event, ("", 3), page.as_ref()).unwrap();
    serde_json::from_slice(&body).unwrap()
}

/// The text of a message.
fn text(format: WebhookFormat, message: &Value) -> String {
    let text = match format {
        WebhookFormat::Json => unreachable!("not for people"),
        WebhookFormat::Slack | WebhookFormat::Mattermost => &message["text"],
        WebhookFormat::Discord => &message["content"],
        WebhookFormat::Teams => {
            &message["attachments"][0]["content"]["body"][0]["inlines"][0]["text"]
        }
    };
    text.as_str().unwrap().to_owned()
}

#[test]
fn each_service_gets_the_payload_that_it_documents() {
    let (event, page) = (closed("CHG-123"), Some("http://sfu-01:9400/?a=1&b=2"));
    let sentence = "sfu-01 rejects new sessions from now on, expected end 2026-11-23 04:00 UTC (by uid:0(root) for alice: CHG-123).";
    assert_eq!(
        message(WebhookFormat::Slack, &event, page),
        json!({"text": format!("{sentence} http://sfu-01:9400/?a=1&amp;b=2"), "mrkdwn": false})
    );
    let marked = "sfu-01 rejects new sessions from now on, expected end 2026-11-23 04\\:00 UTC (by uid\\:0\\(root\\) for alice: CHG-123). <http://sfu-01:9400/?a=1&b=2>";
    assert_eq!(
        message(WebhookFormat::Mattermost, &event, page),
        json!({ "text": marked })
    );
    assert_eq!(
        message(WebhookFormat::Discord, &event, page),
        json!({"content": marked, "allowed_mentions": {"parse": []}, "flags": 4})
    );
    assert_eq!(
        message(WebhookFormat::Teams, &event, page),
        json!({"type": "message", "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
                "body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": sentence}]}],
                "actions": [{"type": "Action.OpenUrl", "title": "Status page", "url": "http://sfu-01:9400/?a=1&b=2"}],
            },
        }]})
    );
}

#[test]
fn markup_in_a_value_has_no_effect() {
    let hostile = "<!channel> @everyone [a](http://x) *b* `c` \u{202e}d\ne";
    for (format, expected) in [
        (
            WebhookFormat::Slack,
            "&lt;!channel&gt; @everyone [a](http://x) *b* `c`  d e",
        ),
        (
            WebhookFormat::Discord,
            "\\<\\!channel\\> \\@\u{200b}everyone \\[a\\]\\(http\\:\\/\\/x\\) \\*b\\* \\`c\\`  d e",
        ),
        (
            WebhookFormat::Mattermost,
            "\\<\\!channel\\> \\@\u{200b}everyone \\[a\\]\\(http\\:\\/\\/x\\) \\*b\\* \\`c\\`  d e",
        ),
        (
            WebhookFormat::Teams,
            "<!channel> @everyone [a](http://x) *b* `c`  d e",
        ),
    ] {
        let text = text(format, &message(format, &closed(hostile), None));
        assert!(text.contains(expected), "{format}: {text}");
    }
}

#[test]
fn the_longest_sentence_is_within_every_limit() {
    let long = "@".repeat(2_000);
    let over = event(&json!({
        "type": "plan.over", "plan_id": "7Q2K9XA0", "outcome": "missed", "why": long, "actor": long, "reason": long,
    }));
    let mut closed = closed(&long);
    if let EventKind::ModeChanged(change) = &mut closed.kind {
        change.actor.clone_from(&long);
        change.on_behalf_of = Some(long.clone());
        change.expires_at = change.expected_end_at;
    }
    let page = format!(
        "http://p/{}",
        "a".repeat(PAGE_URL_BYTES_MAX - "http://p/".len())
    );
    for format in CHATS {
        for event in [&closed, &over] {
            let text = text(format, &message(format, event, Some(&page)));
            let length = text.chars().count();
            assert!(length <= 2_000, "{format}: {length}");
        }
    }
}

/// Every event that is deliverable, from the golden lines.
#[test]
fn every_event_has_a_sentence() {
    let lines = include_str!("../../tests/wire/v1/events.jsonl").lines();
    let events = lines.filter_map(|line| serde_json::from_str::<Event>(line).ok());
    let mut types = Vec::new();
    for event in events {
        let Some(event_type) = event.kind.event_type().filter(|it| it.is_deliverable()) else {
            continue;
        };
        let message = message(WebhookFormat::Teams, &event, None);
        let text = text(WebhookFormat::Teams, &message);
        assert!(
            text.starts_with(event.node_name.as_str()) && text.ends_with('.'),
            "{text}"
        );
        assert!(!text.contains("an event"), "{text}");
        types.push(event_type);
    }
    for event_type in EventType::ALL.into_iter().filter(|it| it.is_deliverable()) {
        assert!(
            types.contains(&event_type),
            "no golden line of {event_type}"
        );
    }
}

#[test]
fn soramoded_is_named_in_words() {
    let said = |kind: &Value| {
        let event = event(kind);
        text(
            WebhookFormat::Slack,
            &message(WebhookFormat::Slack, &event, None),
        )
    };
    let over = |outcome: &str, actor: &str, reason: Option<&str>| {
        said(
            &json!({"type": "plan.over", "plan_id": "7Q2K9XA0", "outcome": outcome, "actor": actor, "reason": reason}),
        )
    };
    assert!(
        over("done", "system:plan", None)
            .ends_with("the maintenance plan is done, the node is drained."),
    );
    assert!(
        over("cancelled", "uid:0(root)", Some("INC-8"))
            .ends_with("the maintenance plan is cancelled (by uid:0(root): INC-8)."),
    );
    let closed = said(&json!({
        "type": "mode.changed", "mode": "block_new_connection", "previous_mode": "normal", "generation": 3, "actor": "system:storage",
    }));
    assert!(
        closed.ends_with("from now on, by soramoded (it could not write its state)."),
        "{closed}"
    );
    for actor in SystemActor::ALL {
        let words = over("cancelled", actor.name(), None);
        assert!(!words.contains("system:"), "{words}");
    }
}

#[test]
fn a_format_is_read_by_its_name() {
    for format in WebhookFormat::ALL {
        assert_eq!(format.name().parse(), Ok(format));
    }
    assert!("Slack".parse::<WebhookFormat>().is_err());
}
