//! Outgoing webhooks: their body, and their signature as in Standard Webhooks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use serde::Serialize;
use serde_json::{Map, Value};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook, WebhookError,
};

use crate::event::Event;
use crate::http_client::kept::{Keep, KeptClient, Post, RequestFailure, UnusableClient};
use crate::http_client::{self, Outgoing, Url};
use crate::time::Time;
use crate::version::VERSION;

/// Timeout of a delivery attempt, including the connection.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The most that is read of a receiver's answer, in bytes.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 64 * 1024;

const OUR_NAME: &str = concat!("soramode/", env!("CARGO_PKG_VERSION"));

/// Headers of a request that is taken apart, at most.
const HEADERS_MAX: usize = 64;

/// The largest file of secrets, in bytes.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// The shortest secret, in bytes once its Base64 is decoded. Standard Webhooks recommends 24 to 64.
pub const SECRET_BYTES_MIN: usize = 16;

/// Maximum number of secrets in a file: each one adds a signature to every request.
pub const SECRETS_MAX: usize = 8;

/// The secrets that requests are signed with: several while they are changed for others.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets(Arc<[String]>);

impl Secrets {
    /// Parses a file's text: one secret per line, in Base64 with or without the prefix `whsec_`,
    /// padded or not, also in the URL alphabet. Empty lines and those that begin with `#` are
    /// ignored. The error does not repeat a secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text
            .trim_start_matches(BYTE_ORDER_MARK)
            .lines()
            .map(str::trim)
            .enumerate();
        let lines: Vec<(usize, &str)> = lines
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        if let Some([(index, _), _]) = lines
            .windows(2)
            .find(|lines| matches!(lines, [(_, line), (_, next)] if is_wrapped(line, next)))
        {
            return Err(format!(
                "line {}: a secret continues on the next line; write it on one line (base64 -w 0)",
                index + 1
            ));
        }
        let secrets: Vec<String> = lines
            .iter()
            .map(|(index, line)| parse_secret(index + 1, line))
            .collect::<Result<_, _>>()?;
        match secrets.len() {
            0 => Err("has no secret".to_owned()),
            1..=SECRETS_MAX => Ok(Self(secrets.into())),
            secrets => Err(format!(
                "has {secrets} secrets, takes at most {SECRETS_MAX}"
            )),
        }
    }

    /// The header `webhook-signature`: a signature for each secret.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Result<String, WebhookError> {
        let signatures: Vec<String> = self
            .signers()
            .map(|signer| signer?.sign(id, timestamp, body))
            .collect::<Result<_, _>>()?;
        Ok(signatures.join(" "))
    }

    /// Verifies that one of the secrets signed this, not more than five minutes ago.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), WebhookError> {
        let mut refusal = Err(WebhookError::InvalidSignature);
        for signer in self.signers() {
            match signer?.verify(body, headers) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = Err(error),
            }
        }
        refusal
    }

    fn signers(&self) -> impl Iterator<Item = Result<Webhook, WebhookError>> {
        self.0.iter().map(|secret| Webhook::new(secret))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

/// Characters of a line after which `base64` begins the next one.
const WRAPPED_LINE_CHARS: usize = 76;

const BYTE_ORDER_MARK: char = '\u{feff}';

fn is_wrapped(line: &str, next: &str) -> bool {
    line.trim_start_matches("whsec_").len() >= WRAPPED_LINE_CHARS
        && line.len() == WRAPPED_LINE_CHARS
        && !next.starts_with("whsec_")
}

/// Returns the secret as Standard Webhooks has it.
fn parse_secret(number: usize, line: &str) -> Result<String, String> {
    let encoded = line
        .strip_prefix("whsec_")
        .unwrap_or(line)
        .trim_end_matches('=');
    let encoded: String = encoded
        .chars()
        .map(|letter| {
            if letter == '-' {
                '+'
            } else if letter == '_' {
                '/'
            } else {
                letter
            }
        })
        .collect();
    let bytes = data_encoding::BASE64_NOPAD.decode(encoded.as_bytes());
    let bytes = bytes.map_err(|_| format!("line {number}: is not Base64; {MAKE_SECRET}"))?;
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "line {number}: a secret is at least {SECRET_BYTES_MIN} bytes, this one is {}; {MAKE_SECRET}",
            bytes.len()
        ));
    }
    Ok(format!("whsec_{}", data_encoding::BASE64.encode(&bytes)))
}

const MAKE_SECRET: &str = "make one with: echo whsec_$(head -c 32 /dev/urandom | base64)";

/// Body of a delivery, with Sora's field names.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a Value,
    timestamp: &'a Time,
    id: String,
    version: &'static str,
    label: &'a str,
    node_name: &'a str,
    generation: u64,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Creates the body of a delivery: Sora's field names, and times as in Sora's session webhook
/// (`created_time` in seconds, `created_timestamp` as text). `generation` is the mode's at the time
/// of the event.
pub fn body(event: &Event, label: &str, generation: u64) -> serde_json::Result<Vec<u8>> {
    let Value::Object(mut more) = serde_json::to_value(&event.kind)? else {
        return Ok(Vec::new());
    };
    let event_type = more.remove("type").unwrap_or_default();
    more.remove("generation");
    for (time, timestamp) in [
        ("created_time", "created_timestamp"),
        ("destroyed_time", "destroyed_timestamp"),
    ] {
        let Some(text) = more.get(time).cloned() else {
            continue;
        };
        let Some(parsed) = text.as_str().and_then(|text| text.parse::<Time>().ok()) else {
            continue;
        };
        more.insert(
            time.to_owned(),
            parsed.as_micros().div_euclid(1_000_000).into(),
        );
        more.insert(timestamp.to_owned(), text);
    }
    serde_json::to_vec(&Body {
        r#type: &event_type,
        timestamp: &event.timestamp,
        id: event.id.to_string(),
        version: VERSION,
        label,
        node_name: event.node_name.as_str(),
        generation,
        more,
    })
}

/// A request's headers: its id and the time of this attempt, and the signatures if there are secrets.
pub fn headers(
    id: &str,
    now: Time,
    secrets: Option<(&Secrets, &[u8])>,
) -> Result<Vec<(&'static str, String)>, WebhookError> {
    let timestamp = now.as_micros().div_euclid(1_000_000);
    let mut headers = vec![
        (HEADER_WEBHOOK_ID, id.to_owned()),
        (HEADER_WEBHOOK_TIMESTAMP, timestamp.to_string()),
    ];
    if let Some((secrets, body)) = secrets {
        headers.push((HEADER_WEBHOOK_SIGNATURE, secrets.sign(id, timestamp, body)?));
    }
    Ok(headers)
}

/// Splits a recorded request: a request line or none, headers, an empty line, the body.
pub fn read_request(bytes: &[u8]) -> Result<(HeaderMap, &[u8]), String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let (head, headers) = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => (head, &*request.headers),
        // The recording may have the headers only.
        Ok(httparse::Status::Partial) | Err(_) => {
            match httparse::parse_headers(bytes, request.headers) {
                Ok(httparse::Status::Complete((head, headers))) => (head, headers),
                Ok(httparse::Status::Partial) => {
                    return Err("there is no empty line after its headers".to_owned());
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let mut map = HeaderMap::new();
    for header in headers {
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(header.name.as_bytes()),
            HeaderValue::from_bytes(header.value),
        ) else {
            return Err(format!("the header {:?} is none", header.name));
        };
        map.append(name, value);
    }
    let body = bytes.get(head..).unwrap_or_default();
    // Bytes after the body, such as an editor's line feed, are not part of it.
    let length = map
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    Ok((
        map,
        length.and_then(|length| body.get(..length)).unwrap_or(body),
    ))
}

/// Sends to one receiver.
#[derive(Clone, Debug)]
pub struct Sender {
    client: KeptClient,
    secrets: Option<Secrets>,
}

/// Response of a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookResponse {
    /// HTTP status of the response.
    pub status: StatusCode,
    /// Pause that the receiver asks for.
    pub retry_after: Option<Duration>,
}

impl WebhookResponse {
    /// Returns the problem with the status, unless it is 2xx.
    pub fn problem(&self) -> Option<String> {
        if self.status.is_success() {
            return None;
        }
        let leads_elsewhere =
            self.status.is_redirection() && self.status != StatusCode::NOT_MODIFIED;
        let more = if leads_elsewhere {
            ": redirects are not followed"
        } else {
            ""
        };
        Some(format!("{}{more}", self.status))
    }
}

impl Sender {
    /// Returns a sender to this URL, which signs with these secrets.
    pub fn new(
        url: Url,
        secrets: Option<Secrets>,
        outgoing: &Outgoing,
    ) -> Result<Self, UnusableClient> {
        let client = KeptClient::new(url, None, WEBHOOK_TIMEOUT, Keep::default(), outgoing)?;
        Ok(Self { client, secrets })
    }

    /// Sends a body once. The error omits the URL, which may contain a secret.
    pub async fn send(
        &self,
        id: &str,
        now: Time,
        body: Vec<u8>,
    ) -> Result<WebhookResponse, String> {
        let secrets = self
            .secrets
            .as_ref()
            .map(|secrets| (secrets, body.as_slice()));
        let signed = headers(id, now, secrets).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        for (name, value) in signed {
            let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
            headers.insert(HeaderName::from_static(name), value);
        }
        // The status is the answer: what is read of the body is read so that the connection can be kept.
        let post = Post {
            target: None,
            headers,
            body: body.into(),
        };
        let answer = self.client.post(post, |_| WEBHOOK_ANSWER_BYTES_MAX);
        let answer = answer.await.map_err(describe_failure)?;
        Ok(WebhookResponse {
            status: answer.status,
            retry_after: retry_after(&answer.headers, now),
        })
    }

    /// Returns where to, without secrets.
    pub fn endpoint(&self) -> String {
        http_client::endpoint(self.client.url())
    }
}

fn describe_failure(failure: RequestFailure) -> String {
    match failure {
        RequestFailure::TimedOut => format!(
            "timed out: no answer within {} s",
            WEBHOOK_TIMEOUT.as_secs()
        ),
        RequestFailure::Unreachable(why) => why,
        RequestFailure::TooLarge => "the answer is too long".to_owned(),
    }
}

/// Parses seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = text.trim().parse().ok().map(Duration::from_secs);
    seconds.or_else(|| {
        let until = jiff::fmt::rfc2822::parse(text)
            .ok()?
            .timestamp()
            .as_microsecond();
        Some(Time::from_micros(until).since(now))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    /// The example that the Standard Webhooks specification gives with its libraries.
    #[test]
    fn a_signature_is_the_specifications() {
        let secrets = Secrets::parse(SECRET).unwrap();
        let signed = secrets
            .sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                br#"{"test": 2432232314}"#,
            )
            .unwrap();
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_and_any_verifies() {
        let other = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = Secrets::parse(&format!("# new\n{SECRET}\n\n{other}\n")).unwrap();
        let now = Time::from_micros(jiff::Timestamp::now().as_microsecond());
        let sent: HeaderMap = headers("one", now, Some((&both, b"{}")))
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        assert_eq!(
            sent["webhook-signature"]
                .to_str()
                .unwrap()
                .split(' ')
                .count(),
            2
        );
        for secrets in [SECRET, other] {
            let secrets = Secrets::parse(secrets).unwrap();
            assert!(secrets.verify(&sent, b"{}").is_ok());
            assert!(matches!(
                secrets.verify(&sent, b"{ }"),
                Err(WebhookError::InvalidSignature)
            ));
        }
        let wrong = Secrets::parse("BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB").unwrap();
        assert!(wrong.verify(&sent, b"{}").is_err());
        assert_eq!(format!("{both:?}"), "Secrets(2)");
    }

    #[test]
    fn invalid_secrets_are_refused_without_repeating_them() {
        assert_eq!(Secrets::parse("# none\n").unwrap_err(), "has no secret");
        for (wrong, problem) in [
            (
                "whsec_c2hvcnQ=",
                "line 1: a secret is at least 16 bytes, this one is 5;",
            ),
            ("not base64!", "line 1: is not Base64;"),
            (
                "whsec_AAAA",
                "line 1: a secret is at least 16 bytes, this one is 3;",
            ),
            (
                &format!("{}\n{}", "A".repeat(76), "A".repeat(24)),
                "line 1: a secret continues on the next line;",
            ),
        ] {
            let refusal = Secrets::parse(wrong).unwrap_err();
            assert!(
                refusal.starts_with(problem) && !refusal.contains(wrong),
                "{refusal}"
            );
        }
        let many = format!("{SECRET}\n").repeat(SECRETS_MAX + 1);
        assert_eq!(
            Secrets::parse(&many).unwrap_err(),
            "has 9 secrets, takes at most 8"
        );
    }

    #[test]
    fn a_secret_may_be_written_in_several_ways() {
        let plain = Secrets::parse("whsec_/+/+AAAAAAAAAAAAAAAAAA==").unwrap();
        for same in [
            "whsec_/+/+AAAAAAAAAAAAAAAAAA",
            "_-_-AAAAAAAAAAAAAAAAAA",
            "\u{feff}whsec_/+/+AAAAAAAAAAAAAAAAAA==\r\n",
        ] {
            assert!(Secrets::parse(same).unwrap() == plain, "{same}");
        }
        assert!(
            Secrets::parse(&format!("{}\nwhsec_{}\n", "A".repeat(76), "A".repeat(76))).is_ok(),
            "two secrets"
        );
    }

    #[test]
    fn a_body_has_soras_names() {
        let line = r#"{"seq":17,"id":"1YT8QE19QN4FKA9HGE1DD493BC","type":"session.destroyed","channel_id":"spam","session_id":"S","created_time":"2026-11-22T20:00:01.123456Z","destroyed_time":"2026-11-22T20:00:02.500000Z","max_connections":2,"total_connections":3,"reason":"disconnected","timestamp":"2026-11-22T20:00:02.500000Z","node_name":"node-01"}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        let sent = String::from_utf8(body(&event, "rack 7", 4).unwrap()).unwrap();
        let expected = format!(
            r#"{{"type":"session.destroyed","timestamp":"2026-11-22T20:00:02.500000Z","id":"1YT8QE19QN4FKA9HGE1DD493BC","version":"{VERSION}","label":"rack 7","node_name":"node-01","generation":4,"channel_id":"spam","created_time":1795377601,"created_timestamp":"2026-11-22T20:00:01.123456Z","destroyed_time":1795377602,"destroyed_timestamp":"2026-11-22T20:00:02.500000Z","max_connections":2,"reason":"disconnected","session_id":"S","total_connections":3}}"#
        );
        assert_eq!(sent, expected);
    }
}
