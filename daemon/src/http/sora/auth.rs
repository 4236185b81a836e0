//! `POST /sora/auth`: the gate decides, then the application may still refuse. Whatever goes wrong nobody gets in, and nobody whom the
//! application did not let in is waited for.

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use soramode_core::input::SoraInput;
use soramode_protocol::decision::Decision;
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::ConnectionId;
use soramode_protocol::reply::Reply;

use super::Sora;
use super::webhook::{Auth, read_auth};
use crate::config::Admission;
use crate::http::House;
use crate::http::answer::{Answered, json};
use crate::http::asker::Asker;
use crate::metrics::WebhookOutcome;

/// The reason that a client is given whom the application did not answer for.
const UPSTREAM_FAILED: &str = "AUTH-UPSTREAM-FAILED";

/// The reason for a client whose channel another node of the cluster has: Sora cannot be told to send it there.
const OTHER_NODE: &str = "OTHER-NODE";

/// The reason for a client whose id is another's.
const ID_IN_USE: &str = "CONNECTION-ID-IN-USE";

/// The reason where the gate cannot decide.
const UNAVAILABLE: &str = "UNAVAILABLE";

/// What Sora is answered.
#[derive(Serialize)]
struct Verdict<'a> {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// What an application's answer must have; Sora takes more.
#[derive(Deserialize)]
struct Allowed {
    allowed: bool,
}

pub(super) async fn answer(house: &House, sora: &Sora, said: (&HeaderMap, Bytes)) -> Answered {
    let (headers, body) = said;
    let auth = match read_auth(&body) {
        Ok(auth) => auth,
        Err(problem) => return sora.unreadable(house, "auth", &problem),
    };
    let connection_id = auth.connection_id.clone();
    if let Err(reason) = decide(house, auth).await {
        house.metrics.webhook("auth", WebhookOutcome::Rejected);
        return deny(&reason);
    }
    let guest = Guest { asker: &house.asker, connection_id: Some(connection_id) };
    let (outcome, answer) = ask_application(sora, headers, body).await;
    match outcome {
        WebhookOutcome::Taken => guest.comes(),
        WebhookOutcome::Rejected
        | WebhookOutcome::Denied
        | WebhookOutcome::UpstreamFailed
        | WebhookOutcome::Unreadable
        | WebhookOutcome::Forbidden => guest.stays_away().await,
    }
    house.metrics.webhook("auth", outcome);
    answer
}

/// Whether the gate lets the client come; if not, the reason it is given.
async fn decide(house: &House, auth: Auth) -> Result<(), String> {
    let Auth { channel_id, connection_id, client_id } = auth;
    let admit = |ticket| SoraInput::Admit { ticket, channel_id, connection_id, client_id };
    let reason = match house.asker.admit(admit).await {
        Ok(Reply::Decision(Decision::Offer { .. })) => return Ok(()),
        Ok(Reply::Decision(Decision::Reject { reason, .. })) => reason.to_string(),
        Ok(Reply::Decision(Decision::Redirect { .. })) => OTHER_NODE.to_owned(),
        Err(error) if error.data.error_type == ErrorType::ConnectionIdInUse => ID_IN_USE.to_owned(),
        Ok(_) | Err(_) => UNAVAILABLE.to_owned(),
    };
    match house.config.sora.admission {
        Admission::Enforced => Err(reason),
        Admission::Shadow => {
            tracing::info!(reason, "would reject a client of Sora's");
            Ok(())
        }
    }
}

async fn ask_application(sora: &Sora, headers: &HeaderMap, body: Bytes) -> (WebhookOutcome, Answered) {
    let Some(upstream) = &sora.auth else {
        return (WebhookOutcome::Taken, json(StatusCode::OK, &Verdict { allowed: true, reason: None }));
    };
    let problem = match upstream.ask(headers, body).await {
        Ok(heard) if heard.status == StatusCode::OK => match serde_json::from_slice(&heard.body) {
            Ok(Allowed { allowed: true }) => return (WebhookOutcome::Taken, heard.into_answer()),
            Ok(Allowed { allowed: false }) => return (WebhookOutcome::Denied, heard.into_answer()),
            Err(_) => "answered without \"allowed\": true or false".to_owned(),
        },
        Ok(heard) => format!("answered {}", heard.status.as_u16()),
        Err(failed) => {
            sora.say_seldom(|| tracing::warn!(%failed, "the auth upstream failed: nobody gets in"));
            return (WebhookOutcome::UpstreamFailed, deny(UPSTREAM_FAILED));
        }
    };
    upstream.lied(&problem);
    sora.say_seldom(|| tracing::warn!(problem, "the auth upstream gave no answer: nobody gets in"));
    (WebhookOutcome::UpstreamFailed, deny(UPSTREAM_FAILED))
}

fn deny(reason: &str) -> Answered {
    json(StatusCode::OK, &Verdict { allowed: false, reason: Some(reason) })
}

/// A client that the gate lets in and waits for. Unless it is told to come it is released, also where Sora hung up meanwhile.
struct Guest<'a> {
    asker: &'a Asker,
    connection_id: Option<ConnectionId>,
}

impl Guest<'_> {
    fn comes(mut self) {
        self.connection_id = None;
    }

    /// The gate has heard of it before Sora does.
    async fn stays_away(mut self) {
        if let Some(connection_id) = self.connection_id.take() {
            // Where the daemon is stopping nobody is waited for any more.
            self.asker.tell(SoraInput::Denied { connection_id }).await.unwrap_or_default();
        }
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        if let Some(connection_id) = self.connection_id.take() {
            self.asker.tell_later(SoraInput::Denied { connection_id });
        }
    }
}
