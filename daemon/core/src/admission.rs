//! The one decision: may somebody new come into this channel?

use soramode_protocol::decision::{Answer, Explanation, RejectReason, Verdict, Verdicts};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Membership;

use crate::gate::Gate;
use crate::member::{Ruling, retry_after};
use crate::slab::Slot;

/// The row of the decision table that matches, of those that are for a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Row {
    Initial,
    BlockNewConnection,
    BlockNewSession,
    AtCapacity,
    Offer,
}

/// The row of the decision table that the cluster's word is.
const CLUSTER_ROW: u8 = 7;

impl Row {
    pub(crate) const fn reject_reason(self) -> Option<RejectReason> {
        match self {
            Self::Initial => Some(RejectReason::Initial),
            Self::BlockNewConnection => Some(RejectReason::BlockNewConnection),
            Self::BlockNewSession => Some(RejectReason::BlockNewSession),
            Self::AtCapacity => Some(RejectReason::AtCapacity),
            Self::Offer => None,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Initial => 3,
            Self::BlockNewConnection => 4,
            Self::BlockNewSession => 5,
            Self::AtCapacity => 6,
            Self::Offer => 8,
        }
    }

    fn why(self, session: Option<Slot>) -> &'static str {
        match self {
            Self::Initial => "the node is initial or fenced: it is not in its cluster",
            Self::BlockNewConnection => "the mode is block_new_connection",
            Self::BlockNewSession => {
                "the mode is block_new_session, and the channel has no session"
            }
            Self::AtCapacity => "the node has reached --max-connections",
            Self::Offer if session.is_some() => "the channel has a session on this node",
            Self::Offer => "a new session can start",
        }
    }
}

impl Gate {
    /// Decides under a mode, which is the present one but for `Explain`. `session` is the channel's, if it has one.
    pub(crate) fn judge(&self, mode: Mode, session: Option<Slot>) -> Row {
        match mode {
            Mode::Initial => return Row::Initial,
            _ if self.membership == Membership::Fenced => return Row::Initial,
            Mode::BlockNewConnection => return Row::BlockNewConnection,
            Mode::BlockNewSession if !self.has_live(session) => return Row::BlockNewSession,
            Mode::BlockNewSession | Mode::Normal => {}
        }
        if self.sessions.connection_count() >= self.settings.max_connections {
            Row::AtCapacity
        } else {
            Row::Offer
        }
    }

    fn has_live(&self, session: Option<Slot>) -> bool {
        session
            .and_then(|session| self.sessions.session(session))
            .is_some_and(|row| row.live > 0)
    }

    /// Says what a new connection would be answered; `ruling` is what the cluster says of the channel under a mode in which it is asked.
    pub(crate) fn explanation(
        &self,
        channel_id: &ChannelId,
        ruling: impl Fn(Mode) -> Ruling,
    ) -> Explanation {
        let session = self.sessions.find_session(channel_id);
        let verdict = |mode| {
            let row = self.judge(mode, session);
            let ruling = if self.must_ask(row, channel_id) {
                ruling(mode)
            } else {
                Ruling::Here
            };
            self.verdict(row, session, &ruling)
        };
        Explanation {
            mode: self.mode.mode,
            now: verdict(self.mode.mode),
            modes: Verdicts {
                normal: verdict(Mode::Normal),
                block_new_session: verdict(Mode::BlockNewSession),
                block_new_connection: verdict(Mode::BlockNewConnection),
                initial: verdict(Mode::Initial),
            },
            channel_id: channel_id.clone(),
        }
    }

    fn verdict(&self, row: Row, session: Option<Slot>, ruling: &Ruling) -> Verdict {
        let of_cluster = |answer, explanation| Verdict {
            answer,
            reason: None,
            retry_after_ms: None,
            node_name: None,
            session_id: None,
            rule: CLUSTER_ROW,
            explanation,
        };
        match ruling {
            Ruling::Here | Ruling::Nowhere => self.own_verdict(row, session),
            Ruling::Redirect(node) => {
                let why = format!("node {:?} owns the channel, or is to own it", node.as_str());
                Verdict {
                    node_name: Some(node.clone()),
                    ..of_cluster(Answer::Redirect, why)
                }
            }
            Ruling::OwnerLost(left) => {
                let until = match left {
                    Some(left) => format!("it can be claimed in {} s", left.as_secs().saturating_add(1)),
                    None => "it stays reserved until its node returns or an operator runs soramode nodes purge".to_owned(),
                };
                let (reason, why) = (
                    RejectReason::OwnerLost,
                    format!("the channel's owner is gone: {until}"),
                );
                Verdict {
                    reason: Some(reason),
                    retry_after_ms: left.map(retry_after),
                    ..of_cluster(Answer::Reject, why)
                }
            }
            Ruling::Full => self.own_verdict(Row::AtCapacity, session),
            Ruling::Unavailable(why) => of_cluster(
                Answer::Unavailable,
                format!("the cluster did not answer: {why}"),
            ),
        }
    }

    fn own_verdict(&self, row: Row, session: Option<Slot>) -> Verdict {
        let reason = row.reject_reason();
        let joined = session
            .filter(|_| reason.is_none())
            .and_then(|session| self.sessions.session(session));
        Verdict {
            answer: if reason.is_some() {
                Answer::Reject
            } else {
                Answer::Offer
            },
            reason,
            retry_after_ms: None,
            node_name: None,
            session_id: joined.map(|session| session.session_id.clone()),
            rule: row.number(),
            explanation: row.why(session).to_owned(),
        }
    }
}
