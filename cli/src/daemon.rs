//! A connection to a daemon, and calls over it.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use soramode_protocol::client::{Client, ClientError, Message};
use soramode_protocol::error::Error;
use soramode_protocol::request::{Call, Method};
use tokio::time::{sleep, timeout};

use crate::endpoint::{ANSWER_MAX, Endpoint, answer_max};
use crate::error::{Exit, Failure};
use crate::ssh::SshProcess;

/// Limit of the time for reconnecting to a lost daemon.
pub(crate) const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// Pause between two attempts to reconnect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
const RECONNECT_PAUSE_SSH: Duration = Duration::from_secs(1);

/// A connection to the daemon.
pub(crate) struct Daemon<'a> {
    client: Client,
    endpoint: &'a Endpoint,
    /// The ssh that the connection goes through, which ends with it.
    _ssh: Option<Box<SshProcess>>,
}

impl Endpoint {
    /// Connects to the daemon.
    pub(crate) async fn connect(&self) -> Result<Daemon<'_>, Failure> {
        match self {
            Self::Local(socket) => Ok(Daemon::new(socket.connect().await?, None, self)),
            Self::Ssh(host) => {
                let (client, process) = host.connect().await?;
                Ok(Daemon::new(client, Some(process), self))
            }
        }
    }

    /// Connects to a daemon that has answered before. ssh asks for nothing: the command may draw on the terminal, or have left it to another
    /// program.
    pub(crate) async fn connect_without_prompts(&self) -> Result<Daemon<'_>, Failure> {
        match self {
            Self::Local(_) => self.connect().await,
            Self::Ssh(host) => {
                let (client, process) = host.clone().without_prompts().connect().await?;
                Ok(Daemon::new(client, Some(process), self))
            }
        }
    }

    /// Reconnects to a daemon that was lost at `lost`.
    pub(crate) async fn reconnect(&self, lost: Instant) -> Result<Daemon<'_>, Failure> {
        let pause = match self {
            Self::Local(_) => RECONNECT_PAUSE,
            Self::Ssh(_) => RECONNECT_PAUSE_SSH,
        };
        loop {
            sleep(pause).await;
            let left = RECONNECT_MAX.saturating_sub(lost.elapsed());
            let failure = match timeout(left, self.connect_without_prompts()).await {
                Ok(Err(failure)) if failure.exit == Exit::Unreachable => failure,
                Ok(other) => return other,
                Err(_) => self.silent(RECONNECT_MAX),
            };
            if lost.elapsed() >= RECONNECT_MAX {
                return Err(failure);
            }
        }
    }
}

impl<'a> Daemon<'a> {
    fn new(client: Client, ssh: Option<SshProcess>, endpoint: &'a Endpoint) -> Self {
        Self {
            client,
            endpoint,
            _ssh: ssh.map(Box::new),
        }
    }

    /// Returns the user that the caller represents.
    pub(crate) fn on_behalf_of(&self) -> Option<String> {
        self.endpoint.on_behalf_of()
    }

    /// Makes a call.
    pub(crate) async fn call<C: Call>(&mut self, params: &C) -> Result<C::Reply, Failure> {
        match timeout(answer_max(C::METHOD), self.call_unexplained(params)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.explain(C::METHOD, error)),
            Err(_) => Err(self.endpoint.too_slow(C::METHOD)),
        }
    }

    /// Makes a call without a limit, and leaves its error as it is.
    pub(crate) async fn call_unexplained<C: Call>(
        &mut self,
        params: &C,
    ) -> Result<C::Reply, ClientError> {
        let answer = self.client.call_raw(params).await?;
        self.endpoint.read_answer::<C>(answer)
    }

    /// Reads the answer to a request that was sent.
    pub(crate) fn read<C: Call>(
        &self,
        answer: Result<Box<RawValue>, Error>,
    ) -> Result<C::Reply, Failure> {
        let read = self.endpoint.read_answer::<C>(answer);
        read.map_err(|error| self.explain(C::METHOD, error))
    }

    /// Makes two calls at once. If the first is refused, the second answer is dropped.
    pub(crate) async fn call_both<A: Call, B: Call>(
        &mut self,
        first: &A,
        second: &B,
    ) -> Result<(A::Reply, B::Reply), Failure> {
        match timeout(ANSWER_MAX, self.ask_both(first, second)).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(error)) => Err(self.explain(A::METHOD, error)),
            Err(_) => Err(self.endpoint.too_slow(A::METHOD)),
        }
    }

    async fn ask_both<A: Call, B: Call>(
        &mut self,
        first: &A,
        second: &B,
    ) -> Result<(A::Reply, B::Reply), ClientError> {
        let first = self.client.enqueue(first)?;
        let second = self.client.enqueue(second)?;
        self.client.flush().await?;
        let mut early = None;
        let first = loop {
            match self.next_answer().await? {
                (id, answer) if id == first => break self.endpoint.read_answer::<A>(answer)?,
                (id, answer) if id == second => early = Some(answer),
                (_, _) => {}
            }
        };
        let second = match early {
            Some(answer) => answer,
            None => self.next_answer().await?.1,
        };
        Ok((first, self.endpoint.read_answer::<B>(second)?))
    }

    /// Receives the next answer, with the id of its request.
    async fn next_answer(&mut self) -> Result<(i64, Result<Box<RawValue>, Error>), ClientError> {
        loop {
            match self.client.receive().await? {
                Message::Answer(id, answer) => return Ok((id, answer)),
                Message::Notification(_) => {}
            }
        }
    }

    /// Sends a request without waiting for the answer.
    pub(crate) async fn send<C: Call>(&mut self, params: &C) -> Result<i64, Failure> {
        match self.client.send(params).await {
            Ok(id) => Ok(id),
            Err(error) => Err(self.explain(C::METHOD, error)),
        }
    }

    /// Receives the next message. Cancel-safe.
    pub(crate) async fn receive(&mut self) -> Result<Message, ClientError> {
        self.client.receive().await
    }

    /// The failure for a daemon that is overdue.
    pub(crate) fn silent(&self, span: Duration) -> Failure {
        self.endpoint.silent(span)
    }

    /// Explains an error.
    pub(crate) fn explain(&self, method: Method, error: ClientError) -> Failure {
        self.endpoint.explain(method, error)
    }
}
