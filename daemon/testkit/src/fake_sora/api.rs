//! The part of Sora's API that soramode uses, and the ways in which it can fail.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use soramode_protocol::sora::{TARGET_HEADER, Target};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::clients::ActingClients;
use super::payload::{NODE_NAME, listed};
use super::state::State;

/// Failure mode of the API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Works without a failure.
    #[default]
    None,
    /// Accepts requests and never answers.
    Hangs,
    /// Answers with the status 500.
    Breaks,
    /// It answers what is no JSON.
    Garbles,
    /// It refuses a body, as an old Sora does.
    IsOld,
}

/// State of the API.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) clients: Arc<ActingClients>,
    pub(crate) fault: Mutex<Fault>,
    pub(crate) mode: Mutex<String>,
    /// Operations that were called, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Channels of connections that were to be ended.
    pub(crate) disconnected: Mutex<Vec<String>>,
}

/// Serves the API until the runtime ends.
pub(crate) async fn listen(address: SocketAddr, api: Arc<Api>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let tracker = TaskTracker::new();
    let connections = tracker.clone();
    tracker.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let api = Arc::clone(&api);
            connections.spawn(async move {
                let service = service_fn(|request| answer(Arc::clone(&api), request));
                // A client may close its connection at any time.
                let _ = Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    Ok(bound)
}

async fn answer(
    api: Arc<Api>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let target = request
        .headers()
        .get(TARGET_HEADER)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    api.asked.lock().unwrap().push(target.clone());
    let fault = *api.fault.lock().unwrap();
    match fault {
        Fault::Hangs => std::future::pending().await,
        Fault::Breaks => {
            return Ok(respond(
                StatusCode::INTERNAL_SERVER_ERROR,
                "{\"error_type\":\"HandlerException\"}".to_owned(),
            ));
        }
        Fault::Garbles => return Ok(respond(StatusCode::OK, "[{\"channel_id\":".to_owned())),
        Fault::IsOld if !body.is_empty() => {
            return Ok(respond(
                StatusCode::BAD_REQUEST,
                "{\"error_type\":\"InvalidJSON\"}".to_owned(),
            ));
        }
        Fault::None | Fault::IsOld => {}
    }
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (status, said) = match Target::from_name(&target) {
        Some(Target::PushChannel) => api.clients.push(&body).await,
        Some(Target::DisconnectChannel) if api.clients.acts() => {
            Arc::clone(&api.clients).disconnect(&body).await
        }
        target => say(&api, target, &body),
    };
    Ok(respond(status, said.to_string()))
}

fn say(api: &Api, target: Option<Target>, body: &Value) -> (StatusCode, Value) {
    let mut mode = api.mode.lock().unwrap();
    let said = match target {
        Some(Target::ListConnections) => api
            .state
            .lock()
            .unwrap()
            .connections
            .values()
            .map(listed)
            .collect(),
        Some(Target::GetMode) => json!({"mode": *mode}),
        Some(Target::ChangeMode) => {
            body["mode"]
                .as_str()
                .unwrap_or_default()
                .clone_into(&mut mode);
            json!({"mode": *mode})
        }
        Some(Target::ListClusterNodes) => {
            json!([{"node_name": NODE_NAME, "mode": *mode, "connected": true, "sora_version": "2024.2.0"}])
        }
        Some(Target::DisconnectChannel) => {
            let channel_id = body["channel_id"].as_str().unwrap_or_default().to_owned();
            if api.state.lock().unwrap().in_channel(&channel_id) == 0 {
                return (
                    StatusCode::BAD_REQUEST,
                    json!({"error_type": "CHANNEL-NOT-FOUND"}),
                );
            }
            api.disconnected.lock().unwrap().push(channel_id);
            json!({})
        }
        Some(
            Target::GetStatsAllConnections
            | Target::GetStatsReport
            | Target::ListChannelConnections
            | Target::ListSessions
            | Target::Connect
            | Target::GetStatus
            | Target::PushChannel,
        )
        | None => {
            return (
                StatusCode::BAD_REQUEST,
                json!({"error_type": "SchemaNotFound"}),
            );
        }
    };
    (StatusCode::OK, said)
}

fn respond(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, "application/json".parse().unwrap());
    response
}
