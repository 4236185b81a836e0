//! `soramode connect CHANNEL`

use clap_complete::engine::ArgValueCandidates;
use serde::Serialize;
use soramode_protocol::decision::{Connect, Decision, HOPS_MAX, Lifetime, RejectReason};
use soramode_protocol::id::{ChannelId, ClientId, ConnectionId, NodeName};
use soramode_protocol::mode::Mode;
use soramode_protocol::node::GetStatus;

use crate::candidates;
use crate::cluster::ClusterView;
use crate::command_line;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::node::{Node, command_on_other_node};
use crate::output::escape::{escape, quoted};
use crate::output::{Format, Output};

/// Request admission for a connection, as a signalling server does
///
/// For tests, and to correct the list by hand. An admitted connection stays until soramode disconnect, and holds up a drain.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Channel to join
    #[arg(add = ArgValueCandidates::new(candidates::channels))]
    channel: ChannelId,
    /// Use this connection id [default: a new one]
    ///
    /// Repeating a connection of the same channel succeeds and changes nothing.
    #[arg(long, value_name = "ID")]
    connection_id: Option<ConnectionId>,
    /// Record this client id
    #[arg(long, value_name = "ID")]
    client_id: Option<ClientId>,
    /// Follow redirects to other nodes, at most 3
    ///
    /// Each node is asked through its HTTP API (--api-url of its soramoded; --api-token-file here).
    #[arg(long)]
    follow: bool,
}

/// The final decision and its node.
#[derive(Debug, Serialize)]
struct Trail {
    #[serde(flatten)]
    decision: Decision,
    /// The node that decided, if it is not the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_by: Option<NodeName>,
    /// Number of redirects.
    hops: u8,
}

pub(crate) async fn run(args: Args, context: &mut Context<'_>) -> Result<Exit, Failure> {
    let mut connect = Connect {
        channel_id: args.channel,
        connection_id: args.connection_id,
        client_id: args.client_id,
        lifetime: Lifetime::Explicit,
        hops: 0,
    };
    let decision = context.node.connect().await?.call(&connect).await?;
    let (decision, node) = if args.follow {
        let trail = follow(&mut connect, decision, context).await?;
        show_trail(&trail, context.node, &mut context.output)?;
        (trail.decision, trail.answered_by)
    } else {
        show(&decision, context.node, &mut context.output)?;
        (decision, None)
    };
    match decision {
        Decision::Offer { connection_id, .. } => {
            context.output.changed(&format!(
                "connection {} was admitted",
                quoted(connection_id.as_str())
            ));
            // The result comes before the hint.
            context.output.flush()?;
            // A connection without a client has to be removed by hand.
            let end = format!("disconnect {}", command_line::word(connection_id.as_str()));
            let (place, end) = match node {
                None => (String::new(), context.node.command(&end)),
                Some(node) => {
                    let place = format!(", on {}", escape(node.as_str()));
                    (place, command_on_other_node(&end))
                }
            };
            let stays = if is_beside_janus(context).await {
                "it is replaced by the next client that joins the room, or ends after soramoded's --pending-timeout. To remove it before"
            } else {
                "the connection stays, and a drain waits for it. To remove it"
            };
            context.output.note(&format!("{stays}{place}: {end}"));
            Ok(Exit::Done)
        }
        Decision::Reject { .. } | Decision::Redirect { .. } => Ok(Exit::False),
    }
}

/// Returns whether the node reads its connections from a Janus; not if that cannot be read.
async fn is_beside_janus(context: &Context<'_>) -> bool {
    let Ok(mut daemon) = context.node.connect().await else {
        return false;
    };
    let status = daemon.call(&GetStatus {}).await;
    status.is_ok_and(|status| status.sources.iter().any(|source| source.name == "janus"))
}

async fn follow(
    connect: &mut Connect,
    first: Decision,
    context: &Context<'_>,
) -> Result<Trail, Failure> {
    let mut trail = Trail {
        decision: first,
        answered_by: None,
        hops: 0,
    };
    // A request over HTTP may be repeated: with an id it admits one connection.
    let new_id = || ConnectionId::generate(fastrand::u128(..).to_le_bytes());
    connect.connection_id.get_or_insert_with(new_id);
    while let Decision::Redirect { node_name, .. } = &trail.decision
        && trail.hops < HOPS_MAX
    {
        let node_name = node_name.clone();
        let way = ClusterView::read(context)
            .await?
            .api_of(&node_name, context)?;
        context
            .output
            .note(&format!("redirected to {}", escape(node_name.as_str())));
        connect.hops = trail.hops + 1;
        trail = Trail {
            decision: way.connect(connect).await?,
            answered_by: Some(node_name),
            hops: connect.hops,
        };
    }
    Ok(trail)
}

fn show_trail(trail: &Trail, node: Node<'_>, output: &mut Output) -> Result<(), Failure> {
    let by = trail
        .answered_by
        .as_ref()
        .map(NodeName::as_str)
        .unwrap_or_default();
    match output.format() {
        Format::Json | Format::Jsonl => output.json(trail),
        Format::Plain => show_record(&trail.decision, output),
        Format::Table if by.is_empty() => output.text(&describe(&trail.decision, Some(node))),
        // Its words are for its own soramode: they have no flag of ours.
        Format::Table => output.text(&format!(
            "{}: {}",
            escape(by),
            describe(&trail.decision, None)
        )),
    }
}

fn show(decision: &Decision, node: Node<'_>, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        Format::Json | Format::Jsonl => output.json(decision),
        Format::Plain => show_record(decision, output),
        Format::Table => output.text(&describe(decision, Some(node))),
    }
}

fn show_record(decision: &Decision, output: &mut Output) -> Result<(), Failure> {
    match decision {
        Decision::Offer {
            channel_id,
            connection_id,
            session_id,
            created,
            ..
        } => {
            let created = if *created { "created" } else { "joined" };
            output.record(&[
                "offer",
                channel_id.as_str(),
                connection_id.as_str(),
                session_id.as_str(),
                created,
            ])
        }
        Decision::Reject { reason, mode, .. } => {
            output.record(&["reject", reason.name(), mode.name()])
        }
        Decision::Redirect {
            node_name,
            location,
        } => output.record(&[
            "redirect",
            node_name.as_str(),
            location.as_deref().unwrap_or_default(),
        ]),
    }
}

fn describe_reject(reason: RejectReason, mode: Mode) -> String {
    match reason {
        // A fenced node keeps the operator's mode.
        RejectReason::Initial => "the node is not in its cluster".to_owned(),
        RejectReason::BlockNewConnection | RejectReason::BlockNewSession => {
            format!("the mode is {mode}")
        }
        RejectReason::AtCapacity => "the node is full".to_owned(),
        RejectReason::OwnerLost => "the channel's node is lost".to_owned(),
    }
}

/// Describes a decision; `node` is the context's, if it has decided.
fn describe(decision: &Decision, node: Option<Node<'_>>) -> String {
    match decision {
        Decision::Offer {
            channel_id,
            connection_id,
            session_id,
            created,
            ..
        } => {
            let session = if *created { "a new session" } else { "session" };
            format!(
                "offer: connection {} on channel {}, {session} {}",
                quoted(connection_id.as_str()),
                quoted(channel_id.as_str()),
                escape(session_id.as_str())
            )
        }
        Decision::Reject { reason, mode, .. } => {
            let rejected = format!("reject: {reason} ({})", describe_reject(*reason, *mode));
            if *reason != RejectReason::OwnerLost {
                return rejected;
            }
            let hint = "To see how long this lasts: soramode explain CHANNEL";
            let hint = node.map_or_else(|| hint.to_owned(), |node| node.completed(hint));
            format!("{rejected}\n{hint}")
        }
        Decision::Redirect {
            node_name,
            location,
        } => {
            let location = location
                .as_deref()
                .map(|location| format!(" at {}", escape(location)));
            format!(
                "redirect: to {}{}",
                escape(node_name.as_str()),
                location.unwrap_or_default()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_one_that_decided() {
        assert_eq!(
            describe_reject(RejectReason::Initial, Mode::BlockNewSession),
            "the node is not in its cluster"
        );
        assert_eq!(
            describe_reject(RejectReason::BlockNewSession, Mode::BlockNewSession),
            "the mode is block_new_session"
        );
        for reason in [RejectReason::OwnerLost, RejectReason::AtCapacity] {
            assert!(
                !describe_reject(reason, Mode::Normal).contains("the mode is"),
                "{reason}"
            );
        }
    }
}
