//! The newest stored events.

use soramode_protocol::client::Message;
use soramode_protocol::envelope::Notification;
use soramode_protocol::event::Event;
use soramode_protocol::request::Method;
use soramode_protocol::subscribe::{Subscribe, SubscribeFrom, Unsubscribe};
use tokio::time::timeout;

use crate::daemon::Daemon;
use crate::endpoint::ANSWER_MAX;
use crate::error::Failure;

/// Reads the newest events, and returns those to keep, oldest first. Events of all types are read: only the number of the last one shows that none
/// is missing.
pub(crate) async fn past_events(
    daemon: &mut Daemon<'_>,
    events_max: u64,
    keep: impl Fn(&Event) -> bool,
) -> Result<Vec<Event>, Failure> {
    // Only a subscription returns the present numbers; the next one replaces it.
    let now = daemon.call(&Subscribe::default()).await?;
    daemon.call(&Unsubscribe {}).await?;
    let from = now
        .next_seq
        .saturating_sub(events_max)
        .max(now.oldest_seq)
        .max(1);
    if from >= now.next_seq {
        return Ok(Vec::new());
    }
    daemon
        .call(&Subscribe {
            from: SubscribeFrom::Seq(from),
            ..Subscribe::default()
        })
        .await?;
    let mut events = Vec::new();
    loop {
        let message = match timeout(ANSWER_MAX, daemon.receive()).await {
            Ok(message) => message.map_err(|error| daemon.explain(Method::Subscribe, error))?,
            Err(_) => return Err(daemon.silent(ANSWER_MAX)),
        };
        let last = match message {
            Message::Notification(Notification::Event(event)) => {
                let seq = event.seq;
                if keep(&event) {
                    events.push(event);
                }
                seq
            }
            Message::Notification(Notification::Gap(gap)) => gap.to,
            Message::Notification(_) | Message::Answer(..) => continue,
        };
        if last.saturating_add(1) >= now.next_seq {
            break;
        }
    }
    daemon.call(&Unsubscribe {}).await?;
    Ok(events)
}
