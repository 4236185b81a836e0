//! Calls to one host of a roll, one after the other over one connection as long as it lasts.

use std::rc::Rc;
use std::time::Duration;

use soramode_protocol::client::ClientError;
use soramode_protocol::node::GetStatus;
use soramode_protocol::request::Call as ProtocolCall;
use soramode_roll::{Answer, Call, CallError, CallId, Input};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::daemon::Daemon;
use crate::endpoint::{ANSWER_MAX, Endpoint};
use crate::error::Exit;

/// Limit of the time for a connection: a roll renews its reservations every 20 s.
const CONNECT_MAX: Duration = Duration::from_secs(15);

/// The calls to one host.
pub(super) struct Caller(UnboundedSender<(CallId, Call)>);

impl Caller {
    /// Starts the task that makes the calls. Their answers go to `inputs`.
    pub(super) fn start(endpoint: Rc<Endpoint>, inputs: UnboundedSender<Input>) -> Self {
        let (calls, incoming) = unbounded_channel();
        spawn_local(make_calls(endpoint, incoming, inputs));
        Self(calls)
    }

    pub(super) fn call(&self, id: CallId, call: Call) {
        // The task lives as long as this.
        let _ = self.0.send((id, call));
    }
}

async fn make_calls(
    endpoint: Rc<Endpoint>,
    mut calls: UnboundedReceiver<(CallId, Call)>,
    inputs: UnboundedSender<Input>,
) {
    let mut daemon: Option<Daemon<'_>> = None;
    while let Some((id, call)) = calls.recv().await {
        let answer = make_call(&endpoint, &mut daemon, call).await;
        if matches!(answer, Err(CallError::Lost(_))) {
            daemon = None;
        }
        if inputs.send(Input::Answered(id, answer)).is_err() {
            return;
        }
    }
}

async fn make_call<'a>(
    endpoint: &'a Endpoint,
    daemon: &mut Option<Daemon<'a>>,
    call: Call,
) -> Result<Answer, CallError> {
    let daemon = if let Some(daemon) = daemon {
        daemon
    } else {
        let connected = timeout(CONNECT_MAX, endpoint.connect()).await;
        let connected = connected.unwrap_or_else(|_| Err(endpoint.silent(CONNECT_MAX)));
        daemon.insert(connected.map_err(|failure| CallError::Lost(failure.message))?)
    };
    match call {
        Call::Reserve(reserve) => send(daemon, &reserve).await.map(Answer::Reserved),
        Call::Release(release) => send(daemon, &release).await.map(Answer::Released),
        Call::GetStatus => send(daemon, &GetStatus {})
            .await
            .map(|status| Answer::Status(Box::new(status))),
        Call::ChangeMode(change) => send(daemon, &*change).await.map(Answer::ModeChanged),
        Call::StartPlan(start) => send(daemon, &*start)
            .await
            .map(|started| Answer::PlanStarted(Box::new(started))),
    }
}

async fn send<C: ProtocolCall>(daemon: &mut Daemon<'_>, params: &C) -> Result<C::Reply, CallError> {
    match timeout(ANSWER_MAX, daemon.call_unexplained(params)).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(ClientError::Refused(error))) => Err(CallError::Refused(error)),
        Ok(Err(error)) => Err(CallError::Lost(daemon.explain(C::METHOD, error).message)),
        Err(_) => Err(CallError::Lost(daemon.silent(ANSWER_MAX).message)),
    }
}

/// Returns whether a failure may pass by itself: the host or its daemon restarts.
pub(super) fn is_passing(exit: Exit) -> bool {
    exit == Exit::Unreachable
}
