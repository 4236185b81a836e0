//! Clients of the rehearsal's Janus, over its HTTP API.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use soramode_protocol::client::Client;
use soramode_protocol::http_client::{self, Outgoing, Url, root_cause};
use soramode_protocol::node::GetStatus;
use tokio::time::sleep;

use super::step_error::StepError;

/// Timeout of a request.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The pause between two reads of the node's connections.
const READ_PAUSE: Duration = Duration::from_millis(20);

/// Clients that are in rooms.
pub(super) struct JanusClients {
    url: Url,
    /// The path of each client's handle, by its name.
    handles: BTreeMap<&'static str, String>,
    last_transaction: u64,
}

impl JanusClients {
    pub(super) const fn to(url: Url) -> Self {
        Self {
            url,
            handles: BTreeMap::new(),
            last_transaction: 0,
        }
    }

    /// Has a client join a room, and describes the answer.
    pub(super) async fn join(
        &mut self,
        client: &'static str,
        room: &str,
        node: &mut Client,
    ) -> Result<String, StepError> {
        let created = self.post("/janus", json!({"janus": "create"})).await?;
        let Some(session) = id_of(&created) else {
            return Ok(describe_refusal(created.pointer("/error/code")));
        };
        let session = format!("/janus/{session}");
        let attach = json!({"janus": "attach", "plugin": "janus.plugin.videoroom"});
        let attached = self.post(&session, attach).await?;
        let Some(handle) = id_of(&attached) else {
            return Ok(describe_refusal(attached.pointer("/error/code")));
        };
        let handle = format!("{session}/{handle}");
        let join = json!({"request": "join", "ptype": "publisher", "room": room, "id": client});
        self.post(&handle, json!({"janus": "message", "body": join}))
            .await?;
        loop {
            let event = self.event(&session).await?;
            let field = |name: &str| event.pointer(&format!("/plugindata/data/{name}"));
            if field("videoroom").is_some_and(|it| it == "joined") {
                break;
            }
            let code = field("error_code");
            if code.is_some() {
                return Ok(describe_refusal(code));
            }
        }
        self.handles.insert(client, handle);
        self.wait_until_counted(node).await?;
        Ok("joined".to_owned())
    }

    /// Has clients leave their rooms.
    pub(super) async fn leave(
        &mut self,
        clients: &[&'static str],
        node: &mut Client,
    ) -> Result<(), StepError> {
        for client in clients {
            let Some(handle) = self.handles.remove(client) else {
                return Err(StepError::Lost(format!("{client} is in no room")));
            };
            let leave = json!({"janus": "message", "body": {"request": "leave"}});
            self.post(&handle, leave).await?;
        }
        self.wait_until_counted(node).await
    }

    /// Waits until the node counts the clients that are in rooms.
    async fn wait_until_counted(&self, node: &mut Client) -> Result<(), StepError> {
        while usize::try_from(node.call(&GetStatus {}).await?.connections) != Ok(self.handles.len())
        {
            sleep(READ_PAUSE).await;
        }
        Ok(())
    }

    async fn post(&mut self, path: &str, mut message: Value) -> Result<Value, StepError> {
        self.last_transaction += 1;
        if let Value::Object(fields) = &mut message {
            let transaction = self.last_transaction.to_string();
            fields.insert("transaction".to_owned(), transaction.into());
        }
        self.exchange(path, Some(message)).await
    }

    /// Waits for the next event of a session.
    async fn event(&self, session: &str) -> Result<Value, StepError> {
        self.exchange(&format!("{session}?maxev=1"), None).await
    }

    async fn exchange(&self, path: &str, message: Option<Value>) -> Result<Value, StepError> {
        let url = self.url.join(path);
        let url = url.map_err(|problem| StepError::Lost(problem.to_string()))?;
        let sent = async {
            let client = http_client::client(&url, ANSWER_MAX, &Outgoing::default())?;
            let request = match message {
                Some(message) => client.post(url).body(message.to_string()),
                None => client.get(url),
            };
            request.send().await?.bytes().await
        };
        let answer = sent.await.map_err(|problem| {
            StepError::Lost(format!("Janus does not answer: {}", root_cause(&problem)))
        })?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// Returns the id that Janus gave to a new session or handle.
fn id_of(answer: &Value) -> Option<u64> {
    answer.pointer("/data/id").and_then(Value::as_u64)
}

fn describe_refusal(code: Option<&Value>) -> String {
    format!("refused: {}", code.unwrap_or(&Value::Null))
}
