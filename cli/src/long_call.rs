//! A call that the daemon answers only when it is done, which may take minutes.

use std::time::{Duration, Instant};

use soramode_protocol::client::Message;
use soramode_protocol::request::Call;
use tokio::time::timeout;

use crate::context::Context;
use crate::error::Failure;
use crate::node::Node;
use crate::output::times;
use crate::signals::{Signals, unless_interrupted};
use crate::wait::interrupted;

/// Pause between two notes.
const NOTE_PAUSE: Duration = Duration::from_secs(10);

/// Words about a call that takes long.
pub(crate) struct LongCall {
    /// `still announcing`
    pub(crate) doing: &'static str,
    /// A sentence about the daemon after the command is interrupted.
    pub(crate) goes_on: &'static str,
}

/// Makes a call on one of several hosts and waits for its answer without a limit.
pub(crate) async fn call_without_notes<C: Call>(
    params: &C,
    node: Node<'_>,
) -> Result<C::Reply, Failure> {
    let mut daemon = node.connect().await?;
    let id = daemon.send(params).await?;
    loop {
        match daemon.receive().await {
            Ok(Message::Answer(answered, answer)) if answered == id => {
                return daemon.read::<C>(answer);
            }
            Ok(Message::Answer(..) | Message::Notification(_)) => {}
            Err(error) => return Err(daemon.explain(C::METHOD, error)),
        }
    }
}

/// Makes a call and waits for its answer without a limit. Prints a note now and then.
pub(crate) async fn call<C: Call>(
    params: &C,
    how: &LongCall,
    context: &Context<'_>,
) -> Result<C::Reply, Failure> {
    let mut signals = Signals::listen()?;
    let mut daemon = unless_interrupted(Some(&mut signals), context.node.connect()).await?;
    let began = Instant::now();
    let id = daemon.send(params).await?;
    loop {
        let received = tokio::select! {
            received = timeout(NOTE_PAUSE, daemon.receive()) => received,
            exit = signals.next() => {
                return Err(interrupted(exit, began.elapsed()).and(context.node.completed(how.goes_on)));
            }
        };
        match received {
            Ok(Ok(Message::Answer(answered, answer))) if answered == id => {
                return daemon.read::<C>(answer);
            }
            Ok(Ok(Message::Answer(..) | Message::Notification(_))) => {}
            Ok(Err(error)) => return Err(daemon.explain(C::METHOD, error)),
            Err(_) => context.output.note(&format!(
                "{} after {}",
                how.doing,
                times::span(began.elapsed())
            )),
        }
    }
}
