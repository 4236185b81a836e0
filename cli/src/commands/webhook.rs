//! `soramode webhook test|verify`

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use soramode_protocol::certificates::{Authorities, PEM_BYTES_MAX};
use soramode_protocol::chat::WebhookFormat;
use soramode_protocol::event::{Event, EventKind};
use soramode_protocol::http_client::{NoHttpUrl, Outgoing, Url, read_url};
use soramode_protocol::id::{EventId, NodeName};
use soramode_protocol::small_file::{self, Guard};
use soramode_protocol::webhook::{SECRET_FILE_BYTES_MAX, Secrets, Sender, read_request};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::{Format, times};

/// Limit of the request to verify, in bytes.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;

/// Limit of a URL on standard input, in bytes.
const URL_BYTES_MAX: u64 = 4 * 1024;

/// Name of the node in a sample.
const SAMPLE_NODE: &str = "sample-node";

/// Send a test webhook, or verify one that was received
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Send a sample session.vanished to a receiver
    Test {
        /// URL of the receiver; - reads it from standard input
        ///
        /// The URL of a chat is a secret, and other users of the machine see the arguments of a command.
        #[arg(value_parser = read_receiver)]
        url: ReceiverUrl,
        /// Send the sample as this chat takes it, or as JSON for programs
        ///
        /// The format of soramoded's --webhook-format. A chat shows one sentence about the node sample-node.
        #[arg(long, value_name = "FORMAT", value_parser = format_parser(), default_value_t = WebhookFormat::Json)]
        format: WebhookFormat,
        /// Sign with the secrets in this file
        ///
        /// The file of soramoded's --webhook-secret-file: one a line, as `whsec_BASE64`. File mode 0600 or 0640.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// Trust the certificates in this PEM file too
        #[arg(long, value_name = "FILE")]
        ca_file: Option<PathBuf>,
    },
    /// Verify the signature of a received webhook
    ///
    /// Reads the request from standard input: its headers, an empty line and its body. Its timestamp must be at most 5 minutes off.
    Verify {
        /// Verify with the secrets in this file
        ///
        /// The file of soramoded's --webhook-secret-file: one a line, as `whsec_BASE64`. File mode 0600 or 0640.
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
    },
}

/// URL of the receiver of a test, or where to read it.
#[derive(Clone, Debug)]
enum ReceiverUrl {
    Given(Url),
    StandardInput,
}

fn read_receiver(text: &str) -> Result<ReceiverUrl, NoHttpUrl> {
    match text {
        "-" => Ok(ReceiverUrl::StandardInput),
        url => read_url(url).map(ReceiverUrl::Given),
    }
}

/// Returns the parser of a format, which lists the names for the completion.
fn format_parser() -> impl TypedValueParser<Value = WebhookFormat> {
    PossibleValuesParser::new(WebhookFormat::ALL.map(WebhookFormat::name))
        .try_map(|name| name.parse::<WebhookFormat>())
}

/// The JSON of a test.
#[derive(Serialize)]
struct Tested<'a> {
    endpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    delivered: bool,
    milliseconds: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// The JSON of a verification.
#[derive(Serialize)]
struct Verified<'a> {
    genuine: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    match args.what {
        What::Test {
            url,
            format,
            secret_file,
            ca_file,
        } => {
            let url = match url {
                ReceiverUrl::Given(url) => url,
                ReceiverUrl::StandardInput => url_on_stdin()?,
            };
            let secrets = secret_file.as_deref().map(read_secrets).transpose()?;
            let authorities = ca_file
                .as_deref()
                .map(read_authorities)
                .transpose()?
                .unwrap_or_default();
            let sender = Sender::new(
                url,
                secrets,
                &Outgoing {
                    authorities,
                    mark: None,
                },
            );
            let sender = sender.map_err(|error| {
                Failure::new(Exit::Usage, format!("cannot send webhooks: {error}"))
            })?;
            test(&sender, format, context).await
        }
        What::Verify { secret_file } => verify(&read_secrets(&secret_file)?, context),
    }
}

async fn test(
    sender: &Sender,
    format: WebhookFormat,
    context: &mut Context<'_>,
) -> Result<Exit, Failure> {
    let now = times::now();
    let event = Event {
        seq: 0,
        // Made from the time alone: a sample only needs a unique id.
        id: EventId::generate(
            now.as_micros()
                .cast_unsigned()
                .to_le_bytes()
                .repeat(2)
                .try_into()
                .unwrap_or_default(),
        ),
        kind: EventKind::SessionVanished,
        timestamp: now,
        node_name: Arc::new(
            NodeName::new(SAMPLE_NODE).unwrap_or_else(|_| NodeName::generate([0; 16])),
        ),
    };
    let body = format
        .body(&event, ("soramode webhook test", 0), None)
        .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let began = Instant::now();
    let answered = sender.send(&event.id.to_string(), now, body).await;
    let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, problem) = match &answered {
        Ok(answered) => (Some(answered.status), answered.problem()),
        Err(problem) => (None, Some(problem.clone())),
    };
    let endpoint = sender.endpoint();
    let sample = match format {
        WebhookFormat::Json => "a sample session.vanished".to_owned(),
        chat @ (WebhookFormat::Slack
        | WebhookFormat::Mattermost
        | WebhookFormat::Discord
        | WebhookFormat::Teams) => format!("a sample message for {chat}"),
    };
    let code = status.map(|status| status.as_u16());
    let problem = problem.as_deref();
    let output = &mut context.output;
    match output.format() {
        Format::Json | Format::Jsonl => {
            output.json(&Tested {
                endpoint: &endpoint,
                status: code,
                delivered: problem.is_none(),
                milliseconds,
                problem,
            })?;
        }
        Format::Plain => {
            let code = code.map(|code| code.to_string()).unwrap_or_default();
            output.record(&[
                &endpoint,
                &code,
                &milliseconds.to_string(),
                problem.unwrap_or_default(),
            ])?;
        }
        Format::Table => {
            if let (Some(status), None) = (status, problem) {
                output.confirm(&format!(
                    "{endpoint} accepted {sample}: {status}, in {milliseconds} ms"
                ))?;
            }
        }
    }
    match problem {
        None => Ok(Exit::Done),
        Some(problem) => Err(Failure::new(
            Exit::Failed,
            format!("{endpoint} did not accept {sample}: {problem}"),
        )),
    }
}

fn verify(secrets: &Secrets, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let request = read_stdin("request", REQUEST_BYTES_MAX)?;
    let (headers, body) = read_request(&request).map_err(|problem| {
        Failure::new(
            Exit::Usage,
            format!("standard input is not an HTTP request: {problem}"),
        )
    })?;
    let problem = secrets
        .verify(&headers, body)
        .err()
        .map(|error| error.to_string());
    let output = &mut context.output;
    match (output.format(), &problem) {
        (Format::Json | Format::Jsonl, problem) => output.json(&Verified {
            genuine: problem.is_none(),
            problem: problem.as_deref(),
        })?,
        (Format::Plain, problem) => {
            output.record(&[
                if problem.is_none() {
                    "genuine"
                } else {
                    "forged"
                },
                problem.as_deref().unwrap_or_default(),
            ])?;
        }
        (Format::Table, None) => {
            output.confirm("genuine: signed with one of these secrets within the last 5 min")?;
        }
        (Format::Table, Some(problem)) => output.confirm(&format!("not genuine: {problem}"))?,
    }
    Ok(if problem.is_none() {
        Exit::Done
    } else {
        Exit::False
    })
}

/// Reads standard input to its end, up to a limit.
fn read_stdin(what: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = io::stdin()
        .lock()
        .take(bytes_max + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read standard input: {error}"))
    })?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::new(
            Exit::Usage,
            format!("the {what} has more than {bytes_max} bytes"),
        ));
    }
    Ok(bytes)
}

/// Reads the URL of a receiver. An error does not repeat it.
fn url_on_stdin() -> Result<Url, Failure> {
    let bytes = read_stdin("URL", URL_BYTES_MAX)?;
    let url = str::from_utf8(&bytes)
        .ok()
        .and_then(|text| read_url(text.trim()).ok());
    url.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "standard input is no URL such as https://chat.example/hook".to_owned(),
        )
    })
}

fn read_authorities(path: &Path) -> Result<Authorities, Failure> {
    let refuse = |problem: String| {
        Failure::new(
            Exit::Usage,
            format!("--ca-file {}: {problem}", path.display()),
        )
    };
    Authorities::from_pem(&read(path, PEM_BYTES_MAX)?).map_err(refuse)
}

fn read_secrets(path: &Path) -> Result<Secrets, Failure> {
    let refuse = |problem: String| {
        Failure::new(
            Exit::Usage,
            format!("--secret-file {}: {problem}", path.display()),
        )
    };
    let guard = Guard::Group {
        uid: rustix::process::geteuid().as_raw(),
    };
    let text = small_file::read_text(path, SECRET_FILE_BYTES_MAX, guard).map_err(refuse)?;
    Secrets::parse(&text).map_err(refuse)
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let refuse =
        |problem: String| Failure::new(Exit::Usage, format!("{}: {problem}", path.display()));
    small_file::read(path, bytes_max, Guard::Nothing).map_err(refuse)
}
