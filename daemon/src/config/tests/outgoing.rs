//! Servers that are asked: receivers of events, upstreams, Sora's API, and certificates for them.

use soramode_protocol::chat::WebhookFormat;

use super::*;

#[test]
fn files_that_have_no_certificate_are_refused() {
    let (certificate, key) = IDENTITY
        .split_once("-----BEGIN PRIVATE")
        .map(|(first, rest)| (first, format!("-----BEGIN PRIVATE{rest}")))
        .unwrap();
    let garbled = certificate.replace("MII", "AAA");
    for (text, problem) in [
        ("", "has no PEM certificate"),
        (&*key, "has no PEM certificate"),
        ("\u{30}\u{82}", "has no PEM certificate"),
        (&*garbled, "certificate that"),
        (
            &*"# authority\n".repeat(100_000),
            "has more than 1048576 bytes",
        ),
    ] {
        let file = secret_file(text);
        for flags in ["--ca-file", "--webhook-ca-file"] {
            let refused = refusal(&format!("{flags} {}", file.path().display()), "");
            assert!(
                refused.starts_with("ca-file: ") && refused.contains(problem),
                "{refused}"
            );
        }
    }
    let file = secret_file(certificate);
    let both = load(&format!("--ca-file {}", file.path().display()), "").unwrap();
    assert_eq!(
        load(
            "",
            &format!("webhook-ca-file = '{}'", file.path().display())
        )
        .unwrap()
        .authorities,
        both.authorities
    );
}

/// A URL of the daemon's own listener would make it send requests to itself without end.
#[test]
fn a_url_that_leads_back_to_the_daemon_is_refused() {
    for (listen, asked, problem) in [
        (
            "--sora-listen 127.0.0.1:3100",
            "--auth-upstream http://127.0.0.1:3100/sora/auth",
            "auth-upstream: http://127.0.0.1:3100/sora/auth is soramoded's own sora-listen",
        ),
        (
            "--sora-listen 127.0.0.1:3100",
            "--session-upstream http://u:p@localhost:3100/?q",
            "session-upstream: http://localhost:3100/ is soramoded's own",
        ),
        (
            "--sora-listen 0.0.0.0:80",
            "--event-upstream http://127.0.0.1/",
            "event-upstream: ",
        ),
        (
            "--api-listen [::1]:3000",
            "--sora-api http://[::1]:3000",
            "sora-api: http://[::1]:3000/ is soramoded's own api-listen",
        ),
        (
            "--api-listen 127.0.0.1:3000",
            "--sora-api http://0.0.0.0:3000",
            "sora-api: ",
        ),
        (
            "--observe-listen 10.0.0.1:9400",
            "--webhook http://10.0.0.1:9400/x",
            "webhook: ",
        ),
        (
            "--sora-listen [::ffff:127.0.0.1]:3100",
            "--auth-upstream http://127.0.0.1:3100/",
            "auth-upstream: ",
        ),
    ] {
        let refused = refusal(&format!("{listen} {asked}"), "");
        assert!(refused.starts_with(problem), "{listen} {asked}: {refused}");
    }
    for fine in [
        "--api-listen 127.0.0.1:3000 --sora-api http://127.0.0.1:3001",
        "--api-listen 127.0.0.1:3000 --sora-api http://127.0.0.2:3000",
        "--api-listen 127.0.0.1:3000 --sora-api http://sora.example:3000",
        "--api-listen unix:/a --sora-api http://127.0.0.1:3000",
    ] {
        load(fine, "").unwrap();
    }
}

/// The settings of webhooks among those that `every_flag_is_a_key_of_the_file` gives.
pub(super) fn webhooks_expected() -> WebhookConfig {
    WebhookConfig {
        receivers: vec![WebhookReceiver {
            url: "http://w/?key".parse().unwrap(),
            format: WebhookFormat::Teams,
        }],
        types: Some(vec![
            EventType::SessionCreated,
            EventType::SessionDestroyed,
            EventType::SessionVanished,
            EventType::ModeChanged,
        ]),
        page_url: Some("http://page/".parse().unwrap()),
        secrets: Some(Secrets::parse(SECRET).unwrap()),
        label: "rack".to_owned(),
        shutdown_grace: Duration::from_secs(6),
    }
}

/// The types of the events that the first receiver gets.
fn types_of_first(flags: &str) -> Vec<EventType> {
    let webhooks = load(flags, "").unwrap().webhooks;
    webhooks.types_of(&webhooks.receivers[0])
}

#[test]
fn a_format_is_for_all_webhooks_or_one_for_each() {
    let formats = |flags: &str| -> Vec<&str> {
        let receivers = load(flags, "").unwrap().webhooks.receivers;
        receivers.iter().map(|it| it.format.name()).collect()
    };
    let two = "--webhook http://a/ --webhook http://b/";
    assert_eq!(formats(two), ["json", "json"]);
    assert_eq!(
        formats(&format!("{two} --webhook-format discord")),
        ["discord", "discord"]
    );
    assert_eq!(
        formats(&format!(
            "{two} --webhook-format json --webhook-format mattermost"
        )),
        ["json", "mattermost"]
    );
    for wrong in [
        format!("{two} --webhook http://c/ --webhook-format json --webhook-format slack"),
        "--webhook http://a/ --webhook-format json --webhook-format slack".to_owned(),
    ] {
        let refusal = refusal(&wrong, "");
        assert!(
            refusal.starts_with("webhook-format: got 2 for "),
            "{refusal}"
        );
    }
    assert_eq!(
        refusal("--webhook-format slack", ""),
        "webhook-format needs webhook"
    );
    let long = format!(
        "--webhook http://a/ --page-url http://p/{}",
        "a".repeat(500)
    );
    assert!(refusal(&long, "").starts_with("page-url: got 509 bytes"));
    let secret = refusal("--webhook http://a/ --page-url http://u:SECRET@p/", "");
    assert!(
        secret.starts_with("page-url: got a URL with a user") && !secret.contains("SECRET"),
        "{secret}"
    );
}

#[test]
fn event_types_for_webhooks_must_be_deliverable() {
    assert_eq!(
        types_of_first("--webhook http://w/"),
        [EventType::SessionVanished]
    );
    assert!(
        types_of_first("--webhook http://w/ --webhook-format slack")
            .contains(&EventType::ModeChanged)
    );
    for wrong in ["delivery.*", "webhook.received"] {
        let refusal = refusal(&format!("--webhook http://w/ --webhook-events {wrong}"), "");
        assert!(
            refusal.starts_with(&format!(
                "webhook-events: got {wrong}, takes session.created, "
            )),
            "{refusal}"
        );
    }
    assert_eq!(
        types_of_first("--webhook http://w/ --webhook-events *").len(),
        15
    );
    assert_eq!(
        refusal("--webhook-events session.*", ""),
        "webhook-events needs webhook"
    );
    assert_eq!(
        load("--webhook http://a/ --webhook http://b/", "")
            .unwrap()
            .webhooks
            .receivers
            .len(),
        2
    );
    assert!(
        try_said("--webhook ftp://w/")
            .unwrap_err()
            .to_string()
            .contains("takes an absolute URL")
    );
    let large = secret_file(&"# secret\n".repeat(10_000));
    let refused = refusal(
        &format!(
            "--webhook http://w/ --webhook-secret-file {}",
            large.path().display()
        ),
        "",
    );
    assert!(refused.contains("has more than 65536 bytes"), "{refused}");
    let secrets = secret_file("c2hvcnQ=\n");
    let refused = refusal(
        &format!(
            "--webhook http://w/ --webhook-secret-file {}",
            secrets.path().display()
        ),
        "",
    );
    assert!(
        refused.contains("line 1: a secret is at least 16 bytes"),
        "{refused}"
    );
}
