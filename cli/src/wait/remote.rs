//! Waiting until another node has joined. Its API is unknown until then, so the context's node is
//! polled.

use std::time::{Duration, Instant};

use soramode_protocol::id::NodeName;
use soramode_protocol::or_pending::or_pending;
use soramode_protocol::wait::Outcome;
use tokio::time::sleep;

use super::request::interrupted;
use crate::cluster::ClusterView;
use crate::context::Context;
use crate::daemon::RECONNECT_MAX;
use crate::error::{Exit, Failure};
use crate::output::escape::escape;
use crate::output::times;
use crate::report::Report;
use crate::signals::Signals;

/// Pause between two reads.
const READ_PAUSE: Duration = Duration::from_millis(500);

/// Pause between two notes.
const NOTE_PAUSE: Duration = Duration::from_secs(10);

/// Waits until the node of this name has joined.
pub(crate) async fn joined(
    context: &Context<'_>,
    name: &NodeName,
    limit: Option<Duration>,
    signals: &mut Signals,
    report: &mut Report,
) -> Result<Duration, Failure> {
    let began = Instant::now();
    let ended = tokio::select! {
        ended = look_until_there(context, name) => ended,
        exit = signals.next() => Err(interrupted(exit, began.elapsed())),
        () = or_pending(limit.map(sleep)) => {
            report.outcome = Some(Outcome::Timeout);
            let limit = times::limit(limit.unwrap_or_default());
            Err(Failure::new(Exit::TimedOut, format!("timed out after {limit}: {} is not in the cluster", escape(name.as_str()))))
        }
    };
    report.waited(began.elapsed());
    ended.map(|()| {
        report.outcome = Some(Outcome::Reached);
        began.elapsed()
    })
}

async fn look_until_there(context: &Context<'_>, name: &NodeName) -> Result<(), Failure> {
    let began = Instant::now();
    let mut said = began;
    let mut lost: Option<Instant> = None;
    loop {
        match ClusterView::read(context).await {
            Ok(view) if view.has(name) => return Ok(()),
            Ok(_) => lost = None,
            // A node that answered before may be restarting.
            Err(failure) if failure.exit == Exit::Unreachable && began.elapsed() > READ_PAUSE => {
                if lost.get_or_insert_with(Instant::now).elapsed() >= RECONNECT_MAX {
                    return Err(failure);
                }
            }
            Err(failure) => return Err(failure),
        }
        if said.elapsed() >= NOTE_PAUSE {
            said = Instant::now();
            context.output.note(&format!(
                "{} is not in the cluster yet, after {}",
                escape(name.as_str()),
                times::span(began.elapsed())
            ));
        }
        sleep(READ_PAUSE).await;
    }
}
