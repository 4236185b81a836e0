//! A connection to a daemon, and calls over it.

use std::time::Duration;

use serde_json::value::RawValue;
use soramode_protocol::client::{Client, ClientError, Message};
use soramode_protocol::error::Error;
use soramode_protocol::request::{Call, Method};
use tokio::time::timeout;

use crate::endpoint::{ANSWER_MAX, Endpoint, answer_max};
use crate::error::Failure;
use crate::ssh::SshProcess;

/// A connection to the daemon.
pub(crate) struct Daemon<'a> {
    client: Client,
    endpoint: &'a Endpoint,
    /// The ssh that the connection goes through, which ends with it.
    _ssh: Option<Box<SshProcess>>,
}

impl<'a> Daemon<'a> {
    pub(crate) fn new(client: Client, ssh: Option<SshProcess>, endpoint: &'a Endpoint) -> Self {
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

    /// Makes a call to a daemon of any version: the answer stays JSON.
    pub(crate) async fn call_raw<C: Call>(&mut self, params: &C) -> Option<Box<RawValue>> {
        self.client.call_raw(params).await.ok()?.ok()
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
