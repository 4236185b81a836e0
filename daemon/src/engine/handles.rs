//! Types that callers of the engine hold: pending answers, a client's entry in it, a reference that does not keep it alive, and why input
//! is not taken or a write failed.

use std::sync::Weak;

use soramode_core::handles::{ReplyHandle, SocketId};
use soramode_core::input::Input;
use soramode_protocol::error::Error;
use soramode_protocol::reply::Answer;
use tokio::sync::oneshot;

use super::{Engine, Shared, stopped};

/// The engine takes no input any more: the daemon stops, or a step has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// Why Sora's input is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The daemon is stopping.
    Stopped,
    /// The limit of records that wait for the disk is reached.
    Full,
}

/// Why a write failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    /// Answer to requests that cannot be committed.
    pub(crate) refusal: Error,
    /// The problem, for operators.
    pub(crate) problem: String,
}

/// An engine for the tasks that its outputs start.
#[derive(Clone, Debug)]
pub(crate) struct WeakEngine(pub(super) Weak<Shared>);

/// Answer that is ready, or pending.
#[derive(Debug)]
pub(crate) enum PendingAnswer {
    Ready(Answer),
    Late(LateAnswer),
}

/// An answer that waits for a commit or for another task. Dropping it forgets the request; its effects stay.
#[derive(Debug)]
pub(crate) struct LateAnswer {
    pub(super) engine: Engine,
    pub(super) serial: u64,
    pub(super) answer: oneshot::Receiver<Answer>,
}

impl PendingAnswer {
    pub(crate) async fn answer(self) -> Answer {
        match self {
            Self::Ready(answer) => answer,
            Self::Late(mut late) => (&mut late.answer).await.unwrap_or_else(|_| Err(stopped())),
        }
    }
}

impl Drop for LateAnswer {
    fn drop(&mut self) {
        self.engine
            .with(|state, _| state.outputs.forget(self.serial));
    }
}

/// A client of the control socket. When it is dropped, its socket is closed.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) engine: Engine,
    pub(crate) socket: SocketId,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.engine.with(|state, now| {
            state.outputs.remove_client(self.socket);
            state.apply(now, Input::SocketClosed(self.socket));
        });
    }
}

impl WeakEngine {
    /// Sends the answer to a request that the gate left to another task.
    pub(crate) fn respond(&self, reply_to: ReplyHandle, answer: Answer) {
        if let Some(shared) = self.0.upgrade() {
            Engine(shared).respond(reply_to, answer);
        }
    }

    /// Takes in the outcome of something that an action has ordered.
    pub(crate) fn apply(&self, input: Input) {
        if let Some(shared) = self.0.upgrade() {
            // After the stop nothing waits for it.
            Engine(shared).apply(input).unwrap_or_default();
        }
    }
}
