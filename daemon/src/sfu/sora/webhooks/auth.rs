//! `POST /sora/auth`: the gate decides, then the application may deny. Any failure rejects the
//! client, and the gate does not wait for clients that the application denied.
//!
//! Each request has a task of its own, which runs to its end even if Sora closes the connection.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use soramode_core::input::{Input, SoraInput};
use soramode_protocol::decision::Decision;
use soramode_protocol::error::ErrorType;
use soramode_protocol::id::ConnectionId;
use soramode_protocol::reply::{Answer, Reply};
use tokio::sync::oneshot;

use super::pending_auth::AuthOutcome;
use super::read::{Auth, is_object, read_auth};
use super::state::SoraWebhooks;
use super::upstream::UpstreamResponse;
use crate::config::Admission;
use crate::engine::Engine;
use crate::http::response::{HttpResponse, json};
use crate::http::state::HttpState;
use crate::metrics::{Metrics, WebhookOutcome};
use crate::rate_limit::log_limited;

/// Reason for rejecting a client if the application did not answer.
const UPSTREAM_FAILED: &str = "AUTH-UPSTREAM-FAILED";

/// Reason for rejecting a client of another node's channel: Sora cannot redirect it.
const OTHER_NODE: &str = "OTHER-NODE";

/// Reason for rejecting a client with an id in use.
const ID_IN_USE: &str = "CONNECTION-ID-IN-USE";

/// Reason for rejecting a client where the gate cannot decide.
const UNAVAILABLE: &str = "UNAVAILABLE";

/// Answer to Sora, in its format.
#[derive(Serialize)]
struct Verdict<'a> {
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Required field of an application's answer; Sora accepts more.
#[derive(Deserialize)]
struct Allowed {
    allowed: bool,
}

/// Auth webhook in progress: Sora's request, and the means to answer it.
struct AuthRequest {
    engine: Engine,
    webhooks: Arc<SoraWebhooks>,
    metrics: Arc<Metrics>,
    admission: Admission,
    headers: HeaderMap,
    body: Bytes,
}

/// Result of an auth webhook.
struct AuthResult {
    /// Outcome for the gate.
    outcome: AuthOutcome,
    /// Outcome that the metrics count.
    counted_as: WebhookOutcome,
    /// Answer to Sora.
    answer: HttpResponse,
}

pub(super) async fn answer(
    state: &HttpState,
    webhooks: &Arc<SoraWebhooks>,
    request: (HeaderMap, Bytes),
) -> HttpResponse {
    let (headers, body) = request;
    let auth = match read_auth(&body) {
        Ok(auth) => auth,
        Err(problem) => return SoraWebhooks::refuse_unreadable(&state.metrics, "auth", &problem),
    };
    let (engine, webhooks, metrics) = (
        state.engine.clone(),
        Arc::clone(webhooks),
        Arc::clone(&state.metrics),
    );
    let request = AuthRequest {
        engine,
        webhooks,
        metrics,
        admission: state.config.sora.admission,
        headers,
        body,
    };
    let (reply, replied) = oneshot::channel();
    state.tracker.spawn(request.answer(auth, reply));
    replied.await.unwrap_or_else(|_| deny(UNAVAILABLE))
}

impl AuthRequest {
    /// Has the gate decide and then the application, notifies the gate of what follows, and answers Sora.
    async fn answer(self, auth: Auth, mut reply: oneshot::Sender<HttpResponse>) {
        let connection_id = auth.connection_id.clone();
        let Auth {
            channel_id,
            connection_id: pending,
            client_id,
        } = auth;
        self.webhooks.pending_auths.begin(connection_id.clone());
        let decision = self.engine.admit(|reply_to| SoraInput::Admit {
            reply_to,
            channel_id,
            connection_id: pending,
            client_id,
        });
        let decision = decision.answer().await;
        let result = tokio::select! {
            result = self.follow(decision) => Some(result),
            () = reply.closed() => None,
        };
        // Sora closed the connection, so the client will not connect.
        let Some(AuthResult {
            outcome,
            counted_as,
            answer,
        }) = result
        else {
            return self.end(connection_id, AuthOutcome::Denied);
        };
        // The gate is notified before Sora.
        self.end(connection_id, outcome);
        self.metrics.webhook("auth", counted_as);
        // If Sora closes the connection at this moment, the gate's own timeout removes the client.
        reply.send(answer).unwrap_or_default();
    }

    /// Ends the request, and notifies the gate of a client that it waits for in vain. No await between the two: so the gate receives
    /// everything about one client in order.
    fn end(&self, connection_id: ConnectionId, outcome: AuthOutcome) {
        if self.webhooks.pending_auths.end(&connection_id, outcome) {
            let denied = Input::Sora(SoraInput::Denied { connection_id });
            // After the stop the gate waits for no client.
            self.engine.apply(denied).unwrap_or_default();
        }
    }

    /// Follows the gate's decision: asks the application about a client that is to be admitted.
    async fn follow(&self, decision: Answer) -> AuthResult {
        let (reason, expected) = match decision {
            Ok(Reply::Decision(Decision::Offer { .. })) => {
                return self.ask_application(Expected::Yes).await;
            }
            // In shadow mode the gate expects clients that it would reject.
            Ok(Reply::Decision(Decision::Reject { reason, .. })) => (reason.name(), Expected::Yes),
            Ok(Reply::Decision(Decision::Redirect { .. })) => (OTHER_NODE, Expected::No),
            Err(error) if error.data.error_type == ErrorType::ConnectionIdInUse => {
                (ID_IN_USE, Expected::No)
            }
            Ok(_) | Err(_) => (UNAVAILABLE, Expected::No),
        };
        match self.admission {
            Admission::Enforced => AuthResult {
                outcome: AuthOutcome::Rejected,
                counted_as: WebhookOutcome::Rejected,
                answer: deny(reason),
            },
            Admission::Shadow => {
                tracing::info!(reason, "shadow mode: would have rejected this client");
                self.ask_application(expected).await
            }
        }
    }

    /// Has the application decide, if it has an auth webhook of its own.
    async fn ask_application(&self, expected: Expected) -> AuthResult {
        let Some(upstream) = self.webhooks.upstreams.auth() else {
            let answer = json(
                StatusCode::OK,
                &Verdict {
                    allowed: true,
                    reason: None,
                },
            );
            return AuthResult {
                outcome: expected.admitted(),
                counted_as: WebhookOutcome::Taken,
                answer,
            };
        };
        let problem = match upstream
            .send_request(&self.headers, self.body.clone())
            .await
        {
            Ok(response) => match read_answer(&response) {
                Ok(Allowed { allowed: true }) => {
                    return AuthResult {
                        outcome: expected.admitted(),
                        counted_as: WebhookOutcome::Taken,
                        answer: response.into_response(),
                    };
                }
                Ok(Allowed { allowed: false }) => {
                    return AuthResult {
                        outcome: expected.denied(),
                        counted_as: WebhookOutcome::Denied,
                        answer: response.into_response(),
                    };
                }
                Err(problem) => {
                    upstream.mark_invalid(&problem);
                    problem
                }
            },
            Err(failed) => failed.to_string(),
        };
        log_limited!(
            warn,
            url = %upstream.url,
            problem,
            "the auth upstream failed; new clients are rejected"
        );
        AuthResult {
            outcome: expected.denied(),
            counted_as: WebhookOutcome::UpstreamFailed,
            answer: deny(UPSTREAM_FAILED),
        }
    }
}

/// Expectation of the gate about a client. One that is to connect is waited for, until the gate is notified that it was denied.
#[derive(Clone, Copy)]
enum Expected {
    Yes,
    No,
}

impl Expected {
    const fn admitted(self) -> AuthOutcome {
        match self {
            Self::Yes => AuthOutcome::Admitted,
            Self::No => AuthOutcome::Rejected,
        }
    }

    const fn denied(self) -> AuthOutcome {
        match self {
            Self::Yes => AuthOutcome::Denied,
            Self::No => AuthOutcome::Rejected,
        }
    }
}

/// Parses the application's answer. Sora acts on it, so it must be unambiguous: another status, or
/// two values for the same field, are invalid.
fn read_answer(response: &UpstreamResponse) -> Result<Allowed, String> {
    if response.status != StatusCode::OK {
        return Err(response.problem());
    }
    let allowed = serde_json::from_slice(&response.body)
        .ok()
        .filter(|_| is_object(&response.body));
    allowed.ok_or_else(|| "answered without \"allowed\": true or false".to_owned())
}

fn deny(reason: &str) -> HttpResponse {
    json(
        StatusCode::OK,
        &Verdict {
            allowed: false,
            reason: Some(reason),
        },
    )
}
