//! The one decision: may somebody new come into this channel?

use soramode_protocol::decision::{Answer, Explain, Explanation, RejectReason, Verdict, Verdicts};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;
use soramode_protocol::node::Standing;

use crate::gate::Gate;
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
            Self::BlockNewSession => "the mode is block_new_session, and nobody is in the channel",
            Self::AtCapacity => "the node holds as many connections as it may",
            Self::Offer if session.is_some() => "the channel has a session on this node",
            Self::Offer => "nothing stands against a new session",
        }
    }
}

impl Gate {
    /// Decides under a mode, which is the present one but for `Explain`. `session` is the channel's, if it has one.
    pub(crate) fn judge(&self, mode: Mode, session: Option<Slot>) -> Row {
        match mode {
            Mode::Initial => return Row::Initial,
            _ if self.standing == Standing::Fenced => return Row::Initial,
            Mode::BlockNewConnection => return Row::BlockNewConnection,
            Mode::BlockNewSession if !self.has_live(session) => return Row::BlockNewSession,
            Mode::BlockNewSession | Mode::Normal => {}
        }
        if self.sessions.connection_count() >= self.settings.max_connections { Row::AtCapacity } else { Row::Offer }
    }

    fn has_live(&self, session: Option<Slot>) -> bool {
        session.and_then(|session| self.sessions.session(session)).is_some_and(|row| row.live > 0)
    }

    pub(crate) fn explain(&self, explain: Explain) -> Explanation {
        let verdict = |mode| self.verdict(mode, &explain.channel_id);
        Explanation {
            mode: self.mode.mode,
            now: verdict(self.mode.mode),
            modes: Verdicts {
                normal: verdict(Mode::Normal),
                block_new_session: verdict(Mode::BlockNewSession),
                block_new_connection: verdict(Mode::BlockNewConnection),
                initial: verdict(Mode::Initial),
            },
            channel_id: explain.channel_id,
        }
    }

    /// What the cluster would be asked nobody has asked it: the row holds for this node alone.
    fn why(&self, row: Row, session: Option<Slot>, channel_id: &ChannelId) -> String {
        let why = row.why(session);
        if !self.must_ask(row, channel_id) {
            return why.to_owned();
        }
        match row {
            Row::Offer => format!("{why}, as far as this node goes: if the channel is another node's, the client is sent there"),
            Row::BlockNewConnection | Row::BlockNewSession => format!("{why}; a client is sent to another node where one takes it"),
            Row::Initial | Row::AtCapacity => why.to_owned(),
        }
    }

    fn verdict(&self, mode: Mode, channel_id: &ChannelId) -> Verdict {
        let session = self.sessions.find_session(channel_id);
        let row = self.judge(mode, session);
        let reason = row.reject_reason();
        let joined = session.filter(|_| reason.is_none()).and_then(|session| self.sessions.session(session));
        Verdict {
            answer: if reason.is_some() { Answer::Reject } else { Answer::Offer },
            reason,
            session_id: joined.map(|session| session.session_id.clone()),
            row: row.number(),
            why: self.why(row, session, channel_id),
        }
    }
}
