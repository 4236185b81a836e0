//! `Explain`: what the decision table would answer to a new connection, under each mode, and why. Nothing is admitted.

use soramode_protocol::decision::{self, Explain, Explanation, RejectReason, Verdict, Verdicts};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::reply::{Answer, Reply};

use crate::ctx::Ctx;
use crate::handles::{ReplyHandle, SessionSlot};
use crate::member::{ClusterAnswer, retry_after};
use crate::node::Node;
use crate::node::admission::Rule;
use crate::timers::Timer;

/// Number of the rule for answers of the cluster.
const CLUSTER_RULE: u8 = 7;

impl Rule {
    const fn number(self) -> u8 {
        match self {
            Self::ConnectionIdInUse(_) => 1,
            Self::OfferedBefore(_) => 2,
            Self::Initial => 3,
            Self::BlockNewConnection => 4,
            Self::BlockNewSession => 5,
            Self::AtCapacity => 6,
            Self::Offer => 8,
        }
    }

    const fn why(self) -> &'static str {
        match self {
            Self::ConnectionIdInUse(_) => "the connection is in another channel",
            Self::OfferedBefore(_) => "the connection is in this channel",
            Self::Initial => "the node is initial or fenced: it is not in its cluster",
            Self::BlockNewConnection => "the mode is block_new_connection",
            Self::BlockNewSession => {
                "the mode is block_new_session, and the channel has no session"
            }
            Self::AtCapacity => "the node has reached --max-connections",
            Self::Offer => "a new session can start",
        }
    }
}

impl Node {
    /// Explains how a new connection would be answered; `None` if it is answered when etcd has been read.
    pub(super) fn explain(
        &mut self,
        ctx: &mut Ctx,
        reply_to: ReplyHandle,
        explain: &Explain,
    ) -> Option<Answer> {
        let channel_id = &explain.channel_id;
        let cluster_answer = match self.member.as_deref_mut() {
            Some(member) => match member.explain(ctx, reply_to, channel_id) {
                Ok(cluster_answer) => cluster_answer?,
                Err(error) => return Some(Err(error)),
            },
            None => ClusterAnswer::Local,
        };
        let explanation = self.explanation(ctx, channel_id, |_| cluster_answer.clone());
        Some(Ok(Reply::Explanation(Box::new(explanation))))
    }

    /// Returns the answers to a new connection, and why; `cluster_answer` returns the cluster's answer under a mode that needs it.
    pub(super) fn explanation(
        &self,
        ctx: &Ctx,
        channel_id: &ChannelId,
        cluster_answer: impl Fn(Mode) -> ClusterAnswer,
    ) -> Explanation {
        let session = self.sessions.find_session(channel_id);
        let verdict = |mode| {
            let rule = self.decide_new(ctx.timers, mode, session);
            let cluster_answer = if self.needs_cluster(rule, channel_id) {
                cluster_answer(mode)
            } else {
                ClusterAnswer::Local
            };
            self.verdict(ctx, rule, session, &cluster_answer)
        };
        let grace_ends_at = session.and_then(|slot| ctx.timers.at(Timer::ReconnectGrace(slot)));
        let grace = grace_ends_at.map(|at| at.saturating_sub(ctx.now.boot).as_millis());
        let plan = self.running_plan(ctx.now);
        Explanation {
            mode: self.mode.mode(),
            now: verdict(self.mode.mode()),
            modes: Verdicts {
                normal: verdict(Mode::Normal),
                block_new_session: verdict(Mode::BlockNewSession),
                block_new_connection: verdict(Mode::BlockNewConnection),
                initial: verdict(Mode::Initial),
            },
            unready_for: plan.and_then(|plan| plan.unready_for()),
            grace_ends_in_ms: grace.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)),
            is_ending: session.is_some_and(|slot| self.plans.is_asked_to_end(slot)),
            channel_id: channel_id.clone(),
        }
    }

    fn verdict(
        &self,
        ctx: &Ctx,
        rule: Rule,
        session: Option<SessionSlot>,
        cluster_answer: &ClusterAnswer,
    ) -> Verdict {
        let of_cluster = |answer, explanation| Verdict {
            answer,
            reason: None,
            retry_after_ms: None,
            node_name: None,
            session_id: None,
            rule: CLUSTER_RULE,
            explanation,
        };
        match cluster_answer {
            ClusterAnswer::Local | ClusterAnswer::NoNode => self.own_verdict(ctx, rule, session),
            ClusterAnswer::Redirect(node) => {
                let why = format!("node {:?} owns the channel, or is to own it", node.as_str());
                Verdict {
                    node_name: Some(node.clone()),
                    ..of_cluster(decision::Answer::Redirect, why)
                }
            }
            ClusterAnswer::OwnerLost(left) => {
                let until = match left {
                    Some(left) => format!("it can be claimed in {} s", left.as_secs().saturating_add(1)),
                    None => "it stays reserved until its node returns or an operator runs: soramode nodes purge NODE".to_owned(),
                };
                let (reason, why) = (
                    RejectReason::OwnerLost,
                    format!("the channel's owner is gone: {until}"),
                );
                Verdict {
                    reason: Some(reason),
                    retry_after_ms: left.map(retry_after),
                    ..of_cluster(decision::Answer::Reject, why)
                }
            }
            ClusterAnswer::Full => self.own_verdict(ctx, Rule::AtCapacity, session),
            ClusterAnswer::Unavailable(why) => of_cluster(
                decision::Answer::Unavailable,
                format!("the cluster did not answer: {why}"),
            ),
        }
    }

    fn own_verdict(&self, ctx: &Ctx, rule: Rule, session: Option<SessionSlot>) -> Verdict {
        let reason = rule.reject_reason();
        let joined = session
            .filter(|_| reason.is_none())
            .and_then(|session| self.sessions.session(session));
        Verdict {
            answer: if reason.is_some() {
                decision::Answer::Reject
            } else {
                decision::Answer::Offer
            },
            reason,
            retry_after_ms: None,
            node_name: None,
            session_id: joined.map(|session| session.session_id.clone()),
            rule: rule.number(),
            explanation: self.explain_rule(ctx, rule, session).to_owned(),
        }
    }

    fn explain_rule(&self, ctx: &Ctx, rule: Rule, session: Option<SessionSlot>) -> &'static str {
        let Some(slot) = session else {
            return if rule == Rule::Offer && self.plans.is_leaving() {
                "a new session can start, although a plan is about to close the node"
            } else {
                rule.why()
            };
        };
        let is_ending = self.plans.is_asked_to_end(slot);
        if rule == Rule::BlockNewSession && is_ending {
            "the mode is block_new_session, and the channel's session is being ended"
        } else if rule != Rule::Offer {
            rule.why()
        } else if is_ending {
            "the node is open, although the channel's session is being ended"
        } else if ctx.timers.is_set(Timer::ReconnectGrace(slot)) {
            "the channel has a session, which lost its last connection less than --reconnect-grace ago"
        } else {
            "the channel has a session on this node"
        }
    }
}
