//! Explanations: the same decision under each mode.

use soramode_protocol::decision::{Answer, Explanation, Verdict, Verdicts};
use soramode_protocol::id::ChannelId;
use soramode_protocol::mode::Mode;

use super::Model;

impl Model {
    pub(super) fn explain(&self, channel: &ChannelId) -> Explanation {
        let verdict = |mode| {
            let judged = self.evaluate(mode, channel);
            if judged.is_none() && self.is_cut_off(mode, channel) {
                return Verdict {
                    retry_after_ms: None,
                    node_name: None,
                    answer: Answer::Unavailable,
                    reason: None,
                    session_id: None,
                    rule: 7,
                    explanation: String::new(),
                };
            }
            let session = self
                .sessions
                .iter()
                .rev()
                .find(|it| it.channel_id == *channel)
                .map(|it| it.session_id.clone());
            Verdict {
                retry_after_ms: None,
                node_name: None,
                answer: if judged.is_some() {
                    Answer::Reject
                } else {
                    Answer::Offer
                },
                reason: judged.map(|(_, reason)| reason),
                session_id: session.filter(|_| judged.is_none()),
                rule: judged.map_or(8, |(row, _)| row),
                explanation: String::new(),
            }
        };
        let modes = Verdicts {
            normal: verdict(Mode::Normal),
            block_new_session: verdict(Mode::BlockNewSession),
            block_new_connection: verdict(Mode::BlockNewConnection),
            initial: verdict(Mode::Initial),
        };
        let newest = self.sessions.iter().rev();
        let grace_ends_at = newest
            .filter(|it| it.channel_id == *channel)
            .find_map(|it| it.lingers_until);
        let grace = grace_ends_at.map(|at| at.saturating_sub(self.now.boot).as_millis());
        Explanation {
            channel_id: channel.clone(),
            mode: self.mode.mode,
            now: verdict(self.mode.mode),
            modes,
            unready_for: None,
            grace_ends_in_ms: grace.map(|millis| millis.try_into().unwrap()),
            is_ending: false,
        }
    }
}
